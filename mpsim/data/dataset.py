"""Defines LabelledImages, the protocol that the loader and the trainer need, and Dataset, for images in memory."""

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
from mpsim.process import in_default_environment

SPLITS = ("train", "test")


@runtime_checkable
class LabelledImages(Protocol):
    """Images numbered 0 .. len - 1 with labels, either in memory (Dataset) or in files (image_files.ImageFiles).

    ``augmentations`` are the classes of augmentations that ``load`` accepts.

    >>> from mpsim import data
    >>> isinstance(data.load("digits", "train"), LabelledImages)
    True
    """

    augmentations: ClassVar[tuple[type, ...]]

    @property
    def labels(self) -> np.ndarray:
        """The labels, int64 (N,), from 0 to classes - 1."""
        ...

    @property
    def classes(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image."""
        ...

    def __len__(self) -> int: ...

    def load(self, indices: np.ndarray, augmentation: Any = None, words: np.ndarray | None = None) -> np.ndarray:
        """Returns the given images, normalised, as contiguous float32 (B, C, H, W).

        An image depends only on its number and its words.

        Args:
            indices: The numbers of the images.
            augmentation: An instance of a class in ``augmentations``.
            words: The random words of the augmentation, uint32 (B, augmentation.words_per_image).
        """
        ...

    def first(self, count: int) -> LabelledImages:
        """Returns the first ``count`` images, or all if there are fewer."""
        ...

    def digest(self) -> str:
        """Computes the SHA-256 (hex) over everything that determines the images and labels, as it is now.

        A run is stored under the digests of its data, and it stops if they change during training. Each call must
        therefore examine the files that training reads. ``mpsim.data.digests.file_digest`` reads unchanged files once.
        """
        ...


@dataclass(frozen=True, eq=False)
class Dataset:
    """Holds normalised images and their labels in memory.

    Args:
        images: float32 (N, C, H, W).
        labels: Integers (N,) from 0 to classes - 1.
        classes: The number of classes.
        name: The name in messages.
        black: The normalised value of a black pixel in each channel, which crops show beyond the border.

    Raises:
        ValueError: The shapes, types or labels do not match.

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
            raise UsageError(f"images must be float32 (N, C, H, W), got {images.dtype} {images.shape}")
        checks.classes("classes", self.classes)
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise UsageError(f"labels must be integers ({len(images)},), got {labels.dtype} {labels.shape}")
        object.__setattr__(self, "labels", checked_labels(labels, self.classes))
        object.__setattr__(self, "black", self.black or (0.0,) * images.shape[1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image."""
        return self.images.shape[1:]

    @in_default_environment
    def load(self, indices: np.ndarray, augmentation: Any = None, words: np.ndarray | None = None) -> np.ndarray:
        """Returns images as ``LabelledImages.load`` describes.

        >>> Dataset(np.ones((2, 1, 8, 8), np.float32), np.array([0, 1]), 2, "ones").load(np.array([1, 0, 1])).shape
        (3, 1, 8, 8)
        """
        images = self.images[indices]
        return images if augmentation is None else augmentation(images, words, self.black)

    def first(self, count: int) -> Dataset:
        """Returns the first ``count`` images, or all if there are fewer."""
        checks.whole("count", count)
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def digest(self) -> str:
        """Returns the digest of ``LabelledImages.digest``. It is computed once, so the arrays must not change.

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
    """Raises UsageError unless ``split`` is "train" or "test"."""
    checks.named("split", split, SPLITS)


def checked_labels(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns integer labels as int64. Raises UsageError unless they are from 0 to classes - 1."""
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        raise UsageError(f"labels must be from 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


@in_default_environment
def normalise(pixels: np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]) -> np.ndarray:
    """Returns (pixel - mean) / deviation of each channel in float32, for pixels (N, C, H, W) from 0 to 1."""
    shape = (1, -1, 1, 1)
    centred = pixels.astype(np.float32) - np.asarray(mean, np.float32).reshape(shape)
    return np.ascontiguousarray(centred / np.asarray(deviation, np.float32).reshape(shape))


def black_of(mean: tuple[float, ...], deviation: tuple[float, ...]) -> tuple[float, ...]:
    """Returns the normalised value of a black pixel."""
    return tuple(float(value) for value in -np.asarray(mean, np.float32) / np.asarray(deviation, np.float32))
