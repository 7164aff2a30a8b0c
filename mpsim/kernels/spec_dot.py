"""The definition of a dot product for every Accumulator: one element, Python integers and fractions only.

Numbers are Fractions; zeros carry a sign and infinities and NaN exist, so a value is a Python float (an exact
float32 number, inf or NaN) between steps, and every step is rounded once from its exact value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from mpsim.accumulators import Accumulator
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.kernels import spec


def dot(a: Sequence[float], b: Sequence[float], accumulator: Accumulator = Accumulator()) -> float:
    """The dot product of float32 numbers, summed as the accumulator says.

    Raises ValueError for kind "blas", which has no definition.

    >>> dot([1.0, 1.0, -1.0], [2.0**24, 1.0, 2.0**24])
    0.0
    >>> dot([1.0, 1.0, -1.0], [2.0**24, 1.0, 2.0**24], Accumulator(kind="exact"))
    1.0
    """
    if accumulator.kind == "blas":
        raise UsageError("an accumulator of kind 'blas' promises no bits, so it has no definition")
    if accumulator.kind == "exact":
        return _exact(a, b)
    results = _chunks(a, b, accumulator)
    format = as_format(accumulator.format)
    if accumulator.kind == "pairwise":
        while len(results) > 1:
            pairs = [multiply_add(x, 1.0, y, format) for x, y in zip(results[::2], results[1::2], strict=False)]
            results = pairs + results[len(pairs) * 2 :]
        return results[0] if results else 0.0
    if accumulator.kind == "aligned":
        format = FORMATS["float32"]
    total = results[0] if results else 0.0
    for result in results[1:]:
        total = multiply_add(total, 1.0, result, format)
    return total


def _chunks(a: Sequence[float], b: Sequence[float], accumulator: Accumulator) -> list[float]:
    """The results of the chunks, in rising order."""
    chunk = accumulator.chunk or max(1, len(a))
    sum_up = _aligned if accumulator.kind == "aligned" else _sequential
    return [sum_up(a[i : i + chunk], b[i : i + chunk], accumulator) for i in range(0, len(a), chunk)]


def _sequential(a: Sequence[float], b: Sequence[float], accumulator: Accumulator) -> float:
    format = as_format(accumulator.format)
    separate = not accumulator.fma and accumulator.format == "float32"
    sum = 0.0
    for x, y in zip(a, b, strict=True):
        if separate:
            sum = multiply_add(multiply_add(x, y, -0.0, format), 1.0, sum, format)
        else:
            sum = multiply_add(x, y, sum, format)
    return sum


def _aligned(a: Sequence[float], b: Sequence[float], accumulator: Accumulator) -> float:
    """A chain of instructions, the result of each being the c of the next."""
    c, terms = 0.0, accumulator.terms
    for start in range(0, len(a), terms):
        c = _instruction(a[start : start + terms], b[start : start + terms], c, accumulator)
    return c


def _instruction(a: Sequence[float], b: Sequence[float], c: float, accumulator: Accumulator) -> float:
    """c + sum of a_k * b_k: aligned to the largest exponent, truncated, added exactly, rounded once."""
    inputs, format = as_format(accumulator.inputs), as_format(accumulator.format)
    a, b = [_truncated(x, inputs) for x in a], [_truncated(x, inputs) for x in b]
    if not all(map(math.isfinite, (*a, *b, c))):
        special = c if not math.isfinite(c) else 0.0
        for x, y in zip(a, b, strict=True):
            if not (math.isfinite(x) and math.isfinite(y)):
                special = _special(x, y, special)
        return beyond(special, format)
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x and y]
    addends = [(Fraction(x) * Fraction(y), _exponent(x, inputs) + _exponent(y, inputs)) for x, y in pairs]
    if c:
        addends.append((Fraction(c), _exponent(c, format)))
    least = [] if accumulator.least_alignment is None else [accumulator.least_alignment]
    largest = max([*least, *(exponent for _, exponent in addends)], default=0)
    quantum = Fraction(2) ** (largest - accumulator.fraction_bits)
    exact = sum(int(value / quantum) for value, _ in addends) * quantum  # int: toward zero
    if not exact:
        return 0.0
    return rounded(exact, format, accumulator.rounding) + 0.0  # never -0


def _exponent(x: float, format: Format) -> int:
    """floor(log2 |x|) of a number that is not zero, but at least the smallest normal exponent of the format."""
    return max(math.frexp(x)[1] - 1, format.min_exponent)


def _truncated(x: float, inputs: Format) -> float:
    """x toward zero to the mantissa bits of the format, with float32's exponents."""
    if not math.isfinite(x) or x == 0:
        return x
    quantum = Fraction(2) ** (_exponent(x, FORMATS["float32"]) - min(inputs.mantissa_bits, 23))
    return math.copysign(float(int(abs(Fraction(x)) / quantum) * quantum), x)


def multiply_add(x: float, y: float, z: float, format: Format) -> float:
    """x*y + z, rounded once to nearest even, overflow to infinity (IEEE 754-2019 §5.4.1, §6.1 to §6.3)."""
    if not all(map(math.isfinite, (x, y, z))):
        return beyond(_special(x, y, z), format)
    exact = Fraction(x) * Fraction(y) + Fraction(z)
    if exact:
        return rounded(exact, format)
    product_sign = math.copysign(1, x) * math.copysign(1, y)
    zero_product = x == 0 or y == 0
    negative = zero_product and product_sign < 0 and math.copysign(1, z) < 0  # else terms cancel, or one is +0
    return -0.0 if negative and format.has_negative_zero else 0.0


def rounded(exact: Fraction, format: Format, rounding: str = "nearest_even") -> float:
    """A number other than zero rounded to nearest even (or toward zero), as if the exponent had no end; beyond the
    largest number: infinity (docs/semantics.md, "Rounding")."""
    magnitude = abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    quantum = Fraction(2) ** spec.quantum_exponent(exponent, format)
    whole = magnitude / quantum
    value = (int(whole) if rounding == "toward_zero" else round(whole)) * quantum  # Fraction's round: half to even
    sign = -1.0 if exact < 0 else 1.0
    if value > Fraction(format.largest):
        return beyond(sign * math.inf, format)
    return math.copysign(float(value), sign) if value or format.has_negative_zero else 0.0


def beyond(special: float, format: Format) -> float:
    """What an infinite or overflowing result is in a format: infinity, else NaN, else the largest number."""
    return special if math.isnan(special) else math.copysign(spec.own_infinity(format), special)


def _special(x: float, y: float, z: float) -> float:
    """x*y + z where one of them is infinite or NaN."""
    if any(map(math.isnan, (x, y, z))):
        return math.nan
    if math.isinf(x) or math.isinf(y):
        if x == 0 or y == 0:
            return math.nan
        product = math.copysign(math.inf, math.copysign(1, x) * math.copysign(1, y))
        return math.nan if math.isinf(z) and z != product else product
    return z


def _exact(a: Sequence[float], b: Sequence[float]) -> float:
    """The exact sum, rounded once to float32. An exact zero is +0; NaN, or infinities of both signs, give NaN."""
    exact, special = Fraction(0), 0.0
    for x, y in zip(a, b, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            exact += Fraction(x) * Fraction(y)
        else:
            special = _special(x, y, special)
    if special:
        return special
    return rounded(exact, FORMATS["float32"]) if exact else 0.0
