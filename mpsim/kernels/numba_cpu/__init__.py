"""The 'numba' backend: defines every function of mpsim.kernels.contract.Kernels."""

from mpsim.kernels.numba_cpu.contraction import *  # noqa: F403
from mpsim.kernels.numba_cpu.layers import *  # noqa: F403
from mpsim.kernels.numba_cpu.rounding import *  # noqa: F403
