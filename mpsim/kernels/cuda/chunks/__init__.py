"""Sums one chunk of a dot product in one thread, with any accumulator.

Each kind of sum has two device functions: one sums a chunk, the other adds the next chunk's sum to a total.
mpsim/kernels/contractions/narrow.py explains why rounding to odd and then to the narrow format rounds a sum only once.
mpsim/kernels/reference/exact.py defines the digits of an exact sum, and mpsim/kernels/reference/aligned.py explains why
float64 computes the instructions of tensor cores exactly.
"""
