"""Converts an accumulator to plain numbers. No other file of the cuda backend reads the fields of an Accumulator."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from mpsim.formats import as_format
from mpsim.kernels.contractions.lowering import significand_masks
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.cuda.chunks import aligned
from mpsim.products.accumulators import Accumulator


class Nothing(NamedTuple):
    """The empty parameters of a kind of sum that needs none."""

    none: int = 0


class Summation(NamedTuple):
    """The order and arithmetic of a dot product's sum."""

    kind: str  # a key of kinds.KINDS
    numbers: NamedTuple  # arguments of that kind's device functions
    chunk: int | None  # consecutive k per chunk; None: all of k
    in_pairs: bool = False  # whether the sums of chunks are added in pairs instead of rising order

    @property
    def fused(self) -> bool:
        """Whether products and additions are fused multiply-adds."""
        return self.kind == "fused"

    @property
    def is_float32(self) -> bool:
        """Whether products are added one after another in float32."""
        return self.kind in ("fused", "separate")


@lru_cache(maxsize=256)
def summation(accumulator: Accumulator) -> Summation:
    """Returns the accumulator as plain numbers. The kind "blas" promises no order, so it means the default here."""
    if accumulator.kind == "blas":
        accumulator = Accumulator()
    if accumulator.kind == "exact":
        return Summation("exact", Nothing(), None)
    if accumulator.kind == "aligned":
        return Summation("aligned", _aligned(accumulator), accumulator.chunk)
    if accumulator.format != "float32":
        return Summation("narrow", Narrow.of(accumulator.format), accumulator.chunk)
    kind = "fused" if accumulator.fma else "separate"
    return Summation(kind, Nothing(), accumulator.chunk, accumulator.kind == "pairwise")


def _aligned(accumulator: Accumulator) -> aligned.Numbers:
    formats = *accumulator.operands, accumulator.format
    left, right, sums = (2.0 ** as_format(name).min_exponent for name in formats)
    mask_left, mask_right = significand_masks(accumulator)
    return aligned.Numbers(
        accumulator.terms,
        2.0**-accumulator.fraction_bits,
        left,
        right,
        sums,
        accumulator.least_scale,
        mask_left,
        mask_right,
        accumulator.rounding == "toward_zero",
        *Narrow.of(accumulator.format),
    )
