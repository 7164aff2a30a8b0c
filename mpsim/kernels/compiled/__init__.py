"""The 'compiled' backend: defines every function of mpsim.kernels.contract.CONTRACT."""

from mpsim.kernels.compiled.contraction import *  # noqa: F403
from mpsim.kernels.compiled.layers import *  # noqa: F403
from mpsim.kernels.compiled.moving import *  # noqa: F403
from mpsim.kernels.compiled.rounding import *  # noqa: F403

#: Kernels that round their result in the pass that writes it, if they are given an epilogue.
FUSES = frozenset(
    (
        "add",
        "batch_norm",
        "batch_norm_gradient",
        "batch_norm_inference",
        "concatenate",
        "conv2d",
        "conv2d_input_gradient",
        "relu",
        "relu_gradient",
        "scale",
        "slice_channels",
    )
)
