"""Defines what a network reads: images or other numbers as float32, or tokens as integers."""

from __future__ import annotations

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.nn.module import Module

#: The sizes of one input.
IMAGE, ROW, TOKENS = "(channels, height, width)", "(features,)", "(tokens,)"


def shape_of_input(shape: object, vocabulary: int | None = None) -> tuple[int, ...]:
    """Checks the shape of one input of a network, without the batch, and returns it.

    ``vocabulary``: the number of different tokens, for a network that reads tokens, or None for images and rows of
    numbers. Raises UsageError for another number of sizes than that of images (C, H, W), rows (D,) or tokens (T,), or a
    size below 1.

    >>> shape_of_input([1, 8, 8]), shape_of_input([30]), shape_of_input((64,), vocabulary=27)
    ((1, 8, 8), (30,), (64,))
    """
    return checks.sizes("input_shape", shape, *((IMAGE, ROW) if vocabulary is None else (TOKENS,)))


def blank(model: Module, batch: int, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a batch of zeros of the type that the model reads. It allocates no memory.

    >>> blank(Module(), 2, (1, 8, 8)).dtype.name
    'float32'
    """
    return np.broadcast_to(np.float32(0) if model.vocabulary is None else np.int64(0), (batch, *shape))


def described(model: Module, shape: tuple[int, ...]) -> str:
    """Returns the words for an input of the model, for messages.

    >>> described(Module(), (1, 8, 8))
    'images of (1, 8, 8)'
    """
    return f"{_kind(shape, model.vocabulary)} of {shape}"


def _kind(shape: tuple[int, ...], vocabulary: int | None) -> str:
    if vocabulary is not None:
        return "tokens"
    return "rows" if len(shape) == 1 else "images"


def check_fits(model: Module, label: str, shape: tuple[int, ...], vocabulary: int | None, source: str) -> None:
    """Raises UsageError unless the model reads data of this shape and vocabulary. ``label`` and ``source`` are the
    names of model and data."""
    if (model.vocabulary is None) != (vocabulary is None) or tuple(model.input_shape) != tuple(shape):
        has = f"{tuple(shape)}" if len(shape) == 3 else f"{_kind(shape, vocabulary)} of {tuple(shape)}"
        kind = _kind(tuple(model.input_shape), model.vocabulary)
        wants = f"{kind} of {'shape ' if kind == 'images' else ''}{model.input_shape}"
        raise UsageError(f"{label} needs {wants}, but {source} has {has}; choose another model or dataset")
    if vocabulary is not None and model.vocabulary is not None and vocabulary > model.vocabulary:
        raise UsageError(f"{label} reads tokens below {model.vocabulary}, but {source} has {vocabulary} different ones")
