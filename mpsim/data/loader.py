"""Loader: batches of a dataset in an order, and with an augmentation, that depend on seed and epoch only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpsim.data.augmentation import Augmentation
from mpsim.data.dataset import Dataset
from mpsim.kernels.permutation import permutation
from mpsim.kernels.philox import Stream, random_bits


class DataLoader:
    """Batches (images float32 (B, C, H, W), labels int64 (B,)) of a dataset, epoch by epoch.

    Epoch e has the order ``permutation(Stream(seed, "data_order", step=e), N)``, or the dataset's if ``shuffle`` is
    False. Image i of the dataset is augmented by elements 4i .. 4i + 3 of ``Stream(seed, "augmentation", step=e)``.
    So neither the batch size nor where an epoch is taken up changes what an image becomes.
    The last batch is smaller if the dataset does not divide; ``drop_last`` leaves it out. Raises ValueError if there
    is no batch to give.

    >>> from mpsim.data.digits import digits
    >>> loader = DataLoader(digits("test"), batch_size=128)
    >>> [len(labels) for images, labels in loader.epoch(0)]
    [128, 128, 104]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 128,
        *,
        seed: int = 0,
        shuffle: bool = True,
        augmentation: Augmentation | None = None,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is a number of images >= 1, got {batch_size}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.shuffle, self.augmentation, self.drop_last = shuffle, augmentation, drop_last
        if not len(self):
            raise ValueError(f"{dataset!r} has no batch of {batch_size} images; take a smaller batch_size")

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """The images' indices in the order of that epoch, int64 (N,)."""
        count = len(self.dataset)
        return permutation(Stream(self.seed, "data_order", step=epoch), count) if self.shuffle else np.arange(count)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of epoch 0, 1, ..., from ``first_batch`` on (to go on in the middle)."""
        order = self.order(epoch)
        words = None
        if self.augmentation is not None:
            stream = Stream(self.seed, "augmentation", step=epoch)
            words = random_bits(stream, 4 * len(order)).reshape(-1, 4)
        for batch in range(first_batch, len(self)):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            images = self.dataset.images[chosen]
            if self.augmentation is not None and words is not None:
                images = self.augmentation(images, words[chosen], self.dataset.black)
            yield images, self.dataset.labels[chosen]

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The batches of epoch 0."""
        return self.epoch(0)
