"""Which accumulator a matrix or dot product is equal to, if any.

Probes measure (inputs/probes.py), the measurements name candidates, and a candidate is a match only if it gives the
subject's bits on every probe, on random matrices of several lengths and kinds, and on inputs that separate it from its
neighbours. Where none does, the report says how far the results are from the correctly rounded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.products.accumulators import Summation
from mpsim.products.stages import Product
from mpsim.products.tensor_cores import accumulator_of, described
from mpsim.validate.answers import SubjectError
from mpsim.validate.dot.accuracy import error_of
from mpsim.validate.dot.inputs import probes
from mpsim.validate.dot.inputs.matrices import random_matrices
from mpsim.validate.dot.inputs.probes import Measurement, Order, Prober
from mpsim.validate.dot.judge import Corpus, Judge
from mpsim.validate.dot.measurements import statements, widths
from mpsim.validate.dot.orders.candidates import beside, candidates, distinct
from mpsim.validate.dot.orders.found import from_zero, products_of_orders, products_of_trees, tree_of
from mpsim.validate.dot.orders.separation import separate
from mpsim.validate.dot.results import WIDE, DotReport, Tried, result_format, type_of
from mpsim.validate.dot.shapes import every_number_of_terms, largest_product, place_dependence, shape_dependence
from mpsim.validate.dot.subjects import SIDE, DotSubject, open_dot, same
from mpsim.validate.subjects.environment import default_float_environment
from mpsim.validate.subjects.opening import Calling

Array = np.ndarray[Any, Any]
#: Products in stages that give every answer and are printed, at most: the shortest.
MOST_PRODUCTS = 4
#: The longest dot products that are asked.
MOST_LENGTH = 1 << 14


def validate_dot(
    subject: str | Callable[..., Any] | Summation,
    accumulator: Summation | str | None = None,
    *,
    inputs: str = "float32",
    length: int = 520,
    side: int = SIDE,
    form: str = "matmul",
    calling: Calling = Calling(),
    seed: int = 0,
    backend: str = "compiled",
) -> DotReport:
    """Say which accumulator a subject is equal to in every bit, or how it differs from a declared one.

    subject: see mpsim.validate.dot.subjects.open_dot. accumulator: the declared accumulator or product, or its text
    (``mpsim.products.tensor_cores.accumulator_of``). If the subject answers in a narrower type, its result is rounded
    once to that. inputs: the format of the operands, which narrow inputs reach the subject in. length: of k in the
    probes; a chunk as long cannot be seen. side: rows and columns of the matrices. Raises SubjectError if the subject
    cannot be run, ValueError for an accumulator or a length (at least 16) that cannot be.

    >>> from mpsim import Accumulator
    >>> report = validate_dot(Accumulator(chunk=8), length=40, backend="reference")
    >>> report.matches[0].text
    'sequential,format=float32,chunk=8,fma=true'
    """
    checks.whole("length", length, least=16, most=MOST_LENGTH, note=", so that the probes fit")
    checks.seed("seed", seed)
    declared = accumulator_of(accumulator) if isinstance(accumulator, str) else accumulator
    if declared is not None and not declared.promises_bits:
        raise UsageError("an accumulator of kind 'blas' promises no bits: nothing can be equal to it")
    opened = open_dot(subject, calling, inputs=inputs, form=form, side=side, backend=backend)
    with default_float_environment():
        return _report(opened, declared, length, seed, backend)


def _report(opened: DotSubject, declared: Summation | None, length: int, seed: int, backend: str) -> DotReport:
    prober = Prober(opened, length)
    range, order = _recognised(prober)
    corpora = [
        (name, a, b, opened.matmul(a, b)) for name, a, b in random_matrices(opened.inputs, length, opened.side, seed)
    ]
    _check_steady(opened, corpora)
    judge = Judge(prober, corpora, opened.output, backend)
    measured = widths(prober, order) if order.is_known else {}
    tried = [judge.tried(each) for each in candidates(measured, order, opened.inputs)]
    if range.value is not None and not any(each.equal for each in tried):
        tried += _by_trees(judge)
    matches, apart, rows = _matches(judge, [each for each in tried if each.equal], declared, seed)
    named = any(not each.drawn for each in matches)
    plain = [each for each in tried if not (matches and each.drawn)]
    nearest = None if named else max(plain, key=lambda each: _nearness(each, length))
    confirmed = matches or tuple(each for each in tried if not each.probes_differ and length in each.equal_at)
    places = place_dependence(opened, length, seed)
    measurements = [range]
    if confirmed or places is None:
        measurements += statements(prober, order, distinct([each.accumulator for each in confirmed], length))
    matches = tuple(each for match in matches if (each := judge.tried(match.accumulator)).equal)  # these probes too
    largest = largest_product(opened, length, seed)
    shapes = shape_dependence(opened, largest, [each.accumulator for each in matches], backend)
    if shapes is not None:
        largest = None  # whose order is another one
    judged = [judge.in_largest(each, largest) for each in matches]
    matches, left = tuple(each for each in judged if each.equal), [each for each in judged if not each.equal]
    if left and not matches:
        nearest = left[0]
    if not confirmed and order.is_known and judge.is_wide(order):
        opened.notes.append(
            f"every result is that of sums in float64 in rising k, rounded once to {opened.output}; no accumulator "
            f"here has such sums"
        )
    return DotReport(
        opened.name,
        opened.inputs,
        opened.output,
        length,
        opened.side,
        tuple(measurements),
        matches,
        nearest,
        None if declared is None else judge.in_largest(judge.tried(declared), largest),
        error_of(
            [(a, b, found) for name, a, b, found in corpora if name.startswith("normal")],
            _unit(matches, opened.output),
        ),
        apart,
        rows,
        shapes,
        places,
        tuple(opened.callee.state),
        tuple(opened.notes),
    )


def _unit(matches: Sequence[Tried], output: str) -> str:
    """The format in whose numbers errors are counted: that of the answers, or a narrower one of all results."""
    found = {result_format(each.accumulator) for each in matches if not each.rounds_output}
    return found.pop() if output in WIDE and len(found) == 1 else output


def _nearness(each: Tried, length: int) -> tuple[bool, int, int]:
    """Larger for a candidate that is equal at the probes' length, then for one that gives more results."""
    whole = length in each.equal_at and not each.probes_differ and not each.equal_but_zero_signs
    return whole, each.agreeing + each.zero_signs, -each.probes_differ


