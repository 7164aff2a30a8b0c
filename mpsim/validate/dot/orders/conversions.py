"""How a subject reads its operands: whether it rounds them to a narrower format first, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from mpsim.formats import FORMATS as NAMED
from mpsim.formats import as_format
from mpsim.products.accumulators import Summation, in_short, in_stages
from mpsim.products.stages import FLOAT32, Operand, Sums
from mpsim.products.sums import DIRECTED
from mpsim.validate.dot.inputs.edges import Term
from mpsim.validate.dot.inputs.probes import Prober

#: Formats that operands may be rounded to, the widest first: with as many bits, one with the range of the inputs.
FORMATS = ("tf32", "bfloat16")
#: Formats that all results may be numbers of where the answers' type is wider.
PARTIAL = ("bfloat16", "float16")
SIGNS = 1.0, -1.0
#: 2**-VANISHING is lost beside 1 in float32, and not in float64.
VANISHING = 40
#: conversion -> the results for 1 and 1/4, 1/2, 3/4 units, and of the next number and 1/2, in units above 1
OUTCOMES = {"none": (0.25, 0.5, 0.75, 1.5), "truncate": (0, 0, 0, 1), "nearest_even": (0, 0, 1, 2)}
OUTCOMES["nearest_away"] = (0, 1, 1, 2)


def operands_of(prober: Prober) -> tuple[Operand, Operand]:
    """How the left and the right operand are read, as far as it shows: 1 is taken off, so that narrow results do."""
    formats = [name for name in FORMATS if as_format(name).mantissa_bits + 2 <= prober.inputs.mantissa_bits]
    probes: list[list[Term]] = []
    for name in formats:
        unit = 2.0 ** -as_format(name).mantissa_bits
        for side in (0, 1):
            for part in OUTCOMES["none"]:
                x = 1 + part * unit
                probes.append([(0, 0, (x, 1.0) if side == 0 else (1.0, x)), (1, 0, (-1.0, 1.0))])
    if not probes:
        return Operand(), Operand()
    left = prober.ask(probes).reshape(len(formats), 2, len(OUTCOMES["none"]))
    found = [Operand(), Operand()]
    for name, sides in zip(formats, left, strict=True):
        unit = 2.0 ** -as_format(name).mantissa_bits
        for side, parts in enumerate(sides):
            conversion = next((way for way, seen in OUTCOMES.items() if tuple(parts / unit) == seen), "none")
            if conversion != "none":
                found[side] = Operand(name, conversion)
    return (Operand(), Operand()) if _are_products(prober, found) else (found[0], found[1])


def _are_products(prober: Prober, found: Sequence[Operand]) -> bool:
    """Whether products or sums are rounded, and not operands: 1 and a part of a unit, whose square is rounded to 1 and
    a unit, also by way of float32, and is 1 where the part is lost before."""
    if found[0] != found[1] or found[0].conversion == "none":
        return False
    x = 1 + (0.75 if found[0].conversion == "truncate" else 0.375) * 2.0 ** -as_format(found[0].format).mantissa_bits
    return bool(prober.ask([[(0, 0, (x, x)), (1, 0, (-1.0, 1.0))]])[0] != 0)


def other_results(prober: Prober, narrow: Callable[[str], bool]) -> Iterator[Sums]:
    """How results may be rounded otherwise than to nearest even numbers of the answers' format: toward zero, ties away,
    saturating, or to a narrower format. narrow: whether all answers are numbers of a format."""
    output = prober.subject.output if prober.subject.output in NAMED else "float32"
    format = as_format(output)
    bits = min(format.mantissa_bits, 23)
    yield from (Sums(output, way) for way in _ways_of_results(prober, bits) if way != "nearest_even")
    if (ties := nearly_ties(prober)) and tuple(prober.ask(ties)) == SIGNS * 2:
        yield Sums(output, via=FLOAT32.format)
    fewer = [name for name in PARTIAL if as_format(name).mantissa_bits < bits and narrow(name)]
    yield from (Sums(name, way) for name in fewer for way in _ways_of_results(prober, as_format(name).mantissa_bits))
    if output != "float32" and format.max_exponent + 1 <= 2 * prober.inputs.max_exponent:
        beyond = prober.ask([[(0, format.max_exponent + 1, sign)] for sign in SIGNS])
        if tuple(beyond) == (format.largest, -format.largest):
            yield Sums(output, saturate=True)


def nearly_ties(prober: Prober) -> list[list[Term]]:
    """1 and half of the last place of a result narrower than float32, and a little more that float32 does not hold: a
    wider sum is no tie, and becomes one where it is rounded to float32 first."""
    output = prober.subject.output
    bits = as_format(output).mantissa_bits if output in NAMED else 23
    if bits >= 22 or prober.least > -VANISHING:
        return []
    return [
        [(0, 0, sign), (1, -bits - 1, sign), (2, -low, sign)] for low in (VANISHING - 4, VANISHING) for sign in SIGNS
    ]


def _ways_of_results(prober: Prober, bits: int) -> tuple[str, ...]:
    """How results of ``bits`` fraction bits are rounded, seen by 1 and a half, or three quarters, of the last place."""
    if prober.least > -bits - 2:
        return DIRECTED
    left = prober.ask([[(0, 0, sign), (1, -bits, sign * part)] for part in (0.5, 0.75) for sign in SIGNS])
    unit = 2.0**-bits
    up = tuple((np.abs(left) - 1) / unit) if (np.sign(left) == SIGNS * 2).all() else ()
    found = {(0, 0, 0, 0): "toward_zero", (0, 0, 1, 1): "nearest_even", (1, 1, 1, 1): "nearest_away"}.get(up)
    return DIRECTED if found is None else (found,)


def flushing(prober: Prober, operands: tuple[Operand, Operand]) -> tuple[Operand, Operand]:
    """The same, with subnormal numbers read as zeros where the subject of the prober reads them so."""
    inputs = prober.inputs
    tiny = 2.0 ** (inputs.min_exponent - 1)
    if inputs.quantum_exponent >= inputs.min_exponent or 1 / tiny > float(inputs.largest):
        return operands
    left, right = prober.ask([[(0, 0, (tiny, 1 / tiny))], [(0, 0, (1 / tiny, tiny))]]) == 0
    found = []
    for operand, is_zero in zip(operands, (left, right), strict=True):
        format = operand.format if operand.conversion != "none" else prober.subject.inputs
        found.append(replace(operand, format=format, flush=True) if is_zero else operand)
    return found[0], found[1]


def reading(summation: Summation, operands: tuple[Operand, Operand]) -> Summation:
    """The same of operands that are read so."""
    stages = in_stages(summation)
    return in_short(replace(stages, left=operands[0], right=operands[1]))
