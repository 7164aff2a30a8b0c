"""Reads the bundled handwritten digits, 1797 real images of 8 x 8 pixels. They need no download."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from mpsim.data.dataset import SPLITS, Dataset, black_of, check_split, normalise
from mpsim.data.digests import digest_of_splits
from mpsim.kernels.philox import Stream, permutation
from mpsim.process import in_default_environment

#: The pixels (1797, 8, 8) from 0 to 16 and the labels (1797), uint8, in scikit-learn's order.
FILE = Path(__file__).with_name("digits.npz")
#: The number of training images. The other 360 are test images.
TRAIN = 1437
#: The mean and standard deviation of all pixels scaled to 0..1, to four decimals.
MEAN, DEVIATION = (0.3053,), (0.3760,)


@in_default_environment
def digits(split: str = "train", seed: int = 0) -> Dataset:
    """Returns the digits, normalised to (p / 16 - 0.3053) / 0.3760 for pixels p from 0 to 16.

    Args:
        split: "train" (the first 1437 images) or "test" (the other 360).
        seed: The seed of the images' order, ``permutation(Stream(seed, "data_split"), 1797)``.

    Returns:
        Images float32 (N, 1, 8, 8) of 10 classes.

    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI, doi:10.24432/C50P49, CC BY 4.0), the
    1797 images of its test file, in scikit-learn's order.

    >>> digits("test")
    Dataset('digits': 360 images of (1, 8, 8), 10 classes)
    """
    check_split(split)
    with np.load(FILE, allow_pickle=False) as stored:
        pictures, labels = stored["images"], stored["labels"]
    order = permutation(Stream(seed, "data_split"), len(labels))
    chosen = order[:TRAIN] if split == "train" else order[TRAIN:]
    pixels = pictures[chosen][:, None] / 16.0  # (N, 8, 8) -> (N, 1, 8, 8)
    images = normalise(pixels, MEAN, DEVIATION)
    return Dataset(images, labels[chosen].astype(np.int64), 10, "digits", black_of(MEAN, DEVIATION))


@cache
def digits_digest() -> str:
    """Computes the SHA-256 (hex) of both splits for the default seed."""
    return digest_of_splits(*(digits(split) for split in SPLITS))
