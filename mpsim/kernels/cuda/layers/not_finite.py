"""Detects infinities and NaNs, and makes NaNs canonical."""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import INT32, Array, cleared, empty, flattened, to_numpy
from mpsim.kernels.cuda.device.launch import kernel

__all__ = ["all_finite", "canonical_nan"]

INFINITE = np.int32(0x7F800000)
#: Arrays per launch. A network has many small parameters.
TOGETHER = 8


def canonical_nan(x: Array, *, threads: int = 1) -> Array:
    """Makes every NaN of a float32 or float64 array quiet and without payload, in place, and keeps its sign."""
    numbers: tuple[np.int32 | np.int64, ...]
    if x.dtype == np.float64:
        numbers = np.int64(0x7FF << 52), np.int64((1 << 52) - 1), np.int64(0xFFF << 51), np.int64(-1 << 63)
    else:
        numbers = np.int32(0x7F800000), np.int32(0x7FFFFF), np.int32(0x7FC00000), np.int32(-1 << 31)
    make_nan_canonical.over(x.size)(flattened(x, numbers[0].dtype), *numbers)
    return x


@kernel("int32[::1], int32, int32, int32, int32", "int64[::1], int64, int64, int64, int64")
def make_nan_canonical(patterns, infinite, fraction, quiet, sign):
    """Writes only NaNs, so that arrays without NaNs are read but not written."""
    for i in range(cuda.grid(1), patterns.size, cuda.gridsize(1)):
        pattern = patterns[i]
        if pattern & infinite == infinite and pattern & fraction != 0:
            patterns[i] = quiet if pattern >= 0 else quiet | sign


def all_finite(*arrays: Array, threads: int = 1) -> bool:
    """Returns whether all numbers of the arrays are finite. Waits for the device once."""
    found = cleared(empty(1, np.int32))
    patterns = sorted(
        (flattened(x, INT32) for x in arrays if x.size), key=lambda x: x.size
    )  # similar sizes share a launch
    for first in range(0, len(patterns), TOGETHER):
        some = patterns[first : first + TOGETHER]
        look_for_infinite.over(some[-1].size)(*some, *some[:1] * (TOGETHER - len(some)), found)
    return bool(to_numpy(found)[0] == 0)


@kernel(", ".join(["int32[::1]"] * (TOGETHER + 1)))
def look_for_infinite(p, q, r, s, t, u, v, w, found):
    seen = False
    for i in range(cuda.grid(1), max(p.size, q.size, r.size, s.size, t.size, u.size, v.size, w.size), cuda.gridsize(1)):
        seen |= i < p.size and p[i] & INFINITE == INFINITE
        seen |= i < q.size and q[i] & INFINITE == INFINITE
        seen |= i < r.size and r[i] & INFINITE == INFINITE
        seen |= i < s.size and s[i] & INFINITE == INFINITE
        seen |= i < t.size and t[i] & INFINITE == INFINITE
        seen |= i < u.size and u[i] & INFINITE == INFINITE
        seen |= i < v.size and v[i] & INFINITE == INFINITE
        seen |= i < w.size and w[i] & INFINITE == INFINITE
    if seen:
        found[0] = 1
