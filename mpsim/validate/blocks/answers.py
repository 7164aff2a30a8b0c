"""Calls block quantisers under test, which map blocks to dequantised values, or to codes and scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpsim.blocks import BlockFormat, Blocks, dequantize
from mpsim.formats import FORMATS
from mpsim.kernels.contract import Array
from mpsim.rounding import decode, round_to
from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects import worker
from mpsim.validate.subjects.calling import Callee, InProcess
from mpsim.validate.subjects.casts import values_of
from mpsim.validate.subjects.opening import Calling, is_library, open_python
from mpsim.validate.subjects.worker import Typed


class BlockAnswers(NamedTuple):
    """What came back for blocks (n, size). type: of the values, in which ``values`` (float64, exact) are; "" for
    codes. codes (n, size) and scales (n, 1), uint8; the other of the two kinds is None."""

    type: str
    values: Array | None
    codes: Array | None = None
    scales: Array | None = None

    def differ(self, expected: Blocks) -> Array:
        """Returns which elements differ. A wrong scale makes all elements of its block differ.

        Of a block whose scale is NaN only the scale counts. Values are expected as the answer's type holds them: the
        exact number in float64, else that rounded once.
        """
        if self.values is not None:
            wanted = expected_values(expected, self.type)
            with np.errstate(invalid="ignore"):
                same = (wanted == self.values) & (np.signbit(wanted) == np.signbit(self.values))
            return np.asarray(~(same | (np.isnan(wanted) & np.isnan(self.values))))
        numbers = decode(expected.scales, expected.format.scale, np.float64, backend="reference")
        wrong = (expected.codes != self.codes) & ~np.isnan(numbers)
        return np.asarray(wrong | (expected.scales != self.scales))

    def equals(self, other: BlockAnswers) -> bool:
        """Returns whether both are equal. All NaNs count as equal."""
        for ours, theirs in zip(self[1:], other[1:], strict=True):
            if ours is None or theirs is None:
                if ours is not theirs:
                    return False
            elif not np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f"):
                return False
        return True

    def at(self, rows: Array) -> BlockAnswers:
        """Returns the answers for some of the blocks."""
        parts = (None if part is None else part[rows] for part in self[1:])
        return BlockAnswers(self.type, *parts)


def expected_values(expected: Blocks, type: str) -> Array:
    """Returns the numbers of blocks as a type represents them, in float64."""
    exact = dequantize(expected, np.float64)
    if type == "float64":
        return exact
    rounded = round_to(exact, type, "nearest_even", "infinity", threads=1)
    return np.asarray(rounded, np.float64)


@dataclass
class BlockSubject:
    """A quantiser of float32 blocks, one per row."""

    name: str
    callee: Callee
    format: BlockFormat

    def ask(self, x: Array) -> BlockAnswers:
        """Returns its answers. Raises SubjectError if it fails or returns something else."""
        x = np.ascontiguousarray(x)
        answers = self.callee.call([Typed("float32", x.view(np.uint32))], 32 * x.size + 4096)
        if len(answers) == 1:
            return self._values(answers[0], x.shape)
        if len(answers) == 2:
            return self._codes(answers[0], answers[1], x.shape)
        raise SubjectError(f"{self.name} answered {len(answers)} arrays; expected values, or (codes, scales)")

    def _values(self, answer: Typed, shape: tuple[int, ...]) -> BlockAnswers:
        if answer.words.shape != shape or answer.type not in FORMATS:
            raise SubjectError(
                f"{self.name} answered {answer.type} of shape {answer.words.shape}; expected floats of {shape}, or "
                f"(codes, scales)"
            )
        return BlockAnswers(answer.type, values_of(answer, self.name))

    def _codes(self, codes: Typed, scales: Typed, shape: tuple[int, ...]) -> BlockAnswers:
        row = self.format
        if codes.words.shape != shape or scales.words.size != len(codes.words):
            raise SubjectError(
                f"{self.name} answered codes of shape {codes.words.shape} and {scales.words.size} scales to {shape}"
            )
        found = [self._bytes(part, form.name, form.bits) for part, form in ((codes, row.element), (scales, row.scale))]
        return BlockAnswers("", None, found[0], found[1].reshape(-1, 1))

    def _bytes(self, part: Typed, type: str, bits: int) -> Array:
        """Returns codes as uint8."""
        if not part.type.startswith(("int", "uint")) and part.type != type:
            raise SubjectError(f"{self.name} answered codes of type {part.type}; expected integers or {type}")
        words = part.words.view(np.uint8) if part.words.dtype == np.int8 else part.words
        if words.size and not 0 <= int(words.min()) <= int(words.max()) < 1 << bits:
            raise SubjectError(f"{self.name} answered codes beyond the {bits} bits of {type}")
        return words.astype(np.uint8)


def open_blocks(subject: str | Callable[..., object], format: BlockFormat, calling: Calling) -> BlockSubject:
    """Opens a quantiser by name, or a function of this process. Raises SubjectError if there is none."""
    if not isinstance(subject, str):
        name = getattr(subject, "__name__", type(subject).__name__)
        function = worker.of_function(subject, calling.arguments)
        return BlockSubject(name, InProcess(name, lambda: (function, {})), format)
    if ":" not in subject or subject.startswith("command:") or is_library(subject):
        raise SubjectError(f"{subject}: a block quantiser is named package.module:function or file.py:function")
    return BlockSubject(subject, open_python(subject, calling)[0], format)
