"""What is known of a subject after it was asked: the candidates that were tried, and the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mpsim.products.accumulators import Accumulator, Summation, to_dict
from mpsim.products.stages import Trees, within
from mpsim.products.tensor_cores import TENSOR_CORES, described, short
from mpsim.validate.answers import Report, Verdict, optional
from mpsim.validate.dot.accuracy import Error
from mpsim.validate.dot.inputs.probes import Measurement
from mpsim.validate.dot.shapes import PlaceDependence, ShapeDependence

#: Types of answers whose numbers may be those of a narrower format.
WIDE = ("float32", "float64")


def result_format(summation: Summation) -> str:
    """The format that results are numbers of."""
    return summation.format if isinstance(summation, Accumulator) else summation.output.format


def is_drawn(summation: Summation) -> bool:
    """Whether explicit trees are part of the order."""
    return not isinstance(summation, Accumulator) and any(isinstance(each, Trees) for each in within(summation.order))


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
    cause: str = ""  # what explains every result that differs

    @property
    def equal(self) -> bool:
        """Whether every probe and every random result is the same."""
        return self.difference is None

    @property
    def equal_but_zero_signs(self) -> bool:
        """Whether something differs, and nothing but signs of zeros."""
        return not self.equal and self.probes_differ + self.results - self.agreeing == self.zero_signs

    @property
    def drawn(self) -> bool:
        """Whether the order is one of explicit trees, for the numbers of terms that were asked alone."""
        return is_drawn(self.accumulator)

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
        """The accumulator's fields or the product's stages, the rounding of the result, and names of tensor cores."""
        rounded = f", then rounded once to {self.output}" if self.rounds_output else ""
        return short(self.accumulator) + rounded + (f" ({', '.join(self.names)})" if self.names else "")

    def to_dict(self) -> dict[str, object]:
        """Plain values."""
        row: dict[str, object] = {"accumulator": described(self.accumulator), "equal": self.equal, "names": self.names}
        row |= {"stages": to_dict(self.accumulator), "output": self.output, "rounds_output": self.rounds_output}
        row |= {"agreeing": self.agreeing, "results": self.results, "probes_differ": self.probes_differ}
        row |= {"zero_signs": self.zero_signs, "corpora": self.corpora, "equal_at": list(self.equal_at)}
        if self.difference is not None:
            d = self.difference
            row["difference"] = {"corpus": d.corpus, "expected": d.expected, "found": d.found, "terms": d.terms}
            row |= {"cause": self.cause} if self.cause else {}
        return row


@dataclass(frozen=True)
class DotReport(Report):
    """What is known of a subject. ``matches``: accumulators it is equal to, the simplest first.

    apart: accumulators beside the matches that some input distinguished from the subject. separating: rows that were
    searched for more such inputs. shapes: matrices that are summed otherwise; places: an element that depends on where
    it is in the matrix. terms: numbers of terms of which the declared or the first match does not give some results.
    large: whether it does not give a product of 132 rows and columns.

    >>> from mpsim.validate import validate_dot
    >>> report = validate_dot("numpy.matmul", length=16, accumulator="sequential,chunk=3,format=float16")
    >>> report.equal, report.declared.agreeing < report.declared.results
    (False, True)
    """

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
    terms: tuple[int, ...] = ()
    large: bool = False

    @property
    def verdict(self) -> Verdict:
        """EQUAL to the declared accumulator, or to some where none is declared, in every place of matrices of any
        shape."""
        equal = self.declared.equal if self.declared is not None else bool(self.matches)
        return Verdict.of(equal and self.shapes is None and self.places is None and not self.terms and not self.large)

    def details(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs,
            "output": self.output,
            "length": self.length,
            "side": self.side,
            "declared": optional(self.declared),
            "matches": [match.to_dict() for match in self.matches],
            "told_apart_from": [described(each) for each in self.apart],
            "rows_searched": self.separating,
            "nearest": optional(self.nearest),
            "measurements": {m.name: {"value": m.value, "meaning": m.meaning} for m in self.measurements},
            "shapes": optional(self.shapes),
            "batch_invariant": self.shapes is None or not self.shapes.depends_on_rows,
            "other_terms": list(self.terms),
            "other_in_large_matrices": self.large,
            "places": optional(self.places),
            "error": self.error.to_dict(),
        }
