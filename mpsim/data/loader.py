"""Loader: batches of a dataset in an order, and with an augmentation, that depend on seed and epoch only."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import numpy as np

from mpsim import checks
from mpsim.data.augmentation import Augmentation
from mpsim.data.background import in_order
from mpsim.data.dataset import LabelledImages
from mpsim.data.pictures.crops import RandomResizedCrop
from mpsim.errors import UsageError, UsageTypeError
from mpsim.kernels.permutation import permutation
from mpsim.kernels.philox import Stream, random_rows


class DataLoader:
    """Batches (images float32 (B, C, H, W), labels int64 (B,)) of a dataset, epoch by epoch.

    Epoch e has the order ``permutation(Stream(seed, "data_order", step=e), N)``, or the dataset's if ``shuffle`` is
    False. Image i of the dataset is augmented by elements k i .. k (i + 1) - 1 of ``Stream(seed, "augmentation",
    step=e)``, k being the augmentation's ``words_per_image``. So neither the batch size nor where an epoch is taken up
    changes what an image becomes.
    ``workers``: threads that make batches ahead, each up to ``prefetch`` of them; 0: each is made when it is asked for.
    They change nothing but the time. Close an epoch that is left early (``contextlib.closing``), or let go of it: its
    threads end then.
    The last batch is smaller if the dataset does not divide; ``drop_last`` leaves it out. Raises ValueError if there
    is no batch to give, or if batches for training (``shuffle``) should be larger than the dataset is; TypeError for an
    augmentation that the dataset does not take.

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
            raise UsageTypeError(f"{dataset!r} takes the augmentation {kinds}, got {augmentation!r}")
        self.dataset, self.batch_size, self.seed = dataset, batch_size, seed
        self.shuffle, self.augmentation, self.drop_last = shuffle, augmentation, drop_last
        self.workers, self.prefetch = workers, prefetch
        if shuffle and batch_size > len(dataset):
            raise UsageError(
                f"batch_size is {batch_size} images, but {dataset!r} has {len(dataset)}; take a batch_size of at most "
                f"{len(dataset)}, or shuffle=False for one batch that is smaller",
                "batch_size",
            )
        if not len(self):
            raise UsageError(
                f"batch_size must be at most {len(dataset)} for {dataset!r} without its last, smaller batch, "
                f"got {batch_size}",
                "batch_size",
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def order(self, epoch: int) -> np.ndarray:
        """The images' indices in the order of that epoch, int64 (N,)."""
        count = len(self.dataset)
        return permutation(Stream(self.seed, "data_order", step=epoch), count) if self.shuffle else np.arange(count)

    def epoch(self, epoch: int, first_batch: int = 0) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
        """The batches of epoch 0, 1, ..., from ``first_batch`` on (to go on in the middle)."""
        checks.whole("epoch", epoch, most=checks.MOST_EPOCHS)
        checks.whole("first_batch", first_batch)
        order = self.order(epoch)

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
        """The batches of epoch 0."""
        return self.epoch(0)
