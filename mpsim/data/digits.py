"""The handwritten digits that come with scikit-learn: 1797 real images of 8 x 8, no download."""

from __future__ import annotations

from functools import cache

import numpy as np

from mpsim.data.dataset import SPLITS, Dataset, black_of, check_split, normalise
from mpsim.data.digests import digest_of_splits
from mpsim.kernels.permutation import permutation
from mpsim.kernels.philox import Stream

#: Images for training; the other 360 test.
TRAIN = 1437
#: Mean and standard deviation of all pixels scaled to 0..1, to four places.
MEAN, DEVIATION = (0.3053,), (0.3760,)


def digits(split: str = "train", seed: int = 0) -> Dataset:
    """The digits, 10 classes: images float32 (N, 1, 8, 8), N = 1437 for "train" and 360 for "test".

    A pixel p in 0..16 becomes (p / 16 - 0.3053) / 0.3760. The images are put in the order
    ``permutation(Stream(seed, "data_split"), 1797)``; the first 1437 train, the others test.
    Source: E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits (UCI), as scikit-learn bundles it.

    >>> digits("test")
    Dataset('digits': 360 images of (1, 8, 8), 10 classes)
    """
    check_split(split)
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = permutation(Stream(seed, "data_split"), len(bunch.target))
    chosen = order[:TRAIN] if split == "train" else order[TRAIN:]
    pixels = bunch.images[chosen][:, None] / 16.0  # (N, 8, 8) -> (N, 1, 8, 8)
    images = normalise(pixels, MEAN, DEVIATION)
    return Dataset(images, bunch.target[chosen].astype(np.int64), 10, "digits", black_of(MEAN, DEVIATION))


@cache
def digits_digest() -> str:
    """The SHA-256 (hex) of both splits of the default seed."""
    return digest_of_splits(*(digits(split) for split in SPLITS))
