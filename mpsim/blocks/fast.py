"""Quantises float32 arrays by the compiled kernels of groups, where these give the bits of ``Engine.run``.

The scales, one a group, are the engine's. What is done for every number is done by the kernels: the largest magnitude,
the quotient, its rounding and its code.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim import checks
from mpsim.blocks.engine import Engine, F, Second
from mpsim.blocks.grids import Grid
from mpsim.blocks.quantizers.elements import Element
from mpsim.blocks.quantizers.groups import Row
from mpsim.blocks.quantizers.stages import Quantizer, Quotient, Specials
from mpsim.formats import Format
from mpsim.kernels import is_in_c, load
from mpsim.kernels.contract import Array
from mpsim.kernels.parameters import NARROW, parameters
from mpsim.policies import Overflow
from mpsim.rounding import Counts, decode


class Coded(NamedTuple):
    """The codes of groups, the numbers of their scales, and the counts."""

    codes: Array
    scales: Array
    counts: Counts


def is_fast(engine: Engine, x: Array) -> bool:
    """Returns whether ``quantized`` may take the place of ``Engine.run`` for an array."""
    quantizer, element = engine.quantizer, engine.quantizer.element
    if not is_in_c(engine.backend) or x.dtype != F or not x.size or not isinstance(element, Element):
        return False
    plain = (
        element.zeros == "signed"
        and element.policy.overflow is Overflow.SATURATE
        and not element.policy.mode.needs_random_bits
        and quantizer.rotation is None
        and (quantizer.statistic.of, quantizer.statistic.source) == ("largest", "input")
        and (quantizer.scale.form, quantizer.scale.four_over_six) == ("divisor", "none")
        and quantizer.specials == Specials()
        and quantizer.quotient == Quotient(quantizer.quotient.arithmetic)
        and not (quantizer.second is not None and isinstance(quantizer.second.group, Row))
    )
    divides = quantizer.quotient.arithmetic != "exact" or engine.divides_well
    return plain and divides and _is_packed(element.row) and _path(quantizer) == NARROW


def _is_packed(format: Format) -> bool:
    return format.min_exponent >= -126 and format.signed and format.has_zero and format.bits <= 16


def _path(quantizer: Quantizer) -> int:
    element = quantizer.element
    assert isinstance(element, Element)
    source = "float64" if quantizer.quotient.arithmetic == "exact" else "float32"
    return parameters(element.row, element.policy, source, through_float32=True).path


def largest_of_groups(groups: Array, grid: Grid, x: Array, backend: str, threads: int) -> tuple[Array, Array]:
    """Returns the largest magnitude of each group, and the largest finite one of the array, as ``Grid.largest``."""
    found: Array = load(backend).group_largest(groups, threads)
    whole = found.max(initial=0.0).astype(np.float64).reshape(1, 1, 1)
    return found, whole if np.isfinite(whole) else grid.largest(x, of_rows=False)


def quantized(engine: Engine, groups: Array, found: Array, second: Second, threads: int) -> Coded | None:
    """Quantises contiguous float32 groups, the last axis, whose largest magnitudes are ``found``. Returns None where
    the arithmetic gives NaNs."""
    element, stage = engine.quantizer.element, engine.quantizer
    assert isinstance(element, Element)
    refused = ~np.isfinite(found)
    amax = np.maximum(np.where(refused, 0.0, found.astype(np.float64)), float(F(stage.statistic.least)))
    scales = np.where(refused, np.nan, engine.stored(engine.scales(amax, second)))
    usable = ~np.isnan(scales) & (scales > 0)
    factors, arithmetic = engine.factors(np.where(usable, scales, 1.0), second.divisor)
    if not (np.isfinite(factors) & (factors != 0)).all():
        return None
    factors = np.where(usable, factors, np.nan)
    codes, counts = load(engine.backend).quantize_groups(
        groups, factors, arithmetic, element.row, element.policy, threads
    )
    return Coded(codes, scales, Counts(*(int(number) for number in counts)))


def values(
    codes: Array, element: Format, scales: Array, scale: Format, second: Array | None, grid: Grid, backend: str,
    threads: int | None,
) -> Array | None:  # fmt: skip
    """Returns float32 numbers, those of codes times their groups' scales and ``second``, if there is one, rounded once;
    or None where the kernel does not. ``scales``: codes, in ``Grid.scales_shape``."""
    precision = element.precision + scale.precision + (0 if second is None else 24)
    if not is_in_c(backend) or not _is_packed(element) or precision > 53 or not codes.size:
        return None
    factors = decode(scales, scale, np.float64, backend=backend, threads=threads)
    factors = factors if second is None else factors * np.float64(second)
    groups, threads = np.ascontiguousarray(grid.split(codes)), checks.threads(threads)
    return grid.join(load(backend).dequantize_groups(groups, grid.split_scales(factors), element, threads))
