"""Defines LabelledImages, the protocol that the loader and the trainer need, and Dataset, which is in memory.

Tokens are integers, such as the characters of a text. They take the place of images, and may have one label each.
"""

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

    ``augmentations`` are the classes of augmentations that ``load`` accepts. Data that consist of tokens also have an
    attribute ``vocabulary``, the number of different tokens (``vocabulary_of``).

    >>> from mpsim import data
    >>> isinstance(data.load("digits", "train"), LabelledImages)
    True
    """

    augmentations: ClassVar[tuple[type, ...]]

    @property
    def labels(self) -> np.ndarray:
        """The labels, int64 (N,), or (N, T) for tokens, from 0 to classes - 1."""
        ...

    @property
    def classes(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of an image, (D,) of a row of numbers, or (T,) of a row of tokens."""
        ...

    def __len__(self) -> int: ...

    def load(self, indices: np.ndarray, augmentation: object = None, words: np.ndarray | None = None) -> np.ndarray:
        """Returns the given images, normalised, as contiguous float32 (B, C, H, W), or tokens as int64 (B, T).

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
    """Holds normalised images and their labels in memory, or tokens and the labels of the rows or of the tokens.

    Args:
        images: float32 (N, C, H, W), or rows of numbers (N, D). With ``vocabulary``: integers (N, T) from 0 to
            vocabulary - 1.
        labels: Integers (N,), or (N, T) for tokens, from 0 to classes - 1.
        classes: The number of classes.
        name: The name in messages.
        black: The normalised value of 0 in each channel (column), which crops show beyond the border.
        vocabulary: The number of different tokens, or None for images.

    Raises:
        ValueError: The shapes, types or labels do not match.

    >>> data = Dataset(np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]), 2, "empty")
    >>> data, len(data)
    (Dataset('empty': 2 images of (1, 8, 8), 2 classes), 2)
    >>> Dataset(np.array([[0, 1, 2]]), np.array([[1, 2, 0]]), 3, "abca", vocabulary=3)
    Dataset('abca': 1 rows of 3 tokens, 3 classes)
    """

    images: np.ndarray
    labels: np.ndarray
    classes: int
    name: str
    black: tuple[float, ...] = ()
    vocabulary: int | None = None

    augmentations: ClassVar[tuple[type, ...]] = (Augmentation,)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if self.vocabulary is not None:
            object.__setattr__(self, "images", _checked_tokens(images, checks.classes("vocabulary", self.vocabulary)))
        elif images.ndim not in (2, 4) or images.dtype != np.float32:
            found = f"{images.dtype} {images.shape}"
            raise UsageError(f"images must be float32 (N, C, H, W), or rows of numbers (N, D), got {found}")
        checks.classes("classes", self.classes)
        fitting = [images.shape[:1]] if self.vocabulary is None else [images.shape[:1], images.shape]
        if labels.shape not in fitting or labels.dtype.kind not in "iu":
            expected = " or ".join(map(str, fitting))
            raise UsageError(f"labels must be integers {expected}, got {labels.dtype} {labels.shape}")
        object.__setattr__(self, "labels", checked_labels(labels, self.classes))
        if self.vocabulary is None:
            object.__setattr__(self, "black", self.black or (0.0,) * images.shape[1])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of an image, (D,) of a row of numbers, or (T,) of a row of tokens."""
        return self.images.shape[1:]

    @in_default_environment
    def load(self, indices: np.ndarray, augmentation: Any = None, words: np.ndarray | None = None) -> np.ndarray:
        """Returns images as ``LabelledImages.load`` describes.

        >>> Dataset(np.ones((2, 1, 8, 8), np.float32), np.array([0, 1]), 2, "ones").load(np.array([1, 0, 1])).shape
        (3, 1, 8, 8)
        """
        images = self.images[indices]
        if augmentation is not None and images.ndim != 4:
            raise UsageError(f"{self!r} has no images to augment; got {augmentation!r}")
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
        kind = "<f4" if self.vocabulary is None else "<i8"
        arrays = (self.images.astype(kind, copy=False), self.labels.astype("<i8", copy=False))
        content = [hashlib.sha256(np.ascontiguousarray(array).reshape(-1).data).hexdigest() for array in arrays]
        more = "" if self.vocabulary is None else f" {self.labels.shape} {self.vocabulary} tokens"
        return digest_of_lines([f"{self.images.shape} {self.classes} {self.black}{more}", *content])

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        what = f"images of {self.image_shape}"
        if len(self.image_shape) == 1:
            what = f"rows of {self.image_shape[0]} {'numbers' if self.vocabulary is None else 'tokens'}"
        return f"Dataset({self.name!r}: {len(self)} {what}, {self.classes} classes)"


@in_default_environment
def vocabulary_of(data: LabelledImages) -> int | None:
    """Returns the number of different tokens of data that consist of tokens, and None for images.

    >>> from mpsim import data
    >>> data.vocabulary_of(data.load("grammar", "test")), data.vocabulary_of(data.load("digits", "test"))
    (20, None)
    """
    return getattr(data, "vocabulary", None)


def _checked_tokens(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """Returns tokens (N, T) as int64."""
    if tokens.ndim != 2 or tokens.dtype.kind not in "iu":
        raise UsageError(f"tokens must be integers (N, T), got {tokens.dtype} {tokens.shape}")
    if tokens.size and not (tokens.min() >= 0 and tokens.max() < vocabulary):
        raise UsageError(f"tokens must be from 0 to {vocabulary - 1}, got {tokens.min()} to {tokens.max()}")
    return np.ascontiguousarray(tokens, np.int64)


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
