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
from mpsim.products.sums import Sums
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
        self.results: Sums | None = None  # how results are taken to be rounded, if not as usual

    def of_length(self, length: int) -> Prober:
        """A prober of the same subject and range for another length, which keeps its answers to itself."""
        found = Prober(self.subject, length)
        found.small, found.big, found.least, found.greatest = self.small, self.big, self.least, self.greatest
        found.results = self.results
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
        return self.with_shared(one, other)

    def with_shared(self, one: Array, other: Array) -> tuple[Array, Array]:
        """Operands with the factor that rows share on the side on which it is asked for more of them at once."""
        region = self.subject.region
        return (one, other) if region is None or region.shares_left else (other, one)

    def of_few_factors(self, a: Array, b: Array) -> tuple[Array, Array]:
        """Rows of numbers that are combined anew, so that some in turn share a factor: as many as are asked at once in
        a region with more of these. The last row stays."""
        region = self.subject.region
        if region is None or region.sharing == 1:
            return a, b
        first = np.arange(len(a)) // region.sharing * region.sharing
        first[-1] = len(a) - 1
        return (a[first], b) if region.shares_left else (a, b[first])

    def ask_numbers(self, a: Array, b: Array) -> Array:
        """The results of rows of numbers."""
        found = self.subject.dots(a, b)
        self.asked.append((a, b, found))
        return found

    def find_range(self) -> Measurement:
        """Which single products come through, and so which powers of two the probes use."""
        low, high = max(self.range[0], -150), min(self.range[1], 128)
        exponents = list(range(low, high + 1))
        exact = self.ask_numbers(*self._powers(np.array(exponents))) == np.ldexp(1.0, exponents)
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

    def _powers(self, exponents: Array) -> tuple[Array, Array]:
        """Operands of products of powers of two: a factor has one exponent for as many of them as possible."""
        least, greatest = self.inputs.min_exponent, _greatest(self.inputs)
        shared = np.select([exponents < least, exponents > greatest], [exponents[0] - least, exponents[-1] - greatest])
        if not least <= 0 <= greatest:
            shared = exponents - exponents // 2
        one, other = np.zeros((2, exponents.size, self.length), np.float32)
        one[:, 0], other[:, 0] = np.ldexp(1.0, shared), np.ldexp(1.0, exponents - shared)
        return self.with_shared(one, other)

    def survives(self, triples: Sequence[tuple[int, int, int]]) -> Array:
        """For each (first, second, witness): a large number at first, its negative at second; is the small number
        at the witness still there?"""
        products = np.zeros((len(triples), self.length))
        rows, (first, second, witness) = np.arange(len(triples)), np.array(triples).reshape(-1, 3).T
        products[rows, first], products[rows, second], products[rows, witness] = (
            2.0**self.big,
            -(2.0**self.big),
            2.0**self.small,
        )
        return self.ask_products(products) == 2.0**self.small


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
    between = np.zeros(places.size, bool)
    if _together(prober, (0, last)):  # nothing of all of them is nothing of each: sums are monotone
        between = prober.survives([(0, last, int(w)) for w in places])
    _together(prober, (0, 1))
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


def _together(prober: Prober, pair: tuple[int, int]) -> float:
    """What is left of small numbers everywhere beside a large number and its negative at a pair of places."""
    products = np.full((1, prober.length), 2.0**prober.small)
    products[0, list(pair)] = 2.0**prober.big, -(2.0**prober.big)
    return float(prober.ask_products(products)[0])


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
