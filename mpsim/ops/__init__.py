"""Defines the ops, which are functions of tensors, and PRIMITIVES, which lists their primitives.

A layer of ``mpsim.nn`` calls one of them. A network may call them directly.

>>> from mpsim import nn, ops
>>> nn.apply(lambda x: ops.add(x, ops.relu(x)), [-1.0, 2.0])
array([-1.,  4.], dtype=float32)
>>> ops.PRIMITIVES["ReLU"].opens_group
False
"""

from mpsim.engine.primitive import Primitive
from mpsim.engine.tape import INPUT
from mpsim.errors import UsageError
from mpsim.ops.arithmetic import (
    ADD,
    DIVIDE,
    MULTIPLY,
    SCALE,
    SHIFT,
    SUBTRACT,
    add,
    divide,
    multiply,
    scale,
    shift,
    subtract,
)
from mpsim.ops.convolution import CONV1D, CONV2D, CONV_TRANSPOSE2D, conv1d, conv2d, conv_transpose2d
from mpsim.ops.functions import (
    CLAMP,
    DROPOUT,
    ERF,
    EXP,
    GELU,
    GELU_TANH,
    HARD_SIGMOID,
    HARD_SWISH,
    LEAKY_RELU,
    LOG,
    RELU,
    SIGMOID,
    SILU,
    SOFTPLUS,
    SQRT,
    TANH,
    clamp,
    dropout,
    erf,
    exp,
    gelu,
    hard_sigmoid,
    hard_swish,
    leaky_relu,
    log,
    relu,
    relu6,
    sigmoid,
    silu,
    softplus,
    sqrt,
    tanh,
)
from mpsim.ops.indexing import (
    EMBEDDING,
    INTERPOLATE,
    PAD,
    SLICE,
    UPSAMPLE,
    embedding,
    pad,
    select,
    slice,
    take,
    upsample_bilinear,
    upsample_nearest,
)
from mpsim.ops.linear import LINEAR, MATMUL, attention, linear, matmul
from mpsim.ops.loss import (
    BCE_LOSS,
    LOG_SOFTMAX,
    MSE_LOSS,
    NLL_LOSS,
    SOFT_NLL_LOSS,
    bce_loss,
    cross_entropy,
    log_softmax,
    mse_loss,
    nll_loss,
    soft_nll_loss,
)
from mpsim.ops.normalization import (
    BATCH_NORM,
    GROUP_NORM,
    LAYER_NORM,
    RMS_NORM,
    batch_norm,
    group_norm,
    layer_norm,
    rms_norm,
)
from mpsim.ops.pooling import (
    AVG_POOL2D,
    MAX_POOL2D,
    adaptive_avg_pool2d,
    adaptive_max_pool2d,
    avg_pool2d,
    max_pool2d,
)
from mpsim.ops.reductions import MEAN, SOFTMAX, SUM, mean, softmax, sum
from mpsim.ops.shape import CAT, SPLIT_HALF, cat, channel_shuffle, flatten, permute, pixel_shuffle, reshape, split_half

__all__ = [
    "PRIMITIVES",
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "add",
    "attention",
    "avg_pool2d",
    "batch_norm",
    "bce_loss",
    "cat",
    "channel_shuffle",
    "clamp",
    "conv1d",
    "conv2d",
    "conv_transpose2d",
    "cross_entropy",
    "divide",
    "dropout",
    "embedding",
    "erf",
    "exp",
    "flatten",
    "gelu",
    "group_norm",
    "hard_sigmoid",
    "hard_swish",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "matmul",
    "max_pool2d",
    "may_multiply",
    "sums_of",
    "mean",
    "mse_loss",
    "multiply",
    "nll_loss",
    "pad",
    "permute",
    "pixel_shuffle",
    "primitive_of",
    "relu",
    "relu6",
    "reshape",
    "rms_norm",
    "scale",
    "select",
    "shift",
    "sigmoid",
    "silu",
    "slice",
    "soft_nll_loss",
    "softmax",
    "softplus",
    "split_half",
    "sqrt",
    "subtract",
    "sum",
    "take",
    "tanh",
    "upsample_bilinear",
    "upsample_nearest",
]

#: kind -> primitive. A test checks the gradient of every entry.
PRIMITIVES = {
    primitive.kind: primitive
    for primitive in (
        INPUT,
        CONV1D,
        CONV2D,
        CONV_TRANSPOSE2D,
        LINEAR,
        MATMUL,
        BATCH_NORM,
        GROUP_NORM,
        LAYER_NORM,
        RMS_NORM,
        CLAMP,
        DROPOUT,
        ERF,
        EXP,
        GELU,
        GELU_TANH,
        HARD_SIGMOID,
        HARD_SWISH,
        LEAKY_RELU,
        LOG,
        RELU,
        SIGMOID,
        SILU,
        SOFTPLUS,
        SQRT,
        TANH,
        AVG_POOL2D,
        MAX_POOL2D,
        ADD,
        DIVIDE,
        MULTIPLY,
        SCALE,
        SHIFT,
        SUBTRACT,
        MEAN,
        SOFTMAX,
        SUM,
        EMBEDDING,
        INTERPOLATE,
        PAD,
        SLICE,
        UPSAMPLE,
        CAT,
        SPLIT_HALF,
        LOG_SOFTMAX,
        NLL_LOSS,
        SOFT_NLL_LOSS,
        MSE_LOSS,
        BCE_LOSS,
    )
}


def primitive_of(kind: str) -> Primitive:
    """Returns the primitive of a kind of op. Raises UsageError for a kind that is not in PRIMITIVES.

    >>> primitive_of("ReLU").kept_bits
    1
    """
    if kind not in PRIMITIVES:
        raise UsageError(
            f"unknown kind of op {kind!r}. Known: {', '.join(PRIMITIVES)}; a new one is a row of PRIMITIVES"
        )
    return PRIMITIVES[kind]


def sums_of(kind: str) -> str:
    """Returns what an op of this kind adds that is not a product: its "output", the gradient of its "bias", or "".

    >>> sums_of("AvgPool2d"), sums_of("Linear"), sums_of("ReLU")
    ('output', 'bias', '')
    """
    return PRIMITIVES[kind].sums if kind in PRIMITIVES else ""


def may_multiply(kind: str) -> bool:
    """Returns whether an op of this kind is a matrix product, or True for a kind that is not in PRIMITIVES.

    >>> may_multiply("Linear"), may_multiply("ReLU")
    (True, False)
    """
    return kind not in PRIMITIVES or PRIMITIVES[kind].is_product
