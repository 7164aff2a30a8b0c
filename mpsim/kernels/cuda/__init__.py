"""The 'cuda' backend: every function of mpsim.kernels.contract.CONTRACT on an NVIDIA device. See docs/cuda.md.

Arrays are numba.cuda's device arrays. In the CUDA simulator kernels run as plain Python, which is for tests.
"""

from mpsim.kernels.cuda.arrays import from_numpy, to_numpy, use_device, zeros
from mpsim.kernels.cuda.codes import decode_array, encode_array
from mpsim.kernels.cuda.elementwise import (
    add,
    all_finite,
    canonical_nan,
    positive,
    relu,
    relu_gradient,
    scale,
    sgd_update,
    update_running,
)
from mpsim.kernels.cuda.loss import log_softmax, log_softmax_gradient, nll_loss, nll_loss_gradient
from mpsim.kernels.cuda.moving import concatenate, permute, place_channels, slice_channels
from mpsim.kernels.cuda.normalization import batch_norm, batch_norm_gradient, batch_norm_inference
from mpsim.kernels.cuda.philox import random_bits
from mpsim.kernels.cuda.rounding import round_array
from mpsim.kernels.cuda.sums import channel_sum, total_sum
