"""An accumulator in plain numbers. No other file of the cuda backend reads the fields of an Accumulator."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from mpsim.formats import as_format
from mpsim.kernels.contractions.lowering import significand_masks
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.cuda.chunks import aligned
from mpsim.products.accumulators import Accumulator


class Nothing(NamedTuple):
    """The numbers of a kind of sum that needs none."""

    none: int = 0


class Summation(NamedTuple):
    """How a dot product is summed."""

    kind: str  # of the sum of a chunk, a key of kinds.KINDS
    numbers: NamedTuple  # which the device functions of that kind take
    chunk: int | None  # consecutive k of a chunk; None: all of k
    in_pairs: bool = False  # how the sums of chunks are added: in pairs, or in rising order

    @property
    def fused(self) -> bool:
        """Whether a product is part of a fused multiply-add."""
        return self.kind == "fused"

    @property
    def is_float32(self) -> bool:
        """Whether products are added in float32, one after another."""
        return self.kind in ("fused", "separate")


@lru_cache(maxsize=256)
def summation(accumulator: Accumulator) -> Summation:
    """The accumulator in plain numbers. The kind "blas" promises nothing, and is the default one here."""
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
