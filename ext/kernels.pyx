# cython: language_level=3, boundscheck=False, wraparound=False
"""mpsim._kernels: thin, unchecked wrappers over the C kernels of ext/."""

include "generated/functions.pxi"
include "common/process.pxi"
