"""Quantisers in stages on arrays of groups. mpsim/blocks/definition/ defines every bit.

Arithmetic in float32 is NumPy's, which rounds each operation once. Exact ratios and quotients are those of
mpsim/blocks/quotients.py. ``round_to`` rounds scales and elements on the chosen backend.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mpsim.blocks.powers import ceil_log2, power_exponents
from mpsim.blocks.quantizers.elements import Element, Integer
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.blocks.quotients import exact_difference, exact_quotient
from mpsim.formats import Format, as_format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.rounding import Counts, round_to

F = np.float32
_LARGEST = np.finfo(F).max
_SMALLEST = 2.0**-149


class Second(NamedTuple):
    """float32 arrays that broadcast against groups: the divisor, the multiplier or None, the largest magnitude."""

    divisor: Array
    multiplier: Array | None
    amax: Array


class Groups(NamedTuple):
    """elements (numbers; integers with their zero point), scales as stored, zero points."""

    elements: Array
    scales: Array
    zero_points: Array | None
    counts: Counts


@dataclass(frozen=True)
class Engine:
    """A quantiser and how it runs."""

    quantizer: Quantizer
    backend: str = DEFAULT_BACKEND
    threads: int | None = None

    # -- scales -------------------------------------------------------------------------------------------------
    def second(self, amax: Array, given: Array | None) -> Second:
        """Returns the second scale of largest magnitudes (definition: ``second_scale``)."""
        stage = self.quantizer.second
        one = np.ones(amax.shape, F)
        if stage is None:
            return Second(one, None, one)
        most = self.quantizer.target * stage.most
        if stage.form == "divisor":
            if given is not None:
                return Second(one * given, None, one)
            exact = exact_quotient(amax, np.full(amax.shape, most))
            found = self._round(exact, "float32", "nearest_even", "saturate")
            return Second(np.where(amax == 0, 1, np.maximum(found, _SMALLEST)).astype(F), None, one)
        largest = amax.astype(F) if given is None else one * given
        multiplier = np.minimum(F(most) / largest, _LARGEST)
        multiplier = np.where((largest == 0) | (multiplier == 0), F(1), multiplier)
        return Second(F(1) / multiplier, multiplier, largest)

    def scales(self, amax: Array, second: Second) -> Array:
        """Returns what is rounded to the format of the scale, for statistics."""
        formula = self.quantizer.scale.formula
        found = self._ratio(amax, second) if formula == "ratio" else self._power(amax, formula)
        return np.where(found == 0, 1.0, found) if self.quantizer.specials.zero == "one" else found

    def _ratio(self, amax: Array, second: Second) -> Array:
        target, arithmetic = self.quantizer.target, self.quantizer.scale.arithmetic
        if arithmetic == "exact":
            divisor = np.broadcast_to(target * second.divisor.astype(np.float64), amax.shape)
            if self._scales_divide_well:
                with np.errstate(divide="ignore", invalid="ignore"):
                    return np.asarray(amax / divisor)
            return exact_quotient(amax, divisor)
        statistic: Array = amax.astype(F)
        found: Array
        if arithmetic == "float32_product":
            found = statistic / (F(target) * second.divisor)
        elif arithmetic == "float32_reciprocal":
            reciprocal = F(1) / F(target)
            found = statistic * (reciprocal if second.multiplier is None else second.multiplier * reciprocal)
        elif self.quantizer.second is None:
            found = statistic / F(target)
        elif second.multiplier is None:
            found = statistic / F(target) / second.divisor
        else:
            found = statistic / F(target) * second.multiplier
        return found.astype(np.float64)

    def _power(self, amax: Array, formula: str) -> Array:
        if formula == "ceil_log2":
            ratio = (amax.astype(F) / F(self.quantizer.target)).astype(np.float64)
            return np.where(np.isfinite(ratio) & (ratio > 0), ceil_log2(ratio), ratio)
        exponent = power_exponents(amax, self.quantizer.element, formula)
        power = np.ldexp(1.0, np.where(np.isfinite(amax), exponent, 0))
        return np.where((amax == 0) | np.isinf(amax), amax, power)

    def stored(self, exact: Array) -> Array:
        """Returns scales, at least ``least``, as numbers of their format."""
        scale = self.quantizer.scale
        overflow = "saturate" if scale.overflow == "saturate" else "infinity"
        least, smallest = np.maximum(exact, scale.least), as_format(scale.format)
        found = self._round(least, smallest, scale.rounding, overflow)
        found = np.where(least == 0, 0.0 if smallest.has_zero else smallest.smallest, found)
        return np.where(np.isinf(found), np.nan, found)

    # -- elements -----------------------------------------------------------------------------------------------
    def _quotients(self, x: Array, scales: Array, second: Second) -> Array:
        """Returns x over its scale. ``scales``: one a group, with a last axis of 1."""
        factors, arithmetic = self.factors(scales, second.divisor[..., None])
        if arithmetic == "divide" and not self.divides_well:
            return exact_quotient(x, np.broadcast_to(factors, x.shape))
        with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
            if arithmetic == "divide":
                return _not_lost(x / factors, x)
            if arithmetic == "multiply":
                return _not_lost(x * factors, x)
            f, values = factors.astype(F), x.astype(F)
            found = values / f if arithmetic == "divide_in_float32" else values * f
            return found.astype(np.float64)

    def factors(self, scales: Array, divisor: Array) -> tuple[Array, str]:
        """Returns the float64 number by which each group is divided or multiplied, and which, and if in float32."""
        arithmetic = self.quantizer.quotient.arithmetic
        if arithmetic == "exact":
            if self.quantizer.second is None and _all_powers(scales):
                return 1 / scales, "multiply"
            return scales * divisor.astype(np.float64), "divide"
        s = scales.astype(F)
        if arithmetic == "float32":
            return (s * divisor).astype(np.float64), "divide_in_float32"
        if arithmetic == "float32_reciprocals":
            return ((F(1) / divisor) / s).astype(np.float64), "multiply_in_float32"
        return np.minimum(F(1) / (s * divisor), _LARGEST).astype(np.float64), "multiply_in_float32"

    @cached_property
    def _scales_divide_well(self) -> bool:
        """Whether float64 quotients round to scales as the exact ones do, for the reason of ``divides_well``."""
        turning = as_format(self.quantizer.scale.format).precision + 1
        second = 0 if self.quantizer.second is None else 24
        return turning + Fraction(self.quantizer.target).numerator.bit_length() + second <= 53

    @cached_property
    def divides_well(self) -> bool:
        """Whether float64 quotients round to elements as the exact ones do.

        Let m be a number where the rounding turns. If m * divisor is exact in float64, x is that product or differs
        from it by at least one float64 step, which the rounding of the division cannot bridge.
        """
        element, stage = self.quantizer.element, self.quantizer.quotient
        if isinstance(element, Integer) or stage.fraction_bits is not None or stage.through != "none":
            return False
        turning = element.row.precision + 1 + (element.random_bit_count or 0)
        second = 0 if self.quantizer.second is None else 24
        return turning + as_format(self.quantizer.scale.format).precision + second <= 53

    def _elements(self, quotients: Array, zero_points: Array | None, bits: Array | None) -> tuple[Array, Counts]:
        element, stage = self.quantizer.element, self.quantizer.quotient
        specials = self.quantizer.specials
        if (specials.zero, specials.not_finite) != ("zeros", "nan"):  # the sign of 0 / 0 differs among processors
            quotients = np.where(np.isnan(quotients), np.nan, quotients)
        if stage.fraction_bits is not None:
            unit = 2.0**-stage.fraction_bits
            quotients = np.trunc(quotients / unit) * unit
        if stage.through != "none":
            quotients = self._round(quotients, stage.through, "nearest_even", "infinity")
        if isinstance(element, Integer):
            return self._integers(quotients, element, zero_points, bits)
        found, counts = round_to(
            quotients, element.row, element.policy.mode, element.policy.overflow, random_bits=bits,
            random_bit_count=element.random_bit_count, backend=self.backend, threads=self.threads, counts=True,
        )  # fmt: skip
        if not element.row.has_nan:
            found = np.where(np.isnan(found), 0.0, found)
        return _zero_signs(found, quotients, element), counts

    def _integers(
        self, quotients: Array, element: Integer, zero_points: Array | None, bits: Array | None
    ) -> tuple[Array, Counts]:
        sound = np.where(np.isnan(quotients), 0.0, quotients)
        found, counts = round_to(
            sound, element.grid, element.policy.mode, "saturate", random_bits=bits,
            random_bit_count=element.random_bit_count, backend=self.backend, threads=self.threads, counts=True,
        )  # fmt: skip
        whole = np.ldexp(found, element.fraction_bits)
        shifted = whole if zero_points is None else whole + zero_points
        clipped = np.clip(shifted, *element.ends) + 0.0
        return clipped, counts._replace(overflowed=int((clipped != shifted).sum()))

    def _round(self, x: Array, format: str | Format, mode: str, overflow: str) -> Array:
        return np.asarray(round_to(x, format, mode, overflow, backend=self.backend, threads=self.threads))

    # -- groups -------------------------------------------------------------------------------------------------
    def run(self, groups: Array, second: Second, statistic: Array | None, bits: Array | None) -> Groups:
        """Quantises groups, the last axis of an array of float64 (definition: ``quantize_group``)."""
        specials, stage = self.quantizer.specials, self.quantizer
        given = statistic is not None  # then the group's own numbers say nothing of the scale
        finite: Array = np.asarray(np.isfinite(groups).all(-1)) | given
        nan: Array = np.asarray(np.isnan(groups).any(-1)) & (not given)
        refused = {"nan": ~finite, "saturate": nan, "one": np.zeros(finite.shape, bool)}[specials.not_finite]
        x = _zeroed(groups, refused)
        amax = np.abs(x).max(-1, initial=0.0) if statistic is None else np.broadcast_to(statistic, finite.shape)
        amax = np.maximum(amax, float(F(stage.statistic.least)))
        zero_points = None
        if stage.statistic.of == "range":
            scales, zero_points = self._affine(x)
        elif stage.scale.form == "multiplier":
            return self._multiplied(x, amax, finite, refused, bits)
        else:
            exact = self.scales(amax, second)
            if specials.not_finite == "one":
                exact = np.where(finite & np.isfinite(amax), exact, 1.0)
            scales = self._better(x, exact, second) if stage.scale.four_over_six != "none" else self.stored(exact)
        scales = np.where(refused, np.nan, scales)
        usable = ~np.isnan(scales) & ((scales > 0) | (specials.zero == "divide"))
        kept = _zeroed(x, ~usable)
        quotients = self._quotients(kept, np.where(usable, scales, 1.0)[..., None], second)
        elements, counts = self._elements(quotients, None if zero_points is None else zero_points[..., None], bits)
        if isinstance(stage.element, Element):
            elements = elements if usable.all() else np.where(usable[..., None], elements, np.copysign(0.0, kept))
        elif zero_points is not None:
            zero_points = np.where(usable, zero_points, 0)
            elements = np.where(usable[..., None], elements, 0.0)
        return Groups(elements, scales, zero_points, counts)

    def _affine(self, x: Array) -> tuple[Array, Array]:
        """Returns the scales and zero points of ranges."""
        element = self.quantizer.element
        assert isinstance(element, Integer)
        low, high = x.min(-1, initial=0.0), x.max(-1, initial=0.0)
        bottom, top = element.ends
        target = float(top - bottom) if self.quantizer.scale.target is None else self.quantizer.scale.target
        if self.quantizer.scale.arithmetic == "exact":
            exact = exact_quotient(exact_difference(high, low), np.full(high.shape, target))
        else:
            exact = ((high.astype(F) - low.astype(F)) / F(target)).astype(np.float64)
        if self.quantizer.specials.zero == "one":
            exact = np.where(exact == 0, 1.0, exact)
        scales = self.stored(exact)
        safe = np.where(scales > 0, scales, 1.0)
        if self.quantizer.quotient.arithmetic == "exact":
            share = exact_quotient(low, safe)
        else:
            share = (low.astype(F) / safe.astype(F)).astype(np.float64)
        return scales, np.clip(bottom - np.rint(share), bottom, top)

    def _multiplied(self, x: Array, amax: Array, finite: Array, refused: Array, bits: Array | None) -> Groups:
        """Returns elements of x times a float32 scale, whose reciprocal is stored."""
        specials, scale = self.quantizer.specials, self.quantizer.scale
        multiplier = np.minimum(F(self.quantizer.target) / amax.astype(F), _LARGEST)
        if scale.format != "float32":
            multiplier = self._round(multiplier, scale.format, scale.rounding, "saturate").astype(F)
        if specials.zero == "one":
            multiplier = np.where(amax == 0, F(1), multiplier)
        if specials.not_finite == "one":
            multiplier = np.where(finite & np.isfinite(amax), multiplier, F(1))
        products = (x.astype(F) * multiplier[..., None]).astype(np.float64)
        elements, counts = self._elements(np.where(refused[..., None], x, products), None, bits)
        elements = np.where(
            refused[..., None], np.copysign(0.0, x) if isinstance(self.quantizer.element, Element) else 0.0, elements
        )
        scales = np.where(refused, np.nan, (F(1) / multiplier).astype(np.float64))
        return Groups(elements, scales, None, counts)

    def _better(self, x: Array, ratio: Array, second: Second) -> Array:
        """Returns of two scales the one with the smaller error (definition: ``group_error``)."""
        four = self.stored((ratio.astype(F) * F(1.5)).astype(np.float64))
        six = self.stored(ratio)
        errors = [self.errors(x, scales, second) for scales in (four, six)]
        return np.where(errors[0] < errors[1], four, six)

    def errors(self, x: Array, scales: Array, second: Second) -> Array:
        """Returns the sum of the errors of each group (definition: ``group_error``)."""
        stage = self.quantizer.second
        assert stage is not None
        elements, _ = self._elements(self._quotients(x, scales[..., None], second), None, None)
        rows, columns = self.quantizer.group.shape
        assert rows is not None and columns is not None
        kind, _, is_scaled = self.quantizer.scale.four_over_six.partition("_")
        values = elements.astype(F) * scales[..., None].astype(F)
        if is_scaled:
            assert second.multiplier is not None
            errors = values - x.astype(F) * second.multiplier[..., None]
        else:
            errors = values * second.amax[..., None] / F(self.quantizer.target * stage.most) - x.astype(F)
        errors = np.abs(errors) if kind == "mae" else errors * errors
        by_row = errors.reshape(*scales.shape, rows, columns)
        sums = np.zeros(by_row.shape[:-1], F)
        for column in range(columns):
            sums = sums + by_row[..., column]
        while sums.shape[-1] > 1:
            half = sums.shape[-1] // 2
            sums = sums[..., :half] + sums[..., half:]
        return np.asarray(sums[..., 0])


# -- arrays ----------------------------------------------------------------------------------------------------


def _zeroed(x: Array, where: Array) -> Array:
    """Returns groups with signed zeros, +0 for NaN, in place of some of them."""
    if not where.any():
        return x
    return np.where(where[..., None], np.copysign(0.0, np.where(np.isnan(x), 0.0, x)), x)


def _all_powers(scales: Array) -> bool:
    return bool((np.frexp(scales)[0] == 0.5).all())


def _not_lost(scaled: Array, x: Array) -> Array:
    """Replaces scaled values of nonzero numbers where they are too small or large to be exact in float64."""
    far = np.clip(scaled, -(2.0**1000), 2.0**1000)
    return np.where((np.abs(far) < 2.0**-1000) & (x != 0), np.copysign(2.0**-1000, x), far)


def _zero_signs(found: Array, quotients: Array, element: Element) -> Array:
    zero, exact = found == 0, quotients == 0
    if element.zeros == "positive":
        return np.where(zero, 0.0, found)
    if element.zeros == "positive_if_exact":
        return np.where(zero & exact, 0.0, found)
    return np.where(zero & exact, -0.0, found) if element.zeros == "negative_if_exact" else found
