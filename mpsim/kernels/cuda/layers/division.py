"""Divides by a number that is constant in a launch, by a product and a shift, because devices divide slowly.

Let s be the least integer with d <= 2**s, and m = ceil(2**(31 + s) / d). Then n // d = n*m >> (31 + s) for every
0 <= n < 2**31: m exceeds 2**(31 + s) / d by less than 1, so the product exceeds n/d * 2**(31 + s) by less than
n < 2**31 <= 2**(31 + s) / d, which is too little to reach the next integer.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import typeof

from mpsim.errors import UsageError
from mpsim.kernels.cuda.device.launch import device_function

#: The largest size that these kernels can index.
LARGEST = (1 << 31) - 1


class Divisor(NamedTuple):
    """A divisor with its multiplier and shift."""

    number: np.uint32
    multiplier: np.uint32
    shift: np.uint32

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(number: int) -> Divisor:
        """Returns the divisor for a number in 1 .. 2**31 - 1.

        >>> Divisor.of(3)
        Divisor(number=np.uint32(3), multiplier=np.uint32(2863311531), shift=np.uint32(33))
        """
        shift = 31 + (number - 1).bit_length()
        return Divisor(np.uint32(number), np.uint32(-(-(1 << shift) // number)), np.uint32(shift))


#: The type of a Divisor, for signatures.
DIVISOR = typeof(Divisor.of(1))


@device_function
def quotient(n, divisor):
    """Computes n // divisor for 0 <= n < 2**31."""
    return np.uint32(np.uint64(np.uint32(n)) * np.uint64(divisor.multiplier) >> np.uint64(divisor.shift))


def check_size(count: int) -> None:
    """Raises UsageError for more elements than these kernels can index."""
    if count > LARGEST:
        raise UsageError(
            f"the cuda backend accepts arrays of at most 2**31 - 1 elements here, got {count}; use a smaller batch"
        )
