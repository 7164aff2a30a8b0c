"""Writes packs of test vectors for hardware and other programs."""
