"""Which accumulator a matrix or dot product is equal to, if any.

Probes measure (inputs/probes.py), the measurements name candidates, and a candidate is a match only if it gives the
subject's bits on every probe, on random matrices of several lengths and kinds, and on inputs that separate it from its
neighbours. Where none does, the report says how far the results are from the correctly rounded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.products.accumulators import Summation, in_stages
from mpsim.products.tensor_cores import accumulator_of
from mpsim.validate.answers import SubjectError
from mpsim.validate.dot.accuracy import Error, error_of
from mpsim.validate.dot.arguments.validation import passed_to, validate_arguments
from mpsim.validate.dot.finding import Found, asked, find, left_out
from mpsim.validate.dot.inputs.matrices import cancelling, vectors
from mpsim.validate.dot.inputs.packing import region_of
from mpsim.validate.dot.inputs.probes import Measurement
from mpsim.validate.dot.judge import Corpus, Judge
from mpsim.validate.dot.measurements import statements
from mpsim.validate.dot.orders.candidates import distinct
from mpsim.validate.dot.regions import MOST_REGIONS, elsewhere, regions
from mpsim.validate.dot.results import WIDE, DotReport, Tried, result_format
from mpsim.validate.dot.shapes import (
    MOST_ROWS,
    LargestProduct,
    PlaceDependence,
    ShapeDependence,
    every_number_of_terms,
    largest_product,
    place_dependence,
    shape_dependence,
    wide_product,
)
from mpsim.validate.dot.subjects import SIDE, DotSubject, open_dot
from mpsim.validate.subjects.opening import Calling

#: Kinds of random matrices that are asked for a second time.
STEADY = ("normal", "cancelling")
#: Pairs of vectors that are asked for at other addresses.
MOVED = 64
#: The longest dot products that are asked.
MOST_LENGTH = 1 << 14


@in_default_environment
def validate_dot(
    subject: str | Callable[..., object] | Summation,
    accumulator: Summation | str | None = None,
    *,
    inputs: str = "float32",
    length: int = 520,
    side: int = SIDE,
    form: str = "matmul",
    calling: Calling = Calling(),
    seed: int = 0,
    backend: str = DEFAULT_BACKEND,
) -> DotReport:
    """Say which accumulator a subject is equal to in every bit, or how it differs from a declared one.

    subject: see mpsim.validate.dot.subjects.open_dot. accumulator: the declared accumulator or product, or its text
    (``mpsim.products.tensor_cores.accumulator_of``). If the subject answers in a narrower type, its result is rounded
    once to that. inputs: the format of the operands, which narrow inputs reach the subject in. length: of k in the
    probes; a chunk as long cannot be seen. side: rows and columns of the matrices. A subject may take c, alpha, beta,
    bias, left_scale and right_scale beside its operands, by these names. Raises SubjectError if the subject
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
    if isinstance(subject, Summation) and declared is None and in_stages(subject).scales_of_blocks:
        raise SubjectError(
            "mpsim's product with this description multiplies by scales of blocks of k, which are checked where they "
            "are declared, and not found: declare the same description as its accumulator"
        )
    opened = open_dot(subject, calling, inputs=inputs, form=form, side=side, backend=backend)
    if opened.required or (declared is not None and passed_to(opened, declared)):
        search = lambda subject: _report(subject, None, length, seed, backend)  # noqa: E731
        return validate_arguments(opened, declared, search, length, seed, backend)
    left = f"not given, and not looked at: {', '.join(opened.beside)}"
    opened.notes += [left] if opened.beside else []
    return _report(opened, declared, length, seed, backend)


def _report(opened: DotSubject, declared: Summation | None, length: int, seed: int, backend: str) -> DotReport:
    search = _Search(opened, declared, length, seed, backend)
    corpora = asked(opened, search.square, length, seed)
    _check_steady(opened, corpora)
    places, found = search.by_place(corpora)
    first, judge = found[0], found[0].judge
    closest = judge.closest(first.tried)
    confirmed = first.matches or [each for each in closest if not each.probes_differ and length in each.equal_at]
    measurements = [first.range]
    if confirmed or places is None:
        models = distinct([each.accumulator for each in confirmed], length)
        measurements += statements(judge.prober, first.order, models)
    matches = tuple(each for match in first.matches if (each := judge.tried(match.accumulator)).equal)  # these too
    whole = largest_product(opened, length, seed)
    shapes = search.by_shape(shape_dependence(opened, whole), [each for part in found for each in part.summations])
    if whole is not None and shapes is None and places is None and confirmed:
        words = f"the same sums for every number of rows from 1 to {MOST_ROWS} (batch-invariant)"
        measurements.append(Measurement("rows", MOST_ROWS, words))
    largest = whole if shapes is None and places is None else None  # otherwise its order is another one
    judged = [judge.in_largest(each, largest) for each in matches]
    matches, left = tuple(each for each in judged if each.equal), [each for each in judged if not each.equal]
    nearest = left[0] if left and not matches else max(closest, key=lambda each: _nearness(each, length), default=None)
    if not confirmed and first.order.is_known and judge.is_wide(first.order):
        opened.notes.append(f"every result is that of sums in float64 in rising k, rounded once to {opened.output}")
    if not first.matches and first.range.value is not None and (missing := left_out(judge.prober)):
        opened.notes.append(missing)
    if shifts := opened.depends_on_addresses(*cancelling(opened.inputs, length, MOVED)):
        moved = ", ".join(map(str, shifts))
        opened.notes.append(f"vectors that begin {moved} elements beyond a multiple of 64 bytes are summed otherwise")
    wide = wide_product(opened, seed) if matches and largest is not None else None
    matches = tuple(each for each in matches if judge.gives_product(each.accumulator, wide)) or matches
    if matches and judge.is_refuted(matches[0].accumulator, wide):
        nearest, matches = judge.in_largest(matches[0], wide), ()
    one = (declared or matches[0].accumulator) if matches else None
    everywhere = Judge(judge.prober, corpora, opened.output, backend)
    told = None if declared is None else everywhere.in_largest(everywhere.tried(declared), largest)
    if told is not None and judge.is_refuted(told.accumulator, wide):
        told = everywhere.in_largest(told, wide)
    return DotReport(
        opened.name,
        opened.inputs,
        opened.output,
        length,
        opened.side,
        tuple(measurements),
        matches,
        nearest,
        told,
        _error(corpora, matches, opened.output),
        first.apart,
        first.rows,
        shapes,
        places,
        judge.other_terms(one) if one is not None else (),
        one is not None and _differs(judge, one, wide),
        state=tuple(opened.callee.state),
        notes=tuple(opened.notes),
    )


