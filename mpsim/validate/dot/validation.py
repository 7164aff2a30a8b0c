"""Which accumulator a matrix or dot product is equal to, if any.

Probes measure (mpsim/validate/dot/probes.py), the measurements name candidates, and a candidate is a match only if it
gives the subject's bits on every probe, on random matrices of several lengths and kinds, and on inputs that separate it
from its neighbours. Where none does, the report says how far the results are from the correctly rounded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.accumulators import Accumulator, Summation
from mpsim.errors import UsageError
from mpsim.formats import Format, as_format
from mpsim.rounding import round_to
from mpsim.tensor_cores import TENSOR_CORES, accumulator_of, described
from mpsim.validate.answers import SubjectError, Verdict
from mpsim.validate.dot import probes
from mpsim.validate.dot.accuracy import Error, error_of
from mpsim.validate.dot.candidates import beside, candidates, distinct
from mpsim.validate.dot.measurements import statements, widths
from mpsim.validate.dot.probes import Measurement, Order, Prober
from mpsim.validate.dot.separation import separate
from mpsim.validate.dot.shapes import PlaceDependence, ShapeDependence, place_dependence, shape_dependence
from mpsim.validate.dot.subjects import SIDE, DotSubject, Model, open_dot, same
from mpsim.validate.subjects.environment import default_float_environment
from mpsim.validate.subjects.opening import Calling

Array = np.ndarray[Any, Any]
#: The longest dot products that are asked.
MOST_LENGTH = 1 << 14
#: Types of answers whose numbers may be those of a narrower format.
WIDE = ("float32", "float64")
#: (name, a, b, the subject's answer), and K
Corpus = tuple[str, Array, Array, Array]


@dataclass(frozen=True)
class Difference:
    """An element that differs: what the rows were, and both results."""

    corpus: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    expected: float
    found: float

    @property
    def is_ordinary(self) -> bool:
        """Whether it is of a probe or of usual numbers, not of ones at the ends of the range."""
        return self.corpus.startswith(("probe", "normal", "cancelling"))

    @property
    def terms(self) -> list[tuple[int, float, float]]:
        """(k, a, b) where the product is not zero."""
        return [(k, x, y) for k, (x, y) in enumerate(zip(self.a, self.b, strict=True)) if x * y != 0]


@dataclass(frozen=True)
class Tried:
    """One candidate: how many of the random results it gives, and where it differs first."""

    accumulator: Summation
    output: str
    agreeing: int
    results: int
    probes_differ: int
    zero_signs: int  # of those that differ: zeros with another sign
    difference: Difference | None
    corpora: dict[str, int] = field(default_factory=dict)  # where random results differ, and how many
    equal_at: tuple[int, ...] = ()  # numbers of terms for which every random result is the same

    @property
    def equal(self) -> bool:
        """Whether every probe and every random result is the same."""
        return self.difference is None

    @property
    def equal_but_zero_signs(self) -> bool:
        """Whether nothing but signs of zeros differs."""
        return self.probes_differ + self.results - self.agreeing == self.zero_signs

    @property
    def names(self) -> list[str]:
        """Tensor cores with this accumulator."""
        return [name for name, row in TENSOR_CORES.items() if row.accumulator == self.accumulator]

    @property
    def rounds_output(self) -> bool:
        """Whether the accumulator's result is rounded once more, to the type of the subject's answers."""
        return self.output not in WIDE and result_format(self.accumulator) != self.output

    @property
    def text(self) -> str:
        """The accumulator's fields, the rounding of the result, and the names of tensor cores."""
        rounded = f", then rounded once to {self.output}" if self.rounds_output else ""
        return described(self.accumulator) + rounded + (f" ({', '.join(self.names)})" if self.names else "")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        row: dict[str, Any] = {"accumulator": described(self.accumulator), "equal": self.equal, "names": self.names}
        row |= {"output": self.output, "rounds_output": self.rounds_output}
        row |= {"agreeing": self.agreeing, "results": self.results, "probes_differ": self.probes_differ}
        row |= {"zero_signs": self.zero_signs, "corpora": self.corpora, "equal_at": list(self.equal_at)}
        if self.difference is not None:
            d = self.difference
            row["difference"] = {"corpus": d.corpus, "expected": d.expected, "found": d.found, "terms": d.terms}
        return row


