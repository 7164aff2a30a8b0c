"""What is said about a subject's sums: a measurement is printed where the order that it presupposes is that of an
accumulator that gives the subject's results, and otherwise not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.sums import DIRECTED
from mpsim.products.text import text_of
from mpsim.products.words import sentence_of
from mpsim.validate.dot.inputs import probes
from mpsim.validate.dot.inputs.probes import Measurement, Order, Prober
from mpsim.validate.dot.inputs.widths import find_least_alignment, find_rounding, find_widths


def widths(prober: Prober, order: Order) -> dict[str, object]:
    """Name -> value of what the probes measure if the order is the one recognised: what candidates are made of."""
    found = find_widths(prober, order)
    bits = found[0].value
    found.append(find_rounding(prober, order, bits))
    if order.terms > 1:
        found.append(_least(prober, found[1].value, found[2].value or ""))
    return {m.name: m.value for m in found if m.value is not None}


def _least(prober: Prober, aligned: int, rounding: str) -> Measurement:
    wide = prober.subject.output in ("float32", "float64")
    toward_zero = wide if rounding not in DIRECTED else rounding == "toward_zero"
    return find_least_alignment(prober, aligned, toward_zero)


def statements(prober: Prober, order: Order, confirmed: Sequence[Summation]) -> list[Measurement]:
    """What can be said of the order and the sums. confirmed: accumulators that give every probe and, at the probes'
    length, every random result."""
    if not confirmed:
        return _unknown(prober, order)
    first = confirmed[0]
    if not isinstance(first, Accumulator):
        several = f"one of {len(confirmed)} that no input tells apart, such as: " if len(confirmed) > 1 else ""
        return [Measurement("order", text_of(first), several + sentence_of(first))]
    fma = "whether products are rounded before they are added does not show"
    if first.kind == "exact":
        words = f"nothing was lost beside a number 2**{order.span} times as large: exact, or wider than that"
        return [Measurement("order", "exact", words)]
    known = _order_of(first, order, prober.length)
    found = known.measurements(prober.length)
    measured = find_widths(prober, known)
    found += measured
    found.append(_agreed("rounding", confirmed, _ROUNDINGS, "the rounding of a sum does not show"))
    if prober.inputs.mantissa_bits < 12:
        found.append(Measurement("fma", None, "no difference: products of these inputs are exact in float32"))
    elif first.kind != "aligned":
        found.append(_agreed("fma", confirmed, _FMA, fma))
    if first.kind == "aligned" and known.terms > 1:
        found.append(_least(prober, measured[1].value, first.rounding))
    return found


_ROUNDINGS = {mode: f"a sum is rounded {mode.replace('_', ' ')}" for mode in DIRECTED}
_FMA = {
    True: "products are added exactly, without a rounding of their own",
    False: "products are rounded before they are added",
}


def _agreed(field: str, confirmed: Sequence[Summation], words: dict[Any, str], otherwise: str) -> Measurement:
    """A field on which all the accumulators agree that could not be distinguished."""
    values = {getattr(each, field) for each in confirmed if isinstance(each, Accumulator)}
    if len(values) > 1:
        return Measurement(field, None, otherwise)
    value = values.pop()
    return Measurement(field, value, words[value])


def _order_of(accumulator: Accumulator, order: Order, length: int) -> Order:
    """The recognised order with the one chain, or size of blocks, that the accumulator has."""
    chunk = accumulator.chunk if accumulator.chunk and accumulator.chunk < length else None
    if accumulator.kind == "pairwise":
        return replace(order, exact=False, chains=(), pairs=(chunk or length,))
    terms = min(accumulator.terms, chunk or length) if accumulator.kind == "aligned" else 1
    return replace(order, exact=False, chains=((terms, chunk),), pairs=())


def _unknown(prober: Prober, order: Order) -> list[Measurement]:
    """The order is not one that is known here; widths and roundings presuppose one."""
    if order.exact:
        seen = f"nothing was lost beside a number 2**{order.span} times as large"
        return [Measurement("order", "unknown", f"not known: {seen}, but the sums are not exact")]
    if order.is_known:
        like = "pairs of neighbours"
        if order.chains:
            like = "rising k" if order.chains[0][0] < prober.length else "a sum of all k at once"
        words = f"not known: the probes look like {like}, but no such sum gives the random results"
        return [Measurement("order", "unknown", words)]
    if not order.pattern.size:
        return []
    return [*order.measurements(prober.length), probes.find_partner(prober)]
