"""Rounds arrays, encodes and decodes them, and draws random bits by the C code in ext/rounding/."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mpsim import _kernels
from mpsim.formats import Format
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.compiled.structs import RandomStream, packed
from mpsim.kernels.parameters import code_layout, parameters
from mpsim.kernels.philox import Stream, within_a_stream
from mpsim.kernels.reference.rounding import stack_counts
from mpsim.policies import Policy

__all__ = [
    "all_finite",
    "canonical_nan",
    "decode_array",
    "encode_array",
    "encode_rounded",
    "from_numpy",
    "random_bits",
    "round_array",
    "stack_counts",
    "to_numpy",
    "zeros",
]


def from_numpy(array: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Returns the array itself if it is contiguous, else a contiguous copy."""
    return np.asarray(array, order="C")  # keeps an array without axes


def to_numpy(array: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Returns the array itself."""
    return array


def zeros(shape: int | Sequence[int], *, threads: int = 1) -> np.ndarray:
    """Returns a float32 array of +0."""
    return np.zeros(shape, np.float32)


@lru_cache(maxsize=1024)
def packed_parameters(format: Format, policy: Policy, source: np.dtype) -> bytes:
    return packed(parameters(format, policy, source.name, through_float32=True))


def _stream(stream: Stream) -> bytes:
    return packed(RandomStream(stream.key, stream.words))


def round_array(
    x: np.ndarray,
    format: Format,
    policy: Policy,
    random_bits: np.ndarray | Stream | None = None,
    out: np.ndarray | None = None,
    *,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Rounds x once to the format, into ``out`` (which may be x), and returns the five counts (see contract.py)."""
    out = empty(x.shape, x.dtype) if out is None else out
    counts = np.empty(5, np.int64)
    kernel = _kernels.round_float32 if x.dtype == np.float32 else _kernels.round_float64
    given = packed_parameters(format, policy, x.dtype)
    kernel(x.reshape(-1), out.reshape(-1), x.size, *_drawn(policy, random_bits), given, counts, threads)
    return out, counts


def _drawn(policy: Policy, random_bits: np.ndarray | Stream | None) -> tuple[np.ndarray | None, bytes | None]:
    """Returns the random bits and the stream, of which at most one is not None."""
    if random_bits is None or not policy.mode.needs_random_bits:
        return None, None
    return (None, _stream(random_bits)) if isinstance(random_bits, Stream) else (random_bits.reshape(-1), None)


def encode_array(x: np.ndarray, format: Format, *, threads: int = 1) -> np.ndarray:
    """Returns the codes of values of the format in the smallest unsigned integers that hold them."""
    return _encode(x, format, None, (None, None), threads)[0]


def encode_rounded(
    x: np.ndarray,
    format: Format,
    policy: Policy,
    random_bits: np.ndarray | Stream | None = None,
    *,
    threads: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the codes of rounded numbers, and how many of these are NaN and infinite."""
    given = packed_parameters(format, policy, x.dtype)
    return _encode(x, format, given, _drawn(policy, random_bits), threads)


def _encode(
    x: np.ndarray, format: Format, given: bytes | None, drawn: tuple[np.ndarray | None, bytes | None], threads: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns codes, and how many NaNs and infinities. ``given``: the parameters of rounding, None without it."""
    codes, strays = empty(x.shape, f"uint{format.code_bits}"), np.empty(2, np.int64)
    kernel = _kernels.encode_float32 if x.dtype == np.float32 else _kernels.encode_float64
    where = code_bytes(codes), codes.itemsize, packed_layout(format)
    kernel(x.reshape(-1), x.size, *drawn, given, *where, strays, threads)
    return codes, strays


def decode_array(codes: np.ndarray, format: Format, dtype: type | np.dtype, *, threads: int = 1) -> np.ndarray:
    """Returns the exact values of codes as float32 or float64."""
    out = empty(codes.shape, dtype)
    kernel = _kernels.decode_float32 if out.dtype == np.float32 else _kernels.decode_float64
    kernel(code_bytes(codes), codes.itemsize, codes.size, out.reshape(-1), packed_layout(format), threads)
    return out


@lru_cache(maxsize=1024)
def packed_layout(format: Format) -> bytes:
    return packed(code_layout(format))


def code_bytes(codes: np.ndarray) -> np.ndarray:
    return codes.reshape(-1).view(np.uint8)


def random_bits(stream: Stream, size: int, first: int = 0, *, threads: int = 1) -> np.ndarray:
    """Returns elements first .. first + size - 1 of the stream, uint32."""
    size, first = within_a_stream(size, first)
    bits = empty(size, np.uint32)
    _kernels.random_bits(_stream(stream), first, bits, size, threads)
    return bits


def canonical_nan(x: np.ndarray, *, threads: int = 1) -> np.ndarray:
    """Makes every NaN of x (float32 or float64) quiet and removes its payload, in place. It keeps the sign."""
    kernel = _kernels.canonical_nan_float32 if x.dtype == np.float32 else _kernels.canonical_nan_float64
    kernel(x.reshape(-1), x.size, threads)
    return x


def all_finite(*arrays: np.ndarray, threads: int = 1) -> bool:
    """Returns whether no number of the arrays is infinite or NaN."""
    return all(_kernels.all_finite(x.reshape(-1), x.size, threads) for x in arrays)