@dataclass(frozen=True)
class DotReport:
    """What is known of a subject. ``matches``: accumulators it is equal to, the simplest first.

    apart: accumulators beside the matches that some input told from the subject. separating: rows that were searched
    for more such inputs. shapes: matrices that are summed otherwise; places: an element that depends on where it is in
    the matrix. state: what is unusual about the subject's floating-point arithmetic.
    """

    subject: str
    inputs: str
    output: str
    length: int
    side: int
    measurements: tuple[Measurement, ...]
    matches: tuple[Tried, ...]
    nearest: Tried | None
    declared: Tried | None
    error: Error
    apart: tuple[Summation, ...] = ()
    separating: int = 0
    shapes: ShapeDependence | None = None
    places: PlaceDependence | None = None
    state: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())

    @property
    def verdict(self) -> Verdict:
        """EQUAL to the declared accumulator, or to some where none is declared, in every place of matrices of any
        shape."""
        equal = self.declared.equal if self.declared is not None else bool(self.matches)
        return Verdict.of(equal and self.shapes is None and self.places is None)

    @property
    def equal(self) -> bool:
        return self.verdict is Verdict.EQUAL

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "subject": self.subject,
            "inputs": self.inputs,
            "output": self.output,
            "length": self.length,
            "side": self.side,
            "verdict": self.verdict.name.lower(),
            "equal": self.equal,
            "declared": None if self.declared is None else self.declared.to_dict(),
            "matches": [match.to_dict() for match in self.matches],
            "told_apart_from": [described(each) for each in self.apart],
            "rows_searched": self.separating,
            "nearest": None if self.nearest is None else self.nearest.to_dict(),
            "measurements": {m.name: {"value": m.value, "meaning": m.meaning} for m in self.measurements},
            "shapes": None if self.shapes is None else self.shapes.to_dict(),
            "places": None if self.places is None else self.places.to_dict(),
            "error": self.error.to_dict(),
            "floating_point_state": list(self.state),
            "notes": list(self.notes),
        }


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

    subject: see mpsim.validate.dot.subjects.open_dot. accumulator: the declared one, or its name for
    mpsim.tensor_cores.accumulator_of; where the subject answers in a narrower type, its result is rounded once to that.
    inputs: the format of the operands, which narrow inputs reach the subject in. length: of k in the probes; a chunk as
    long cannot be seen. side: rows and columns of the matrices. Raises SubjectError if the subject cannot be run,
    ValueError for an accumulator or a length (at least 16) that cannot be.

    >>> from mpsim import Accumulator
    >>> report = validate_dot(Accumulator(chunk=8), length=40, backend="reference")
    >>> described(report.matches[0].accumulator)
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
    judge = _Judge(prober, corpora, opened.output, backend)
    measured = widths(prober, order) if order.is_known else {}
    tried = [judge.tried(each) for each in candidates(measured, order, opened.inputs)]
    matches, apart, rows = _matches(judge, [each for each in tried if each.equal], declared, seed)
    nearest = None if matches else max(tried, key=lambda each: (each.agreeing + each.zero_signs, -each.probes_differ))
    confirmed = matches or tuple(each for each in tried if not each.probes_differ and length in each.equal_at)
    places = place_dependence(opened, length, seed)
    measurements = [range]
    if confirmed or places is None:
        measurements += statements(prober, order, distinct([each.accumulator for each in confirmed], length))
    matches = tuple(each for match in matches if (each := judge.tried(match.accumulator)).equal)  # these probes too
    units = (
        {result_format(each.accumulator) for each in matches if not each.rounds_output}
        if opened.output in WIDE
        else set()
    )
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
        None if declared is None else judge.tried(declared),
        error_of(
            [(a, b, found) for name, a, b, found in corpora if name.startswith("normal")],
            units.pop() if len(units) == 1 else opened.output,
        ),
        apart,
        rows,
        shape_dependence(opened, length, [each.accumulator for each in matches], seed, backend),
        places,
        tuple(opened.callee.state),
        tuple(opened.notes),
    )


