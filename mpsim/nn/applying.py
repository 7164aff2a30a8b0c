"""Applies layers and functions of tensors to arrays, outside training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageTypeError
from mpsim.interchange import as_array
from mpsim.kernels import DEFAULT_BACKEND, bind
from mpsim.nn.module import Module
from mpsim.process import in_default_environment


@in_default_environment
def apply(
    layer: Module | Callable[..., Any],
    *inputs: ArrayLike,
    training: bool = False,
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
) -> object:
    """Applies a layer, a network or a function of tensors to arrays. No tensor is rounded to a format.

    Args:
        layer: The layer or function, such as ``ops.relu``. A layer that was moved to a backend is applied there.
        inputs: Arrays (N, ...). Floating-point numbers are rounded to float32, whole numbers are tokens.
        training: Whether layers do what they do in training, such as dropout, or statistics of the batch. Running
            statistics are then updated.
        seed: The seed of dropout.
        backend: The backend. All give the same bits.

    Returns:
        The array that the layer returns, as NumPy's, or a tuple of arrays.

    Raises:
        TypeError: ``layer`` cannot be called with tensors, or an input has no real numbers.
        ValueError: A shape does not fit.

    >>> from mpsim import nn
    >>> nn.apply(nn.Sequential(nn.ReLU(), nn.AvgPool2d()), np.ones((2, 3, 4, 4))).shape
    (2, 3, 1, 1)
    """
    if isinstance(layer, type) or not callable(layer):
        what = "a layer or a function of tensors, not its class"
        raise UsageTypeError(f"layer must be {what}; got {checks.shown(layer)}")
    kernels = (layer._kernels if isinstance(layer, Module) else None) or bind(backend)
    tape = Tape(kernels, training=training, seed=checks.seed("seed", seed))
    result = layer(*(tape.input(_numbers(position, given)) for position, given in enumerate(inputs)))

    def host(tensor: Tensor) -> Array:
        return np.array(kernels.to_numpy(tensor.value))

    return tuple(map(host, result)) if isinstance(result, tuple | list) else host(result)


def _numbers(position: int, given: ArrayLike) -> np.ndarray:
    array = as_array(given)
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind != "f":
        raise UsageTypeError(f"inputs[{position}] must be an array of numbers, got one of {array.dtype}")
    return array.astype(np.float32)
