"""Division by a number that a whole launch shares: a product and a shift, as division is slow on a device.

With s the least power for which d <= 2**s and m = ceil(2**(31 + s) / d), n // d = n*m >> (31 + s) for every
0 <= n < 2**31: m exceeds 2**(31 + s) / d by less than 1, so the product exceeds n/d * 2**(31 + s) by less than
n < 2**31 <= 2**(31 + s) / d, which cannot reach the next whole number.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import typeof

from mpsim.errors import UsageError
from mpsim.kernels.cuda.device.launch import device_function

#: What these kernels can number.
LARGEST = (1 << 31) - 1


class Divisor(NamedTuple):
    """A divisor with its multiplier and shift."""

    number: np.uint32
    multiplier: np.uint32
    shift: np.uint32

    @staticmethod
    @lru_cache(maxsize=4096)
    def of(number: int) -> Divisor:
        """The divisor of this number, 1 .. 2**31 - 1.

        >>> Divisor.of(3)
        Divisor(number=np.uint32(3), multiplier=np.uint32(2863311531), shift=np.uint32(33))
        """
        shift = 31 + (number - 1).bit_length()
        return Divisor(np.uint32(number), np.uint32(-(-(1 << shift) // number)), np.uint32(shift))


#: The type of a Divisor, for signatures.
DIVISOR = typeof(Divisor.of(1))


@device_function
def quotient(n, divisor):
    """n // divisor of a whole number below 2**31."""
    return np.uint32(np.uint64(np.uint32(n)) * np.uint64(divisor.multiplier) >> np.uint64(divisor.shift))


def check_size(count: int) -> None:
    """Raises UsageError for more elements than these kernels can number."""
    if count > LARGEST:
        raise UsageError(
            f"the cuda backend takes arrays of at most 2**31 - 1 elements here, got {count}; take a smaller batch"
        )
