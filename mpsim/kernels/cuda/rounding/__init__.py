"""Rounds arrays on the device with counts, encodes and decodes them, and generates random bits."""
