"""Contractions of the 'cuda' backend.

functions.py has the functions of the contract. tile.py computes float32 sums, except that depthwise.py takes groups of
one input and one output channel, and strided.py gradients by the input with a stride. each.py takes every other
accumulator. The choice changes no bit.

In the kernels of tile.py and each.py, block z of the grid sums ``together`` chunks, the first of them
first + z*together, and writes the result at z*size of ``out``. Chunk c covers k from ends[c] to ends[c + 1]. If outputs
are few and k is long, each block therefore sums one chunk, and the results are added afterwards, in order.
"""