def _matches(
    judge: _Judge, equal: Sequence[Tried], declared: Summation | None, seed: int
) -> tuple[tuple[Tried, ...], tuple[Summation, ...], int]:
    """(what no input told from the subject, the simplest first; what some input did; rows searched for such inputs)."""
    found = [each.accumulator for each in equal]
    if declared is not None and declared not in found and judge.tried(declared).equal:
        found.append(declared)
    if not found:
        return (), (), 0
    length = judge.prober.length
    found = distinct(found, length)
    every = distinct([*found, *(each for model in found for each in beside(model))], length)
    possible = [each for each in every if judge.tried(each).equal]
    separated = separate(judge.prober, possible, judge.output, seed=seed, backend=judge.backend)
    kept = [judge.tried(each) for each in separated.kept]
    apart = tuple(each for each in every if each not in separated.kept)
    kinds = list(dict.fromkeys(type_of(each.accumulator) for each in kept))
    kept.sort(key=lambda each: (kinds.index(type_of(each.accumulator)), not each.names))  # named ones before their like
    return tuple(each for each in kept if each.equal), apart, separated.inputs


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


def result_format(summation: Summation) -> str:
    """The format that results are numbers of."""
    return summation.format if isinstance(summation, Accumulator) else summation.output.format


def type_of(summation: Summation) -> str:
    """What orders alike are listed together by."""
    return summation.kind if isinstance(summation, Accumulator) else type(summation.order).__name__


# -- comparison -------------------------------------------------------------------------------------------------


def random_matrices(inputs: str, length: int, side: int, seed: int) -> Iterator[tuple[str, Array, Array]]:
    """(name, (side, K), (K, side)) in numbers of the format: normal ones, far-apart ones that cancel, near the largest
    and the smallest, specials, and ones from the format's whole range, subnormal ones too, whose products are alike."""
    random, apart = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    format = as_format(inputs)
    top = min(int(np.frexp(format.largest)[1]) - 1, 63)
    bottom = max(format.min_exponent - format.mantissa_bits, -80)
    for k in (length, length - 1, 33, 3, 1):
        for name in ("normal", "cancelling", "large", "small", "specials", "wide"):
            if name == "wide":
                a, b = _opposite(format, apart, (side, k))
            else:
                a, b = (_numbers(name, random, (side, k), (bottom, top)) for _ in range(2))
            if name == "cancelling" and k > 1:
                half = k // 2
                a[:, -half:], b[:, -half:] = -a[:, :half], b[:, :half]
            a, b = (round_to(x, inputs, overflow="saturate_propagate", backend="reference") for x in (a, b))
            if not format.has_nan:
                a, b = np.nan_to_num(a, nan=0.0), np.nan_to_num(b, nan=0.0)
            yield f"{name}, K = {k}", a, np.ascontiguousarray(b.T)


def _numbers(name: str, random: np.random.Generator, shape: tuple[int, int], limits: tuple[int, int]) -> Array:
    bottom, top = limits
    normal = random.standard_normal(shape).astype(np.float32)
    if name == "specials":
        chosen = random.random(shape)
        normal[chosen < 0.3] = 0
        normal[chosen < 0.2] = -0.0
        normal[chosen < 0.01] = np.inf
        normal[chosen < 0.005] = -np.inf
        normal[chosen < 0.001] = np.nan
    elif name != "normal":
        low, high = {"large": (top - 3, top), "small": (bottom, bottom + 6)}.get(name, (max(bottom, -8), min(top, 8)))
        normal = np.ldexp(normal, random.integers(low, high + 1, shape)).astype(np.float32)
    return normal


def _opposite(format: Format, random: np.random.Generator, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Twice (rows, K): at every k exponents of the format's range for one, and as far from its other end for the other;
    one subnormal in half of them."""
    lowest, highest = format.quantum_exponent, int(np.frexp(format.largest)[1]) - 1
    low = np.where(random.random(shape[1]) < 0.5, lowest, format.min_exponent)
    exponents = random.integers(low, np.where(low == lowest, format.min_exponent, highest) + 1)
    exponents = np.where(random.random(shape[1]) < 0.5, exponents, lowest + highest - exponents)
    a, b = random.uniform(1, 2, (2, *shape)) * random.choice([-1, 1], (2, *shape))
    with np.errstate(over="ignore"):
        x, y = (np.ldexp(m, e).astype(np.float32) for m, e in ((a, exponents), (b, lowest + highest - exponents)))
    return x, y


class _Judge:
    """Compares accumulators with everything that the subject was asked."""

    def __init__(self, prober: Prober, corpora: Sequence[Corpus], output: str, backend: str) -> None:
        self.prober, self.output, self.backend = prober, output, backend
        self._corpora = corpora
        self._known: dict[tuple[Summation, int], Tried] = {}

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


__all__ = ["DotReport", "Tried", "validate_dot"]
