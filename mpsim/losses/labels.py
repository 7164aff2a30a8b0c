"""Checks the labels of a batch."""

from __future__ import annotations

import numpy as np

from mpsim.errors import UsageError, UsageTypeError
from mpsim.losses.kinds import Custom, Loss


def checked_labels(loss: Loss, labels: np.ndarray, shapes: list[tuple[int, ...]], classes: int | None) -> np.ndarray:
    """Returns labels that fit, classes as int64 and values as float32.

    Args:
        loss: The loss.
        labels: Classes or values.
        shapes: The possible shapes of classes. Those of values have the classes as a further axis.
        classes: The number of outputs, or None if it is not known.

    Raises:
        UsageError: The labels have another shape, a class is out of range, or a value is not finite.
        UsageTypeError: The labels are not numbers.
    """
    if isinstance(loss, Custom) and labels.dtype.kind in "fiu":
        if labels.shape[:1] != shapes[0][:1]:
            raise UsageError(f"labels must have shape ({shapes[0][0]}, ...), got {labels.shape}")
        return np.ascontiguousarray(labels, np.float32 if labels.dtype.kind == "f" else np.int64)
    if labels.dtype.kind == "f" and labels.shape not in shapes:
        fitting = [shape for shape in shapes if labels.shape[:-1] == shape and classes in (None, labels.shape[-1])]
        if not fitting:
            expected = " or ".join(f"({', '.join(map(str, shape))}, {classes or 'classes'})" for shape in shapes)
            raise UsageError(f"labels of type {labels.dtype} must have shape {expected}, got {labels.shape}")
        if not np.isfinite(labels).all():
            raise UsageError("labels must be finite, got an infinity or NaN")
        return np.ascontiguousarray(labels, np.float32)
    if labels.dtype.kind not in "iu":
        raise UsageTypeError(f"labels must be integers, got {labels.dtype}; or values of a float type for each class")
    if labels.shape not in shapes:
        expected = " or ".join(map(str, shapes))
        raise UsageError(f"{shapes[0][0]} images or rows of tokens need labels of shape {expected}, got {labels.shape}")
    counted = labels[loss.counted(labels)]
    if classes is not None and counted.size and not (int(counted.min()) >= 0 and int(counted.max()) < classes):
        raise UsageError(f"labels must be in 0..{classes - 1}, got {counted.min()} to {counted.max()}")
    return labels.astype(np.int64)
