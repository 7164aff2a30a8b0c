"""Validates block quantisers."""
