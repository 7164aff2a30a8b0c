"""Defines quantisers in stages (mpsim/blocks/quantizers/), one group of elements at a time, in exact fractions.

Arithmetic that a stage does in float32 is done by float32.py beside this, one rounding an operation. The array code
in mpsim/blocks/engine.py has the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction

from mpsim.blocks.definition import float32
from mpsim.blocks.definition.values import Group, SecondScale, group_error
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.formats import as_format
from mpsim.kernels import spec
from mpsim.kernels.spec_blocks import power_exponent
from mpsim.policies import Policy

_SMALLEST_SECOND = 2.0**-149


# -- the second scale ---------------------------------------------------------------------------------------


def second_scale(values: Sequence[float], quantizer: Quantizer, given: float | None = None) -> SecondScale:
    """Returns the scale that all values of a tensor, or of a row, share.

    ``given``: the divisor, or for a multiplier the largest magnitude, in place of that of the values.
    """
    second = quantizer.second
    if second is None:
        return SecondScale()
    amax = max((abs(x) for x in values if math.isfinite(x)), default=0.0)
    most = Fraction(quantizer.target) * Fraction(second.most)
    if second.form == "divisor":
        if given is not None:
            return SecondScale(given)
        if amax == 0:
            return SecondScale()
        policy = Policy(overflow="saturate")  # type: ignore[arg-type]
        found = spec.round_fraction(Fraction(amax) / most, False, float32.FLOAT32, policy)
        return SecondScale(max(found, _SMALLEST_SECOND))
    amax = amax if given is None else given
    multiplier = min(float32.quotient(float32.rounded(most, False), amax), float32.LARGEST)
    multiplier = 1.0 if amax == 0 or multiplier == 0 else multiplier
    return SecondScale(float32.quotient(1.0, multiplier), multiplier, amax)


# -- the scale ----------------------------------------------------------------------------------------------


def _ratio(amax: float, quantizer: Quantizer, second: SecondScale) -> Fraction | float:
    """Returns what is rounded to the scale's format."""
    target, arithmetic = quantizer.target, quantizer.scale.arithmetic
    if arithmetic == "exact":
        if math.isinf(amax):
            return amax
        return Fraction(amax) / (Fraction(target) * Fraction(second.divisor))
    target = float32.rounded(Fraction(target), False)
    if arithmetic == "float32_product":
        return float32.quotient(amax, float32.product(target, second.divisor))
    if arithmetic == "float32_reciprocal":
        reciprocal = float32.quotient(1.0, target)
        return float32.product(
            amax, float32.product(second.multiplier, reciprocal) if second.multiplier else reciprocal
        )
    ratio = float32.quotient(amax, target)
    if quantizer.second is None:
        return ratio
    return float32.product(ratio, second.multiplier) if second.multiplier else float32.quotient(ratio, second.divisor)


def _power(amax: float, quantizer: Quantizer) -> Fraction | float:
    """Returns a power of two, or 0 for a statistic of 0."""
    if quantizer.scale.formula == "ceil_log2":
        ratio = float32.quotient(amax, float32.rounded(Fraction(quantizer.target), False))
        if ratio == 0 or math.isinf(ratio):
            return ratio
        return Fraction(2) ** math.ceil(_log2(Fraction(ratio)))
    if amax == 0 or math.isinf(amax):
        return amax
    return Fraction(2) ** power_exponent(Fraction(amax), quantizer.element, quantizer.scale.formula)


def _log2(x: Fraction) -> Fraction:
    """Returns log2(x), rounded to float32. It is irrational unless x is a power of two, so no tie occurs."""
    exponent = spec.floor_log2(x)
    significand = x / Fraction(2) ** exponent
    with localcontext() as context:
        context.prec = 60
        fraction = (Decimal(significand.numerator) / Decimal(significand.denominator)).ln() / Decimal(2).ln()
    exact = exponent + Fraction(fraction)
    return Fraction(float32.rounded(exact, exact < 0))


def stored_scale(exact: Fraction | float, quantizer: Quantizer) -> float:
    """Returns a scale, at least ``least``, in its format."""
    scale = quantizer.scale
    format = as_format(scale.format)
    if isinstance(exact, float) and math.isnan(exact):
        return math.nan
    overflow = "saturate" if scale.overflow == "saturate" else "infinity"
    policy = Policy(scale.rounding, overflow)  # type: ignore[arg-type]
    if isinstance(exact, float) and math.isinf(exact):
        found = spec.round_value(exact, "float64", format, policy)
        return math.nan if math.isinf(found) else found
    exact = max(Fraction(exact), Fraction(scale.least))
    if exact == 0:
        return 0.0 if format.has_zero else format.smallest
    found = spec.round_fraction(exact, False, format, policy)
    return math.nan if math.isinf(found) else found


