"""The 'compiled' backend: implements every function of mpsim.kernels.contract.Kernels in C."""

from mpsim.kernels.compiled.contraction import *  # noqa: F403
from mpsim.kernels.compiled.functions import *  # noqa: F403
from mpsim.kernels.compiled.groups import *  # noqa: F403
from mpsim.kernels.compiled.layers import *  # noqa: F403
from mpsim.kernels.compiled.moving import *  # noqa: F403
from mpsim.kernels.compiled.rounding import *  # noqa: F403
from mpsim.kernels.compiled.stack import check_stack_size
from mpsim.kernels.compiled.updates import *  # noqa: F403

check_stack_size()
