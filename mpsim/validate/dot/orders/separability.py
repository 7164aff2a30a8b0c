"""Accumulators that no input distinguishes, by proof: "equal" of two of them says nothing about the subject.

Let every product be a multiple of 2**q with an exponent of at least ``low``, q being twice the exponent of the smallest
number of the inputs, and let ``most`` be the largest sum of magnitudes. Every sum is then a multiple of 2**q, as it
comes from such terms by truncations to multiples of powers of two, unless its format has no numbers so small.
"""

from __future__ import annotations

import math
from dataclasses import replace

from mpsim.formats import Format, as_format
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.validate.dot.orders.candidates import effective


def inseparable(one: Summation, other: Summation, inputs: str, length: int) -> str:
    """Why two accumulators have the same result for every input of ``length`` terms; "" where some input may differ.

    A proof of less than what is true: "" does not say that there is an input that separates them.

    >>> float8 = Accumulator(kind="aligned", terms=32, fraction_bits=13, format="float16", inputs="float8_e5m2")
    >>> inseparable(float8, replace(float8, least_alignment=-21), "float8_e5m2", 64)
    'no product is so small that the least alignment matters'
    >>> inseparable(float8, replace(float8, fraction_bits=14), "float8_e5m2", 64)
    ''
    """
    if effective(one, length) == effective(other, length):
        return "one order of the same operations at this length"
    if not (isinstance(one, Accumulator) and isinstance(other, Accumulator)):
        return ""
    format = as_format(inputs)
    if _treats_specials_alike(one, other, format) and all(_is_exact(each, format, length) for each in (one, other)):
        return "every sum is exact in both"
    if one.kind != "aligned" or other.kind != "aligned" or one.inputs != other.inputs or not _is_whole(one, format):
        return ""
    reasons: list[str] = []
    for name, prove in _PROOFS:  # one field after the other: the relation is transitive
        step = replace(one, **{name: getattr(other, name)})
        if step != one:
            reasons.append(prove(one, step, format, length))
            one = step
    return "; ".join(reasons) if all(reasons) and effective(one, length) == effective(other, length) else ""


def _is_exact(each: Accumulator, inputs: Format, length: int) -> bool:
    """Whether the format of the sums holds every sum, and no alignment loses a bit."""
    if each.kind == "aligned" and not _is_whole(each, inputs):
        return False
    format = _format_of(each)
    q, top = 2 * inputs.quantum_exponent, _top(inputs, length)
    holds = top - format.mantissa_bits <= q and format.quantum_exponent <= q and _most(inputs, length) <= format.largest
    return holds and (each.kind != "aligned" or _alignment_loses_nothing(each, inputs, length))


def _is_whole(each: Accumulator, inputs: Format) -> bool:
    """Whether the operands' significands are not truncated."""
    return all(as_format(name).mantissa_bits >= inputs.mantissa_bits for name in each.operands)


def _low(each: Accumulator, inputs: Format) -> int:
    """The least exponent of a product of two numbers other than zero."""
    return sum(max(inputs.quantum_exponent, as_format(name).min_exponent) for name in each.operands)


def _format_of(each: Accumulator) -> Format:
    return as_format("float32" if each.kind == "exact" else each.format)


def _treats_specials_alike(one: Accumulator, other: Accumulator, inputs: Format) -> bool:
    """Whether infinities and NaN of the inputs, if there are any, come out of both formats of sums alike."""
    ends = [(format.has_infinity, format.has_nan) for format in map(_format_of, (one, other))]
    return ends[0] == ends[1] or not (inputs.has_infinity or inputs.has_nan)


def _alignment_loses_nothing(each: Accumulator, inputs: Format, length: int) -> bool:
    """Whether the coarsest alignment keeps multiples of 2**q: the largest exponent is that of a product or a sum."""
    exponents = [
        _low(each, inputs),
        2 * _exponent(inputs.largest),
        min(_top(inputs, length), _exponent(as_format(each.format).largest)),
    ]
    least = [] if each.least_alignment is None else [each.least_alignment]
    return max(exponents + least) - each.fraction_bits <= 2 * inputs.quantum_exponent


def _least_alignment(one: Accumulator, other: Accumulator, inputs: Format, length: int) -> str:
    """Where the largest exponent is above both least ones, they decide nothing. Otherwise terms are aligned to
    2**(largest least - bits) at most. Where that is 2**q or less, neither loses a bit. Where the largest least is
    ``low`` or less, no product is there but only c, a multiple of 2**(low - bits) that both leave whole."""
    largest = max(each.least_alignment for each in (one, other) if each.least_alignment is not None)
    enough = max(2 * inputs.quantum_exponent + one.fraction_bits, _low(one, inputs))
    return "no product is so small that the least alignment matters" if largest <= enough else ""


def _fraction_bits(one: Accumulator, other: Accumulator, inputs: Format, length: int) -> str:
    lossless = all(_alignment_loses_nothing(each, inputs, length) for each in (one, other))
    return "no alignment loses a bit" if lossless else ""


def _format(one: Accumulator, other: Accumulator, inputs: Format, length: int) -> str:
    """Two formats of as many mantissa bits differ where a sum is not normal, or too large, in one of them."""
    formats = [as_format(each.format) for each in (one, other)]
    alike = formats[0].mantissa_bits == formats[1].mantissa_bits
    inside = max(format.min_exponent for format in formats) <= 2 * inputs.quantum_exponent
    below = _most(inputs, length) <= min(format.largest for format in formats)
    alike = alike and _treats_specials_alike(one, other, inputs)
    return "no sum is near an end of the formats' range" if alike and inside and below else ""


_PROOFS = (("least_alignment", _least_alignment), ("fraction_bits", _fraction_bits), ("format", _format))


def _most(inputs: Format, length: int) -> float:
    return length * float(inputs.largest) ** 2


def _top(inputs: Format, length: int) -> int:
    """The exponent of the largest sum of magnitudes."""
    return _exponent(_most(inputs, length))


def _exponent(x: float) -> int:
    return math.frexp(float(x))[1] - 1


__all__ = ["inseparable"]
