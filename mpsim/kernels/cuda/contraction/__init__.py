"""Contractions of the 'cuda' backend.

functions.py has the functions of the contract. Float32 sums go to the tiles of tile.py, to depthwise.py where a group
has one input and one output channel, or to strided.py by the input with a stride. Every other accumulator goes to
each.py. None of this changes a bit.

The kernels of tile.py and each.py sum, in block z of the grid, as many chunks as are taken ``together``, from
first + z*together on, and write the result at z*size of ``out``. Chunk c is of the k from ends[c] to ends[c + 1]. So
where outputs are few and k is long, each block sums one chunk, and the results are added afterwards, in order.
"""
