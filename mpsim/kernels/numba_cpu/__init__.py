"""The 'numba' backend: the second implementation of every function of mpsim.kernels.contract.Kernels.

It consists of plain parallel loops, independent of the compiled backend, with the reference's bits. Kernels that only
move elements, or that work on a few numbers per step, are NumPy's in every CPU backend.
"""

from mpsim.kernels.numba_cpu.codes import *  # noqa: F403
from mpsim.kernels.numba_cpu.contraction import *  # noqa: F403
from mpsim.kernels.numba_cpu.functions.combined import *  # noqa: F403
from mpsim.kernels.numba_cpu.functions.unary import *  # noqa: F403
from mpsim.kernels.numba_cpu.functions.updates import *  # noqa: F403
from mpsim.kernels.numba_cpu.layers import *  # noqa: F403
from mpsim.kernels.numba_cpu.normalization import *  # noqa: F403
from mpsim.kernels.numba_cpu.pooling import *  # noqa: F403
from mpsim.kernels.numba_cpu.rounding import *  # noqa: F403
from mpsim.kernels.reference.functions import take as take
from mpsim.kernels.reference.layers import concatenate as concatenate
from mpsim.kernels.reference.layers import nll_loss as nll_loss
from mpsim.kernels.reference.layers import nll_loss_gradient as nll_loss_gradient
from mpsim.kernels.reference.layers import permute as permute
from mpsim.kernels.reference.layers import place_channels as place_channels
from mpsim.kernels.reference.layers import slice_channels as slice_channels
from mpsim.kernels.reference.layers import update_running as update_running
