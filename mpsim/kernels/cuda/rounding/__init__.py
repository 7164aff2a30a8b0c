"""Rounding on the device: whole arrays with counts, codes, and random bits."""
