"""One pass over flat arrays, and what asks about all elements of an array."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.arrays import INT32, cleared, empty, flattened, to_numpy
from mpsim.kernels.cuda.intrinsics import add_rn, mul_rn, sub_rn
from mpsim.kernels.cuda.launch import kernel

Array = Any
ZERO = np.float32(0)
INFINITE = np.int32(0x7F800000)
#: Arrays that one launch looks at: a network has many small parameters.
TOGETHER = 8
VECTOR = "float32[::1]"


def _made(x: Array, out: Array | None) -> Array:
    return empty(x.shape) if out is None else out


def add(a: Array, b: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """a + b; ``out`` may be a or b."""
    y = _made(a, out)
    add_elements.over(y.size)(flattened(a), flattened(b), flattened(y))
    return y


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}")
def add_elements(a, b, y):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = add_rn(a[i], b[i])


def scale(x: Array, factor: float, *, out: Array | None = None, threads: int = 1) -> Array:
    """x times the factor; ``out`` may be x."""
    y = _made(x, out)
    scale_elements.over(y.size)(flattened(x), np.float32(factor), flattened(y))
    return y


@kernel(f"{VECTOR}, float32, {VECTOR}")
def scale_elements(x, factor, y):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = mul_rn(x[i], factor)


def relu(x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """x where not (x <= 0), so that NaN stays, else +0; ``out`` may be x."""
    y = _made(x, out)
    relu_elements.over(y.size)(flattened(x), flattened(y))
    return y


@kernel(f"{VECTOR}, {VECTOR}")
def relu_elements(x, y):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        y[i] = ZERO if x[i] <= ZERO else x[i]


def positive(x: Array, *, threads: int = 1) -> Array:
    """Whether x > 0, as a bool array."""
    mask = empty(x.shape, np.bool_)
    positive_elements.over(mask.size)(flattened(x), flattened(mask))
    return mask


@kernel(f"{VECTOR}, boolean[::1]")
def positive_elements(x, mask):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), mask.size, cuda.gridsize(1)):
        mask[i] = x[i] > ZERO


def relu_gradient(gy: Array, x: Array, *, out: Array | None = None, threads: int = 1) -> Array:
    """gy where x > 0, else +0; ``out`` may be gy, and x may be positive(x)."""
    gx = _made(gy, out)
    select_elements.over(gx.size)(flattened(gy), flattened(x), flattened(gx))
    return gx


@kernel(f"{VECTOR}, boolean[::1], {VECTOR}", f"{VECTOR}, {VECTOR}, {VECTOR}")
def select_elements(gy, x, gx):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        gx[i] = gy[i] if x[i] > 0 else ZERO


def sgd_update(
    master: Array,
    gradient: Array,
    velocity: Array,
    learning_rate: float,
    momentum: float,
    weight_decay: float,
    inverse_scale: float,
    *,
    threads: int = 1,
) -> None:
    """One step of SGD with momentum, in place in ``master`` and ``velocity``."""
    scalars = map(np.float32, (learning_rate, momentum, weight_decay, inverse_scale))
    update_elements.over(master.size)(flattened(master), flattened(gradient), flattened(velocity), *scalars)


@kernel(f"{VECTOR}, {VECTOR}, {VECTOR}, float32, float32, float32, float32")
def update_elements(  # type: ignore[no-untyped-def]
    master, gradient, velocity, learning_rate, momentum, weight_decay, inverse_scale
):
    for i in range(cuda.grid(1), master.size, cuda.gridsize(1)):
        g = mul_rn(gradient[i], inverse_scale)
        g = add_rn(g, mul_rn(weight_decay, master[i]))
        v = add_rn(mul_rn(momentum, velocity[i]), g)
        velocity[i] = v
        master[i] = sub_rn(master[i], mul_rn(learning_rate, v))


def update_running(running: Array, batch: Array, momentum: float, correction: float, *, threads: int = 1) -> None:
    """running = (1 - momentum) * running + momentum * (batch * correction), in place."""
    kept = np.float32(1) - np.float32(momentum)
    mix_elements.over(running.size)(running, batch, kept, np.float32(momentum), np.float32(correction))


@kernel(f"{VECTOR}, {VECTOR}, float32, float32, float32")
def mix_elements(running, batch, kept, momentum, correction):  # type: ignore[no-untyped-def]
    for i in range(cuda.grid(1), running.size, cuda.gridsize(1)):
        running[i] = add_rn(mul_rn(kept, running[i]), mul_rn(momentum, mul_rn(batch[i], correction)))


def canonical_nan(x: Array, *, threads: int = 1) -> Array:
    """x, float32 or float64, with every NaN made quiet and without payload, its sign kept, in place."""
    numbers: tuple[Any, ...]
    if x.dtype == np.float64:
        numbers = np.int64(0x7FF << 52), np.int64((1 << 52) - 1), np.int64(0xFFF << 51), np.int64(-1 << 63)
    else:
        numbers = np.int32(0x7F800000), np.int32(0x7FFFFF), np.int32(0x7FC00000), np.int32(-1 << 31)
    make_nan_canonical.over(x.size)(flattened(x, numbers[0].dtype), *numbers)
    return x


@kernel("int32[::1], int32, int32, int32, int32", "int64[::1], int64, int64, int64, int64")
def make_nan_canonical(patterns, infinite, fraction, quiet, sign):  # type: ignore[no-untyped-def]
    """Writes NaNs only, so that arrays without them are read and not written."""
    for i in range(cuda.grid(1), patterns.size, cuda.gridsize(1)):
        pattern = patterns[i]
        if pattern & infinite == infinite and pattern & fraction != 0:
            patterns[i] = quiet if pattern >= 0 else quiet | sign


def all_finite(*arrays: Array, threads: int = 1) -> bool:
    """Whether no number of the arrays is infinite or NaN; the device is waited for once."""
    found = cleared(empty(1, np.int32))
    patterns = sorted((flattened(x, INT32) for x in arrays if x.size), key=lambda x: x.size)  # of like sizes together
    for first in range(0, len(patterns), TOGETHER):
        some = patterns[first : first + TOGETHER]
        look_for_infinite.over(some[-1].size)(*some, *some[:1] * (TOGETHER - len(some)), found)
    return bool(to_numpy(found)[0] == 0)


@kernel(", ".join(["int32[::1]"] * (TOGETHER + 1)))
def look_for_infinite(p, q, r, s, t, u, v, w, found):  # type: ignore[no-untyped-def]
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
