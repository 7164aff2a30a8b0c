"""Layers on the device: element by element, sums, normalization, pooling, loss, and what moves elements."""
