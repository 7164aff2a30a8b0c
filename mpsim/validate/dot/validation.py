"""Which accumulator a matrix or dot product is equal to, if any.

Probes measure (mpsim/validate/dot/probes.py), the measurements name candidates, and a candidate is a match only if it
gives the subject's bits on every probe and then on random matrices of several lengths and kinds. Where none does, the
report says how far the results are from the correctly rounded ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.accumulators import Accumulator
from mpsim.contraction import matmul
from mpsim.formats import as_format
from mpsim.rounding import round_to
from mpsim.tensor_cores import TENSOR_CORES, accumulator_of, described
from mpsim.validate.dot import probes
from mpsim.validate.dot.candidates import candidates
from mpsim.validate.dot.probes import Laboratory, Measurement, Order
from mpsim.validate.dot.subjects import SIDE, DotSubject, of_accumulator, open_dot

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """The first element that differs: what the rows were, and both results."""

    corpus: str
    a: tuple[float, ...]
    b: tuple[float, ...]
    expected: float
    found: float

    @property
    def terms(self) -> list[tuple[int, float, float]]:
        """(k, a, b) where the product is not zero."""
        return [(k, x, y) for k, (x, y) in enumerate(zip(self.a, self.b, strict=True)) if x != 0 and y != 0]


@dataclass(frozen=True)
class Tried:
    """One candidate: how many of the random results it gives, and where it differs first."""

    accumulator: Accumulator
    agreeing: int
    results: int
    probes_differ: int
    zero_signs: int  # of those that differ: zeros with another sign
    difference: Difference | None
    corpora: dict[str, int] = field(default_factory=dict)  # where random results differ, and how many

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

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        row: dict[str, Any] = {"accumulator": described(self.accumulator), "equal": self.equal, "names": self.names}
        row |= {"agreeing": self.agreeing, "results": self.results, "probes_differ": self.probes_differ}
        row |= {"zero_signs": self.zero_signs, "corpora": self.corpora}
        if self.difference is not None:
            d = self.difference
            row["difference"] = {"corpus": d.corpus, "expected": d.expected, "found": d.found}
            row["difference"] |= {
                "terms": [(k, x, y) for k, (x, y) in enumerate(zip(d.a, d.b, strict=True)) if x and y]
            }
        return row


@dataclass(frozen=True)
class Error:
    """Distance from the correctly rounded result, in float32 numbers between (ulps), over random normal numbers."""

    largest: int
    mean: float
    correct: float  # share of results that are correctly rounded


@dataclass(frozen=True)
class DotReport:
    """What is known of a subject. ``matches``: accumulators it is equal to, the simplest first."""

    subject: str
    inputs: str
    length: int
    side: int
    measurements: tuple[Measurement, ...]
    matches: tuple[Tried, ...]
    nearest: Tried | None
    declared: Tried | None
    error: Error
    notes: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Equal to the declared accumulator, or to some where none is declared."""
        return self.declared.equal if self.declared is not None else bool(self.matches)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "subject": self.subject,
            "inputs": self.inputs,
            "length": self.length,
            "side": self.side,
            "equal": self.equal,
            "declared": None if self.declared is None else self.declared.as_json(),
            "matches": [match.as_json() for match in self.matches],
            "nearest": None if self.nearest is None else self.nearest.as_json(),
            "measurements": {m.name: {"value": m.value, "meaning": m.meaning} for m in self.measurements},
            "error": {"largest": self.error.largest, "mean": self.error.mean, "correct": self.error.correct},
            "notes": list(self.notes),
        }


def validate_dot(
    subject: str | Callable[..., Any] | Accumulator,
    accumulator: Accumulator | str | None = None,
    *,
    inputs: str = "float32",
    length: int = 520,
    side: int = SIDE,
    form: str = "matmul",
    arguments: str = "numpy",
    signature: str | None = None,
    header: Path | None = None,
    seed: int = 0,
    backend: str = "compiled",
) -> DotReport:
    """Say which accumulator a subject is equal to in every bit, or how it differs from a declared one.

    subject: see mpsim.validate.dot.subjects.open_dot. accumulator: the declared one, or its name for
    tensor_cores.accumulator_of. inputs: the format of the operands, which narrow inputs reach the subject in.
    length: of k in the probes; a chunk as long cannot be seen. side: rows and columns of the matrices, as some
    implementations sum in another order for other shapes. Raises SubjectError if the subject cannot be run,
    ValueError for an accumulator or a length (at least 16) that cannot be.

    >>> from mpsim import Accumulator
    >>> report = validate_dot(Accumulator(chunk=8), length=40, backend="reference")
    >>> described(report.matches[0].accumulator)
    'sequential,format=float32,chunk=8,fma=true'
    """
    if length < 16:
        raise ValueError(f"probes need a length of at least 16, got {length}")
    declared = accumulator_of(accumulator) if isinstance(accumulator, str) else accumulator
    if declared is not None and not declared.promises_bits:
        raise ValueError(f"an accumulator of kind {declared.kind!r} promises no bits: nothing can be equal to it")
    opened = open_dot(
        subject,
        inputs=inputs,
        form=form,
        arguments=arguments,
        signature=signature,
        header=header,
        side=side,
        backend=backend,
    )
    lab = Laboratory(opened, length)
    measurements, order = _measure(lab)
    corpora = [(name, a, b, opened.matmul(a, b)) for name, a, b in random_matrices(inputs, length, side, seed)]
    tried = [_try(candidate, lab, corpora, backend) for candidate in candidates(measurements, order, inputs)]
    matches = tuple(each for each in tried if each.equal)
    nearest = None if matches else max(tried, key=lambda each: (each.agreeing + each.zero_signs, -each.probes_differ))
    return DotReport(
        opened.name,
        inputs,
        length,
        side,
        tuple(measurements),
        matches,
        nearest,
        None if declared is None else _try(declared, lab, corpora, backend),
        _error(corpora, backend),
        tuple(opened.notes),
    )


