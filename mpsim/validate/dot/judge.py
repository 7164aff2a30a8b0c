"""Compares candidates with everything that a subject was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Summation
from mpsim.rounding import round_to
from mpsim.validate.dot.inputs.matrices import cancelling
from mpsim.validate.dot.inputs.probes import Order, Prober
from mpsim.validate.dot.orders.candidates import sums_of
from mpsim.validate.dot.results import WIDE, Difference, Tried, is_drawn
from mpsim.validate.dot.shapes import LargestProduct
from mpsim.validate.dot.subjects import Model, same

#: (name, a, b, the subject's answer)
Corpus = tuple[str, Array, Array, Array]
#: (a, b, the subject's dot products of their rows)
Rows = tuple[Array, Array, Array]
#: In place of a number of probes: something differs.
DIFFERENT = -1
#: Dot products that candidates are compared on first; candidates that are compared on everything where none is equal.
FEW, CLOSEST = 32, 3
#: Of these, each so many is tried first.
THIN = 8
#: Numbers of terms that only a few sums are asked for: loops may have code of their own for any of them.
OTHER_TERMS = (2, 4, 5, 7, 8, 12, 16, 17, 24, 31, 32, 48, 65, 127, 129)


class Judge:
    """Compares accumulators with everything that the subject was asked."""

    def __init__(
        self, prober: Prober, corpora: Sequence[Corpus], output: str, backend: str, mask: Array | None = None
    ) -> None:
        """mask: the elements of the random matrices that count; None for all of them."""
        self.prober, self.output, self.backend = prober, output, backend
        self._counted = np.ones(corpora[0][3].shape, bool) if mask is None else mask
        self._corpora = corpora
        self._rows: dict[int, Rows] = {}
        self._known: dict[tuple[Summation, int], Tried] = {}
        self._checked: dict[Summation, int] = {}  # probes that it gives, after every random matrix
        self._computed: dict[object, bool] = {}  # (what is computed, what was asked) -> whether it gives the answers

    def equal(self, accumulator: Summation) -> bool:
        """Whether it gives every answer so far; ends at the first that it does not, or that it has no tree for."""
        try:
            return self._equal(accumulator)
        except UsageError:
            self._checked[accumulator] = DIFFERENT
            return False

    def _equal(self, accumulator: Summation) -> bool:
        checked = self._checked.get(accumulator, 0)
        if checked == 0 and not self._begins_well(accumulator):
            checked = DIFFERENT
        if checked == 0 and not all(self._gives_corpus(accumulator, place) for place in range(len(self._corpora))):
            checked = DIFFERENT
        while 0 <= checked < len(self.prober.asked):
            checked = checked + 1 if self._gives_probes(accumulator, checked) else DIFFERENT
        self._checked[accumulator] = checked
        return checked != DIFFERENT

    def _once(self, accumulator: Summation, length: int, what: object, gives: Callable[[], bool]) -> bool:
        """What ``gives`` says of this accumulator, or of another that computes the same of so many terms."""
        key = sums_of(accumulator, length), what
        if key not in self._computed:
            self._computed[key] = gives()
        return self._computed[key]

    def _gives_corpus(self, accumulator: Summation, place: int) -> bool:
        corpus = self._corpora[place]
        agrees = lambda: bool(self._agreeing(accumulator, corpus).all())  # noqa: E731
        return self._once(accumulator, corpus[1].shape[1], ("corpus", place), agrees)

    def _gives_probes(self, accumulator: Summation, place: int) -> bool:
        rows = self.prober.asked[place]
        return self._once(accumulator, self.prober.length, ("probes", place), lambda: self.gives(accumulator, rows))

    def _begins_well(self, accumulator: Summation) -> bool:
        """Whether it gives some of the answers of every number of terms: quick, and most candidates do not."""
        lengths = {a.shape[1] for _, a, _, _ in self._corpora}
        return all(self.gives_terms(accumulator, length) for length in sorted(lengths))

    def gives_terms(self, accumulator: Summation, length: int) -> bool:
        """Whether it gives some random results of ``length`` terms, of each kind that there is."""
        rows = self._few(length)
        gives = lambda: self.gives(accumulator, _thinned(rows)) and self.gives(accumulator, rows)  # noqa: E731
        return self._once(accumulator, length, "few", gives)

    def gives_length(self, accumulator: Summation, length: int) -> bool:
        """Whether it gives every random result of ``length`` terms."""
        places = (place for place, each in enumerate(self._corpora) if each[1].shape[1] == length)
        return all(self._gives_corpus(accumulator, place) for place in places)

    def _few(self, length: int) -> Rows:
        """Some random results of ``length`` terms: of numbers of terms without random matrices, asked for now."""
        if length not in self._rows:
            corpora = [each for each in self._corpora if each[1].shape[1] == length]
            if corpora:
                places = np.argwhere(self._counted)
                few = FEW if self.output in WIDE else len(places)  # narrow results are alike in many orders
                i, j = places[:: max(1, len(places) // few)].T
                rows = zip(*((a[i], b.T[j], found[i, j]) for _, a, b, found in corpora), strict=True)
                left, right, given = (np.concatenate(each) for each in rows)
                self._rows[length] = left, np.ascontiguousarray(right), given
            else:
                a, b = self.prober.of_few_factors(*cancelling(self.prober.subject.inputs, length, 4 * FEW))
                self._rows[length] = a, b, self.prober.of_length(length).ask_numbers(a, b)
        return self._rows[length]

    def are_numbers_of(self, format: str) -> bool:
        """Whether all random results are numbers of a format."""
        answers = (found[self._counted].astype(np.float32) for _, _, _, found in self._corpora)
        return all(same(each, round_to(each, format, threads=1)).all() for each in answers)

    def gives(self, accumulator: Summation, rows: Rows) -> bool:
        """Whether it gives these answers."""
        a, b, found = rows
        return bool(same(found, Model(accumulator, self.output).dots(a, b, self.backend)).all())

    def _agreeing(self, accumulator: Summation, corpus: Corpus) -> Array:
        _, a, b, found = corpus
        return same(found, Model(accumulator, self.output).matmul(a, b, self.backend)) | ~self._counted

    def closest(self, accumulators: Iterable[Summation]) -> list[Tried]:
        """Those that give the most of the first random results, on everything: every one that gives them all."""
        shares = {each: float(self._agreeing(each, self._corpora[0]).mean()) for each in accumulators}
        best = sorted(shares, key=lambda each: -shares[each])
        return [self.tried(each) for place, each in enumerate(best) if place < CLOSEST or shares[each] == 1]

    def tried(self, accumulator: Summation) -> Tried:
        """The accumulator on every probe so far and every random matrix."""
        key = accumulator, len(self.prober.asked)
        if key not in self._known:
            self._known[key] = self._try(accumulator)
        return self._known[key]

    def _try(self, accumulator: Summation) -> Tried:
        if self.equal(accumulator):
            results = int(self._counted.sum()) * len(self._corpora)
            lengths = tuple(dict.fromkeys(a.shape[1] for _, a, _, _ in self._corpora))
            return Tried(accumulator, self.output, results, results, 0, 0, None, {}, lengths)
        return self._compared(accumulator)

    def _compared(self, accumulator: Summation) -> Tried:
        model = Model(accumulator, self.output)
        examples: list[Difference] = []
        probes_differ, agreeing, results, zero_signs = 0, 0, 0, 0
        differing: dict[str, int] = {}
        unequal = set()
        for a, b, found in self.prober.asked:
            expected = model.dots(a, b, self.backend)
            wrong = np.flatnonzero(~same(found, expected))
            probes_differ += wrong.size
            zero_signs += int(((found == 0) & (expected == 0))[wrong].sum())
            if wrong.size:
                i = wrong[0]
                examples.append(_difference("probe", a[i], b[i], expected[i], found[i]))
        for name, a, b, found in self._corpora:
            expected = model.matmul(a, b, self.backend)
            equal = same(found, expected) | ~self._counted
            results += int(self._counted.sum())
            agreeing += int((equal & self._counted).sum())
            if equal.all():
                continue
            unequal.add(a.shape[1])
            differing[name] = int((~equal).sum())
            zero_signs += int(((found == 0) & (expected == 0))[~equal].sum())
            i, j = np.argwhere(~equal)[0]
            examples.append(_difference(name, a[i], b[:, j], expected[i, j], found[i, j]))
        lengths = dict.fromkeys(a.shape[1] for _, a, _, _ in self._corpora)
        at = tuple(k for k in lengths if k not in unequal)
        shown = min(examples, key=lambda each: (not each.is_ordinary, len(each.terms)), default=None)
        return Tried(accumulator, self.output, agreeing, results, probes_differ, zero_signs, shown, differing, at)

    def differs_in(self, product: LargestProduct | None, summation: Summation) -> bool:
        """Whether it does not give every element of a product."""
        if product is None or is_drawn(summation):  # trees have the numbers of terms that were asked alone
            return False
        expected = Model(summation, self.output).matmul(product.a, product.b, self.backend)
        return not same(product.found, expected).all()

    def gives_product(self, summation: Summation, product: LargestProduct | None) -> bool:
        """Whether it is asked for this product, and gives every element."""
        return product is not None and not is_drawn(summation) and not self.differs_in(product, summation)

    def is_refuted(self, summation: Summation, product: LargestProduct | None) -> bool:
        """Whether some elements of a product that it does not give are the same where they are asked in small matrices,
        so that the shape is not why."""
        if product is None or not self.differs_in(product, summation):
            return False
        a, b, found = product
        expected = Model(summation, self.output).matmul(a, b, self.backend)
        i, j = np.argwhere(~same(found, expected))[:FEW].T
        rows = np.ascontiguousarray(a[i]), np.ascontiguousarray(b.T[j])
        return bool(same(self.prober.of_length(a.shape[1]).ask_numbers(*rows), found[i, j]).any())

    def in_largest(self, tried: Tried, largest: LargestProduct | None) -> Tried:
        """The candidate, judged by one more product, of which every element counts."""
        if largest is None or not tried.equal:
            return tried
        a, b, found = largest
        expected = Model(tried.accumulator, self.output).matmul(a, b, self.backend)
        wrong = np.argwhere(~same(found, expected))
        if not len(wrong):
            return tried
        i, j = wrong[0]
        name = f"{len(a)} x {b.shape[1]}, K = {a.shape[1]}"
        shown = _difference(name, a[i], b[:, j], expected[i, j], found[i, j])
        return replace(tried, probes_differ=tried.probes_differ + len(wrong), difference=shown, equal_at=())

    def gives_other_terms(self, summation: Summation) -> bool:
        """Whether it gives some results of the other numbers of terms; trees have none of these."""
        asked = (length for length in OTHER_TERMS if length < self.prober.length)
        return is_drawn(summation) or all(self.gives_terms(summation, length) for length in asked)

    def other_terms(self, summation: Summation) -> tuple[int, ...]:
        """The numbers of terms, of some that nothing else asks, of which it does not give some results."""
        if is_drawn(summation):
            return ()
        asked = (length for length in OTHER_TERMS if length < self.prober.length)
        return tuple(length for length in asked if not self._gives_steadily(summation, length))

    def _gives_steadily(self, summation: Summation, length: int) -> bool:
        """As gives_terms; SubjectError where a second call gets other results."""
        if self.gives_terms(summation, length):
            return True
        if all(a.shape[1] != length for _, a, _, _ in self._corpora):
            a, b, found = self._few(length)
            self.prober.subject.check_steady(f"K = {length}", found, self.prober.subject.dots(a, b))
        return False

    def is_wide(self, order: Order) -> bool:
        """Whether every answer is that of sums in float64, in rising k, rounded once to the type of the answers."""
        if not any(terms == 1 and chunk is None for terms, chunk in order.chains):
            return False
        asked = [(a, b, found) for a, b, found in self.prober.asked]
        places = np.argwhere(self._counted)[:4].tolist()
        asked += [(a[i], b.T[j], found[i, j]) for _, a, b, found in self._corpora for i, j in places]
        return all(same(np.asarray(found), _in_float64(a, b, self.output)).all() for a, b, found in asked)


def _thinned(rows: Rows) -> Rows:
    """Some of the rows: most candidates fail on these already."""
    a, b, found = (np.ascontiguousarray(each[::THIN]) for each in rows)
    return a, b, found


def _in_float64(a: Array, b: Array, output: str) -> Array:
    """Sums over the last axis of products that float64 holds, one after the other."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.zeros(a.shape[:-1])
        for k in range(a.shape[-1]):
            total = total + a[..., k].astype(np.float64) * b[..., k]
        if output == "float64":
            return total
        rounded = round_to(total, output, "nearest_even", "infinity", backend="reference", threads=1)
        return np.asarray(rounded, np.float64)


def _difference(corpus: str, a: Array, b: Array, expected: Any, found: Any) -> Difference:
    return Difference(corpus, tuple(a.tolist()), tuple(b.tolist()), float(expected), float(found))