# -- the elements -------------------------------------------------------------------------------------------


def _quotient(x: float, scale: float, quantizer: Quantizer, second: SecondScale) -> Fraction | float:
    arithmetic = quantizer.quotient.arithmetic
    if arithmetic == "exact":
        divisor = Fraction(scale) * Fraction(second.divisor)
        if not math.isfinite(x) or divisor == 0:
            return float32.quotient(x, float(divisor))
        exact = Fraction(x) / divisor
        return x if exact == 0 else exact  # the sign of a zero
    if arithmetic == "float32":
        return float32.quotient(x, float32.product(scale, second.divisor))
    return float32.product(x, _reciprocal(scale, quantizer, second))


def _reciprocal(scale: float, quantizer: Quantizer, second: SecondScale) -> float:
    if quantizer.quotient.arithmetic == "float32_reciprocals":
        return float32.quotient(float32.quotient(1.0, second.divisor), scale)
    return min(float32.quotient(1.0, float32.product(scale, second.divisor)), float32.LARGEST)


def _element(x: Fraction | float, quantizer: Quantizer, zero_point: int, random_bits: int | None) -> float:
    """Returns a quotient as an element."""
    element, stage = quantizer.element, quantizer.quotient
    negative = x < 0 if isinstance(x, Fraction) else spec.is_negative(x)
    special = isinstance(x, float) and not math.isfinite(x)
    if stage.fraction_bits is not None and not special:
        unit = Fraction(2) ** -stage.fraction_bits
        x = math.trunc(Fraction(x) / unit) * unit
    if stage.through != "none" and not special:
        x = float32.rounded(Fraction(x), negative, as_format(stage.through))
        special = not math.isfinite(x)
    if isinstance(element, Integer):
        return _integer(x, negative, element, zero_point, random_bits)
    if isinstance(x, float) and math.isnan(x):
        return math.nan if element.row.has_nan else 0.0
    if special:
        return spec.round_value(float(x), "float64", element.row, element.policy)
    found = spec.round_fraction(Fraction(x), negative, element.row, element.policy, random_bits)
    if math.isnan(found) and not element.row.has_nan:
        return 0.0
    return _zero_sign(found, x == 0, element.zeros)


def _zero_sign(found: float, exact: bool, zeros: str) -> float:
    if found != 0 or zeros == "signed":
        return found
    if zeros == "positive" or (exact and zeros == "positive_if_exact"):
        return 0.0
    return -0.0 if exact and zeros == "negative_if_exact" else found


def _integer(x: Fraction | float, negative: bool, element: Integer, zero_point: int, random_bits: int | None) -> float:
    """Returns an integer, as a float. NaN gives 0."""
    if isinstance(x, float) and math.isnan(x):
        return 0.0
    least, greatest = element.ends
    if isinstance(x, float) and math.isinf(x):
        return float(least if negative else greatest)
    number = spec.round_fraction(Fraction(x), negative, element.grid, element.policy, random_bits)
    return min(max(math.ldexp(number, element.fraction_bits) + zero_point, float(least)), float(greatest)) + 0.0


# -- a group ------------------------------------------------------------------------------------------------


