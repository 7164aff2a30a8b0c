"""Two arrays of one tensor compared: how many numbers differ, by how many codes of the format, and the first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.rounding import encode
from mpsim.validate.grid import distances, off_grid


@dataclass(frozen=True)
class Number:
    """One number: value, bits as float32, and its code in the tensor's format (None if it has no code)."""

    value: float
    bits: str
    code: str | None

    @classmethod
    def of(cls, value: np.float32, format: Format) -> Number:
        code = None
        on_grid = not off_grid(np.array([value], np.float32), format)[0]
        if on_grid and not (math.isinf(value) and not format.has_infinity) and (format.has_nan or value == value):
            code = f"0x{int(encode(value, format, backend='reference')):0{-(-format.bits // 4)}x}"
        return cls(float(value), f"0x{int(value.view(np.uint32)):08x}", code)

    def __str__(self) -> str:
        code = "" if self.code in (None, self.bits) else f", code {self.code}"
        return f"{self.value!r} ({self.bits}{code})"


@dataclass(frozen=True)
class Difference:
    """The first place where two arrays differ."""

    index: tuple[int, ...]
    expected: Number
    got: Number


@dataclass(frozen=True)
class TensorComparison:
    """A tensor of a step, ours (expected) against the other's (got).

    differing: elements whose values differ, NaN being one value; zero_signs: those that differ in the sign of zero
    only. largest_distance: in codes of ``format`` (``distances``), over all elements. unexplained: elements that
    float32 sums in another order do not explain (``explain``, where replayed; else all); unexplained_distance: the
    largest distance of these. open: elements that such sums could have moved.
    off_grid: elements of the other's that are not numbers of the format. lost, made: elements zero in the other's
    only, and in ours only. first: where they first differ. causes: sentences on what would explain it.
    """

    name: str
    format: Format
    shape: tuple[int, ...]
    differing: int = 0
    zero_signs: int = 0
    largest_distance: int = 0
    unexplained: int = 0
    unexplained_distance: int = 0
    open: int = 0
    off_grid: int = 0
    lost: int = 0
    made: int = 0
    first: Difference | None = None
    op: str = ""
    causes: tuple[str, ...] = ()

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def differing_share(self) -> float:
        """Elements whose values differ / all elements."""
        return self.differing / self.elements if self.elements else 0.0

    @property
    def equal(self) -> bool:
        """Whether every bit is the same (payloads of NaN aside)."""
        return self.differing == 0 and self.zero_signs == 0

    @property
    def suspect(self) -> bool:
        """Whether an element differs for no reason known, or more follow another rounding than sums can make them."""
        return self.unexplained > 0 or bool(self.causes)

    def __str__(self) -> str:
        what = f"{self.name} ({self.op}, {self.format})" if self.op else f"{self.name} ({self.format})"
        if self.equal:
            return f"{what}: equal"
        if not self.differing:
            return f"{what}: {self.zero_signs} of {self.elements} differ in the sign of zero"
        return f"{what}: {self.differing} of {self.elements} differ, by {_codes(self.largest_distance, self.format)}"

    def details(self) -> list[str]:
        """Further lines: the first difference, and what stands out."""
        lines = []
        if self.first is not None:
            at = ", ".join(map(str, self.first.index))
            lines.append(f"first at [{at}]: expected {self.first.expected}, got {self.first.got}")
        for count, what in (
            (0 if self.unexplained == self.differing else self.unexplained, "not explained by another order of sums"),
            (self.off_grid, f"are not numbers of {self.format}"),
            (self.lost, "are zero and should not be"),
            (self.made, "should be zero and are not"),
        ):
            if count:
                lines.append(f"{count} of {self.elements} {what}")
        return lines + list(self.causes)

    def to_dict(self) -> Record:
        """The fields, for JSON."""
        first: Record | None = None
        if self.first is not None:
            first = {
                "index": list(self.first.index),
                "expected": vars(self.first.expected),
                "got": vars(self.first.got),
            }
        return {
            "name": self.name,
            "op": self.op,
            "format": self.format.name,
            "shape": list(self.shape),
            "equal": self.equal,
            "differing": self.differing,
            "differing_share": self.differing_share,
            "zero_signs": self.zero_signs,
            "largest_distance": self.largest_distance,
            "unexplained": self.unexplained,
            "unexplained_distance": self.unexplained_distance,
            "open": self.open,
            "off_grid": self.off_grid,
            "lost": self.lost,
            "made": self.made,
            "first": first,
            "causes": list(self.causes),
        }


def _codes(distance: int, format: Format) -> str:
    if distance >= 1 << format.bits:
        return "a NaN against a number"
    return f"up to {distance} code{'s' if distance != 1 else ''}"


def compare_arrays(name: str, expected: Array, got: Array, format: Format, op: str = "") -> TensorComparison:
    """Compares two float32 (or two integer) arrays of one shape.

    >>> from mpsim.formats import FORMATS
    >>> str(compare_arrays("Y/1/0", np.float32([1, 2]), np.float32([1, 2.25]), FORMATS["float8_e4m3fn"]))
    'Y/1/0 (float8_e4m3fn): 1 of 2 differ, by up to 1 code'
    """
    if expected.dtype.kind in "iub":
        expected, got = expected.astype(np.float32), got.astype(np.float32)  # labels
    both_nan = np.isnan(expected) & np.isnan(got)
    differ = (expected != got) & ~both_nan
    zero_signs = (expected == 0) & (got == 0) & (np.signbit(expected) != np.signbit(got))
    wrong = differ | zero_signs
    common = {"name": name, "format": format, "shape": expected.shape, "op": op}
    if not wrong.any():
        return TensorComparison(**common)
    at = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong.ndim else ()
    ours, theirs = expected[differ], got[differ]
    largest = int(distances(ours, theirs, format).max(initial=0))
    return TensorComparison(
        **common,
        differing=int(differ.sum()),
        unexplained=int(differ.sum()),
        zero_signs=int(zero_signs.sum()),
        largest_distance=largest,
        unexplained_distance=largest,
        off_grid=int(off_grid(theirs, format).sum()),
        lost=int(((theirs == 0) & (ours != 0)).sum()),
        made=int(((ours == 0) & (theirs != 0)).sum()),
        first=Difference(at, Number.of(expected[at], format), Number.of(got[at], format)),
    )


def explain(found: TensorComparison, expected: Array, got: Array, low: Array, high: Array) -> TensorComparison:
    """``found`` with the differences explained that lie between ``low`` and ``high``, what sums could have given."""
    possible = (got >= low) & (got <= high) & ~off_grid(got, found.format)
    differ = (expected != got) & ~(np.isnan(expected) & np.isnan(got))
    unexplained = differ & ~possible
    distance = int(distances(expected[unexplained], got[unexplained], found.format).max(initial=0))
    return replace(
        found,
        unexplained=int(unexplained.sum()),
        open=int((low != high).sum()),
        unexplained_distance=distance,
    )


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without axes of one element.

    >>> squeezed((1, 3, 1))
    (3,)
    """
    return tuple(size for size in shape if size != 1)
