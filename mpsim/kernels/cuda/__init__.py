"""The 'cuda' backend: implements every function of mpsim.kernels.contract.Kernels on an NVIDIA device (docs/cuda.md).

Arrays are numba.cuda's device arrays. The CUDA simulator runs kernels as plain Python and is meant for tests.
"""

from mpsim.kernels.cuda.contraction.functions import *  # noqa: F403
from mpsim.kernels.cuda.device.arrays import from_numpy as from_numpy
from mpsim.kernels.cuda.device.arrays import is_on_device as is_on_device
from mpsim.kernels.cuda.device.arrays import to_numpy as to_numpy
from mpsim.kernels.cuda.device.arrays import zeros as zeros
from mpsim.kernels.cuda.device.devices import use_device as use_device
from mpsim.kernels.cuda.layers.elementwise import *  # noqa: F403
from mpsim.kernels.cuda.layers.functions import *  # noqa: F403
from mpsim.kernels.cuda.layers.loss import *  # noqa: F403
from mpsim.kernels.cuda.layers.moving import *  # noqa: F403
from mpsim.kernels.cuda.layers.normalization import *  # noqa: F403
from mpsim.kernels.cuda.layers.not_finite import *  # noqa: F403
from mpsim.kernels.cuda.layers.pooling import *  # noqa: F403
from mpsim.kernels.cuda.layers.sums import *  # noqa: F403
from mpsim.kernels.cuda.layers.updates import *  # noqa: F403
from mpsim.kernels.cuda.rounding.codes import *  # noqa: F403
from mpsim.kernels.cuda.rounding.counts import stack_counts as stack_counts
from mpsim.kernels.cuda.rounding.kernels import round_array as round_array
from mpsim.kernels.cuda.rounding.philox import random_bits as random_bits
