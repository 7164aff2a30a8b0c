"""The 'cuda' backend: every function of mpsim.kernels.contract.Kernels on an NVIDIA device. See docs/cuda.md.

Arrays are numba.cuda's device arrays. In the CUDA simulator kernels run as plain Python, which is for tests.
"""

from mpsim.kernels.cuda.contraction.functions import conv2d, conv2d_input_gradient, conv2d_weight_gradient, matmul
from mpsim.kernels.cuda.device.arrays import from_numpy, is_on_device, to_numpy, zeros
from mpsim.kernels.cuda.device.devices import use_device
from mpsim.kernels.cuda.layers.elementwise import (
    add,
    positive,
    relu,
    relu_gradient,
    scale,
    sgd_update,
    update_running,
)
from mpsim.kernels.cuda.layers.loss import log_softmax, log_softmax_gradient, nll_loss, nll_loss_gradient
from mpsim.kernels.cuda.layers.moving import concatenate, permute, place_channels, slice_channels
from mpsim.kernels.cuda.layers.normalization import batch_norm, batch_norm_gradient, batch_norm_inference
from mpsim.kernels.cuda.layers.not_finite import all_finite, canonical_nan
from mpsim.kernels.cuda.layers.pooling import avg_pool2d, avg_pool2d_gradient, max_pool2d, max_pool2d_gradient
from mpsim.kernels.cuda.layers.sums import channel_sum, total_sum
from mpsim.kernels.cuda.rounding.codes import decode_array, encode_array
from mpsim.kernels.cuda.rounding.counts import stack_counts
from mpsim.kernels.cuda.rounding.kernels import round_array
from mpsim.kernels.cuda.rounding.philox import random_bits

__all__ = [
    "add", "all_finite", "avg_pool2d", "avg_pool2d_gradient", "batch_norm", "batch_norm_gradient",
    "batch_norm_inference", "canonical_nan", "channel_sum", "concatenate", "conv2d", "conv2d_input_gradient",
    "conv2d_weight_gradient", "decode_array", "encode_array", "from_numpy", "is_on_device", "log_softmax",
    "log_softmax_gradient", "matmul", "max_pool2d", "max_pool2d_gradient", "nll_loss", "nll_loss_gradient", "permute",
    "place_channels", "positive", "random_bits", "relu", "relu_gradient", "round_array", "scale", "sgd_update",
    "slice_channels", "stack_counts", "to_numpy", "total_sum", "update_running", "use_device", "zeros",
]  # fmt: skip
