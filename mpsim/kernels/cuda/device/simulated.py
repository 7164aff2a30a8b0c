"""Simulates a device's arithmetic instructions for the CUDA simulator, each by one NumPy operation without warnings."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import cuda, float32

Number = Any


def _rounding(operation: Callable[..., Any], dtype: type) -> Callable[..., Any]:
    """Returns the operation on numbers of the type, rounded once to the type."""

    def rounded(*numbers: Number) -> Any:
        with np.errstate(all="ignore"):
            return dtype(operation(*map(dtype, numbers)))

    return rounded


add32, sub32 = _rounding(operator.add, np.float32), _rounding(operator.sub, np.float32)
mul32, div32 = _rounding(operator.mul, np.float32), _rounding(operator.truediv, np.float32)
add64, sub64 = _rounding(operator.add, np.float64), _rounding(operator.sub, np.float64)
mul64, div64 = _rounding(operator.mul, np.float64), _rounding(operator.truediv, np.float64)
sqrt32, sqrt64 = _rounding(np.sqrt, np.float32), _rounding(np.sqrt, np.float64)


def to_float32(x: Number) -> np.float32:
    """Rounds a float64 number to float32."""
    with np.errstate(all="ignore"):
        return np.float32(np.float64(x))


def add32_up(x: Number, y: Number) -> np.float32:
    """Adds finite float32 numbers and rounds toward infinity."""
    return _directed(x, y, np.inf)


def add32_down(x: Number, y: Number) -> np.float32:
    """Adds finite float32 numbers and rounds toward minus infinity."""
    return _directed(x, y, -np.inf)


def add32_toward_zero(x: Number, y: Number) -> np.float32:
    """Adds finite float32 numbers and rounds toward zero."""
    return _directed(x, y, -np.inf if add32(x, y) > 0 else np.inf)


def _directed(x: Number, y: Number, direction: float) -> np.float32:
    s = add32(x, y)
    carried = sub32(s, x)
    error = add32(sub32(x, sub32(s, carried)), sub32(y, carried))  # TwoSum: s + error is the exact sum
    moves = (error > 0 and direction > 0) or (error < 0 and direction < 0)
    return np.nextafter(s, np.float32(direction)) if moves else s


def fma32(a: Number, b: Number, c: Number) -> np.float32:
    """Computes a*b + c of float32 numbers with one rounding, as mpsim/kernels/reference/fma.py does for arrays.

    >>> float(fma32(1 + 2**-23, 1 - 2**-23, -1)) == -(2**-46)
    True
    """
    x, y = float(np.float32(a)) * float(np.float32(b)), float(np.float32(c))
    s = x + y
    carried = s - x
    error = (x - (s - carried)) + (y - carried)  # NaN if s is not finite, which leaves s unchanged
    if (error > 0 or error < 0) and not double_as_long(s) & 1:
        s = math.nextafter(s, math.copysign(math.inf, error))
    return to_float32(s)


def float_as_int(x: Number) -> np.int32:
    """Returns the bit pattern of a float32 number."""
    return np.float32(x).view(np.int32)


def int_as_float(pattern: Number) -> np.float32:
    """Returns the float32 number of a bit pattern."""
    return np.int32(pattern).view(np.float32)


def double_as_long(x: Number) -> np.int64:
    """Returns the bit pattern of a float64 number."""
    return np.float64(x).view(np.int64)


def long_as_double(pattern: Number) -> np.float64:
    """Returns the float64 number of a bit pattern."""
    return np.int64(pattern).view(np.float64)


def shift_right(x: Number, count: Number) -> np.uint32:
    """Computes x >> count of uint32 numbers, for count < 32."""
    return np.uint32(np.uint32(x) >> np.uint32(count))


def shift_left(x: Number, count: Number) -> np.uint32:
    """Computes x << count of uint32 numbers, for count < 32. Bits shifted out are lost."""
    return np.uint32(np.uint32(x) << np.uint32(count))


@cuda.jit(device=True)
def lane_down(value, offset):
    """Returns the float32 value of the lane ``offset`` further in the warp. Every thread of the block calls it."""
    values = cuda.shared.array(1024, float32)
    place = cuda.threadIdx.x + cuda.blockDim.x * cuda.threadIdx.y
    values[place] = value
    cuda.syncthreads()
    other = values[place + offset if place % 32 + offset < 32 else place]
    cuda.syncthreads()
    return other
