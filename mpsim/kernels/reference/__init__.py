"""The 'reference' backend, which defines every function of mpsim.kernels.contract.Kernels."""

from mpsim.kernels.reference.contraction import *  # noqa: F403
from mpsim.kernels.reference.layers import *  # noqa: F403
from mpsim.kernels.reference.rounding import *  # noqa: F403
