"""How one thread sums a chunk of a dot product, with every accumulator.

A kind of sum is two device functions: one sums a chunk, the other adds the next chunk's sum to a total.
mpsim/kernels/contractions/narrow.py explains why a sum rounded to odd and then to the narrow format is rounded once,
mpsim/kernels/reference/exact.py what the digits of an exact sum are, and mpsim/kernels/reference/aligned.py why
instructions of tensor cores are exact in float64.
"""
