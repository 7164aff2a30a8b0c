# cython: language_level=3, boundscheck=False, wraparound=False
"""mpsim._kernels: thin, unchecked wrappers over the C kernels of ext/."""

include "rounding.pxi"
include "contraction.pxi"
include "accumulators.pxi"
include "layers.pxi"
include "buffers.pxi"
include "environment.pxi"
