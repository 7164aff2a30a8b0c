"""Loads batches of a dataset, whose order and augmentation depend only on seed and epoch."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from mpsim import checks
from mpsim.data.augmentation import Augmentation
from mpsim.data.background import in_order
from mpsim.data.dataset import LabelledImages
from mpsim.data.pictures.crops import RandomResizedCrop
from mpsim.errors import UsageError, UsageTypeError
from mpsim.kernels.philox import Stream, permutation, random_rows
from mpsim.process import in_default_environment


class DataLoader:
    """Yields batches (images float32 (B, C, H, W), labels int64 (B,)) of a dataset, epoch by epoch.

    For a dataset of tokens these are int64 (B, T), with labels int64 (B,) or (B, T).

    The order of epoch e is ``permutation(Stream(seed, "data_order", step=e), N)``. Image i of the dataset is augmented
    by elements k i .. k (i + 1) - 1 of ``Stream(seed, "augmentation", step=e)``, where k is the augmentation's
    ``words_per_image``. An augmented image therefore depends neither on the batch size nor on the batch at which an
    epoch is resumed. If you leave an epoch early, close it (``contextlib.closing``) or delete it, so that its threads
    end.

    Args:
        dataset: The images.
        batch_size: The number of images in a batch. The last batch may be smaller.
        seed: The seed of order and augmentation.
        shuffle: Whether the order is random. Otherwise it is the dataset's.
        augmentation: The augmentation, an instance of a class in ``dataset.augmentations``.
        drop_last: Whether a smaller last batch is omitted.
        workers: The number of threads that prepare batches in advance. With 0 a batch is prepared when it is
            requested. Batches do not depend on it.
        prefetch: How many batches each worker prepares in advance.

    Raises:
        ValueError: An epoch has no batch, or, with ``shuffle``, ``batch_size`` exceeds the dataset.
        TypeError: The dataset does not support the augmentation.

    >>> from mpsim.data.digits import digits
    >>> loader = DataLoader(digits("test"), batch_size=128)
    >>> [len(labels) for images, labels in loader.epoch(0)]
    [128, 128, 104]
    """

    def __init__(
        self,
        dataset: LabelledImages,
        batch_size: int = 128,
        *,
        seed: int = 0,
        shuffle: bool = True,
        augmentation: Augmentation | RandomResizedCrop | None = None,
        drop_last: bool = False,
        workers: int = 0,
        prefetch: int = 2,
    ) -> None:
        batch_size, seed = checks.batch("batch_size", batch_size), checks.seed("seed", seed)
        workers = checks.whole("workers", workers, most=checks.MOST_THREADS)
        prefetch = checks.whole("prefetch", prefetch, least=1, most=checks.MOST_THREADS)
        if augmentation is not None and not isinstance(augmentation, dataset.augmentations):
            kinds = " or ".join(kind.__name__ for kind in dataset.augmentations)
            raise UsageTypeError(f"{dataset!r} supports the augmentation {kinds}, got {augmentation!r}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.shuffle, self.augmentation, self.drop_last = shuffle, augmentation, drop_last
        self.workers, self.prefetch = workers, prefetch
        if shuffle and batch_size > len(dataset):
            raise UsageError(
                f"batch_size is {batch_size} examples, but {dataset!r} has {len(dataset)}; pass a batch_size of at "
                f"most {len(dataset)}, or shuffle=False for one smaller batch",
                "batch_size",
            )
        if not len(self):
            raise UsageError(
                f"batch_size must be at most {len(dataset)} for {dataset!r} without its last, smaller batch, "
                f"got {batch_size}",
                "batch_size",
            )

    def __len__(self) -> int:
        """Returns the number of batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """Returns the indices of the images in the order of an epoch, int64 (N,)."""
        count = len(self.dataset)
        return permutation(Stream(self.seed, "data_order", step=epoch), count) if self.shuffle else np.arange(count)

    def epoch(self, epoch: int, first_batch: int = 0) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """Yields the batches of an epoch. ``first_batch`` resumes an epoch in the middle."""
        checks.whole("epoch", epoch, most=checks.MOST_EPOCHS)
        checks.whole("first_batch", first_batch)
        order = self.order(epoch)

        @in_default_environment
        def make(batch: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            return self._images(chosen, epoch), self.dataset.labels[chosen]

        batches = range(first_batch, len(self))
        if self.workers:
            yield from in_order(make, batches, self.workers, self.workers * self.prefetch)
        else:
            yield from map(make, batches)

    def _images(self, chosen: np.ndarray, epoch: int) -> np.ndarray:
        if self.augmentation is None:
            return self.dataset.load(chosen)
        words = random_rows(Stream(self.seed, "augmentation", step=epoch), chosen, self.augmentation.words_per_image)
        return self.dataset.load(chosen, self.augmentation, words)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields the batches of epoch 0."""
        return self.epoch(0)
