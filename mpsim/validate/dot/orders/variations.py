"""An order of sums with every rounding of its stages that what was seen at the nodes of the tree allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from mpsim.formats import as_format
from mpsim.products.stages import (
    FLOAT32,
    Carried,
    Folding,
    Groups,
    Halving,
    Kahan,
    Order,
    Pairwise,
    Reordered,
    Rising,
    Sums,
    Tail,
    Trees,
    Whole,
)


class Seen(NamedTuple):
    """formats: those of all sums, the widest first. sums: terms of a node as bits -> how its sum was seen to be
    rounded. runs: how a total is rounded after runs of terms, and how many. start: where sums of products begin."""

    formats: tuple[Sums, ...]
    sums: Mapping[int, Sums]
    runs: Mapping[Sums, int]
    start: str

    def inside(self, parts: Sequence[int]) -> Sequence[Sums]:
        """The formats of sums of some of these parts, each of which is terms as bits, and not of all; every format if
        none was seen."""
        if not self.sums:
            return self.formats
        owners = {part & -part: part for part in parts}
        whole = sum(parts)
        found = {
            sums
            for node, sums in self.sums.items()
            if node & whole == node != whole and (owner := owners.get(node & -node)) and node & ~owner
        }
        return [each for each in self.formats if each in found] or self.formats


def orders_of(order: Order, terms: Sequence[int], seen: Seen, bits: int, start: str) -> Iterator[Order]:
    """The order of numbers, the terms of each of which are bits, with sums started so and each of its stages rounded to
    one of the formats. bits: of the numbers that are added."""
    match order:
        case Rising():
            formats = seen.inside(terms)
            yield from (Rising(sums, start) for sums in ways(formats, bits))
            yield from _carried(len(terms), formats, seen, start)
            yield from (Kahan(),) if any(sums.is_double for sums in formats) else ()  # which loses as little
        case Pairwise() | Folding():
            yield from (replace(order, sums=sums) for sums in ways(seen.inside(terms), bits))
        case Reordered(partition, inner):
            terms = [terms[k] for group in partition.split(len(terms)) for k in group]
            yield from (replace(order, order=each) for each in orders_of(inner, terms, seen, bits, start))
        case Tail(multiple, main, rest):
            whole = len(terms) // multiple * multiple
            parts = [*([sum(terms[:whole])] if whole else []), *terms[whole:]]
            for first in orders_of(main, terms[:whole], seen, bits, start):
                most = max(bits, bits_of(last_sums(first)))
                yield from (
                    replace(order, main=first, rest=each) for each in orders_of(rest, parts, seen, most, "first")
                )
        case Halving(most, _, inner):
            part = terms
            while len(part) > most:
                part = part[: order.half(len(part))]
            for each in orders_of(inner, part, seen, bits, start):
                sums_of = ways(seen.formats, bits_of(last_sums(each)))
                yield from (replace(order, inner=each, sums=sums) for sums in sums_of)
        case Groups():
            yield from _groups(order, terms, seen, bits, start)
        case _:
            yield order


def _carried(length: int, formats: Sequence[Sums], seen: Seen, start: str) -> Iterator[Order]:
    """Terms in rising order whose total is rounded to a narrower format after runs of them."""
    runs = [(stored, size) for stored, size in seen.runs.items() if size <= length]
    for stored, size in runs if len(formats) > 1 else ():
        for sums in (each for each in formats if bits_of(each) > bits_of(stored)):
            carried = Carried(size, Rising(sums, "first"), stored, start)
            yield from (carried, Groups(Whole(), carried, Rising(stored, "first")))


def _groups(order: Groups, terms: Sequence[int], seen: Seen, bits: int, start: str) -> Iterator[Order]:
    groups = [[terms[k] for k in group] for group in order.partition.split(len(terms))]
    parts = [sum(group) for group in groups]
    for inner in orders_of(order.inner, groups[0], seen, bits, start):
        last = last_sums(inner)
        narrower = [each for each in seen.formats if bits_of(each) < bits_of(last)]
        stored = None if isinstance(inner, Carried) or len(parts) == 1 else seen.sums.get(parts[0])
        for outer in orders_of(order.outer, parts, seen, bits_of(last), "first"):
            rounds_first = isinstance(outer, Rising) and outer.start == "first" and outer.sums == stored
            if stored in (None, last) or last.via is not None or rounds_first:
                yield replace(order, inner=inner, outer=outer)
            rounded = dict.fromkeys((last_sums(outer), *narrower))  # a group's result may be rounded on its own
            for sums in ways(rounded, bits_of(last)) if last.is_double else rounded:
                if sums != last and (last.is_double or sums.via is None) and stored in (None, replace(sums, via=None)):
                    yield replace(order, inner=Groups(Whole(), inner, Rising(sums, "first")), outer=outer)


def last_sums(order: Order) -> Sums:
    """How the last addition rounds."""
    if isinstance(order, Groups | Tail):
        return last_sums(order.outer if isinstance(order, Groups) else order.rest)
    if isinstance(order, Trees):
        return order.trees[0].sums
    return last_sums(order.order) if isinstance(order, Reordered) else getattr(order, "sums", FLOAT32)


def ways(formats: Iterable[Sums], bits: int) -> list[Sums]:
    """How sums of numbers of ``bits`` bits may be rounded to the formats: by way of float32, too, where that shows."""
    formats = list(formats)
    twice = (each.by_way_of(FLOAT32.format, bits) for each in formats)
    return [*formats, *(each for each in twice if each is not None)]


def bits_of(sums: Sums) -> int:
    """Significant bits of what is rounded so."""
    return as_format(sums.format).mantissa_bits + 1