def quantize_group(
    values: Sequence[float],
    quantizer: Quantizer,
    second: SecondScale = SecondScale(),
    statistic: float | None = None,
    random_bits: Sequence[int] | None = None,
) -> Group:
    """Quantises the elements that share one scale.

    Args:
        values: The elements, rotated if the quantiser rotates. Each of them is a float32 number where a stage computes
            in float32.
        quantizer: The description.
        second: That of ``second_scale``.
        statistic: The largest magnitude, where it is given and not that of the values.
        random_bits: One word of 32 bits for each element, for stochastic modes.

    >>> from mpsim.blocks.quantizers.stages import Block, Element, Scale, Statistic
    >>> scale = Scale("floor", format="float8_e8m0fnu")
    >>> quantize_group([7.0, -0.3], Quantizer(Statistic(Block(32)), scale, element=Element("float4_e2m1fn")))
    Group(elements=[6.0, -0.5], scale=1.0, zero_point=0)
    """
    if quantizer.element.policy.mode.needs_random_bits and random_bits is None:
        raise AssertionError("stochastic modes need random bits")
    words = [None] * len(values) if random_bits is None else list(random_bits)
    wrong = (
        [x for x in values if not math.isfinite(x)] if statistic is None else []
    )  # else it says nothing of the scale
    allowed = {"nan": not wrong, "saturate": not any(map(math.isnan, wrong)), "one": True}
    zeros = [math.copysign(0.0, x) if not math.isnan(x) else 0.0 for x in values]
    integers = isinstance(quantizer.element, Integer)
    if not allowed[quantizer.specials.not_finite]:
        return Group([0.0] * len(values) if integers else zeros, math.nan)
    amax = max((abs(x) for x in values), default=0.0) if statistic is None else statistic
    amax = max(amax, float32.rounded(Fraction(quantizer.statistic.least), False))
    if quantizer.specials.not_finite == "one" and (wrong or not math.isfinite(amax)):
        return with_scale(values, 1.0, 0, quantizer, second, words)
    if quantizer.statistic.of == "range":
        return _affine(values, quantizer, words)
    if quantizer.scale.form == "multiplier":
        return _multiplied(values, amax, quantizer, words)
    exact = _power(amax, quantizer) if quantizer.scale.formula != "ratio" else _ratio(amax, quantizer, second)
    if exact == 0 and quantizer.specials.zero == "one":
        exact = 1.0
    if quantizer.scale.four_over_six != "none":
        assert isinstance(exact, float)
        tried = stored_scale(float32.product(exact, 1.5), quantizer), stored_scale(exact, quantizer)
        both = [with_scale(values, scale, 0, quantizer, second, words) for scale in tried]
        errors = [group_error(values, found, quantizer, second) for found in both]
        return both[0 if errors[0] < errors[1] else 1]
    return with_scale(values, stored_scale(exact, quantizer), 0, quantizer, second, words)


def with_scale(
    values: Sequence[float],
    scale: float,
    zero_point: int,
    quantizer: Quantizer,
    second: SecondScale,
    words: Sequence[int | None],
) -> Group:
    """Returns the elements of a group whose scale and zero point are known."""
    zeros = [math.copysign(0.0, x) if not math.isnan(x) else 0.0 for x in values]
    if isinstance(quantizer.element, Integer):
        zeros = [float(zero_point)] * len(values)
    if math.isnan(scale) or (scale == 0 and quantizer.specials.zero != "divide"):
        return Group(zeros, scale, zero_point)
    elements = [
        _element(_quotient(x, scale, quantizer, second), quantizer, zero_point, word)
        for x, word in zip(values, words, strict=True)
    ]
    return Group(elements, scale, zero_point)


def _affine(values: Sequence[float], quantizer: Quantizer, words: Sequence[int | None]) -> Group:
    """Returns integers with a zero point. The difference of the range is rounded to float32 unless all is exact."""
    element = quantizer.element
    assert isinstance(element, Integer)
    low, high = min([0.0, *values]), max([0.0, *values])
    bottom, top = element.ends
    target = Fraction(top - bottom if quantizer.scale.target is None else quantizer.scale.target)
    if quantizer.scale.arithmetic == "exact":
        exact: Fraction | float = (Fraction(high) - Fraction(low)) / target
    else:
        exact = float32.quotient(float32.difference(high, low), float32.rounded(target, False))
    scale = stored_scale(exact if exact or quantizer.specials.zero != "one" else Fraction(1), quantizer)
    if math.isnan(scale) or scale == 0:
        return Group([0.0] * len(values), scale)
    share = Fraction(low) / Fraction(scale)
    if quantizer.quotient.arithmetic != "exact":
        share = Fraction(float32.quotient(low, scale))
    zero_point = min(max(bottom - round(share), bottom), top)
    return with_scale(values, scale, zero_point, quantizer, SecondScale(), words)


def _multiplied(values: Sequence[float], amax: float, quantizer: Quantizer, words: Sequence[int | None]) -> Group:
    """Returns elements of x times a scale, whose reciprocal is stored."""
    multiplier = min(float32.quotient(float32.rounded(Fraction(quantizer.target), False), amax), float32.LARGEST)
    if quantizer.scale.format != "float32" and not math.isnan(multiplier):
        multiplier = stored_scale(multiplier, quantizer)
    if amax == 0 and quantizer.specials.zero == "one":
        multiplier = 1.0
    elements = [
        _element(float32.product(x, multiplier), quantizer, 0, word) for x, word in zip(values, words, strict=True)
    ]
    return Group(elements, float32.quotient(1.0, multiplier))
