"""Dataset: labelled images in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SPLITS = ("train", "test")


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

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype != np.float32:
            raise ValueError(f"images are float32 (N, C, H, W), got {images.dtype} {images.shape}")
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(f"labels are integers ({len(images)},), got {labels.dtype} {labels.shape}")
        if len(labels) and not (labels.min() >= 0 and labels.max() < self.classes):
            raise ValueError(f"labels are 0 .. {self.classes - 1}, got {labels.min()} .. {labels.max()}")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "black", self.black or (0.0,) * images.shape[1])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.images.shape[1:]

    def first(self, count: int) -> Dataset:
        """The first ``count`` images (all if there are fewer)."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Dataset({self.name!r}: {len(self)} images of {self.image_shape}, {self.classes} classes)"


def check_split(split: str) -> None:
    """ValueError unless ``split`` is "train" or "test"."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}. Known: {', '.join(SPLITS)}")


def normalise(pixels: np.ndarray, mean: tuple[float, ...], deviation: tuple[float, ...]) -> np.ndarray:
    """(pixel - mean) / deviation per channel in float32, for pixels in 0..1, (N, C, H, W)."""
    shape = (1, -1, 1, 1)
    centred = pixels.astype(np.float32) - np.asarray(mean, np.float32).reshape(shape)
    return np.ascontiguousarray(centred / np.asarray(deviation, np.float32).reshape(shape))


def black_of(mean: tuple[float, ...], deviation: tuple[float, ...]) -> tuple[float, ...]:
    """A black pixel after ``normalise``."""
    return tuple(float(value) for value in -np.asarray(mean, np.float32) / np.asarray(deviation, np.float32))
