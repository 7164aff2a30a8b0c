"""Renders a procedural 32 x 32 colour dataset of shapes with textures, clutter and noise, for machines without data.

Every step is basic IEEE arithmetic on Philox words, so the images have the same bits on every machine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from mpsim import checks
from mpsim.data.dataset import SPLITS, Dataset, black_of, check_split, normalise
from mpsim.data.digests import digest_of_lines
from mpsim.errors import UsageError
from mpsim.kernels.philox import Stream, random_bits, uniform
from mpsim.process import in_default_environment

SIDE = 32
MEAN, DEVIATION = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
#: The default numbers of images.
SIZES = {"train": 8000, "test": 2000}
#: The largest number of images. Their random words are numbered in one stream of 2**34.
MOST = (1 << 34) // (3 * SIDE * SIDE)
#: The number of images of a split that represent the definition in ``synthetic_digest``.
SAMPLE = 64
#: The number of images rendered together.
BLOCK = 500


def triangle_wave(x: np.ndarray) -> np.ndarray:
    """Returns a wave of period 1, from 0 at whole numbers to 1 between them."""
    return np.abs(x - np.floor(x) - 0.5) * -2 + 1


#: Functions of the shapes. They map (u, v), in units of the radius, to a number that is < 1 inside and approximately
#: linear at the edge.
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "disc": lambda u, v: np.sqrt(u * u + v * v),
    "ring": lambda u, v: np.abs(np.sqrt(u * u + v * v) - 0.7) / 0.3,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) / 0.85,
    "frame": lambda u, v: np.abs(np.maximum(np.abs(u), np.abs(v)) - 0.62) / 0.25,
    "triangle": lambda u, v: np.maximum(-v / 0.6, np.abs(u) * 1.7 + v),
    "plus": lambda u, v: np.maximum(np.minimum(np.abs(u), np.abs(v)) / 0.3, np.maximum(np.abs(u), np.abs(v))),
    "bar": lambda u, v: np.maximum(np.abs(u), np.abs(v) / 0.35),
    "pair": lambda u, v: np.sqrt((np.abs(u) - 0.55) * (np.abs(u) - 0.55) + v * v) / 0.45,
    "crescent": lambda u, v: np.maximum(np.sqrt(u * u + v * v), 2 - np.sqrt((u - 0.45) * (u - 0.45) + v * v) / 0.75),
    "star": lambda u, v: np.sqrt(np.abs(u)) + np.sqrt(np.abs(v)),
}

#: Functions of the textures. They map (x, y), in pixels, to a brightness from 0 to 1.
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda x, y: np.full_like(x, 0.5),
    "wide stripes": lambda x, y: triangle_wave(x / 9),
    "fine stripes": lambda x, y: triangle_wave(x / 4),
    "squares": lambda x, y: (np.floor(x / 5) + np.floor(y / 5)) % 2,
    "fine squares": lambda x, y: (np.floor(x / 2.5) + np.floor(y / 2.5)) % 2,
    "dots": lambda x, y: np.minimum(triangle_wave(x / 6), triangle_wave(y / 6)),
    "ramp": lambda x, y: triangle_wave(x / 40),
    "rings": lambda x, y: triangle_wave(np.sqrt(x * x + y * y) / 5),
    "zigzag": lambda x, y: triangle_wave((x + 4 * triangle_wave(y / 8)) / 6),
    "lattice": lambda x, y: np.maximum(triangle_wave(x / 7), triangle_wave(y / 7)),
}


@in_default_environment
def synthetic(
    split: str = "train", classes: int = 10, size: int | None = None, seed: int = 0, *, noise: float = 0.10
) -> Dataset:
    """Renders images of shapes.

    Position, size, rotation, colours, the texture of the background, one further disc and the noise are random. Image i
    of a split depends only on (seed, split, i, classes, noise).

    Args:
        split: "train" or "test".
        classes: 10 (the class is the shape, and the texture is random) or 100 (the class is 10 * shape + texture).
        size: The number of images. The default is 8000 for "train" and 2000 for "test".
        seed: The seed.
        noise: The standard deviation of the approximately normal noise, for pixels from 0 to 1.

    Returns:
        Images float32 (size, 3, 32, 32).

    Raises:
        ValueError: An argument is out of range.

    >>> synthetic("test", size=4)
    Dataset('synthetic10': 4 images of (3, 32, 32), 10 classes)
    """
    check_split(split)
    if classes not in (10, 100):
        raise UsageError(f"classes must be 10 or 100 for the synthetic dataset, got {classes}")
    count = SIZES[split] if size is None else checks.whole("size", size, least=1, most=MOST)
    checks.seed("seed", seed)
    noise = checks.share("noise", noise)
    draw = _Draws(seed, split)
    blocks = [_render(draw, first, min(first + BLOCK, count), noise) for first in range(0, count, BLOCK)]
    images = normalise(np.concatenate(blocks), MEAN, DEVIATION)
    shape, texture = draw.choice(0, 10, 0, count), draw.choice(1, 10, 0, count)
    labels = shape if classes == 10 else 10 * shape + texture
    return Dataset(images, labels, classes, f"synthetic{classes}", black_of(MEAN, DEVIATION))


@cache
def synthetic_digest(classes: int) -> str:
    """Computes the SHA-256 (hex) of the default images without rendering all of them, which takes 3 s.

    It covers the numbers of images and the first 64 of each split. One definition computes every image from its number,
    so a change of the definition changes these images.
    """
    sample = [synthetic(split, classes, SAMPLE).digest() for split in SPLITS]
    return digest_of_lines([f"{SIZES}", *sample])


class _Draws:
    """Draws random numbers by quantity and image."""

    def __init__(self, seed: int, split: str) -> None:
        self.seed, self.step = seed, ("train", "test").index(split)

    def _stream(self, quantity: int) -> Stream:
        return Stream(self.seed, "synthetic_data", tensor=quantity, step=self.step)

    def choice(self, quantity: int, count: int, first: int, stop: int) -> np.ndarray:
        """Draws integers from 0 to count - 1, int64 (stop - first,)."""
        words = random_bits(self._stream(quantity), stop - first, first).astype(np.uint64)
        return (words * np.uint64(count) >> np.uint64(32)).astype(np.int64)

    def uniform(self, quantity: int, low: float, high: float, first: int, stop: int, per: int = 1) -> np.ndarray:
        """Draws float32 (stop - first, per, 1, 1)."""
        values = uniform(self._stream(quantity), per * (stop - first), low, high, per * first)
        return values.reshape(-1, per, 1, 1)

    def noise(self, quantity: int, first: int, stop: int) -> np.ndarray:
        """Draws sums of the four bytes of a word, with mean 0 and deviation 1: float32 (stop - first, 3, 32, 32)."""
        per = 3 * SIDE * SIDE
        words = random_bits(self._stream(quantity), per * (stop - first), per * first)
        total = words.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int32)  # exact, in any byte order
        # The variance of the sum of four uniform bytes is 4 * (256**2 - 1) / 12.
        return ((total - 510).astype(np.float32) / np.float32(147.79997)).reshape(-1, 3, SIDE, SIDE)


def _render(draw: _Draws, first: int, stop: int, noise: float) -> np.ndarray:
    """Renders images first .. stop - 1, float32 (stop - first, 3, 32, 32) with values from 0 to 1."""

    def number(quantity: int, low: float, high: float, per: int = 1) -> np.ndarray:
        return draw.uniform(quantity, low, high, first, stop, per)

    shape, texture = draw.choice(0, 10, first, stop), draw.choice(1, 10, first, stop)
    ground_texture = draw.choice(2, 10, first, stop)
    grid = np.arange(SIDE, dtype=np.float32)
    x = grid.reshape(1, 1, 1, SIDE) - number(3, 12, 19)  # (B, 1, 1, 32)
    y = grid.reshape(1, 1, SIDE, 1) - number(4, 12, 19)  # (B, 1, 32, 1)
    u, v = _rotated(x, y, number(5, -0.2, 0.2))  # (B, 1, 32, 32)
    radius = number(7, 8, 13)
    inside = np.concatenate(
        [SHAPES[name](u[i : i + 1] / r, v[i : i + 1] / r)
         for i, (name, r) in enumerate(zip(np.array(list(SHAPES))[shape], radius, strict=True))]
    )  # fmt: skip
    cover = np.clip((1 - inside) * (radius / 3) + np.float32(0.5), 0, 1)
    base = number(8, 0.25, 0.75, 3)
    ground = _colours(base, number(9, -0.15, 0.15, 3), ground_texture, v, u)
    figure = _colours(base + number(10, -0.6, 0.6, 3), number(11, -0.3, 0.3, 3), texture, u, v)
    dx, dy = x + number(13, -16, 16), y + number(14, -16, 16)
    spot = np.clip(number(15, 1.5, 4) - np.sqrt(dx * dx + dy * dy), 0, 1)
    ground = ground + spot * number(16, -0.5, 0.5, 3)
    image = ground + cover * (figure - ground)
    image = image + np.float32(noise) * draw.noise(12, first, stop)
    return np.clip(image, 0, 1)


def _rotated(x: np.ndarray, y: np.ndarray, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotates (x, y) by 2 atan(t), using rational functions, which have the same bits on every machine."""
    cosine, sine = (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)
    return cosine * x - sine * y, sine * x + cosine * y


def _colours(base: np.ndarray, swing: np.ndarray, texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Returns base + swing * (2 * brightness - 1).

    Shapes: (B, 3, 1, 1) twice, (B,), (B, 1, 32, 32) twice -> (B, 3, 32, 32).
    """
    names = list(TEXTURES)
    brightness = np.concatenate(
        [TEXTURES[names[kind]](u[i : i + 1], v[i : i + 1]) for i, kind in enumerate(texture)]
    ).astype(np.float32)
    return base + swing * (2 * brightness - 1)
