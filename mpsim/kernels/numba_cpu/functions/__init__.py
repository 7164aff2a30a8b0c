"""Computes functions of one or two arguments, softmax, and sums by index."""

from mpsim.kernels.numba_cpu.functions.combined import *  # noqa: F403
from mpsim.kernels.numba_cpu.functions.unary import *  # noqa: F403
