"""Augmentation: a crop out of the padded image, and a horizontal flip, by given random words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpsim import checks


@dataclass(frozen=True)
class Augmentation:
    """``padding`` black pixels around, then a crop of the image's own size; ``flip``: mirrored in half the cases.

    The paper's for CIFAR (§5.1) is ``Augmentation(padding=4, flip=True)``. ValueError for a negative padding.
    """

    padding: int = 4
    flip: bool = True

    words_per_image: ClassVar[int] = 4

    def __post_init__(self) -> None:
        checks.whole("padding", self.padding, most=1 << 16)

    def __call__(self, images: np.ndarray, words: np.ndarray, black: tuple[float, ...]) -> np.ndarray:
        """(N, C, H, W) -> (N, C, H, W). ``words``: uint32 (N, 4); of each row word 0 gives the crop's row, word 1
        its column, each word * (2 * padding + 1) >> 32, and the top bit of word 2 the flip; word 3 is free.

        >>> image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
        >>> Augmentation(padding=1)(image, np.array([[0, 2**31, 2**31, 0]], np.uint32), (9.0,)).tolist()
        [[[[9.0, 9.0], [1.0, 0.0]]]]
        """
        count, channels, height, width = images.shape
        padding, offsets = self.padding, np.uint64(2 * self.padding + 1)
        padded = np.empty((count, channels, height + 2 * padding, width + 2 * padding), np.float32)
        padded[:] = np.asarray(black, np.float32).reshape(1, channels, 1, 1)
        padded[:, :, padding : padding + height, padding : padding + width] = images
        corners = (words[:, :2].astype(np.uint64) * offsets >> np.uint64(32)).astype(np.int64)
        flipped = words[:, 2] >> 31 if self.flip else np.zeros(count, np.uint32)
        result = np.empty_like(images)
        for image, (row, column), mirror, out in zip(padded, corners, flipped, result, strict=True):
            crop = image[:, row : row + height, column : column + width]
            out[:] = crop[:, :, ::-1] if mirror else crop
        return result
