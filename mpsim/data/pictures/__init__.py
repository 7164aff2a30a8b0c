"""Datasets of picture files."""
