"""Crops pictures of any size: a random resized crop for training, a centre crop for evaluation.

Source: Szegedy et al. 2015 (area and shape of the crop), in the steps that ImageNet training commonly uses. The
position of a crop is computed from integers, float64 + - * / and square roots, exp64 and log64, so it is the same on
every machine. Pillow's bilinear filter computes the pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.kernels.elementary import exp64, log64
from mpsim.plugins import require
from mpsim.process import in_default_environment

if TYPE_CHECKING:
    from PIL import Image

#: The number of random positions that are tried before the crop is taken from the centre.
TRIES = 10
#: The most pixels of a scaled picture that has fewer itself.
MOST_SCALED = 1 << 25


class Box(NamedTuple):
    """A rectangle of a picture, in pixels from the upper left corner."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crops a random part of a picture and scales it.

    Args:
        area: The range of the crop's share of the picture, drawn uniformly.
        aspect: The range of width / height, whose logarithm is drawn uniformly.
        flip: Whether half of the pictures are mirrored.

    Raises:
        ValueError: A range is empty or out of bounds.

    >>> RandomResizedCrop(area=(0.5, 1.0)).aspect
    (0.75, 1.3333333333333333)
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    words_per_image: ClassVar[int] = 4 * TRIES + 4

    def __post_init__(self) -> None:
        for name, most in (("area", 1), ("aspect", None)):
            low, high = (checks.real(f"{name}[{end}]", getattr(self, name)[end], above=0, most=most) for end in (0, 1))
            if low > high:
                raise UsageError(f"{name} must be a range, the lower end first, got {getattr(self, name)}", name)

    @in_default_environment
    def box(self, width: int, height: int, words: np.ndarray) -> Box:
        """Returns the crop of a picture of the given size.

        ``words`` is uint32 (44,), and try t uses w = words[4t .. 4t + 3]. It computes in float64, in this order:

        - share = a + (w[0] / 2**32) * (b - a), where ``area`` = (a, b).
        - aspect = exp64(p + (w[1] / 2**32) * (q - p)), where p and q are log64 of ``aspect``.
        - wide = sqrt((width * height * share) * aspect) and high = sqrt((width * height * share) / aspect), both
          rounded to a whole number, ties to even.

        The first of 10 tries with 0 < wide <= width and 0 < high <= height is used, at top = w[2] * (height - high + 1)
        >> 32 and left = w[3] * (width - wide + 1) >> 32. If there is none, the result is the largest centred crop with
        an aspect in range.

        >>> RandomResizedCrop().box(500, 375, np.zeros(44, np.uint32))
        Box(left=0, top=0, width=106, height=141)
        """
        draws = words[: 4 * TRIES].reshape(TRIES, 4)
        unit = draws[:, :2] * 2.0**-32
        low, high = log64(np.array(self.aspect))
        aspect = exp64(low + unit[:, 1] * (high - low))
        pixels = float(width * height) * (self.area[0] + unit[:, 0] * (self.area[1] - self.area[0]))
        wide, tall = np.rint(np.sqrt(pixels * aspect)), np.rint(np.sqrt(pixels / aspect))
        fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
        if not fits.any():
            return self._centred(width, height)
        chosen = int(np.argmax(fits))
        crop_width, crop_height = int(wide[chosen]), int(tall[chosen])
        top = int(draws[chosen, 2]) * (height - crop_height + 1) >> 32
        left = int(draws[chosen, 3]) * (width - crop_width + 1) >> 32
        return Box(left, top, crop_width, crop_height)

    def _centred(self, width: int, height: int) -> Box:
        wide, tall = width, height
        if width / height < self.aspect[0]:
            tall = max(1, round(width / self.aspect[0]))
        elif width / height > self.aspect[1]:
            wide = max(1, round(height * self.aspect[1]))
        return Box((width - wide) // 2, (height - tall) // 2, wide, tall)

    def flips(self, words: np.ndarray) -> bool:
        """Returns whether the picture is mirrored: the top bit of word 40. Words 41 to 43 are unused."""
        return self.flip and bool(words[4 * TRIES] >> 31)

    @in_default_environment
    def __call__(self, picture: Image.Image, words: np.ndarray, size: int) -> Image.Image:
        """Crops the picture, scales it to ``size`` x ``size`` with Pillow's bilinear filter, and mirrors it."""
        box = self.box(*picture.size, words)
        crop = picture.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        pillow = pillow_image()
        scaled = crop.resize((size, size), pillow.Resampling.BILINEAR)
        return scaled.transpose(pillow.Transpose.FLIP_LEFT_RIGHT) if self.flips(words) else scaled


def pillow_image() -> Any:
    """Returns Pillow's module ``PIL.Image``. Raises MissingExtra if Pillow is not installed."""
    require("PIL", "data of picture files")
    return import_module("PIL.Image")


def centre_crop(picture: Image.Image, size: int) -> Image.Image:
    """Returns the central ``size`` x ``size`` pixels after scaling the shorter side to size * 8 // 7 (256 for 224).

    The longer side becomes longer * (size * 8 // 7) // shorter. An offset of half a pixel is rounded to even.

    Raises:
        UsageError: The picture is so long that it would be scaled to more than 2**25 pixels.

    >>> from PIL import Image
    >>> centre_crop(Image.new("RGB", (500, 375)), 224).size
    (224, 224)
    """
    width, height = picture.size
    short = size * 8 // 7
    wide, tall = (short, short * height // width) if width <= height else (short * width // height, short)
    if wide * tall > max(MOST_SCALED, width * height):
        raise UsageError(f"a picture of {width} x {height} pixels would be scaled to {wide} x {tall}; cut it")
    scaled = picture.resize((wide, tall), pillow_image().Resampling.BILINEAR)
    left, top = round((wide - size) / 2), round((tall - size) / 2)
    return scaled.crop((left, top, left + size, top + size))
