"""Numba: QPyTorch's float32 algorithm, defects included: spec.round_like_qpytorch. See float32_rounding.py.

Numbers are scaled so that the format's exponents become QPyTorch's. A subnormal one is rounded after the smallest
normal number has been added to it, and that is subtracted again.
"""

from __future__ import annotations

from numpy import float32, int32

from mpsim.kernels.numba_cpu.float32_rounding import INFINITE, MAGNITUDE, ONE, SIGN, WIDTH, ZERO
from mpsim.kernels.numba_cpu.jit import njit
from mpsim.policies import Mode

STOCHASTIC = Mode.QPYTORCH_STOCHASTIC.number


@njit(cache=True)
def pattern(x):  # type: ignore[no-untyped-def]
    return float32(x).view(int32)


@njit(cache=True)
def number(bits):  # type: ignore[no-untyped-def]
    return int32(bits).view(float32)


@njit(cache=True)
def round_like_qpytorch(patterns, random, p):  # type: ignore[no-untyped-def]
    """Rounds int32 patterns in place, with int32 parameters; gives the five counts."""
    dropped = int32(WIDTH - p.mantissa_bits)
    kept, half = int32(-(ONE << dropped)), int32((ONE << dropped) >> 1)
    constant, mask = (ZERO, int32(~kept)) if p.mode == STOCHASTIC else (half, ZERO)
    up, down = float32(2.0**p.scale_exponent), float32(2.0**-p.scale_exponent)
    overflowed = at_most_half = nan = inexact = below_normal = zeros = zero_results = ZERO
    for i in range(patterns.size):
        a = int32(patterns[i] & MAGNITUDE)
        x = number(patterns[i]) * up
        sign = int32(pattern(x) & SIGN)
        low = int32(pattern(x) & MAGNITUDE) < p.scaled_smallest_normal
        offset = number(p.scaled_smallest_normal | sign)
        bits = pattern(x + offset) if low else pattern(x)
        rounded = int32(bits + (int32(random[i]) & mask) + constant & kept)
        clipped = int32(p.scaled_largest | sign) if int32(rounded & MAGNITUDE) >= p.scaled_limit else rounded
        result = number(rounded) - offset if low else number(clipped)
        bits = SIGN if a > INFINITE else pattern(result * down)  # NaN becomes -0
        r = int32(bits & MAGNITUDE)
        overflowed = int32(overflowed + (a >= p.overflow_from))
        at_most_half = int32(at_most_half + (a <= p.underflow_to))
        zeros = int32(zeros + (a == ZERO))
        nan = int32(nan + (a > INFINITE))
        inexact = int32(inexact + (r != a))
        below_normal = int32(below_normal + (r < p.smallest_normal))
        zero_results = int32(zero_results + (r == ZERO))
        patterns[i] = bits
    return overflowed, int32(at_most_half - zeros), nan, int32(inexact - nan), int32(below_normal - zero_results)
