"""Kernels of layers on the device: elementwise functions, sums, normalization, pooling, loss, and copies."""