def _by_trees(judge: Judge) -> list[Tried]:
    """Products with the trees that the answers show: an order with a name, or else a tree for each number of terms."""
    prober = judge.prober
    lengths = every_number_of_terms(prober.length)
    trees = {length: tree for length in lengths if (tree := tree_of(prober, length)) is not None}
    tried: list[Tried] = []
    for length in prober.length, prober.length - 1:  # an even and an odd one
        if length in trees:
            tried += _likely(judge, products_of_orders(trees[length], length, prober))
    if len(trees) == len(lengths) and not any(each.equal for each in tried):
        tried += _likely(judge, products_of_trees(list(trees.values()), prober))
    return tried


def _likely(judge: Judge, products: Iterator[Summation]) -> list[Tried]:
    """Those that give the first random results, and the same with totals that are added to +0 at the end."""
    tried = [judge.tried(each) for each in dict.fromkeys(products) if judge.gives_first(each)]
    return tried + [judge.tried(from_zero(each.accumulator)) for each in tried if each.equal_but_zero_signs]


def _matches(
    judge: Judge, equal: Sequence[Tried], declared: Summation | None, seed: int
) -> tuple[tuple[Tried, ...], tuple[Summation, ...], int]:
    """(what no input told from the subject, the simplest first; what some input did; rows searched for such inputs)."""
    found = [each.accumulator for each in equal]
    if declared is not None and declared not in found and judge.tried(declared).equal:
        found.append(declared)
    if not found:
        return (), (), 0
    length = judge.prober.length
    found, longer = _simplest(distinct(found, length))
    every = distinct([*found, *(each for model in found for each in beside(model))], length)
    possible = [each for each in every if judge.tried(each).equal]
    separated = separate(judge.prober, possible, judge.output, seed=seed, backend=judge.backend)
    kept = [judge.tried(each) for each in separated.kept]
    apart = tuple(each for each in every if each not in separated.kept)
    kinds = list(dict.fromkeys(type_of(each.accumulator) for each in kept))
    kept.sort(key=lambda each: (kinds.index(type_of(each.accumulator)), not each.names))  # named ones before their like
    kept = [each for each in kept if each.equal]
    shown, more = _simplest([each.accumulator for each in kept])
    if longer + more:
        judge.prober.subject.notes.append(f"{longer + more} longer descriptions in stages give the same answers")
    return tuple(each for each in kept if each.accumulator in shown), apart, separated.inputs


def _simplest(found: Sequence[Summation]) -> tuple[list[Summation], int]:
    """The accumulators and the shortest of the products in stages; how many products are left out."""
    products = sorted((each for each in found if isinstance(each, Product)), key=lambda each: len(described(each)))
    left = products[MOST_PRODUCTS:]
    return [each for each in found if each not in left], len(left)


def _check_steady(subject: DotSubject, corpora: Sequence[Corpus]) -> None:
    """SubjectError where the same matrices get other results in a second call."""
    for name, a, b, found in corpora:
        if not same(found, subject.matmul(a, b)).all():
            raise SubjectError(
                f"{subject.name} answers the same matrices ({name}) differently in equal calls: it is random, as where "
                f"sums are added in the order in which they are ready, or keeps something from call to call"
            )


def _recognised(prober: Prober) -> tuple[Measurement, Order]:
    """The range, and the order that the probes' pattern is that of."""
    found = prober.find_range()
    if found.value is None:
        return found, Order(False, (), (), np.zeros(0, bool))
    return found, probes.find_order(prober)
