"""Draws runs and plans."""
