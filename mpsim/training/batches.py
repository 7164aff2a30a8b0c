"""Checks incoming batches, divides them, and estimates how large a batch fits on a device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from mpsim.data.dataset import LabelledImages
from mpsim.errors import UsageError, UsageTypeError
from mpsim.interchange import as_array
from mpsim.kernels import DeviceMemoryError
from mpsim.losses import CrossEntropy, Loss, checked_labels
from mpsim.nn import Module
from mpsim.trace import trace

FLOAT_BYTES = 4
Batch = tuple[np.ndarray, np.ndarray]
#: A dataset, a pair of all images and labels, or batches of them.
Data = LabelledImages | Batch | Iterable[Batch]


class MicroBatch(NamedTuple):
    """A part of a batch. ``number``: its number from 0 on; ``of``: the number of parts that the recipe asks for (a
    batch of fewer examples has as many parts as examples); ``examples``, ``weight``: of the whole batch."""

    number: int
    of: int
    examples: int
    weight: float

    @classmethod
    def whole(cls, criterion: Loss, labels: np.ndarray) -> MicroBatch:
        """Returns the one part of an undivided batch.

        >>> from mpsim.losses import CrossEntropy
        >>> MicroBatch.whole(CrossEntropy(), np.array([3, 7]))
        MicroBatch(number=0, of=1, examples=2, weight=2.0)
        """
        return cls(0, 1, len(labels), criterion.weight(labels))

    def loss_of(self, criterion: Loss, labels: np.ndarray) -> tuple[Loss, float]:
        """Returns the loss of this part, and the share by which it is multiplied, so that the gradients of all parts
        add up to those of the batch's mean."""
        weight = criterion.weight(labels)
        if not self.weight:
            return criterion, len(labels) / self.examples
        return (criterion if weight else criterion.undivided()), (weight or 1.0) / self.weight

    def draws_as(self, step: int) -> int:
        """Returns the number that stands for a step's number where this part draws random bits, as dropout does."""
        return step * self.of + self.number


def checked(model: Module, images: np.ndarray, labels: np.ndarray, loss: Loss = CrossEntropy()) -> Batch:
    """Returns images as contiguous float32 (N, C, H, W), rows as (N, D), or tokens as int64 (N, T), and labels.

    Labels are (N,), and for tokens (N,) or (N, T), with a further axis if they are values for each class
    (mpsim.losses). Raises TypeError for images that are not float32, or tokens or labels that are not integers. Raises
    ValueError for wrong shapes, an empty batch, a token outside 0..vocabulary-1, or a label outside 0..classes-1.
    """
    images, labels = as_array(images), as_array(labels)
    images = _images(model, images) if model.vocabulary is None else _tokens(model, images, model.vocabulary)
    shapes = [images.shape[:1]] if model.vocabulary is None else [images.shape[:1], images.shape]
    return np.ascontiguousarray(images), checked_labels(loss, labels, shapes, getattr(model, "classes", None))


def _images(model: Module, images: np.ndarray) -> np.ndarray:
    if images.dtype != np.float32:
        raise UsageTypeError(f"images must be float32, got {images.dtype}; convert them with .astype(np.float32)")
    shape = getattr(model, "input_shape", None)
    if images.ndim not in (2, 4) or images.shape[0] < 1 or (shape is not None and images.shape[1:] != tuple(shape)):
        expected = "(N, C, H, W) or (N, D)" if shape is None else f"(N, {', '.join(map(str, shape))})"
        raise UsageError(f"images must have shape {expected} with N >= 1, got {images.shape}")
    return images


def _tokens(model: Module, tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    if tokens.dtype.kind not in "iu":
        raise UsageTypeError(f"tokens must be integers, got {tokens.dtype}; {type(model).__name__} has a vocabulary")
    if tokens.shape[:1] < (1,) or tokens.shape[1:] != tuple(model.input_shape):
        expected = f"(N, {', '.join(map(str, model.input_shape))})"
        raise UsageError(f"tokens must have shape {expected} with N >= 1, got {tokens.shape}")
    if not (int(tokens.min()) >= 0 and int(tokens.max()) < vocabulary):
        raise UsageError(f"tokens must be in 0..{vocabulary - 1}, got {tokens.min()} to {tokens.max()}")
    return tokens.astype(np.int64)


def of(data: Data, batch: int) -> Iterator[Batch]:
    """Yields the batches of ``data``: of an iterable, or pieces of a dataset or of a pair (images, labels)."""
    if isinstance(data, LabelledImages):
        for start in range(0, len(data), batch):
            chosen = np.arange(start, min(start + batch, len(data)))
            yield data.load(chosen), data.labels[chosen]
    elif isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], np.ndarray):
        images, labels = data
        if len(images) != len(labels):
            raise UsageError(f"{len(images)} images or rows of tokens need as many labels, got {len(labels)}")
        for start in range(0, len(images), batch):
            yield images[start : start + batch], labels[start : start + batch]
    elif isinstance(data, Iterable):
        yield from data
    else:
        raise UsageTypeError(f"data must be a dataset, (images, labels) or batches of them, got {type(data).__name__}")


# -- memory of a device -----------------------------------------------------------------------------------------
def fitting_batch(model: Module, free: int) -> int:
    """Estimates the largest batch of a step, given the bytes ``free`` besides masters, momentum and statistics.

    It assumes that every activation is stored until its backward pass, together with two of the largest gradients and
    one padded copy, all in float32. The rounded parameters and their gradients are subtracted first.

    >>> import reference_models
    >>> fitting_batch(reference_models.build("small_cnn", width=0.25), 1 << 30) > 100
    True
    """
    tensors = trace(model, batch=1).tensors
    activations = [tensor.elements for tensor in tensors if tensor.id.role == "activation"]
    parameters = sum(tensor.elements for tensor in tensors if tensor.id.role.startswith("parameter"))
    image = sum(activations) + 3 * max(activations)
    return max(0, (free - FLOAT_BYTES * parameters) // (FLOAT_BYTES * image))


def with_advice(error: DeviceMemoryError, model: Module, batch: int, held: int) -> DeviceMemoryError:
    """Adds the batch that would fit to the error of a step. ``held``: bytes in use before the step."""
    fits = min(fitting_batch(model, error.total - held), batch - 1)
    advice = f"a batch of about {fits} would fit" if fits > 0 else "no batch would fit"
    return DeviceMemoryError(
        f"a step with batch {batch} needed {error.asked} more bytes: {error}. According to the sizes of its "
        f"tensors, {advice}",
        asked=error.asked,
        used=error.used,
        total=error.total,
    )
