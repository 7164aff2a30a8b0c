"""Block quantisers and dequantisers under test: Python and C functions, programs, and files of answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpsim.blocks import Quantizer
from mpsim.blocks.layout import unpacked_codes
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.groups import Column, Group, Row, Tile
from mpsim.formats import FORMATS, as_format
from mpsim.kernels.contract import Array
from mpsim.rounding import encode, round_to
from mpsim.validate.answers import SubjectError
from mpsim.validate.blocks.answers import NO_CODE, BlockAnswers
from mpsim.validate.blocks.expected import Trial, per_block, to_blocks
from mpsim.validate.blocks.lines import SUFFIXES, BlockFile, BlockProgram, read, signed
from mpsim.validate.subjects import worker
from mpsim.validate.subjects.calling import Callee, InProcess
from mpsim.validate.subjects.casts import values_of
from mpsim.validate.subjects.native.building import CType
from mpsim.validate.subjects.native.roles import Kind
from mpsim.validate.subjects.opening import Calling, is_library, open_native, open_python
from mpsim.validate.subjects.worker import Typed

#: What a C function's arrays hold before the call, in bytes.
UNWRITTEN = 0xA5


@dataclass
class BlockSubject:
    """A quantiser of float32 arrays, or a dequantiser.

    Args:
        name: The name in messages.
        callee: What is called; None for a file.
        quantizer: What codes and scales are read as.
        reads: The types of a C function's inputs. Its outputs are as large as its first input, and their beginnings are
            used.
        in_lines: Whether the callee takes one block, or row of blocks, a line.
        file: The answers of a file.
    """

    name: str
    callee: Callee | None
    quantizer: Quantizer
    reads: tuple[CType, ...] = ()
    in_lines: bool = False
    file: BlockFile | None = None

    @property
    def state(self) -> tuple[str, ...]:
        """What is unusual about the subject's floating-point arithmetic."""
        return () if self.callee is None else tuple(self.callee.state)

    def ask(self, trial: Trial) -> BlockAnswers:
        """Returns its answers. Raises SubjectError if it fails or returns something else."""
        if self.file is not None:
            return self._read(self.file.answers, self.file.numbers.shape, len(trial.blocks), Row())
        words = [None] * max(len(trial.calls), 1) if trial.words is None else trial.in_calls(trial.words)
        calls = zip(trial.arrays(), words, trial.calls or (slice(None),), strict=True)
        parts = [self._one(array, bits, len(trial.blocks[part]), trial.group) for array, bits, part in calls]
        if len({(part.type, part.codes is None) for part in parts}) > 1:
            raise SubjectError(f"{self.name} answers values in one call and codes in another")
        arrays = [[each for each in field if each is not None] for field in zip(*(p[1:] for p in parts), strict=True)]
        return BlockAnswers(parts[0].type, *(np.concatenate(each) if each else None for each in arrays))

    def _one(self, x: Array, words: Array | None, count: int, group: Group) -> BlockAnswers:
        given = [x, *([] if words is None else [words])]
        if self.in_lines and isinstance(group, Tile | Column):
            given, group = [to_blocks(each, group, count) for each in given], Row()
        given = [np.ascontiguousarray(each) for each in given]
        names = ("float32", "uint32")
        answers = self.call([Typed(name, each.view(np.uint32)) for name, each in zip(names, given, strict=False)])
        shape = given[0].shape
        if self.reads:
            answers = self._written(answers, shape, count, count if self.quantizer.statistic.source == "input" else 1)
        return self._read(answers, shape, count, group)

    def call(self, arrays: Sequence[Typed]) -> list[Typed]:
        """Returns its unprocessed answer. Raises SubjectError for a C function of other types."""
        assert self.callee is not None
        for each, type in zip(arrays, self.reads, strict=False):
            if not type.holds(8 * each.words.itemsize, each.type):
                raise SubjectError(f"{self.name} reads {type.name} where it is given {each.type}")
        return self.callee.call(arrays, 48 * arrays[0].words.size + 4096)

    def _written(self, answers: list[Typed], shape: tuple[int, ...], count: int, groups: int) -> list[Typed]:
        """What a C function wrote: two codes a byte leave the second half of their array as it was."""
        if len(answers) == 1:
            return answers
        codes, *others = answers
        half = codes.words.reshape(-1).view(np.uint8)
        if (
            self.quantizer.element.bits == 4
            and codes.words.itemsize == 1
            and (half[half.size // 2 :] == UNWRITTEN).all()
        ):
            packed = codes.words.reshape(-1)[: half.size // 2].reshape(*shape[:-1], shape[-1] // 2)
            codes = Typed(codes.type, packed)
        for each in others:
            if (each.words.reshape(-1)[count:].view(np.uint8) != UNWRITTEN).any():
                raise SubjectError(f"{self.name} writes more than {count} scales or zero points to {shape}")
        return [codes, *(Typed(each.type, each.words.reshape(-1)[:groups]) for each in others)]

    def _read(self, answers: list[Typed], shape: tuple[int, ...], count: int, group: Group) -> BlockAnswers:
        if len(answers) == 1:
            return self._values(answers[0], shape, count, group)
        if len(answers) == 2 + (self.quantizer.statistic.of == "range"):
            return self._codes(answers, shape, count, group)
        points = ", zero points" * (self.quantizer.statistic.of == "range")
        raise SubjectError(f"{self.name} answered {len(answers)} arrays; expected values, or (codes, scales{points})")

    def _values(self, answer: Typed, shape: tuple[int, ...], count: int, group: Group) -> BlockAnswers:
        if answer.words.shape != shape or answer.type not in FORMATS:
            raise SubjectError(
                f"{self.name} answered {answer.type} of shape {answer.words.shape}; expected floats of {shape}, or "
                f"(codes, scales)"
            )
        return BlockAnswers(answer.type, to_blocks(values_of(answer, self.name), group, count))

    def _codes(self, answers: list[Typed], shape: tuple[int, ...], count: int, group: Group) -> BlockAnswers:
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
        return BlockAnswers("", None, to_blocks(found, group, count), per_block(self._scales(scales), count), points)

    def _elements(self, part: Typed, packed: bool) -> Array:
        element = self.quantizer.element
        if packed:
            packing = self.quantizer.layout.packing
            words = self._bytes(part, "two codes a byte", 8)
            codes = unpacked_codes(words, "low_first" if packing == "none" else packing)
            return signed(codes, element) if isinstance(element, Integer) else codes.astype(np.uint32)
        if isinstance(element, Integer):
            if not part.type.startswith(("int", "uint")):
                raise SubjectError(f"{self.name} answered elements of type {part.type}; expected integers")
            return part.words.astype(np.int64)
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


def open_blocks(
    subject: str | Callable[..., object], quantizer: Quantizer, calling: Calling, *, inputs: int = 1,
    decodes: bool = False,
) -> BlockSubject:  # fmt: skip
    """Opens a quantiser by name, or a function of this process.

    Args:
        subject: "package.module:function", "file.py:function", "library.so:name", "command:PROGRAM ARGUMENTS", a file
            of blocks with answers, or a function.
        quantizer: What codes and scales are read as.
        calling: How it is called.
        inputs: The number of arrays that it takes: 2 for (numbers, random words) and (codes, scales).
        decodes: Whether it is a dequantiser.

    Raises:
        SubjectError: There is no such subject.
    """
    if not isinstance(subject, str):
        name = getattr(subject, "__name__", type(subject).__name__)
        function = worker.of_function(subject, calling.arguments)
        return BlockSubject(name, InProcess(name, lambda: (function, {})), quantizer)
    if subject.startswith("command:"):
        program = BlockProgram(subject.removeprefix("command:"), quantizer, decodes, calling.timeout)
        return BlockSubject(subject, program, quantizer, in_lines=True)
    if is_library(subject):
        callee, shim = open_native(subject, calling, inputs, Kind.BLOCKS, quantizer.group.shape)
        return BlockSubject(subject, callee, quantizer, shim.inputs)
    if Path(subject).suffix in SUFFIXES:
        if decodes:
            raise SubjectError(f"{subject}: a dequantiser is a function or a program, not a file")
        return BlockSubject(subject, None, quantizer, file=read(Path(subject), quantizer))
    if ":" not in subject:
        raise SubjectError(f"{subject}: a block quantiser is named package.module:function or file.py:function")
    return BlockSubject(subject, open_python(subject, calling)[0], quantizer)
