"""Packs of test vectors, for hardware and other programs."""