class _Search:
    """The search in every region of a subject's matrices, and in those of other shapes."""

    def __init__(self, opened: DotSubject, declared: Summation | None, length: int, seed: int, backend: str) -> None:
        self.opened, self.declared, self.length, self.seed, self.backend = opened, declared, length, seed, backend
        self.square = opened.side, opened.side

    def by_place(self, corpora: Sequence[Corpus]) -> tuple[PlaceDependence | None, list[Found]]:
        """What was found in each region, that of the most elements first."""
        places = place_dependence(self.opened, self.length, self.seed)
        masks = [np.ones(self.square, bool)]
        if places is not None and places.side == self.opened.side:
            masks = regions(self.opened, self.square, every_number_of_terms(self.length), self.seed)
        searched = masks if len(masks) <= MOST_REGIONS else masks[:1]
        views = [self.opened.at(region_of(mask)) for mask in searched] if len(masks) > 1 else [self.opened]
        found = [self._find(view, corpora, mask) for view, mask in zip(views, searched, strict=True)]
        if places is not None and len(masks) > 1:
            parts = zip(masks, [next(iter(part.summations), None) for part in found], strict=False)
            places = places._replace(parts=tuple((int(mask.sum()), summation) for mask, summation in parts))
        return places, found

    def by_shape(self, shapes: ShapeDependence | None, known: Sequence[Summation]) -> ShapeDependence | None:
        """The shapes, with what sums the elements of each that no known accumulator gives."""
        if shapes is None:
            return None
        pairs = vectors(self.opened.inputs, shapes.length, self.seed)
        return shapes._replace(others=elsewhere(self.opened, shapes.searched, pairs, known, self._others))

    def _others(self, shape: tuple[int, int], mask: Array) -> list[Summation]:
        corpora = asked(self.opened, shape, self.length, self.seed)
        return self._find(self.opened.at(region_of(mask)), corpora, mask, separates=False).summations

    def _find(self, view: DotSubject, corpora: Sequence[Corpus], mask: Array, separates: bool = True) -> Found:
        declared = self.declared if separates else None
        return find(view, corpora, mask, self.length, declared, self.seed, self.backend, separates)


def _error(corpora: Sequence[Corpus], matches: Sequence[Tried], output: str) -> Error:
    return error_of(
        [(a, b, found) for name, a, b, found in corpora if name.startswith("normal")], _unit(matches, output)
    )


def _unit(matches: Sequence[Tried], output: str) -> str:
    """The format in whose numbers errors are counted: that of the answers, or a narrower one of all results."""
    found = {result_format(each.accumulator) for each in matches if not each.rounds_output}
    return found.pop() if output in WIDE and len(found) == 1 else output


def _nearness(each: Tried, length: int) -> tuple[bool, int, int]:
    """Larger for a candidate that is equal at the probes' length, then for one that gives more results."""
    whole = length in each.equal_at and not each.probes_differ and not each.equal_but_zero_signs
    return whole, each.agreeing + each.zero_signs, -each.probes_differ


def _differs(judge: Judge, summation: Summation, product: LargestProduct | None) -> bool:
    """Whether the summation does not give a product; SubjectError where this gets other results in a second call."""
    differs = judge.differs_in(product, summation)
    if product is not None and differs:
        subject, (a, b, found) = judge.prober.subject, product
        subject.check_steady(f"{len(a)} x {b.shape[1]}", found, subject.matmul(a, b))
    return differs


def _check_steady(subject: DotSubject, corpora: Sequence[Corpus]) -> None:
    """SubjectError where the same matrices get other results in a second call."""
    for name, a, b, found in corpora:
        if name.startswith(STEADY):
            subject.check_steady(name, found, subject.matmul(a, b))
