"""The search for accumulators that give every answer of one region of a subject's matrices.

Probes measure (inputs/probes.py), the measurements name candidates, and where none of them gives every answer, the tree
of additions is found (orders/). A candidate is a match only if it gives the subject's bits on every probe, on random
matrices of several lengths and kinds, and on inputs that separate it from its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.stages import Operand, Product
from mpsim.products.tensor_cores import described, family_of
from mpsim.validate.dot.inputs import probes
from mpsim.validate.dot.inputs.matrices import random_matrices
from mpsim.validate.dot.inputs.probes import Measurement, Order, Prober
from mpsim.validate.dot.judge import Corpus, Judge
from mpsim.validate.dot.measurements import widths
from mpsim.validate.dot.orders.candidates import beside, candidates, distinct
from mpsim.validate.dot.orders.conversions import nearly_ties, operands_of, other_results, reading
from mpsim.validate.dot.orders.found import compensated
from mpsim.validate.dot.orders.lengths import products_by_length
from mpsim.validate.dot.orders.separation import separate
from mpsim.validate.dot.results import Tried
from mpsim.validate.dot.shapes import every_number_of_terms
from mpsim.validate.dot.subjects import DotSubject

#: Products in stages that give every answer and are printed, at most: the shortest.
MOST_PRODUCTS = 4
#: The most terms of which each is asked alone, and of those that do not reach the result, the most that are named.
MOST_ALONE, MOST_SHOWN = 1024, 8
NOT_CONVERTED = Operand(), Operand()
#: Kinds of accumulators that are tried with converted operands; an aligned one says itself how it reads them.
PLAIN = ("sequential", "pairwise", "exact")


class Found(NamedTuple):
    """What is known of one region: the probes and what they show, accumulators that give every answer (and what
    distinguishes their neighbours, of how many rows), and otherwise those that were tried."""

    judge: Judge
    range: Measurement
    order: Order
    matches: tuple[Tried, ...]
    apart: tuple[Summation, ...] = ()
    rows: int = 0
    tried: tuple[Summation, ...] = ()

    @property
    def summations(self) -> list[Summation]:
        """The accumulators that give every answer."""
        return [each.accumulator for each in self.matches]


def asked(subject: DotSubject, shape: tuple[int, int], length: int, seed: int) -> list[Corpus]:
    """The random matrices of a shape, with the subject's answers."""
    return [(name, a, b, subject.matmul(a, b)) for name, a, b in random_matrices(subject.inputs, length, shape, seed)]


def find(
    subject: DotSubject,
    corpora: Sequence[Corpus],
    mask: Array | None,
    length: int,
    declared: Summation | None = None,
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
    separates: bool = True,
) -> Found:
    """What sums the elements of a region. subject: one that is asked in that region alone; mask: its elements.
    separates: whether what gives every answer is distinguished from what is beside it."""
    prober = Prober(subject, length)
    range, order = _recognised(prober)
    if range.value is not None and (ties := nearly_ties(prober)):
        prober.ask(ties)
    judge = Judge(prober, corpora, subject.output, backend, mask)
    measured = widths(prober, order) if order.is_known else {}
    models = candidates(measured, order, subject.inputs)
    operands = operands_of(prober) if range.value is not None else NOT_CONVERTED
    if operands != NOT_CONVERTED:
        models += [reading(each, operands) for each in models if isinstance(each, Accumulator) and each.kind in PLAIN]
    equal = [each for each in models if judge.equal(each)]
    if range.value is not None and not equal:
        products = [reading(each, operands) for each in compensated(prober)]
        products = [each for each in products if judge.equal(each)] or products_by_length(judge, operands)
        equal, models = [each for each in products if judge.equal(each)], models + products
        ways = iter(()) if equal else other_results(prober, judge.are_numbers_of)
        while not equal and (way := next(ways, None)) is not None:
            prober.results = way
            equal = [each for each in products_by_length(judge, operands) if judge.equal(each)]
    if not separates:
        return Found(judge, range, order, tuple(map(judge.tried, _simplest(equal)[0])))
    matches, apart, rows = _matches(judge, equal, declared, seed)
    if matches:
        return Found(judge, range, order, matches, apart, rows)
    return Found(judge, range, order, (), apart, rows, tuple(models))


def left_out(prober: Prober) -> str:
    """Products that do not reach the result, as where a loop forgets the last ones; "" where all do."""
    found = []
    for length in every_number_of_terms(prober.length):
        own = prober.of_length(length)
        lost = np.flatnonzero([] if length > MOST_ALONE else own.ask_products(np.eye(length)) == 0).tolist()
        if 0 < len(lost) < length:
            run = len(lost) > 2 and lost[-1] - lost[0] == len(lost) - 1
            places = f"{lost[0]} to {lost[-1]}" if run else ", ".join(map(str, lost[:MOST_SHOWN]))
            found.append(f"k = {places}{', ...' * (not run and len(lost) > MOST_SHOWN)} of K = {length}")
    return f"these products do not reach the result: {'; '.join(found)}" if found else ""


def _recognised(prober: Prober) -> tuple[Measurement, Order]:
    """The range, and the order that the probes' pattern is that of."""
    found = prober.find_range()
    if found.value is None:
        return found, Order(False, (), (), np.zeros(0, bool))
    return found, probes.find_order(prober)


def _matches(
    judge: Judge, equal: Sequence[Summation], declared: Summation | None, seed: int
) -> tuple[tuple[Tried, ...], tuple[Summation, ...], int]:
    """(what no input distinguished from the subject, the simplest first; what some input did; the rows searched)."""
    found = list(equal)
    if declared is not None and declared not in found and judge.equal(declared):
        found.append(declared)
    if not found:
        return (), (), 0
    length = judge.prober.length
    found, longer = _simplest(distinct(found, length))
    longest = [each for each in found if isinstance(each, Product)][1:]  # these compute the same as the first of them
    models = [each for each in found if each not in longest]
    near = dict.fromkeys(
        each for model in models for each in beside(model, judge.prober.subject.inputs) if each not in found
    )
    possible = distinct([*found, *(each for each in near if judge.equal(each))], length)
    separated = separate(judge.prober, possible, judge.output, every_number_of_terms(length), seed, judge.backend)
    kept = [judge.tried(each) for each in separated.kept]
    others = [each for each in near if not judge.equal(each)]
    apart = tuple(distinct([each for each in others if isinstance(each, Accumulator)], length))
    apart += tuple(each for each in others if isinstance(each, Product))
    kinds = list(dict.fromkeys(family_of(each.accumulator) for each in kept))
    kept.sort(
        key=lambda each: (kinds.index(family_of(each.accumulator)), not each.names)
    )  # named ones before their like
    kept.sort(key=lambda each: each.accumulator in near)
    kept = [each for each in kept if each.equal]
    products = [each for each in kept if isinstance(each.accumulator, Product)]
    left = products[MOST_PRODUCTS:]
    if longer + len(left):
        judge.prober.subject.notes.append(f"{longer + len(left)} longer descriptions in stages give the same answers")
    return tuple(each for each in kept if each not in left), apart, separated.inputs


def _simplest(found: Sequence[Summation]) -> tuple[list[Summation], int]:
    """The accumulators and the shortest of the products in stages; how many products are left out."""
    products = sorted((each for each in found if isinstance(each, Product)), key=lambda each: len(described(each)))
    left = products[MOST_PRODUCTS:]
    return [each for each in found if each not in left], len(left)
