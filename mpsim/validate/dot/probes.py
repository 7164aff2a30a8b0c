"""Inputs that make a sum tell how it is formed (docs/dot_products.md).

Each probe is a dot product of a few signed powers of two, zeros elsewhere. A large number and its negative, far enough
above a small one that the small one is lost while they stand beside it, show what is added before what: the small one
survives only if the two cancel before it comes. The idea for trees of additions: Xie et al. 2024, FPRev.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsim.formats import Format, as_format
from mpsim.validate.dot.subjects import DotSubject

Array = np.ndarray[Any, Any]
Term = tuple[int, int, float]  # k, and the product as 2**exponent times a small factor, mostly 1 or -1

WIDEST = 40  # exponents of products that probes use, at most
PARTNERS = 40  # first k among which the partner of k = 0 is looked for


@dataclass(frozen=True)
class Measurement:
    """One thing that was found out, in a word or number and in a sentence."""

    name: str
    value: Any
    meaning: str


class Laboratory:
    """Asks a subject probes of one length, and remembers them all with the answers."""

    def __init__(self, subject: DotSubject, length: int) -> None:
        self.subject, self.length = subject, length
        self.inputs: Format = as_format(subject.inputs)
        self.asked: list[tuple[Array, Array, Array]] = []
        self.range = (2 * self.inputs.min_exponent, 2 * _greatest(self.inputs))
        self.small, self.big = 0, 0

    def ask(self, probes: Sequence[Sequence[Term]]) -> Array:
        """The results, one a probe."""
        a, b = np.zeros((2, len(probes), self.length), np.float32)
        for row, terms in enumerate(probes):
            for k, exponent, factor in terms:
                a[row, k] = 2.0 ** (exponent - exponent // 2)
                b[row, k] = factor * 2.0 ** (exponent // 2)
        return self.ask_numbers(a, b)

    def ask_numbers(self, a: Array, b: Array) -> Array:
        """The results of rows of numbers."""
        found = self.subject.dots(a, b)
        self.asked.append((a, b, found))
        return found

    def find_range(self) -> Measurement:
        """Which single products come through, and so which powers of two the probes use."""
        low, high = max(self.range[0], -150), min(self.range[1], 128)
        exponents = list(range(low, high + 1))
        exact = self.ask([[(0, e, 1)] for e in exponents]) == np.ldexp(1.0, exponents)
        middle = exponents.index(0)
        if not exact[middle]:
            return Measurement("range", None, "1 * 1 + 0 + ... does not give 1: this is no dot product")
        first, last = middle, middle
        while first > 0 and exact[first - 1]:
            first -= 1
        while last + 1 < exact.size and exact[last + 1]:
            last += 1
        self.small, self.big = max(exponents[first], -WIDEST), min(exponents[last], WIDEST)
        return Measurement(
            "range",
            (exponents[first], exponents[last]),
            f"single products from 2**{exponents[first]} to 2**{exponents[last]} come through "
            f"(asked: 2**{low} to 2**{high})",
        )

    def survives(self, triples: Sequence[tuple[int, int, int]]) -> Array:
        """For each (first, second, witness): a large number at first, its negative at second; is the small number
        at the witness still there?"""
        probes = [[(i, self.big, 1), (j, self.big, -1), (w, self.small, 1)] for i, j, w in triples]
        return self.ask(probes) == 2.0**self.small


def _greatest(format: Format) -> int:
    """The exponent of the largest number."""
    return int(np.frexp(format.largest)[1]) - 1


# -- order ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Order:
    """Which sums are consistent with the pattern: (terms of an instruction, chunk) of chains, chunks of pairs."""

    exact: bool
    chains: tuple[tuple[int, int | None], ...]
    pairs: tuple[int, ...]
    pattern: Array
    span: int = 0  # large numbers of the probes are 2**span times the small ones

    @property
    def terms(self) -> int:
        """The most k that may be added at once."""
        return max((terms for terms, _ in self.chains), default=1)

    def measurements(self, length: int) -> list[Measurement]:
        """What the pattern says, in words."""
        if self.exact:
            words = f"nothing was lost beside a number 2**{self.span} times as large: exact, or wider than that"
            return [Measurement("order", "exact", words)]
        found = []
        if self.chains:
            terms, chunk = self.chains[0]
            found.append(Measurement("order", "rising k", "what comes later in k is added later"))
            words = f"{terms} consecutive k are added at once" if terms > 1 else "one k is added at a time"
            words = words if terms < length else "all k of the probes are added at once"
            found.append(Measurement("terms", terms, words))
            chunks = [c for t, c in self.chains if t == terms]
            words = "no chunk shorter than the probes: {0}" if chunk is None else "sums start afresh every {1} k"
            others = "" if len(chunks) < 2 else f" (as likely so far: {', '.join(map(str, chunks[1:]))})"
            found.append(Measurement("chunk", chunk, words.format(length, chunk) + others))
        elif self.pairs:
            words = f"blocks of {self.pairs[0]} k are added in pairs of neighbours"
            found.append(Measurement("order", "pairs", words))
            found.append(Measurement("chunk", self.pairs[0], "the length of a block"))
        else:
            share = f"{int(self.pattern.sum())} of {self.pattern.size}"
            words = f"neither rising k in chunks nor pairs: {share} small numbers survived beside a cancelled pair"
            found.append(Measurement("order", "unknown", words))
        return found


def find_order(lab: Laboratory) -> Order:
    """Large at 0, its negative at j, small at j + 1, for every j; and small between the two."""
    last = lab.length - 1
    places = np.arange(1, last)
    pattern = lab.survives([(0, int(j), int(j) + 1) for j in places])
    between = lab.survives([(0, last, int(w)) for w in places])
    lab.survives([(0, 1, int(w)) for w in places + 1])
    if pattern.all() and between.all():
        return Order(True, (), (), pattern, lab.big - lab.small)
    first = int(places[pattern][0]) + 1 if pattern.any() else lab.length
    sizes = [1, first] if first > 1 else [1]
    chunks: list[int | None] = [None, *range(1, last)]
    chains = [(t, c) for t in sizes for c in chunks if (c or t) >= t and _equal(pattern, _chain(places, t, c))]
    pairs = [s for s in range(1, last) if _equal(pattern, _pairs(places, s))]
    if between.any():  # an alignment wider than the probes: nothing is lost within one instruction
        wide = _wide_terms(lab)
        chains = [(wide, c) for t, c in chains if t == 1 and wide and (c or wide) >= wide]
    return Order(False, tuple(chains), tuple(pairs), pattern, lab.big - lab.small)


def _wide_terms(lab: Laboratory) -> int:
    """Large at 0, its negative at j, small at j - 1: lost where an instruction ends between the two. 0: no pattern."""
    places = np.arange(2, lab.length)
    kept = lab.survives([(0, int(j), int(j) - 1) for j in places])
    if kept.all():
        return lab.length
    terms = int(places[~kept][0])
    return terms if terms > 2 and _equal(kept, places % terms != 0) else 0


_equal = np.array_equal


def _chain(j: Array, terms: int, chunk: int | None) -> Array:
    """The pattern of instructions of ``terms`` k in chunks."""
    if chunk is None:
        chunk = int(j[-1]) + 2
    same_chunk = j // chunk == (j + 1) // chunk
    together = same_chunk & (j % chunk // terms == (j + 1) % chunk // terms) & (terms > 1)
    return np.asarray(~together & ((j < chunk) | ~same_chunk))


def _pairs(j: Array, block: int) -> Array:
    """The pattern of blocks that are added in pairs: the witness outside the smallest subtree of 0 and j survives."""
    own = j // block
    span = np.where(own == 0, 0, 1 << np.ceil(np.log2(np.maximum(own, 1) + 1)).astype(int))
    return np.asarray(np.where(own == 0, True, (j + 1) // block >= span))


def find_partner(lab: Laboratory) -> Measurement:
    """For an unknown order: which k the term at 0 is first added to, among the first k; with lanes side by side that
    is the number of lanes, with halves that are folded half the length. The fewest small numbers are lost then."""
    count = min(lab.length, PARTNERS)
    places = [(j, w) for j in range(1, count) for w in range(1, count) if w != j]
    kept = lab.survives([(0, j, w) for j, w in places])
    lost = np.zeros(count, int)
    np.add.at(lost, [j for j, _ in places], ~kept)
    partner = int(np.argmin(lost[1:])) + 1
    others = [w for (j, w), survived in zip(places, kept, strict=True) if j == partner and not survived]
    words = f"of the first {count} k, the term at k = 0 meets the one at k = {partner} first"
    words += f", together with k = {', '.join(map(str, others[:8]))}{', ...' * (len(others) > 8)}" if others else ""
    return Measurement("partner", partner, words)


# -- width and rounding -----------------------------------------------------------------------------------------


def find_widths(lab: Laboratory, order: Order) -> list[Measurement]:
    """How many bits below a large number are kept: within one addition or alignment, and in the sum carried on."""
    terms = order.terms
    step = terms if 2 * terms < lab.length else 1
    distances = np.arange(1, lab.big - lab.small + 1)
    carried = _kept(lab, distances, (0, 2 * step, step))
    found = [Measurement("sum_bits", carried, f"a sum keeps {_bits(carried, distances)} below its leading one")]
    if terms > 1:
        places = (0, 1, 2) if terms > 2 else (0, 3, 2)
        aligned = _kept(lab, distances, places)
        words = f"terms added at once keep {_bits(aligned, distances)} below the largest exponent"
        found.append(Measurement("alignment_bits", aligned, words))
    return found


def _kept(lab: Laboratory, distances: Array, places: tuple[int, int, int]) -> int:
    """The largest distance d such that 2**(small + d), its negative and 2**small, at the places, leave 2**small."""
    first, second, witness = places
    s = lab.small
    probes = [[(first, s + int(d), 1), (witness, s, 1), (second, s + int(d), -1)] for d in distances]
    kept = lab.ask(probes) == 2.0**s
    return int(distances.size if kept.all() else np.argmin(kept))


def _bits(count: int, distances: Array) -> str:
    if count == distances.size:
        return f"at least {count} bits"
    return f"{count} bits" + {23: " (float32)", 52: " (float64)"}.get(count, "")


#: mode -> whether 1/4, 1/2, 3/4 of a unit above an even and above an odd positive number, then negative ones, go up
#: in magnitude
ROUNDINGS = {
    "nearest_even": (0, 0, 1, 0, 1, 1) * 2,
    "nearest_away": (0, 1, 1, 0, 1, 1) * 2,
    "nearest_zero": (0, 0, 1, 0, 0, 1) * 2,
    "toward_zero": (0, 0, 0, 0, 0, 0) * 2,
    "up": (1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0),
    "down": (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1),
    "to_odd": (1, 1, 1, 0, 0, 0) * 2,
}


def find_rounding(lab: Laboratory, order: Order, bits: int) -> Measurement:
    """What becomes of 2**bits or 2**bits + 1 when fractions of a unit are added: one rounding of a sum to ``bits``."""
    terms = order.terms
    unit = max(lab.small + 2, min(0, lab.big - bits - 1))
    if bits > 23:
        return Measurement("rounding", None, "a sum has more bits than the result, so its rounding does not show")
    if unit + bits >= lab.big or 2 * terms >= lab.length:
        return Measurement("rounding", None, "the probes are too short to ask")
    probes, expected = [], []
    for sign in (1, -1):
        for odd in (False, True):
            for quarters in (1, 2, 3):
                base = [(0, unit + bits, sign)] + ([(terms, unit, sign)] if odd else [])
                probes.append([*base, (2 * terms, unit - 1, sign * quarters / 2)])
                expected.append(sign * 2.0**unit * (2.0**bits + odd))
    found = lab.ask(probes)
    up = tuple(int(x) for x in (np.abs(found) > np.abs(expected)))
    modes = [mode for mode, pattern in ROUNDINGS.items() if pattern == up]
    if modes:
        return Measurement("rounding", modes[0], f"a sum is rounded {modes[0].replace('_', ' ')}")
    return Measurement("rounding", None, f"a sum is rounded in no mode of these: {', '.join(ROUNDINGS)} ({up})")


def find_fma(lab: Laboratory, order: Order) -> Measurement:
    """Whether a product is rounded to float32 before it is added: (1 + 2**-12)**2 less what it rounds to."""
    if lab.inputs.mantissa_bits < 12:
        return Measurement("fma", None, "no difference: products of these inputs are exact in float32")
    if not (order.chains or order.pairs):
        return Measurement("fma", None, "not asked: the order is unknown")
    terms = order.terms if order.terms < lab.length else 1
    a, b = np.zeros((2, 1, lab.length), np.float32)
    a[0, 0], b[0, 0] = -(1 + 2.0**-11), 1
    a[0, terms], b[0, terms] = 1 + 2.0**-12, 1 + 2.0**-12
    left = float(lab.ask_numbers(a, b)[0])
    if left == 2.0**-24:
        return Measurement("fma", True, "products are added exactly, without a rounding of their own")
    if left == 0:
        return Measurement("fma", False, "products are rounded (or cut) before they are added")
    return Measurement("fma", None, f"(1 + 2**-12)**2 - (1 + 2**-11) gives {left!r}, neither 2**-24 nor 0")
