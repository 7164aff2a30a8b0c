"""The 'reference' backend: implements every function of mpsim.kernels.contract.Kernels readably in NumPy."""

from mpsim.kernels.reference.contraction import *  # noqa: F403
from mpsim.kernels.reference.functions import *  # noqa: F403
from mpsim.kernels.reference.layers import *  # noqa: F403
from mpsim.kernels.reference.rounding import *  # noqa: F403
from mpsim.kernels.reference.updates import *  # noqa: F403
