"""LabelledImages: what the loader and the trainer take. Dataset: labelled images in memory."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from mpsim import checks
from mpsim.data.augmentation import Augmentation
from mpsim.data.digests import digest_of_lines
from mpsim.errors import UsageError

SPLITS = ("train", "test")


@runtime_checkable
class LabelledImages(Protocol):
    """Images by number 0 .. len - 1 with their labels: in memory (Dataset) or in files (image_files.ImageFiles)."""

    augmentations: ClassVar[tuple[type, ...]]  # the kinds that ``load`` takes

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,) in 0 .. classes - 1."""
        ...

    @property
    def classes(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        ...

    def __len__(self) -> int: ...

    def load(self, indices: np.ndarray, augmentation: Any = None, words: np.ndarray | None = None) -> np.ndarray:
        """Those images, normalised, float32 (B, C, H, W), contiguous. ``augmentation``: of a kind in ``augmentations``,
        with ``words``, uint32 (B, augmentation.words_per_image). An image depends on its number and words only."""
        ...

    def first(self, count: int) -> LabelledImages:
        """The first ``count`` images (all if there are fewer)."""
        ...

    def digest(self) -> str:
        """SHA-256 (hex) over everything that determines the images and labels, as it is now.

        A run is stored under the digests of its data, and stops if they change while it trains. So what is read from
        files while training must be looked at in each call; ``mpsim.data.digests.file_digest`` reads a file once.
        """
        ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, normalised, float32 (N, C, H, W), and their labels, int64 (N,) in 0 .. classes - 1.

    ``black`` is what a black pixel became by normalisation, per channel: what a crop beyond the border shows.
    Raises ValueError if the arrays do not fit together.

    >>> data = Dataset(np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), 2, "empty")
    >>> data, len(data)
    (Dataset('empty': 2 images of (1, 8, 8), 2 classes), 2)
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    name: str
    black: tuple[float, ...] = ()

    augmentations: ClassVar[tuple[type, ...]] = (Augmentation,)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != np.float32:
            raise UsageError(f"images are float32 (N, C, H, W), got {images.dtype} {images.shape}")
        checks.classes("classes", self.classes)
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise UsageError(f"labels are integers ({len(images)},), got {labels.dtype} {labels.shape}")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise UsageError(f"labels are 0 .. {self.classes - 1}, got {labels.min()} .. {labels.max()}")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "black", self.black or (0.0,) * images.shape[1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.images.shape[1:]

    def load(self, indices: np.ndarray, augmentation: Any = None, words: np.ndarray | None = None) -> np.ndarray:
        """As ``LabelledImages.load``.

        >>> Dataset(np.ones((2, 1, 8, 8), np.float32), np.array([0, 1]), 2, "ones").load(np.array([1, 0, 1])).shape
        (3, 1, 8, 8)
        """
        images = self.images[indices]
        return images if augmentation is None else augmentation(images, words, self.black)

    def first(self, count: int) -> Dataset:
        """The first ``count`` images (all if there are fewer)."""
        checks.whole("count", count)
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def digest(self) -> str:
        """As ``LabelledImages.digest``. It is computed once, so the arrays must not be changed afterwards.

        >>> one, other = (Dataset(np.zeros((1, 1, 8, 8), np.float32), np.array([n]), 2, "one image") for n in (0, 1))
        >>> one.digest() == other.digest()
        False
        """
        return self._digest

    @cached_property
    def _digest(self) -> str:
        arrays = (self.images.astype("<f4", copy=False), self.labels.astype("<i8", copy=False))
        content = [hashlib.sha256(np.ascontiguousarray(array).reshape(-1).data).hexdigest() for array in arrays]
        return digest_of_lines([f"{self.images.shape} {self.classes} {self.black}", *content])

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}: {len(self)} images of {self.image_shape}, {self.classes} classes)"


def check_split(split: str) -> None:
    """ValueError unless ``split`` is "train" or "test"."""
    checks.named("split", split, SPLITS)


def normalise(pixels: np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]) -> np.ndarray:
    """(pixel - mean) / deviation per channel in float32, for pixels in 0..1, (N, C, H, W)."""
    shape = (1, -1, 1, 1)
    centred = pixels.astype(np.float32) - np.asarray(mean, np.float32).reshape(shape)
    return np.ascontiguousarray(centred / np.asarray(deviation, np.float32).reshape(shape))


def black_of(mean: tuple[float, ...], deviation: tuple[float, ...]) -> tuple[float, ...]:
    """A black pixel after ``normalise``."""
    return tuple(float(value) for value in -np.asarray(mean, np.float32) / np.asarray(deviation, np.float32))
