"""The place of a micro-batch in the batch of a training step, and its share of the step's loss."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.losses import Loss


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
