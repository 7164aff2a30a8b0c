"""Reports of a step, an epoch and an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan, prod

import numpy as np

from mpsim.engine.tensor import TensorId


@dataclass(frozen=True)
class StepReport:
    """One training step.

    loss: the stored loss (a mean over the batch). logits: the stored float32 (N, classes), for tokens also
    (N, T, classes). overflow, underflow: for
    each rounded tensor the share of its elements beyond the range of its format on that side. promoted: tensors that
    are high from the next step on. loss_scale: the scale of this step. skipped: the update was skipped because a
    parameter gradient had an infinity or NaN. low_share: the share of elements in low formats in this step.
    gradient_norm: the norm of all gradients before they are clipped, with the recipe's ``clip``.
    """

    loss: float
    logits: np.ndarray = field(repr=False)
    overflow: dict[TensorId, float] = field(repr=False)
    underflow: dict[TensorId, float] = field(repr=False)
    promoted: tuple[TensorId, ...]
    loss_scale: float
    skipped: bool
    low_share: float
    gradient_norm: float | None = None


@dataclass(frozen=True)
class EpochReport:
    """One epoch: means over its steps (loss and accuracy over its images), and counts of events.

    low_share is the mean over the steps, and low_share_after the share of the plan after the last one.
    """

    epoch: int
    steps: int
    loss: float
    accuracy: float
    low_share: float
    low_share_after: float
    promotions: int
    skipped_steps: int
    loss_scale: float
    learning_rate: float


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (share of labels whose logit is the largest of its row), mean loss over the labels, number of images.

    A row of logits with a NaN counts as wrong. For tokens, an image is a row of tokens.
    """

    accuracy: float
    loss: float
    images: int


def correct(logits: np.ndarray, labels: np.ndarray, counted: np.ndarray | None = None) -> tuple[int, int]:
    """Returns the number of rows whose largest element is at the label, and the number of rows that count.

    Labels that are values for each class stand for the largest one. A row with NaN is not right. ``counted`` is a mask
    of the labels that count. Labels of other shapes, of a loss of one's own, are never right.
    """
    rows = logits.shape[:-1]
    if labels.dtype.kind == "f" and labels.shape == logits.shape:
        labels, counted = np.argmax(labels, axis=-1), None
    if labels.shape != rows or labels.dtype.kind == "f":
        return 0, prod(rows)
    right = (np.argmax(logits, axis=-1) == labels) & ~np.isnan(logits).any(axis=-1)
    counted = np.ones(rows, np.bool_) if counted is None else counted
    return int(np.count_nonzero(right & counted)), int(np.count_nonzero(counted))


def mean_loss(losses: Sequence[float], sizes: Sequence[int]) -> float:
    """Returns the mean of losses weighted by sizes. A loss of size 0 does not count, whatever it is."""
    counted = [(loss, size) for loss, size in zip(losses, sizes, strict=True) if size]
    if not counted:
        return nan
    return float(np.average([loss for loss, _ in counted], weights=[size for _, size in counted]))
