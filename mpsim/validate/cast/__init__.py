"""Casts under test."""
