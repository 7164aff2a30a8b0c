"""Files in the forms that mpsim writes and reads: whole, zip archives of arrays, named tensors, checkpoints."""
