"""Encodes and decodes arrays. mpsim/kernels/numba_cpu/codes.py computes a single code."""

from __future__ import annotations

import numpy as np
from numba import cuda, typeof

from mpsim.formats import FORMATS, Format
from mpsim.kernels.cuda.device.arrays import INT32, INT64, Array, empty, flattened, to_numpy
from mpsim.kernels.cuda.device.intrinsics import (
    double_as_long,
    float_as_int,
    int_as_float,
    long_as_double,
    to_float32,
)
from mpsim.kernels.cuda.device.launch import device_function, kernel
from mpsim.kernels.cuda.rounding.kernels import round_array
from mpsim.kernels.cuda.rounding.ported import (
    INFINITE64,
    MAGNITUDE64,
    QUIET_NAN64,
    SIGN64,
    decode_pattern,
    encode_pattern,
)
from mpsim.kernels.parameters import code_layout
from mpsim.kernels.philox import Stream
from mpsim.kernels.reference.rounding import strays
from mpsim.policies import Policy

__all__ = ["decode_array", "encode_array", "encode_rounded"]

LAYOUT = typeof(code_layout(FORMATS["float32"]))


def encode_array(x: Array, format: Format, *, threads: int = 1) -> Array:
    """Encodes values of the format in the smallest unsigned integers that hold its codes."""
    made = empty(x.shape, f"uint{format.code_bits}")
    encode_elements.over(x.size)(_patterns(x), _codes(made), code_layout(format))
    return made


def encode_rounded(
    x: Array, format: Format, policy: Policy, random_bits: Array | Stream | None = None, *, threads: int = 1
) -> tuple[Array, np.ndarray]:
    """Returns the codes of rounded numbers, and how many of these are NaN and infinite, on the host."""
    rounded, _ = round_array(x, format, policy, random_bits)
    return encode_array(rounded, format), strays(to_numpy(rounded))


def decode_array(codes: Array, format: Format, dtype: type | np.dtype, *, threads: int = 1) -> Array:
    """Decodes codes exactly to float32 or float64."""
    out = empty(codes.shape, dtype)
    decode_elements.over(out.size)(_codes(codes), _patterns(out), code_layout(format))
    return out


def _patterns(x: Array) -> Array:
    return flattened(x, INT64 if x.dtype.itemsize == 8 else INT32)


def _codes(codes: Array) -> Array:
    return flattened(codes, INT64 if codes.dtype.itemsize == 8 else None)


@kernel(("int32[::1], uint8[::1]", LAYOUT), ("int64[::1], int64[::1]", LAYOUT))
def encode_elements(patterns, made, layout):
    for i in range(cuda.grid(1), made.size, cuda.gridsize(1)):
        made[i] = encode_pattern(as_double_pattern(patterns[i], patterns.itemsize), layout)


@kernel(("uint8[::1], int32[::1]", LAYOUT), ("int64[::1], int64[::1]", LAYOUT))
def decode_elements(given, patterns, layout):
    for i in range(cuda.grid(1), given.size, cuda.gridsize(1)):
        patterns[i] = from_double_pattern(decode_pattern(np.int64(given[i]), layout), patterns.itemsize)


@device_function
def as_double_pattern(pattern, itemsize):
    """Converts the pattern of a number of ``itemsize`` bytes to float64's. A device's conversion would change NaNs."""
    if itemsize == 8:
        return np.int64(pattern)
    if pattern & 0x7FFFFFFF > 0x7F800000:
        return np.int64(QUIET_NAN64 | SIGN64 if pattern < 0 else QUIET_NAN64)
    return np.int64(double_as_long(np.float64(int_as_float(np.int32(pattern)))))


@device_function
def from_double_pattern(pattern, itemsize):
    """Inverts ``as_double_pattern``, for numbers that are representable in the narrower type."""
    if itemsize == 8:
        return np.int64(pattern)
    if pattern & MAGNITUDE64 > INFINITE64:
        return np.int64(-0x400000 if pattern < 0 else 0x7FC00000)
    return np.int64(float_as_int(to_float32(long_as_double(np.int64(pattern)))))
