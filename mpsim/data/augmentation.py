"""Augments images by a crop of the padded image and a horizontal flip, chosen by random words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from mpsim import checks
from mpsim.process import in_default_environment


@dataclass(frozen=True)
class Augmentation:
    """Pads an image with black pixels, crops it to its original size and mirrors it.

    Args:
        padding: The number of black pixels on each side.
        flip: Whether half of the images are mirrored.

    Raises:
        ValueError: The padding is negative or above 2**16.

    Source: paper §5.1, which uses ``Augmentation(padding=4, flip=True)`` for CIFAR.

    >>> image = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    >>> Augmentation(padding=0, flip=True)(image, np.full((1, 4), 0xFFFFFFFF, np.uint32), (0.0,))[0, 0].tolist()
    [[1.0, 0.0], [3.0, 2.0]]
    """

    padding: int = 4
    flip: bool = True

    words_per_image: ClassVar[int] = 4

    def __post_init__(self) -> None:
        checks.whole("padding", self.padding, most=1 << 16)

    @in_default_environment
    def __call__(self, images: np.ndarray, words: np.ndarray, black: tuple[float, ...]) -> np.ndarray:
        """Augments images, (N, C, H, W) -> (N, C, H, W).

        Args:
            images: The images.
            words: uint32 (N, 4). The crop's row is word 0 * (2 * padding + 1) >> 32, and its column follows in the same
                way from word 1. The top bit of word 2 decides the flip. Word 3 is unused.
            black: The value of a black pixel in each channel.

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
