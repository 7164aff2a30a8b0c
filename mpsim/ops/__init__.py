"""Defines the ops, which are functions of tensors, and PRIMITIVES, which lists their primitives."""

from mpsim.engine.primitive import Primitive
from mpsim.engine.tape import INPUT
from mpsim.errors import UsageError
from mpsim.ops.convolution import CONV2D, conv2d
from mpsim.ops.elementwise import ADD, RELU, add, relu
from mpsim.ops.linear import LINEAR, linear
from mpsim.ops.loss import LOG_SOFTMAX, NLL_LOSS, cross_entropy, log_softmax, nll_loss
from mpsim.ops.normalization import BATCH_NORM, batch_norm
from mpsim.ops.pooling import AVG_POOL2D, MAX_POOL2D, avg_pool2d, max_pool2d
from mpsim.ops.shape import CAT, SPLIT_HALF, cat, channel_shuffle, flatten, permute, reshape, split_half

__all__ = [
    "PRIMITIVES",
    "add",
    "avg_pool2d",
    "batch_norm",
    "cat",
    "channel_shuffle",
    "conv2d",
    "cross_entropy",
    "flatten",
    "linear",
    "log_softmax",
    "max_pool2d",
    "may_multiply",
    "nll_loss",
    "permute",
    "primitive_of",
    "relu",
    "reshape",
    "split_half",
]

#: kind -> primitive. A test checks the gradient of every entry.
PRIMITIVES = {
    primitive.kind: primitive
    for primitive in (
        INPUT, CONV2D, LINEAR, BATCH_NORM, RELU, MAX_POOL2D, AVG_POOL2D, ADD, CAT, SPLIT_HALF, LOG_SOFTMAX, NLL_LOSS,
    )
}  # fmt: skip


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


def may_multiply(kind: str) -> bool:
    """Returns whether an op of this kind is a matrix product, or True for a kind that is not in PRIMITIVES.

    >>> may_multiply("Linear"), may_multiply("ReLU")
    (True, False)
    """
    return kind not in PRIMITIVES or PRIMITIVES[kind].is_product
