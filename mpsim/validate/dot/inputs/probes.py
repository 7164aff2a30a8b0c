"""Inputs that show how a sum is formed (docs/dot_products.md).

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
from mpsim.kernels.contract import Array
from mpsim.validate.dot.inputs.edges import Term, operands
from mpsim.validate.dot.subjects import DotSubject

WIDEST = 40  # exponents of products that probes use, at most
PARTNERS = 40  # first k among which the partner of k = 0 is looked for


@dataclass(frozen=True)
class Measurement:
    """One thing that was found out, in a word or number and in a sentence."""

    name: str
    value: Any
    meaning: str


class Prober:
    """Asks a subject probes of one length, and remembers them all with the answers."""

    def __init__(self, subject: DotSubject, length: int) -> None:
        self.subject, self.length = subject, length
        self.inputs: Format = as_format(subject.inputs)
        self.asked: list[tuple[Array, Array, Array]] = []
        self.range = (2 * self.inputs.min_exponent, 2 * _greatest(self.inputs))
        self.small, self.big, self.least, self.greatest = 0, 0, 0, 0

    def of_length(self, length: int) -> Prober:
        """A prober of the same subject and range for another length, which keeps its answers to itself."""
        found = Prober(self.subject, length)
        found.small, found.big, found.least, found.greatest = self.small, self.big, self.least, self.greatest
        return found

    def ask(self, probes: Sequence[Sequence[Term]]) -> Array:
        """The results, one a probe."""
        return self.ask_numbers(*operands(probes, self.length))

    def ask_products(self, products: Array) -> Array:
        """The results of rows of products, as ``factors`` has them."""
        return self.ask_numbers(*self.factors(products))

    def factors(self, products: Array) -> tuple[Array, Array]:
        """Operands of rows of products (P, K), each 0 or a power of two from 2**small to 2**big with a sign. One is the
        same for all of them if the inputs' range allows, so that more are elements of one matrix product."""
        lowest = max(self.big - _greatest(self.inputs), self.inputs.min_exponent)
        highest = min(self.small, 0) - self.inputs.min_exponent
        if lowest <= highest:
            whole = 2.0 ** min(max(0, lowest), highest)
            one, other = np.full(products.shape, whole, np.float32), (products / whole).astype(np.float32)
        else:
            power = np.frexp(products)[1] - 1  # of the magnitude; each factor takes half of it
            one = np.ldexp((products != 0).astype(np.float64), power - power // 2).astype(np.float32)
            other = np.ldexp(np.sign(products), power // 2).astype(np.float32)
        region = self.subject.region
        return (one, other) if region is None or region.shares_left else (other, one)

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
            return Measurement("range", None, "1 * 1 + 0 + ... does not give 1: this is not a dot product")
        first, last = middle, middle
        while first > 0 and exact[first - 1]:
            first -= 1
        while last + 1 < exact.size and exact[last + 1]:
            last += 1
        self.least, self.greatest = exponents[first], exponents[last]
        self.small, self.big = max(self.least, -WIDEST), min(exponents[last], WIDEST)
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
    def is_known(self) -> bool:
        """Whether the pattern is that of chains or pairs, so that widths and roundings can be asked for."""
        return bool(self.chains or self.pairs)

    def first_chunk(self, length: int) -> int:
        """How many k the first chunk has."""
        if self.chains:
            return self.chains[0][1] or length
        return self.pairs[0] if self.pairs else length

    @property
    def terms(self) -> int:
        """The most k that may be added at once."""
        return max((terms for terms, _ in self.chains), default=1)

    def measurements(self, length: int) -> list[Measurement]:
        """What the pattern says, in words."""
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


def find_order(prober: Prober) -> Order:
    """Large at 0, its negative at j, small at j + 1, for every j; and small between the two."""
    last = prober.length - 1
    places = np.arange(1, last)
    pattern = prober.survives([(0, int(j), int(j) + 1) for j in places])
    between = prober.survives([(0, last, int(w)) for w in places])
    prober.survives([(0, 1, int(w)) for w in places + 1])
    if pattern.all() and between.all():
        return Order(True, (), (), pattern, prober.big - prober.small)
    first = int(places[pattern][0]) + 1 if pattern.any() else prober.length
    sizes = [1, first] if first > 1 else [1]
    chunks: list[int | None] = [None, *range(1, last)]
    chains = [(t, c) for t in sizes for c in chunks if (c or t) >= t and _equal(pattern, _chain(places, t, c))]
    pairs = [s for s in range(1, last) if _equal(pattern, _pairs(places, s))]
    if between.any():  # an alignment wider than the probes: nothing is lost within one instruction
        wide = _wide_terms(prober)
        chains = [(wide, c) for t, c in chains if t == 1 and wide and (c or wide) >= wide]
    return Order(False, tuple(chains), tuple(pairs), pattern, prober.big - prober.small)


def _wide_terms(prober: Prober) -> int:
    """Large at 0, its negative at j, small at j - 1: lost where an instruction ends between the two. 0: no pattern."""
    places = np.arange(2, prober.length)
    kept = prober.survives([(0, int(j), int(j) - 1) for j in places])
    if kept.all():
        return prober.length
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


def find_partner(prober: Prober) -> Measurement:
    """For an unknown order: which k the term at 0 is first added to, among the first k; with lanes side by side that
    is the number of lanes, with halves that are folded half the length. The fewest small numbers are lost then."""
    count = min(prober.length, PARTNERS)
    places = [(j, w) for j in range(1, count) for w in range(1, count) if w != j]
    kept = prober.survives([(0, j, w) for j, w in places])
    lost = np.zeros(count, int)
    np.add.at(lost, [j for j, _ in places], ~kept)
    partner = int(np.argmin(lost[1:])) + 1
    others = [w for (j, w), survived in zip(places, kept, strict=True) if j == partner and not survived]
    words = f"of the first {count} k, the term at k = 0 meets the one at k = {partner} first"
    words += f", together with k = {', '.join(map(str, others[:8]))}{', ...' * (len(others) > 8)}" if others else ""
    return Measurement("partner", partner, words)


# -- width and rounding -----------------------------------------------------------------------------------------


def find_widths(prober: Prober, order: Order) -> list[Measurement]:
    """How many bits below a large number are kept: within one addition or alignment, and in the sum carried on.

    The order is known. What is left at the end is a power of two, which no output format hides.
    """
    terms = order.terms
    step = terms if 2 * terms < prober.length else 1
    distances = np.arange(1, prober.big - prober.small + 1)
    carried = _kept(prober, distances, (0, 2 * step, step))
    found = [Measurement("sum_bits", carried, f"a sum keeps {_bits(carried, distances)} below its leading one")]
    if terms > 1:
        places = (0, 1, 2) if terms > 2 else (0, 3, 2)
        aligned = _kept(prober, distances, places)
        words = f"terms added at once keep {_bits(aligned, distances)} below the largest exponent"
        found.append(Measurement("alignment_bits", aligned, words))
    return found


def _kept(prober: Prober, distances: Array, places: tuple[int, int, int]) -> int:
    """The largest distance d such that 2**(small + d), its negative and 2**small, at the places, leave 2**small."""
    first, second, witness = places
    s = prober.small
    probes = [[(first, s + int(d), 1), (witness, s, 1), (second, s + int(d), -1)] for d in distances]
    kept = prober.ask(probes) == 2.0**s
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


def find_rounding(prober: Prober, order: Order, bits: int) -> Measurement:
    """The sum of 2**bits or 2**bits + 1 when fractions of a unit are added: one rounding of a sum to ``bits``.

    2**bits is taken off again, so that a narrow output shows what is left.
    """
    terms = order.terms
    unit = max(prober.small + 2, min(0, prober.big - bits - 1))
    if bits == prober.big - prober.small:
        return Measurement("rounding", None, "not asked: no sum was seen that had to be rounded")
    if unit + bits >= prober.big or 3 * terms >= min(prober.length, order.first_chunk(prober.length)):
        return Measurement("rounding", None, "not asked: the probes or the chunks are too short")
    probes, expected = [], []
    for sign in (1, -1):
        for odd in (False, True):
            for quarters in (1, 2, 3):
                base = [(0, unit + bits, sign)] + ([(terms, unit, sign)] if odd else [])
                rest = [(2 * terms, unit - 1, sign * quarters / 2), (3 * terms, unit + bits, -sign)]
                probes.append([*base, *rest])
                expected.append(2.0**unit * odd)
    left = np.abs(prober.ask(probes))
    if not np.isin(left, [0.0, 2.0**unit, 2.0 ** (unit + 1)]).all():
        return Measurement("rounding", None, "a sum is rounded in a way that these probes do not explain")
    up = tuple(int(x) for x in (left > np.array(expected)))
    modes = [mode for mode, pattern in ROUNDINGS.items() if pattern == up]
    if modes:
        return Measurement("rounding", modes[0], f"a sum is rounded {modes[0].replace('_', ' ')}")
    return Measurement("rounding", None, f"a sum is rounded in no mode of these: {', '.join(ROUNDINGS)} ({up})")


def find_least_alignment(prober: Prober, fraction_bits: int, toward_zero: bool) -> Measurement:
    """The exponent of a sum of zero, to which terms are aligned at least.

    A small term beside one at the end of the range decides what their sum is rounded to, if it is seen at all.
    """
    quantum = prober.least  # the smallest sum
    low = quantum if toward_zero else quantum - 1
    if quantum <= prober.range[0] or low < 2 * prober.inputs.min_exponent:
        return Measurement("least_alignment", None, "not asked: no two of these inputs have so small a product")
    smallest = max(2 * prober.inputs.quantum_exponent, low - fraction_bits - 2)
    exponents = np.arange(low - 1, smallest - 1, -1)
    probes = [[(0, low, 1.0), (1, int(e), -1.0 if toward_zero else 1.0)] for e in exponents]
    seen = prober.ask(probes) == (0.0 if toward_zero else 2.0**quantum)
    if seen.all() or not seen[0]:
        return Measurement("least_alignment", None, "not seen: every term that these inputs have was kept, or none")
    least = int(exponents[int(np.argmin(seen)) - 1]) + fraction_bits
    if least <= low:
        return Measurement("least_alignment", None, f"none: terms are aligned to the largest, down to 2**{low}")
    return Measurement("least_alignment", least, f"terms are aligned to 2**{least} at least, as if c were that large")
