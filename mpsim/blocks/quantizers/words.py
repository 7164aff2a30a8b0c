"""Quantisers as sentences."""

from __future__ import annotations

from collections.abc import Iterator

from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.groups import Block, Column, Group, Row, Tile
from mpsim.blocks.quantizers.stages import Quantizer
from mpsim.formats import as_format
from mpsim.process import in_default_environment

_RULES = {
    "floor": "the largest power of two not above it",
    "ceil": "the smallest power of two not below it",
    "even": "the largest power of two not above it once it is rounded to the element's precision",
    "nearest": "the nearest power of two",
}
_MODES = {
    "nearest_even": "to nearest even", "nearest_away": "to nearest, ties away from zero",
    "nearest_zero": "to nearest, ties toward zero", "toward_zero": "toward zero", "up": "up", "down": "down",
    "to_odd": "to odd",
}  # fmt: skip
_ZEROS = {
    "positive_if_exact": "exact zeros are +0",
    "negative_if_exact": "exact zeros are -0",
    "positive": "zeros are +0",
}


@in_default_environment
def sentence_of(quantizer: Quantizer) -> str:
    """Returns a sentence that says every stage.

    >>> print(sentence_of(Quantizer()))
    Each block of 32: the scale is the largest magnitude / 448, rounded to float32 to nearest even; x / scale, \
exactly, is rounded to float8_e4m3fn to nearest even, saturating.
    """
    parts = list(_parts(quantizer))
    return f"Each {group_words(quantizer.group)}: {'; '.join(parts)}."


def group_words(group: Group) -> str:
    """Returns the words for a group.

    >>> group_words(Tile(16, 16))
    'tile of 16 x 16'
    """
    match group:
        case Block(size):
            return f"block of {size}"
        case Tile(rows, columns):
            return f"tile of {rows} x {columns}"
        case Row():
            return "row"
        case Column():
            return "column"
        case _:
            return "tensor"


def _parts(quantizer: Quantizer) -> Iterator[str]:
    rotation, second = quantizer.rotation, quantizer.second
    if rotation is not None:
        signs = " with signs" if -1 in rotation.signs else ""
        rotated = f"{rotation.size} numbers at a time are rotated by a Hadamard matrix{signs}"
        yield f"{rotated} and rounded to {rotation.format}"
    if second is not None:
        whole = "each row" if isinstance(second.group, Row) else "the tensor"
        amax = f"the largest magnitude of {whole}"
        most = f"({quantizer.target:g} * {second.most:g})"
        ratio = f"{amax} / {most}" if second.form == "divisor" else f"1 / float32({most} / {amax})"
        yield f"{whole} has {'the given' if second.source == 'given' else ratio + ' as'} second scale, in float32"
    yield f"the scale is {scale_words(quantizer)}"
    yield quotient_words(quantizer)
    yield from _specials(quantizer)
    if quantizer.values != "exact":
        yield "numbers are computed from codes in float32"


def scale_words(quantizer: Quantizer) -> str:
    """Returns what the scale is."""
    scale, statistic = quantizer.scale, quantizer.statistic
    given = "given " if statistic.source == "given" else ""
    amax = f"the {given}largest magnitude"
    if statistic.least:
        amax += f", at least {statistic.least:g},"
    target = quantizer.target
    if statistic.of == "range":
        amax, target = "the range with 0 in it", _steps(quantizer)
    if scale.form == "multiplier":
        if scale.format != "float32":
            return f"1 / ({target:g} / {amax} in float32, rounded to {scale.format} {_MODES[scale.rounding]})"
        return f"1 / float32({target:g} / {amax}), in float32"
    where = "" if scale.arithmetic == "exact" else _arithmetic(scale.arithmetic)
    second = "" if quantizer.second is None else " / the second scale"
    if scale.formula in _RULES:
        words = f"{_RULES[scale.formula]}, of {amax}, / 2^{quantizer.element.max_exponent}"
    elif scale.formula == "cover":
        words = f"the smallest power of two that is not below {amax} / {target:g}"
    elif scale.formula == "ceil_log2":
        words = f"2^ceil(log2({amax} / {target:g})) by a float32 logarithm"
    else:
        rounded = _MODES[scale.rounding]
        words = f"{amax} / {target:g}{second}{where}, rounded to {as_format(scale.format)} {rounded}"
    if scale.least:
        words += f", at least {scale.least:g}"
    if scale.four_over_six != "none":
        kind, _, scaled = scale.four_over_six.partition("_")
        words += f", or that of 1.5 times as much if it gives the smaller {kind} error"
        words += " of what multiplies the second scale" if scaled else ""
    return words


def _steps(quantizer: Quantizer) -> float:
    assert isinstance(quantizer.element, Integer)
    bottom, top = quantizer.element.ends
    return float(top - bottom) if quantizer.scale.target is None else quantizer.scale.target


def _arithmetic(name: str) -> str:
    return {
        "float32": " in float32",
        "float32_product": " in float32, by the product of both divisors",
        "float32_reciprocal": " in float32, by reciprocals",
    }[name]


def quotient_words(quantizer: Quantizer) -> str:
    """Returns how x becomes an element."""
    quotient, element = quantizer.quotient, quantizer.element
    both = "scale" if quantizer.second is None else "both scales"
    words = {
        "exact": f"x / {both}, exactly,",
        "float32": f"x / {both} in float32",
        "float32_reciprocal": f"x times the float32 reciprocal of {both}",
        "float32_reciprocals": "x times (1 / second scale / scale), all in float32,",
    }[quotient.arithmetic]
    if quantizer.second is None and quotient.arithmetic == "float32_reciprocals":
        words = "x times the float32 reciprocal of scale"
    if quotient.fraction_bits is not None:
        words += f" is truncated to {quotient.fraction_bits} fraction bits and"
    if quotient.through != "none":
        words += f" is rounded to {quotient.through} and"
    mode = _MODES.get(element.policy.mode.value)
    rounded = mode or f"by {element.policy.mode.value} rounding with {element.random_bit_count} bits"
    if isinstance(element, Integer):
        low, high = element.ends
        unit = f" / 2^{element.fraction_bits}" if element.fraction_bits else ""
        point = ", plus the zero point" if element.zero_point else ""
        return f"{words} is rounded to an integer{unit} {rounded}{point}, clamped to {low}..{high}"
    ends = {"saturate": "saturating", "infinity": "overflowing to infinity or NaN"}
    overflow = ends.get(element.overflow, f"with overflow {element.overflow}")
    zeros = f", {_ZEROS[element.zeros]}" if element.zeros != "signed" else ""
    return f"{words} is rounded to {element.row} {rounded}, {overflow}{zeros}"


def _specials(quantizer: Quantizer) -> Iterator[str]:
    specials = quantizer.specials
    if specials.zero == "divide":
        yield "a scale of 0 is divided by"
    if specials.zero == "one":
        yield "a scale of 0 becomes 1"
    if specials.not_finite == "saturate":
        yield "infinities saturate"
    if specials.not_finite == "one":
        yield "a block that is not finite has the scale 1"
