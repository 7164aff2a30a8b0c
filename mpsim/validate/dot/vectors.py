"""A file of dot products as the subject of ``mpsim validate dot``: which accumulators give all of its results.

Written by ``mpsim vectors dot``, or by others in the same layout (docs/vectors.md): .npz with ``a``, ``b`` (codes, one
row a product), ``expected`` (float32 patterns) and ``inputs``; or .jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.files import columns
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.products.accumulators import Accumulator, Summation
from mpsim.products.tensor_cores import TENSOR_CORES, accumulator_of, short
from mpsim.rounding import decode
from mpsim.validate.answers import Report, SubjectError, Verdict
from mpsim.validate.dot.orders.candidates import KNOWN, beside
from mpsim.validate.dot.subjects import Model

FORMS = (".npz", ".jsonl")
#: Products that are compared at once where the first difference decides.
STEP = 160


@dataclass(frozen=True)
class DotVectorsReport(Report):
    """``different``: accumulator -> products whose results differ; ``declared``: the one asked for, or None.

    alike: accumulators beside a match (or the declared one) that give every result as well, though they are others.
    """

    inputs: str
    length: int
    vectors: int
    declared: Summation | None
    different: dict[Summation, int]
    alike: tuple[Summation, ...] = ()

    @property
    def matches(self) -> tuple[Summation, ...]:
        return tuple(accumulator for accumulator, count in self.different.items() if count == 0)

    @property
    def verdict(self) -> Verdict:
        """EQUAL if the declared accumulator gives every result, or some accumulator does where none is declared."""
        return Verdict.of(self.different[self.declared] == 0 if self.declared is not None else bool(self.matches))

    def details(self) -> dict[str, Any]:
        return {
            "inputs": self.inputs, "length": self.length, "vectors": self.vectors,
            "declared": None if self.declared is None else short(self.declared),
            "matches": [short(each) for each in self.matches], "not_told_apart": [short(each) for each in self.alike],
            "different": {short(each): count for each, count in self.different.items()},
        }  # fmt: skip

    def __str__(self) -> str:
        head = f"{self.subject}: {self.vectors} dot products of {self.length} {self.inputs} numbers"
        if self.declared is not None:
            count = self.different[self.declared]
            head += f"\n{short(self.declared)}: " + (f"{count} differ" if count else "equal in every bit")
        found = [f"  {short(each)}" for each in self.matches] or ["  none of those tried"]
        lines = [head, f"Of {len(self.different)} accumulators, these give every result:", *found]
        if self.alike:
            lines.append(f"The file's inputs do not tell {len(self.alike)} accumulators beside them apart, such as:")
            lines += [f"  {short(each)}" for each in self.alike[:4]]
        return "\n".join(lines)


@dataclass(frozen=True)
class DotVectors:
    """Products of a file. a, b: float32 numbers (size, length); expected: float32 patterns (size,)."""

    a: np.ndarray
    b: np.ndarray
    expected: np.ndarray
    inputs: str
    backend: str = DEFAULT_BACKEND

    @property
    def length(self) -> int:
        return self.a.shape[1]

    def differing(self, accumulator: Summation) -> int:
        """Returns how many results the accumulator does not give. Any NaN equals any other."""
        return int(np.count_nonzero(self._differs(accumulator, slice(None))))

    def first_not_given_by(self, accumulator: Summation) -> int | None:
        """Returns the index of a product whose result the accumulator does not give, or None if it gives all.

        The products are computed in runs of STEP, and the search ends at the first run that has one.
        """
        for start in range(0, len(self.a), STEP):
            differs = self._differs(accumulator, slice(start, start + STEP))
            if differs.any():
                return start + int(np.argmax(differs))
        return None

    def only(self, rows: Sequence[int]) -> DotVectors:
        """Returns the products of these indices."""
        return replace(self, a=self.a[list(rows)], b=self.b[list(rows)], expected=self.expected[list(rows)])

    def _differs(self, accumulator: Summation, rows: slice) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            found = Model(accumulator).dots(self.a[rows], self.b[rows], self.backend).astype(np.float32)
        expected = self.expected[rows]
        same = (found.view(np.uint32) == expected) | (np.isnan(found) & np.isnan(expected.view(np.float32)))
        return np.asarray(~same)


def validate_dot_vectors(
    path: str | Path, accumulator: Summation | str | None = None, *, backend: str = DEFAULT_BACKEND
) -> DotVectorsReport:
    """Compares the file's results with those of ``accumulator``, and of every known accumulator and tensor core.

    Raises SubjectError for a file that cannot be read or has another layout; ValueError for an unknown accumulator.
    """
    declared = accumulator_of(accumulator) if isinstance(accumulator, str) else accumulator
    vectors = read_dot_vectors(Path(path), backend)
    inputs, differing = vectors.inputs, vectors.differing
    cores = [row.accumulator for row in TENSOR_CORES.values() if row.inputs == inputs]
    tried = dict.fromkeys([*([declared] if declared else []), *KNOWN, Accumulator(fma=False), *cores])
    different = {each: differing(each) for each in tried}
    equal = [each for each, count in different.items() if count == 0]
    near = dict.fromkeys(other for each in equal for other in beside(each, inputs) if other not in different)
    alike = tuple(other for other in near if differing(other) == 0)
    return DotVectorsReport(str(path), inputs, vectors.length, len(vectors.a), declared, different, alike)


def read_dot_vectors(path: Path, backend: str = DEFAULT_BACKEND) -> DotVectors:
    """The products of a file. Raises SubjectError for a file that cannot be read or has another layout."""
    a, b, expected, inputs = _read(path)
    left, right = (decode(codes, inputs, backend=backend, threads=1) for codes in (a, b))
    return DotVectors(left, right, expected, inputs, backend)


def _read(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """(a, b, expected, inputs): codes (size, length) twice, uint32 (size,), the operands' format."""
    try:
        if path.suffix == ".npz":
            arrays = columns.npz(path, ("a", "b", "expected", "inputs"))
            a, b, expected, inputs = arrays["a"], arrays["b"], arrays["expected"], str(arrays["inputs"])
        else:
            about, *rows = columns.objects(path)
            inputs = about["inputs"]
            a, b = (np.array([[columns.word(code) for code in row[name]] for row in rows], np.uint32) for name in "ab")
            expected = np.array([columns.word(row["expected"]) for row in rows], np.uint32)
    except (OSError, KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise SubjectError(
            f"{path}: no file of dot products ({what}); see docs/vectors.md, 'mpsim vectors dot'"
        ) from None
    if a.ndim != 2 or a.shape != b.shape or expected.shape != a.shape[:1] or not len(a):
        raise SubjectError(
            f"{path}: a and b are (size, length), expected (size,); got {a.shape}, {b.shape}, {expected.shape}"
        )
    return a, b, expected.astype(np.uint32), inputs
