"""Prepares a user's arrays for training: splits off a test part, converts pixels to float32, and normalises them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.kernels.philox import Stream, permutation
from mpsim.process import in_default_environment

Array = np.ndarray

#: The share of the images that become the test part if the data have none, as for the bundled digits.
TEST_SHARE = 0.2
#: The number of values that are converted or summed together.
BLOCK = 1 << 20


@dataclass(frozen=True)
class Normalisation:
    """The mean and the deviation of each channel. One number applies to all channels.

    ``found`` says that they are those of the training part.
    """

    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (1.0,)
    found: bool = False

    @classmethod
    def parse(cls, text: str) -> Normalisation:
        """Reads "training", "none", or the means and deviations, e.g. "0.13:0.31" or "0.5,0.4,0.4:0.2,0.2,0.3".

        Raises:
            UsageError: The text is something else, or a deviation is not above 0.

        >>> Normalisation.parse("0.5:0.25")
        Normalisation(mean=(0.5,), deviation=(0.25,), found=False)
        """
        checks.instance("normalisation", text, str, "training, none, or MEAN:DEVIATION")
        if text in ("training", "none"):
            return cls(found=text == "training")
        means, _, deviations = text.partition(":")
        try:
            mean, deviation = (tuple(map(float, numbers.split(","))) for numbers in (means, deviations))
        except ValueError:
            raise UsageError(
                f"normalisation must be training, none, or MEAN:DEVIATION such as 0.13:0.31 (one number, or one per "
                f"channel with commas), got {checks.shown(text)}",
                "normalisation",
            ) from None
        for number in mean:
            checks.real("normalisation", number, least=-checks.FLOAT32_LARGEST, most=checks.FLOAT32_LARGEST)
        for number in deviation:
            checks.real("normalisation", number, least=2.0**-126, most=checks.FLOAT32_LARGEST, note=" (a deviation)")
        return cls(mean, deviation)

    def of(self, images: Array) -> tuple[Array, Array]:
        """Returns the mean and the deviation of each channel, float32 (C,) twice.

        ``images`` are float32 (N, C, H, W), or rows (N, C).

        Raises:
            UsageError: There are neither one nor C numbers.
        """
        if self.found:
            return _statistics(images)
        channels = images.shape[1]
        for numbers in (self.mean, self.deviation):
            if len(numbers) not in (1, channels):
                raise UsageError(
                    f"normalisation has {len(numbers)} numbers for images of {channels} channels; give 1 or {channels}",
                    "normalisation",
                )
        mean, deviation = (np.full(channels, each, np.float32) for each in (self.mean, self.deviation))
        return mean, deviation


def check_normalisation(text: str) -> None:
    """Raises UsageError unless ``Normalisation.parse`` reads the text."""
    Normalisation.parse(text)


@in_default_environment
def normalise_in_place(images: Array, mean: Array, deviation: Array) -> None:
    """Replaces images float32 (N, C, H, W), or rows (N, C), by (image - mean) / deviation, each step in float32."""
    shape = (1, -1, *(1 for _ in images.shape[2:]))
    with np.errstate(over="ignore", under="ignore"):
        np.subtract(images, mean.reshape(shape), out=images)
        np.divide(images, deviation.reshape(shape), out=images)


@in_default_environment
def as_float32(images: Array, order: Array | None = None) -> Array:
    """Returns the images of the given numbers, in their order, as contiguous float32 in the same shape.

    8-bit unsigned integers p become p / 255. All other numbers keep their value, rounded to float32.
    """
    chosen = range(len(images)) if order is None else order
    result = np.empty((len(chosen), *images.shape[1:]), np.float32)
    step = max(1, BLOCK // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(chosen), step):
        piece = images[start : start + step] if order is None else images[order[start : start + step]]
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            result[start : start + step] = piece
    if images.dtype == np.uint8:
        np.divide(result, np.float32(255), out=result)
    return result


def split(count: int, test_share: float | None) -> tuple[Array, Array]:
    """Returns the numbers of the training and of the test images, for data without a test part.

    The images are permuted by ``permutation(Stream(0, "data_split"), count)``. The last round(test_share * count) of
    them, at least one, are the test part.

    Raises:
        UsageError: A part would be empty.

    >>> [part.tolist() for part in split(5, 0.4)]
    [[0, 1, 3], [2, 4]]
    """
    share = checks.share("test_share", TEST_SHARE if test_share is None else test_share, zero=False)
    test = max(1, round(share * count))
    if test >= count:
        raise UsageError(f"a test part of {test} of {count} examples leaves none for training", "test_share")
    order = permutation(Stream(0, "data_split"), count)
    return order[: count - test], order[count - test :]


@in_default_environment
def _statistics(images: Array) -> tuple[Array, Array]:
    """Returns the mean and the standard deviation of each channel, float32 (C,) twice.

    Both are computed in float64 from sums in the order of image, row and column, so that they have the same bits on
    every machine, and are then rounded. The deviation of a constant channel is 1.
    """
    count = images.size // images.shape[1]
    mean, deviation = [], []
    for channel in range(images.shape[1]):
        centre = _rising_sum(images[:, channel], 0.0, squares=False) / count
        spread = math.sqrt(_rising_sum(images[:, channel], centre, squares=True) / count)
        mean.append(centre)
        deviation.append(spread if np.float32(spread) > 0 else 1.0)
    return np.array(mean, np.float32), np.array(deviation, np.float32)


def _rising_sum(values: Array, centre: float, *, squares: bool) -> float:
    """Returns the sum of value - centre, or of its square, in float64 and in order."""
    total = 0.0
    for piece in _pieces(values):
        terms = piece.astype(np.float64).reshape(-1) - centre
        if squares:
            terms *= terms
        terms[0] += total
        total = float(np.add.accumulate(terms)[-1])  # one addition after the other, unlike np.sum
    return total


def _pieces(values: Array) -> Iterator[Array]:
    step = max(1, BLOCK // max(1, math.prod(values.shape[1:])))
    for start in range(0, len(values), step):
        yield values[start : start + step]
