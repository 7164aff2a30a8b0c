"""Defines the losses of training: cross-entropy and its forms, squared errors, binary cross-entropy, or one's own.

A loss is called with the outputs of a network, a tensor (N, C) or (N, T, C), and with labels. These are classes,
integers of the outputs' shape without the last axis, or values, float32 of the outputs' shape, such as the shares of
classes that mixing two images gives (mixup).

>>> loss_of("cross_entropy(smoothing=0.1)")
CrossEntropy(smoothing=0.1, weights=(), ignore_index=None)
"""

from mpsim.losses.kinds import BCE, MSE, CrossEntropy, Custom, Loss
from mpsim.losses.labels import checked_labels
from mpsim.losses.text import described, file_hash, file_of, loss_named, loss_of

__all__ = [
    "BCE", "MSE", "CrossEntropy", "Custom", "Loss", "checked_labels", "described", "file_hash", "file_of", "loss_named",
    "loss_of",
]  # fmt: skip
