"""Groups of float32 numbers that share a scale, by the C code in ext/rounding/blocks.c, for mpsim/blocks/fast.py."""

from __future__ import annotations

import numpy as np

from mpsim import _kernels
from mpsim.formats import Format
from mpsim.kernels.compiled.arrays import empty
from mpsim.kernels.compiled.rounding import code_bytes, packed_layout, packed_parameters
from mpsim.kernels.contract import Array
from mpsim.policies import Policy

__all__ = ["dequantize_groups", "group_largest", "quantize_groups"]

#: What a number and the factor of its group give, in the order of ext/rounding/blocks.c.
ARITHMETICS = ("divide", "multiply", "divide_in_float32", "multiply_in_float32")


def group_largest(groups: Array, threads: int = 1) -> Array:
    """Returns the largest magnitude of each group, the last axis; NaN if it has one.

    >>> group_largest(np.float32([[1, -3], [np.nan, 2]]))
    array([ 3., nan], dtype=float32)
    """
    largest = np.empty(groups.shape[:-1], np.float32)
    _kernels.group_largest(groups.reshape(-1), largest.size, groups.shape[-1], largest.reshape(-1), threads)
    return largest


def quantize_groups(
    groups: Array, factors: Array, arithmetic: str, format: Format, policy: Policy, threads: int = 1
) -> tuple[Array, Array]:
    """Returns the codes of numbers and their groups' factors, and the five counts. A factor of NaN gives zeros with the
    signs of the numbers, + for NaN. Source numbers of other groups are finite.

    >>> from mpsim.formats import FORMATS
    >>> x, factors = np.float32([[7, -0.3]]), np.float64([[1]])
    >>> quantize_groups(x, factors, "divide", FORMATS["float4_e2m1fn"], Policy(overflow="saturate"))[0]
    array([[7, 9]], dtype=uint8)
    """
    source = np.dtype(np.float32 if arithmetic.endswith("float32") else np.float64)
    codes, counts = empty(groups.shape, f"uint{format.code_bits}"), np.empty(5, np.int64)
    given = np.require(factors, np.float64, ["C", "A"]).reshape(-1)
    made = code_bytes(codes), codes.itemsize, packed_layout(format)
    way = ARITHMETICS.index(arithmetic), packed_parameters(format, policy, source)
    _kernels.quantize_groups(groups.reshape(-1), given.size, groups.shape[-1], given, *way, *made, counts, threads)
    return codes, counts


def dequantize_groups(codes: Array, factors: Array, format: Format, threads: int = 1) -> Array:
    """Returns float32 numbers: those of codes times their groups' factors, rounded once. NaNs are positive.

    >>> from mpsim.formats import FORMATS
    >>> dequantize_groups(np.uint8([[7, 9]]), np.float64([[0.5]]), FORMATS["float4_e2m1fn"])
    array([[ 3.  , -0.25]], dtype=float32)
    """
    out = empty(codes.shape)
    _kernels.dequantize_groups(
        code_bytes(codes), codes.itemsize, factors.size, codes.shape[-1],
        np.require(factors, np.float64, ["C", "A"]).reshape(-1), packed_layout(format), out.reshape(-1), threads,
    )  # fmt: skip
    return out
