"""Dot and matrix products under test."""
