"""Defines codes: the number of each code, and the code of each number."""

from __future__ import annotations

import math

from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels import spec
from mpsim.kernels.spec import Exact
from mpsim.policies import Mode, Overflow, Policy


def encode(x: float, format: Format) -> int:
    """Returns the code of a value of the format. Raises ValueError for any other number.

    >>> from mpsim.formats import FORMATS
    >>> hex(encode(-416.0, FORMATS["float8_e4m3fn"]))
    '0xfd'
    """
    if math.isnan(x) or math.isinf(x):
        return code_of(abs(x), spec.is_negative(x), format)
    kept = spec.round_value(x, "float64", format, Policy(Mode.TOWARD_ZERO, Overflow.MARK))
    if kept != x:
        raise UsageError(f"{x!r} is not representable in {format}; round it first")
    return code_of(spec.exact(x), spec.is_negative(x), format)


def code_of(magnitude: Exact | float, negative: bool, format: Format) -> int:
    """Returns the code of a number of the format, infinity or NaN. Raises UsageError if the format has no such code."""
    sign = format.sign_mask if negative else 0
    if not isinstance(magnitude, Exact):
        code = format.nan_code if math.isnan(magnitude) else format.infinity_code
        if code is None:
            raise UsageError(f"{format} has no code for {'NaN' if math.isnan(magnitude) else 'infinity'}")
        return code | (sign if math.isinf(magnitude) or format.specials in ("ieee", "fn") else 0)
    significand, exponent = magnitude
    if significand == 0:
        return sign if format.has_negative_zero else 0
    highest = significand.bit_length() - 1 + exponent
    shift = spec.quantum_exponent(highest, format) - exponent
    units = significand >> shift if shift >= 0 else significand << -shift  # the number in quanta
    code = (max(highest - format.min_exponent, 0) << format.mantissa_bits) + units
    # The implicit bit of units is the lowest bit of the exponent field, whose normal values start at 1.
    return sign | (code if format.has_zero else code - (1 << format.mantissa_bits))


def decode(code: int, format: Format) -> float:
    """Returns the exact number of a code. NaN is quiet, and has the code's sign if each sign has a NaN.

    In a format without subnormals every code of exponent 0 is a zero with the code's sign.

    >>> from mpsim.formats import FORMATS
    >>> decode(0x01, FORMATS["float8_e5m2"])
    1.52587890625e-05
    """
    value = magnitude_of(code, format)
    x = math.ldexp(*value) if isinstance(value, Exact) else value
    return -x if code & format.sign_mask and code != format.nan_code else x


def magnitude_of(code: int, format: Format) -> Exact | float:
    """Returns the exact magnitude of a code's number, or infinity, or NaN."""
    magnitude = code & format.magnitude_mask
    if code == format.nan_code or magnitude > format.largest_code:
        return math.inf if magnitude == format.infinity_code and code != format.nan_code else math.nan
    if magnitude >> format.mantissa_bits == 0 and format.has_zero and not format.subnormals:
        return Exact(0, 0)
    return Exact(*format.split(magnitude))
