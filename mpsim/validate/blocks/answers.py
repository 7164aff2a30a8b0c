"""Calls block quantisers under test, which map blocks to dequantised values, or to codes and scales."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mpsim.blocks import Quantizer
from mpsim.blocks.layout import unpacked_codes
from mpsim.blocks.quantizers.elements import Element, Integer
from mpsim.formats import FORMATS, as_format
from mpsim.kernels.contract import Array
from mpsim.rounding import decode, encode, round_to
from mpsim.validate.answers import SubjectError
from mpsim.validate.blocks.expected import Expected, Trial, per_block, to_blocks
from mpsim.validate.subjects import worker
from mpsim.validate.subjects.calling import Callee, InProcess
from mpsim.validate.subjects.casts import values_of
from mpsim.validate.subjects.opening import Calling, is_library, open_python
from mpsim.validate.subjects.worker import Typed

#: In place of a scale that is not a number of the scale's format.
NO_CODE = 0xFFFFFFFE


class BlockAnswers(NamedTuple):
    """What came back for blocks (n, size). type: of the values, in which ``values`` (float64, exact) are; "" for
    codes. codes (n, size), scales and zero points (n, 1) as uint32 or integers; the other of the kinds is None."""

    type: str
    values: Array | None
    codes: Array | None = None
    scales: Array | None = None
    points: Array | None = None

    def differ(self, expected: Expected) -> Array:
        """Returns which elements differ. A wrong scale makes all elements of its block differ.

        Of a block whose scale is NaN only the scale counts, and any NaN code stands for NaN. Values are expected as the
        answer's type holds them: the exact number in float64, else that rounded once.
        """
        if self.values is not None:
            wanted = expected.values(self.type)
            with np.errstate(invalid="ignore"):
                same = (wanted == self.values) & (np.signbit(wanted) == np.signbit(self.values))
            return np.asarray(~(same | (np.isnan(wanted) & np.isnan(self.values))))
        assert self.codes is not None
        wrong = (expected.codes != self.codes) & ~np.isnan(expected.scale_numbers)
        element = expected.quantizer.element
        if isinstance(element, Element) and element.row.has_nan:
            nan = [np.isnan(decode(each, element.row, backend="reference")) for each in (expected.codes, self.codes)]
            wrong &= ~(nan[0] & nan[1])
        wrong = wrong | (expected.scales != self.scales)
        if self.points is not None and expected.points is not None:
            wrong = wrong | ((expected.points != self.points) & ~np.isnan(expected.scale_numbers))
        return np.asarray(wrong)

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


@dataclass
class BlockSubject:
    """A quantiser of float32 arrays. ``quantizer``: what its codes and scales are read as."""

    name: str
    callee: Callee
    quantizer: Quantizer

    def ask(self, trial: Trial) -> BlockAnswers:
        """Returns its answers. Raises SubjectError if it fails or returns something else."""
        rows = trial.calls or (slice(None),)
        parts = [
            self._one(array, len(trial.blocks[part]), trial) for array, part in zip(trial.arrays(), rows, strict=True)
        ]
        if len({(part.type, part.codes is None) for part in parts}) > 1:
            raise SubjectError(f"{self.name} answers values in one call and codes in another")
        arrays = [[each for each in field if each is not None] for field in zip(*(p[1:] for p in parts), strict=True)]
        return BlockAnswers(parts[0].type, *(np.concatenate(each) if each else None for each in arrays))

    def _one(self, x: Array, count: int, trial: Trial) -> BlockAnswers:
        x = np.ascontiguousarray(x)
        answers = self.callee.call([Typed("float32", x.view(np.uint32))], 32 * x.size + 4096)
        if len(answers) == 1:
            return self._values(answers[0], x.shape, count, trial)
        if len(answers) == 2 + (self.quantizer.statistic.of == "range"):
            return self._codes(answers, x.shape, count, trial)
        points = ", zero points" * (self.quantizer.statistic.of == "range")
        raise SubjectError(f"{self.name} answered {len(answers)} arrays; expected values, or (codes, scales{points})")

    def _values(self, answer: Typed, shape: tuple[int, ...], count: int, trial: Trial) -> BlockAnswers:
        if answer.words.shape != shape or answer.type not in FORMATS:
            raise SubjectError(
                f"{self.name} answered {answer.type} of shape {answer.words.shape}; expected floats of {shape}, or "
                f"(codes, scales)"
            )
        return BlockAnswers(answer.type, to_blocks(values_of(answer, self.name), trial.group, count))

    def _codes(self, answers: list[Typed], shape: tuple[int, ...], count: int, trial: Trial) -> BlockAnswers:
        codes, scales = answers[:2]
        packed = self.quantizer.element.bits == 4 and codes.words.shape == (*shape[:-1], shape[-1] // 2)
        groups = count if self.quantizer.statistic.source == "input" else 1
        if scales.words.size not in {count, groups} or (codes.words.shape != shape and not packed):
            raise SubjectError(
                f"{self.name} answered codes of shape {codes.words.shape} and {scales.words.size} scales to {shape}"
            )
        found = self._elements(codes, packed)
        points = None
        if len(answers) == 3:
            if answers[2].words.size != count:
                raise SubjectError(f"{self.name} answered {answers[2].words.size} zero points to {shape}")
            points = per_block(answers[2].words.astype(np.int64), count)
        return BlockAnswers(
            "", None, to_blocks(found, trial.group, count), per_block(self._scales(scales), count), points
        )

    def _elements(self, part: Typed, packed: bool) -> Array:
        element = self.quantizer.element
        if isinstance(element, Integer):
            if not part.type.startswith(("int", "uint")):
                raise SubjectError(f"{self.name} answered elements of type {part.type}; expected integers")
            return part.words.astype(np.int64)
        if packed:
            packing = self.quantizer.layout.packing
            words = self._bytes(part, "two codes a byte", 8)
            return unpacked_codes(words, "low_first" if packing == "none" else packing).astype(np.uint32)
        return self._bytes(part, element.row.name, element.bits).astype(np.uint32)

    def _scales(self, part: Typed) -> Array:
        format = as_format(self.quantizer.scale.format)
        if part.type.startswith(("int", "uint")) or part.type == format.name:
            if format.bits <= 8:
                return self._bytes(part, format.name, format.bits).astype(np.uint32)
            if part.type != format.name:
                raise SubjectError(f"{self.name} answered scales of type {part.type}; expected {format.name}")
        numbers = values_of(part, self.name)
        with np.errstate(invalid="ignore"):
            near = np.asarray(round_to(numbers, format, "nearest_even", "saturate"))
            sound = (near == numbers) & (np.signbit(near) == np.signbit(numbers)) | np.isnan(numbers)
        found = encode(np.where(sound, near, 1.0), format).astype(np.uint32)
        return np.where(sound, found, np.uint32(NO_CODE))

    def _bytes(self, part: Typed, type: str, bits: int) -> Array:
        """Returns codes as unsigned integers."""
        if not part.type.startswith(("int", "uint")) and part.type != type:
            raise SubjectError(f"{self.name} answered codes of type {part.type}; expected integers or {type}")
        words = part.words.view(np.uint8) if part.words.dtype == np.int8 else part.words
        if words.size and not 0 <= int(words.min()) <= int(words.max()) < 1 << bits:
            raise SubjectError(f"{self.name} answered codes beyond the {bits} bits of {type}")
        return words.astype(np.uint16 if bits > 8 else np.uint8)


def open_blocks(subject: str | Callable[..., object], quantizer: Quantizer, calling: Calling) -> BlockSubject:
    """Opens a quantiser by name, or a function of this process. Raises SubjectError if there is none."""
    if not isinstance(subject, str):
        name = getattr(subject, "__name__", type(subject).__name__)
        function = worker.of_function(subject, calling.arguments)
        return BlockSubject(name, InProcess(name, lambda: (function, {})), quantizer)
    if ":" not in subject or subject.startswith("command:") or is_library(subject):
        raise SubjectError(f"{subject}: a block quantiser is named package.module:function or file.py:function")
    return BlockSubject(subject, open_python(subject, calling)[0], quantizer)
