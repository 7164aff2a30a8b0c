"""Describes numbers by bit patterns and by their place between the codes of a format."""

from __future__ import annotations

import numpy as np

from mpsim.formats import Format
from mpsim.rounding import encode
from mpsim.validate.grid import places
from mpsim.validate.sources import as_float_source

#: How many elements of an array are described.
MOST = 8


def in_codes(value: object, format: Format, source: str | None = None) -> str:
    """Returns text with the pattern of each number and its place between codes of the format.

    Args:
        value: A number or an array, float32 or float64.
        format: The format.
        source: The type of the number as a cast receives it, "float16", "bfloat16", "float32" or "float64". The default
            is the value's own type.

    >>> from mpsim.formats import FORMATS
    >>> in_codes(np.float32(17 / 16), FORMATS["float8_e4m3fn"])
    'float8_e4m3fn: 1.0625 (0x3f880000) is the midpoint of 0x38 and 0x39'
    """
    array = np.atleast_1d(np.asarray(value)).reshape(-1)
    lines = [_one(array[at : at + 1], format, source or array.dtype.name) for at in range(min(array.size, MOST))]
    rest = [f"and {array.size - MOST} more"] if array.size > MOST else []
    return f"{format.name}: " + (", ".join([*lines, *rest]) or "no elements")


def _one(x: np.ndarray, format: Format, source: str) -> str:
    origin = as_float_source(source)
    pattern = int(origin.patterns(x)[0])
    head = f"{x[0]!s} (0x{pattern:0{-(-origin.format.bits // 4)}x})"
    if not np.isfinite(x[0]) or not format.fits_float64:
        return head
    digits = -(-format.bits // 4)
    low, high = (_code(x, format, mode) for mode in ("toward_zero", "away"))
    if low == high:
        return f"{head} is code 0x{low:0{digits}x}"
    if abs(float(x[0])) > format.largest:
        return f"{head} is beyond the largest, 0x{low:0{digits}x}"
    tie = bool(places(x.astype(origin.wide), format, origin).tie[0])
    return f"{head} is {'the midpoint of' if tie else 'between'} 0x{low:0{digits}x} and 0x{high:0{digits}x}"


def _code(x: np.ndarray, format: Format, mode: str) -> int:
    if mode == "away":
        mode = "down" if x[0] < 0 else "up"
    return int(encode(x.astype(np.float64), format, mode, "saturate", backend="reference")[0])
