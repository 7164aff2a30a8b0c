"""Computes correctly rounded dot products by a fixed-point sum wide enough for every product of float32 numbers.

A product is an integer below 2**48 times 2**e, e >= -298, and below 2**256 in magnitude. A sum of fewer than 2**30 of
them is stored exactly in LIMBS digits of weight 2**(32*i - 298). Each digit is an int64 to which a term adds a 32-bit
piece of a product, so no digit overflows. Carries are propagated once at the end. The value is then rounded to odd to
53 bits, and that to float32, which is correct because 53 >= 24 + 2 (see mpsim/kernels/contractions/narrow.py).

A NaN, infinity times zero, or infinite products of both signs give NaN. Infinite products of one sign give that
infinity. An exact zero is +0. A sum that is not zero and rounds to zero keeps its sign.
"""

from __future__ import annotations

import numpy as np

LIMBS = 19  # 32 * 19 = 608 bits >= 298 + 256 + 30 (terms) + 1 (sign)
BASE = 298
LOW = np.int64(0xFFFFFFFF)


class ExactSum:
    """Holds exact running sums, one for each element of a flat array."""

    def __init__(self, size: int) -> None:
        self.limbs = np.zeros((LIMBS, size), np.int64)
        self.special = np.zeros(size)
        self.place = np.arange(size)
        self.negative = np.ones(size, bool)  # whether every number was -0

    def add(self, product: np.ndarray) -> None:
        """Adds one exact product (float64) to each sum."""
        finite = np.isfinite(product)
        self.negative &= (product == 0) & np.signbit(product)
        self.special += np.where(finite, 0.0, product)
        fraction, exponent = np.frexp(np.where(finite, product, 0.0))
        integer = (fraction * 2.0**48).astype(np.int64)  # product = integer * 2**(exponent - 48)
        shift = np.where(integer == 0, 0, exponent.astype(np.int64) - 48 + BASE)
        low = shift < 0  # below 2**(47 - 298): the last bits of the integer are zeros
        integer = np.where(low, integer >> np.where(low, -shift, 0), integer)
        shift = np.where(low, 0, shift)
        limb, shift = shift >> 5, shift & 31
        lower, upper = (integer & LOW) << shift, (integer >> 32) << shift  # upper keeps the sign
        self.limbs[limb, self.place] += lower & LOW
        self.limbs[limb + 1, self.place] += (lower >> 32 & LOW) + (upper & LOW)
        self.limbs[limb + 2, self.place] += upper >> 32

    def total(self) -> np.ndarray:
        """Returns the sums, each rounded once to float32. An exact zero is +0."""
        with np.errstate(over="ignore", invalid="ignore"):
            value = self.to_odd().astype(np.float32)
        return np.where(value == 0, np.copysign(value, np.where(self.negative, 1, value)), value)

    def to_odd(self) -> np.ndarray:
        """Returns the sums, each rounded to odd to float64. A sum is -0 if every number was -0."""
        limbs = self.limbs.copy()
        _carry(limbs)
        negative = limbs[-1] < 0
        limbs[:, negative] *= -1
        _carry(limbs)
        nonzero = limbs != 0
        top = np.maximum(LIMBS - 1 - np.argmax(nonzero[::-1], axis=0), 1)
        sticky = np.cumsum(nonzero, axis=0)[np.maximum(top - 2, 0), self.place] * (top >= 2) > 0
        # The two highest digits: at least 33 bits if a lower one is not zero.
        high = limbs[top, self.place].astype(np.uint64) << np.uint64(32) | limbs[top - 1, self.place].astype(np.uint64)
        long = high >= np.uint64(1 << 53)
        dropped = (high & np.uint64(2047)) != 0
        odd = high & ~np.uint64(2047) | ((dropped | sticky).astype(np.uint64) << np.uint64(11))
        high = np.where(long, odd, high | sticky.astype(np.uint64))
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            magnitude = np.ldexp(high.astype(np.float64), (32 * (top - 1) - BASE).astype(np.int32))
            value = np.where(negative | self.negative, -magnitude, magnitude)
            return np.where(self.special == 0, value, self.special)


def _carry(limbs: np.ndarray) -> None:
    """Reduces every digit except the highest, which keeps the sign, to 0 .. 2**32 - 1."""
    for i in range(LIMBS - 1):
        limbs[i + 1] += limbs[i] >> 32
        limbs[i] &= LOW
