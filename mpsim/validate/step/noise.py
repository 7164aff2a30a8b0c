"""How far float32 sums in another order may lie from mpsim's: kernels that give the sum of the terms' magnitudes.

A sum of K terms in float32 is off by at most about K * 2**-24 times the sum of their magnitudes, typically by a few
2**-24 of it; where the terms cancel, that is many places of the result. ``TOLERANCE`` times the magnitudes is taken.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

#: Of the sum of the magnitudes: 16 units in the last place of float32.
TOLERANCE = 2.0**-20

#: Kinds of op whose results are exact or rounded once whatever the order: equal in every engine.
EXACT_FORWARD = ("Input", "ReLU", "MaxPool2d", "Add", "Cat", "SplitHalf")
EXACT_BACKWARD = ("ReLU", "Add", "Cat", "SplitHalf")

Array = np.ndarray[Any, Any]


def magnitude_kernels(kernels: Any) -> Any:
    """``kernels`` with every sum replaced by the sum of its terms' magnitudes; the rest is as it is."""
    host, device = kernels.to_numpy, kernels.from_numpy

    def absolute(x: Any) -> Any:
        return None if x is None else device(np.abs(host(x)))

    def batch_norm(x: Any, scale: Any, shift: Any, epsilon: float) -> tuple[Any, ...]:
        _, mean, variance, inverse = kernels.batch_norm(x, scale, shift, epsilon)
        centred = _centred(np.abs(host(x)))
        y = centred * _per_channel(np.abs(host(inverse) * host(scale))) + _per_channel(np.abs(host(shift)))
        return device(y), mean, variance, inverse

    def batch_norm_gradient(gradient: Any, x: Any, mean: Any, inverse: Any, scale: Any, **_: Any) -> tuple[Any, ...]:
        g, x, inverse = np.abs(host(gradient)), np.abs(host(x)), np.abs(host(inverse))
        normal = _centred(x) * _per_channel(inverse)
        shift_sum, scale_sum = g.sum((0, 2, 3)), (g * normal).sum((0, 2, 3))
        count = np.float32(g.size / g.shape[1])
        inner = g + _per_channel(shift_sum / count) + normal * _per_channel(scale_sum / count)
        gx = _per_channel(inverse * np.abs(host(scale))) * inner
        return device(gx), device(scale_sum), device(shift_sum)

    def log_softmax_gradient(gradient: Any, y: Any) -> Any:
        g = np.abs(host(gradient))
        return device(g + np.exp(host(y)) * g.sum(1, keepdims=True))

    replaced = {
        "conv2d": lambda x, w, b, *rest: kernels.conv2d(absolute(x), absolute(w), absolute(b), *rest),
        "conv2d_input_gradient": lambda g, w, *rest: kernels.conv2d_input_gradient(absolute(g), absolute(w), *rest),
        "conv2d_weight_gradient": lambda x, g, *rest: kernels.conv2d_weight_gradient(absolute(x), absolute(g), *rest),
        "matmul": lambda a, b, transpose_a=False, transpose_b=False, bias=None: kernels.matmul(
            absolute(a), absolute(b), transpose_a, transpose_b, absolute(bias)
        ),
        "channel_sum": lambda x: kernels.channel_sum(absolute(x)),
        "avg_pool2d": lambda x, *rest, **options: kernels.avg_pool2d(absolute(x), *rest, **options),
        "avg_pool2d_gradient": lambda g, *rest: kernels.avg_pool2d_gradient(absolute(g), *rest),
        "max_pool2d_gradient": lambda g, *rest: kernels.max_pool2d_gradient(absolute(g), *rest),
        "batch_norm": batch_norm,
        "batch_norm_gradient": batch_norm_gradient,
        "log_softmax": lambda x: device(np.abs(host(x)) + np.abs(host(kernels.log_softmax(x)))),
        "log_softmax_gradient": log_softmax_gradient,
        "nll_loss": lambda y, labels: kernels.nll_loss(absolute(y), labels),
    }
    return SimpleNamespace(**{**vars(kernels), **replaced})


def _centred(magnitudes: Array) -> Array:
    """|x| + mean |x|: the magnitudes of x - mean."""
    return np.asarray(magnitudes + magnitudes.mean((0, 2, 3), keepdims=True, dtype=np.float32))


def _per_channel(values: Array) -> Array:
    return values.reshape(1, -1, 1, 1)
