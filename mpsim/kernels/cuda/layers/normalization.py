"""Batch normalization. sums.py computes its sums."""

from __future__ import annotations

import numpy as np
from numba import cuda

from mpsim.kernels.cuda.device.arrays import Array, empty, flattened, like
from mpsim.kernels.cuda.device.intrinsics import add_rn, div_rn, mul_rn, sqrt_rn, sub_rn
from mpsim.kernels.cuda.device.launch import VECTOR, device_function, kernel
from mpsim.kernels.cuda.layers.division import DIVISOR, Divisor, quotient
from mpsim.kernels.cuda.layers.sums import channel_sums, over

__all__ = ["batch_norm", "batch_norm_gradient", "batch_norm_inference"]

ONE = np.float32(1)


def batch_norm(
    x: Array,
    scale: Array,
    shift: Array,
    epsilon: float,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array, Array, Array]:
    """Normalizes a training batch. Returns (y, mean, biased variance, inverse deviation). ``out`` may be x."""
    mean = _over_count(channel_sums("element", x), x)
    variance = _over_count(channel_sums("squared_deviation", x, u=mean), x)
    factor, inverse_deviation = _factors(variance, scale, epsilon)
    return _normalized(x, mean, factor, shift, out), mean, variance, inverse_deviation


def batch_norm_inference(
    x: Array,
    mean: Array,
    variance: Array,
    scale: Array,
    shift: Array,
    epsilon: float,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> Array:
    """Normalizes with the given mean and variance. ``out`` may be x."""
    factor, _ = _factors(variance, scale, epsilon)
    return _normalized(x, mean, factor, shift, out)


def batch_norm_gradient(
    gy: Array,
    x: Array,
    mean: Array,
    inverse_deviation: Array,
    scale: Array,
    *,
    out: Array | None = None,
    threads: int = 1,
) -> tuple[Array, Array, Array]:
    """Computes the gradients of batch_norm: (gx, gscale, gshift). ``out`` may be gy or x."""
    gx = like(x, out)
    gshift = channel_sums("element", gy)
    gscale = channel_sums("product_with_normalized", x, gy, u=mean, v=inverse_deviation)
    input_gradient.over(x.size)(
        flattened(gy),
        flattened(x),
        mean,
        inverse_deviation,
        scale,
        _over_count(gshift, x),
        _over_count(gscale, x),
        *_divisors(x),
        flattened(gx),
    )
    return gx, gscale, gshift


def _over_count(sums: Array, x: Array) -> Array:
    """Divides the sums of channels by their number of elements, in float32."""
    return over(sums, x.size // x.shape[1])


def _factors(variance: Array, scale: Array, epsilon: float) -> tuple[Array, Array]:
    """Computes (inverse deviation * scale, inverse deviation)."""
    factor, inverse_deviation = empty(variance.shape), empty(variance.shape)
    make_factors.over(variance.size)(variance, scale, np.float32(epsilon), factor, inverse_deviation)
    return factor, inverse_deviation


@kernel(f"{VECTOR}, {VECTOR}, float32, {VECTOR}, {VECTOR}")
def make_factors(variance, scale, epsilon, factor, inverse_deviation):
    for c in range(cuda.grid(1), factor.size, cuda.gridsize(1)):
        inverse = div_rn(ONE, sqrt_rn(add_rn(variance[c], epsilon)))
        inverse_deviation[c] = inverse
        factor[c] = mul_rn(inverse, scale[c])


def _divisors(x: Array) -> tuple[Divisor, Divisor]:
    """Returns the divisors for the area of a plane and the number of channels."""
    return Divisor.of(max(1, x.shape[2] * x.shape[3])), Divisor.of(max(1, x.shape[1]))


@device_function
def channel_of(i, area, channels):
    """Returns the channel of element i of an (N, C, area) array."""
    plane = quotient(i, area)
    return np.uint32(plane - quotient(plane, channels) * channels.number)


def _normalized(x: Array, mean: Array, factor: Array, shift: Array, out: Array | None) -> Array:
    y = like(x, out)
    normalize.over(x.size)(flattened(x), mean, factor, shift, *_divisors(x), flattened(y))
    return y


@kernel((f"{VECTOR}, {VECTOR}, {VECTOR}, {VECTOR}", DIVISOR, DIVISOR, VECTOR))
def normalize(x, mean, factor, shift, area, channels, y):
    for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
        c = channel_of(i, area, channels)
        y[i] = add_rn(mul_rn(sub_rn(x[i], mean[c]), factor[c]), shift[c])


@kernel((", ".join([VECTOR] * 7), DIVISOR, DIVISOR, VECTOR))
def input_gradient(gy, x, mean, inverse_deviation, scale, shift_share, scale_share, area, channels, gx):
    for i in range(cuda.grid(1), gx.size, cuda.gridsize(1)):
        c = channel_of(i, area, channels)
        inverse = inverse_deviation[c]
        normalized = mul_rn(sub_rn(x[i], mean[c]), inverse)
        centered = sub_rn(sub_rn(gy[i], shift_share[c]), mul_rn(normalized, scale_share[c]))
        gx[i] = mul_rn(mul_rn(inverse, scale[c]), centered)
