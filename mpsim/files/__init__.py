"""Reads and writes mpsim's files: zip archives of arrays, named tensors, checkpoints."""