def _measure(lab: Laboratory) -> tuple[list[Measurement], Order]:
    """Every probe."""
    found = [lab.find_range()]
    nothing = Order(False, (), (), np.zeros(0, bool))
    if found[0].value is None:
        return found, nothing
    order = probes.find_order(lab)
    found += order.measurements(lab.length)
    if not (order.exact or order.chains or order.pairs):
        found.append(probes.find_partner(lab))
    if not order.exact:
        found += probes.find_widths(lab, order)
        bits = next(m.value for m in found if m.name == "sum_bits")
        found.append(probes.find_rounding(lab, order, bits))
        found.append(probes.find_fma(lab, order))
    return found, order


# -- comparison -------------------------------------------------------------------------------------------------


def random_matrices(inputs: str, length: int, side: int, seed: int) -> Iterator[tuple[str, Array, Array]]:
    """(name, (side, K), (K, side)) in numbers of the format: normal ones, far-apart ones that cancel, near the largest
    and the smallest, and specials."""
    random = np.random.default_rng(seed)
    format = as_format(inputs)
    top = min(int(np.frexp(format.largest)[1]) - 1, 63)
    bottom = max(format.min_exponent - format.mantissa_bits, -80)
    for k in (length, length - 1, 33, 3, 1):
        for name in ("normal", "cancelling", "large", "small", "specials"):
            a, b = (_numbers(name, random, (side, k), (bottom, top)) for _ in range(2))
            if name == "cancelling" and k > 1:
                half = k // 2
                a[:, -half:], b[:, -half:] = -a[:, :half], b[:, :half]
            a, b = (round_to(x, inputs, overflow="saturate_propagate", backend="reference") for x in (a, b))
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


def _same(found: Array, expected: Array) -> Array:
    """Equal bits; a NaN is equal to a NaN."""
    return np.asarray((found.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(found) & np.isnan(expected)))


def _try(
    accumulator: Accumulator, lab: Laboratory, corpora: list[tuple[str, Array, Array, Array]], backend: str
) -> Tried:
    """The accumulator on everything that the subject was asked."""
    model = DotSubject("model", of_accumulator(accumulator, backend), "float32", lab.subject.side)
    first, probes_differ, agreeing, results, zero_signs = None, 0, 0, 0, 0
    differing: dict[str, int] = {}
    for a, b, found in lab.asked:
        expected = model.dots(a, b)
        wrong = np.flatnonzero(~_same(found, expected))
        probes_differ += wrong.size
        zero_signs += int(((found == 0) & (expected == 0))[wrong].sum())
        if wrong.size and first is None:
            i = wrong[0]
            first = _difference("probe", a[i], b[i], expected[i], found[i])
    for name, a, b, found in corpora:
        expected = matmul(a, b, accumulator, backend=backend, threads=1)
        same = _same(found, expected)
        agreeing, results = agreeing + int(same.sum()), results + same.size
        differing |= {} if same.all() else {name: int((~same).sum())}
        zero_signs += int(((found == 0) & (expected == 0))[~same].sum())
        if not same.all() and first is None:
            i, j = np.argwhere(~same)[0]
            first = _difference(name, a[i], b[:, j], expected[i, j], found[i, j])
    return Tried(accumulator, agreeing, results, probes_differ, zero_signs, first, differing)


def _difference(corpus: str, a: Array, b: Array, expected: Any, found: Any) -> Difference:
    return Difference(corpus, tuple(a.tolist()), tuple(b.tolist()), float(expected), float(found))


def _error(corpora: list[tuple[str, Array, Array, Array]], backend: str) -> Error:
    """Against the exact sums rounded once, on the normal numbers."""
    distances = []
    for name, a, b, found in corpora:
        if name.startswith("normal"):
            exact = matmul(a, b, Accumulator(kind="exact"), backend=backend, threads=1)
            distances.append(np.abs(_ordinal(found) - _ordinal(exact)).ravel())
    ulps = np.concatenate(distances)
    return Error(int(ulps.max()), float(ulps.mean()), float((ulps == 0).mean()))


def _ordinal(x: Array) -> Array:
    """float32 numbers counted from zero up and down."""
    bits = np.ascontiguousarray(x).view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


__all__ = ["DotReport", "Tried", "validate_dot"]
