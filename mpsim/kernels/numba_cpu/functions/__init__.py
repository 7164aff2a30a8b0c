"""Computes functions of one or two arguments, softmax, and sums by index."""
