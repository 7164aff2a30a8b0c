"""Powers of two as scales, on arrays."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.kernels.spec_blocks import Ends


def power_exponents(amax: Array, element: Ends, rule: str) -> Array:
    """Returns the exponents of ``power_exponent`` in spec_blocks. frexp reads the exponents from the bits."""
    fraction, exponent = np.frexp(amax)  # fraction in [1/2, 1)
    if rule == "even":
        digits = 2.0 ** (element.mantissa_bits + 1)
        fraction, carry = np.frexp(np.rint(fraction * digits) / digits)
        exponent = exponent + carry
    steps = {
        "floor": np.zeros(amax.shape, bool),
        "ceil": fraction > 0.5,
        "even": np.zeros(amax.shape, bool),
        "nearest": fraction >= 0.75,
        "cover": fraction > element.largest / 2.0 ** (element.max_exponent + 1),
    }
    return np.asarray(exponent - 1 - element.max_exponent + steps[rule])


def ceil_log2(ratio: Array) -> Array:
    """Returns 2**ceil(float32(log2(ratio))).

    float64's log2 is within 2**-50 of the exact one, which keeps farther than that from midpoints of float32.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.ceil(np.log2(ratio).astype(np.float32))
    return np.ldexp(1.0, np.where(np.isfinite(exponent), exponent, 0).astype(np.int64))
