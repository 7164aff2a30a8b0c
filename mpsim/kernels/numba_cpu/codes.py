"""Computes codes of numbers from float64 patterns in 64-bit integers: mpsim/kernels/spec.py line by line.

A magnitude is a pattern without its sign; |x| = significand * 2**exponent. Everything is int64, because Numba converts
a mix of int64 and uint64 to float64.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.kernels.numba_cpu.jit import at_most, njit
from mpsim.kernels.numba_cpu.rounding import round_array
from mpsim.kernels.parameters import CodeLayout, code_layout
from mpsim.kernels.philox import Stream
from mpsim.kernels.reference.rounding import strays
from mpsim.policies import Policy

__all__ = ["decode_array", "encode_array", "encode_rounded"]


BLOCK = 4096  # elements that a thread takes at a time

MAGNITUDE = (1 << 63) - 1
INFINITE = 0x7FF << 52
QUIET_NAN = 0xFFF << 51
IMPLICIT = 1 << 52
SIGN = -(1 << 63)


@njit(cache=True)
def split(magnitude: int) -> tuple[int, int]:
    """Returns (significand, exponent) of a finite magnitude."""
    biased, fraction = magnitude >> 52, magnitude & (IMPLICIT - 1)
    if biased == 0:
        return fraction, -1074
    return fraction | IMPLICIT, biased - 1075


@njit(cache=True)
def top_bit(significand: int) -> int:
    """Returns floor(log2(significand)) of 0 < significand < 2**63."""
    bit = 0
    for step in (32, 16, 8, 4, 2, 1):
        if significand >> (bit + step) > 0:
            bit += step
    return bit


@njit(cache=True)
def join(significand: int, exponent: int) -> int:
    """Returns the magnitude of significand * 2**exponent >= 0, a float64 value or beyond float64 (then infinity)."""
    if significand == 0:
        return 0
    top = 52 if significand >> 52 == 1 else top_bit(significand)
    binade = top + exponent
    if binade > 1023:
        return INFINITE
    if binade < -1022:
        return significand << (exponent + 1074)
    fraction = significand << (52 - top) if top <= 52 else significand >> (top - 52)
    return ((binade + 1022) << 52) + fraction


@njit(cache=True)
def sign_bit(c: CodeLayout) -> int:
    """Returns the mask of the code's sign bit as int64, 0 without a sign."""
    return (SIGN if c.bits == 64 else 1 << (c.bits - 1)) if c.has_sign else 0


@njit(cache=True)
def encode_pattern(bits: int, c: CodeLayout) -> int:
    """Returns the code of a value of the format as int64."""
    magnitude = bits & MAGNITUDE
    sign = sign_bit(c) if bits < 0 else 0
    if magnitude > INFINITE:
        return c.nan_code | (sign if c.nan_has_sign else 0)
    if magnitude == INFINITE:
        return c.infinity_code | sign
    if magnitude == 0:
        return sign if c.has_negative_zero else 0
    significand, exponent = split(magnitude)
    top = top_bit(significand)
    above = top + exponent - c.quantum_exponent - c.mantissa_bits  # binades above the smallest normal number's
    if not c.has_zero:
        return above
    drop = top - c.mantissa_bits if above > 0 else c.quantum_exponent - exponent
    kept = significand >> drop if drop >= 0 else significand << -drop
    # a normal number's implicit bit is added to the biased exponent's lowest
    return sign | ((max(above, 0) << c.mantissa_bits) + kept)


@njit(cache=True)
def decode_pattern(code: int, c: CodeLayout) -> int:
    """Returns the float64 pattern of a code's number. The code is int64."""
    sign_mask = sign_bit(c)
    sign = SIGN if code & sign_mask != 0 else 0
    magnitude = code & ~sign_mask
    if code == c.nan_code and c.has_nan:
        return QUIET_NAN
    if magnitude == c.infinity_code:
        return INFINITE | sign
    if magnitude > c.largest_code:
        return QUIET_NAN | sign
    biased, implicit = magnitude >> c.mantissa_bits, 1 << c.mantissa_bits
    mantissa = magnitude & (implicit - 1)
    if biased == 0 and c.has_zero:
        return (join(mantissa, c.quantum_exponent) if c.has_subnormals else 0) | sign
    return join(mantissa | implicit, c.quantum_exponent + biased - c.has_zero) | sign


def encode_array(x: Array, format: Format, *, threads: int = 1) -> Array:
    """Returns the codes of values of the format in the smallest unsigned integers that hold them."""
    codes = np.empty(x.shape, f"uint{format.code_bits}")
    with at_most(threads):
        _encode(x.reshape(-1), codes.reshape(-1), code_layout(format))
    return codes


def encode_rounded(
    x: Array, format: Format, policy: Policy, random_bits: Array | Stream | None = None, *, threads: int = 1
) -> tuple[Array, Array]:
    """Returns the codes of rounded numbers, and how many of these are NaN and infinite."""
    rounded, _ = round_array(x, format, policy, random_bits, threads=threads)
    return encode_array(rounded, format, threads=threads), strays(rounded)


def decode_array(codes: Array, format: Format, dtype: type | np.dtype, *, threads: int = 1) -> Array:
    """Returns the exact values of codes as float32 or float64."""
    out = np.empty(codes.shape, dtype)
    with at_most(threads):
        _decode(codes.reshape(-1).astype(np.int64), out.reshape(-1), code_layout(format))
    return out


@njit(cache=True, parallel=True)
def _encode(x: Array, codes: Array, layout: CodeLayout) -> None:
    for block in prange((x.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, x.size)
        patterns = x[start:stop].astype(np.float64).view(np.int64)
        for i in range(start, stop):
            codes[i] = encode_pattern(patterns[i - start], layout)


@njit(cache=True, parallel=True)
def _decode(codes: Array, out: Array, layout: CodeLayout) -> None:
    for block in prange((codes.size + BLOCK - 1) // BLOCK):
        start, stop = block * BLOCK, min((block + 1) * BLOCK, codes.size)
        wide = np.empty(stop - start, np.float64)
        patterns = wide.view(np.int64)
        for i in range(start, stop):
            patterns[i - start] = decode_pattern(codes[i], layout)
            out[i] = wide[i - start]
