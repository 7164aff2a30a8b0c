"""The 'compiled' backend: defines every function of mpsim.kernels.contract.CONTRACT."""

from mpsim.kernels.compiled.contraction import *  # noqa: F403
from mpsim.kernels.compiled.layers import *  # noqa: F403
from mpsim.kernels.compiled.rounding import *  # noqa: F403
