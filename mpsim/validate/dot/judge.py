"""Compares candidates with everything that a subject was asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mpsim.products.accumulators import Summation
from mpsim.rounding import round_to
from mpsim.validate.dot.inputs.probes import Order, Prober
from mpsim.validate.dot.results import Difference, Tried
from mpsim.validate.dot.shapes import LargestProduct
from mpsim.validate.dot.subjects import Model, same

Array = np.ndarray[Any, Any]
#: (name, a, b, the subject's answer)
Corpus = tuple[str, Array, Array, Array]


class Judge:
    """Compares accumulators with everything that the subject was asked."""

    def __init__(self, prober: Prober, corpora: Sequence[Corpus], output: str, backend: str) -> None:
        self.prober, self.output, self.backend = prober, output, backend
        self._corpora = corpora
        self._known: dict[tuple[Summation, int], Tried] = {}

    def gives_first(self, accumulator: Summation) -> bool:
        """Whether it gives the answers to the first random matrices: quick, and most candidates do not."""
        _, a, b, found = self._corpora[0]
        return bool(same(found, Model(accumulator, self.output).matmul(a, b, self.backend)).all())

    def tried(self, accumulator: Summation) -> Tried:
        """The accumulator on every probe so far and every random matrix."""
        key = accumulator, len(self.prober.asked)
        if key not in self._known:
            self._known[key] = self._try(accumulator)
        return self._known[key]

    def _try(self, accumulator: Summation) -> Tried:
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
            equal = same(found, expected)
            agreeing, results = agreeing + int(equal.sum()), results + equal.size
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

    def in_largest(self, tried: Tried, largest: LargestProduct | None) -> Tried:
        """The candidate, judged by one more product."""
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

    def is_wide(self, order: Order) -> bool:
        """Whether every answer is that of sums in float64, in rising k, rounded once to the type of the answers."""
        if not any(terms == 1 and chunk is None for terms, chunk in order.chains):
            return False
        asked = [(a, b, found) for a, b, found in self.prober.asked]
        asked += [(a[i], b.T[j], found[i, j]) for _, a, b, found in self._corpora for i in range(2) for j in range(2)]
        return all(same(np.asarray(found), _in_float64(a, b, self.output)).all() for a, b, found in asked)


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
