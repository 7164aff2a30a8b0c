"""Blocks with answers as words of hex: what programs read and print, and files.

A line has the float32 patterns of one block, or of a row of blocks. Its answer is a number for each element (float32
patterns), or the code of each element, then that of each scale, and of each zero point if there are any. Two codes of 4
bits may share a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpsim.blocks import Quantizer
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.groups import Block, Tile
from mpsim.errors import UsageError
from mpsim.files import json_text
from mpsim.files.columns import npz, objects, text, word
from mpsim.formats import as_format
from mpsim.kernels.contract import Array
from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects.calling import TIMEOUT
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.worker import Typed

SUFFIXES = (".txt", ".hex", ".jsonl", ".npz")
#: The columns of a file. Answers are "values", or the others.
INPUT, WORDS, CODES, SCALES, POINTS, VALUES = "input", "random_bits", "expected", "scale", "zero_point", "values"
NAMES = (INPUT, CODES, SCALES, POINTS, VALUES, WORDS)


def blocks_of(quantizer: Quantizer, inputs: int) -> int:
    """Returns the number of blocks in a line of ``inputs`` numbers. Raises SubjectError if it is not whole."""
    match quantizer.group:
        case Block(size):
            wanted = size
        case Tile(rows, columns):
            wanted = rows * columns
        case _:
            return 1
    if inputs % wanted or not inputs:
        raise SubjectError(f"a line has {inputs} numbers; expected blocks of {wanted}")
    return inputs // wanted


def signed(codes: Array, element: Integer) -> Array:
    """Returns the integers of codes."""
    whole = codes.astype(np.int64)
    return np.where(element.signed & (whole >> element.bits - 1 == 1), whole - (1 << element.bits), whole)


def answers_of(table: Array, quantizer: Quantizer, inputs: int, name: str) -> list[Typed]:
    """Returns what the words (n, width), uint64, of answers stand for, as a function would answer it.

    Args:
        table: The words.
        quantizer: What they are read as.
        inputs: How many numbers a line has; name: of the subject, for errors.

    Raises:
        SubjectError: Lines have another number of words, or a word is too large.
    """
    blocks, affine, bits = blocks_of(quantizer, inputs), quantizer.statistic.of == "range", quantizer.element.bits
    width, scales = table.shape[1], blocks * (1 + affine)
    if width == inputs:
        if 0 < int(table.max(initial=0)) < 1 << bits:  # else all numbers are next to 0
            raise SubjectError(f"{name} answered {inputs} codes without a scale; expected {scales} more words a line")
        return [Typed("float32", _narrow(table, 32, name, "a number"))]
    packed = bits == 4 and width == inputs // 2 + scales
    if width != inputs + scales and not packed:
        halves = f", or {inputs // 2} and {scales}" * (bits == 4)
        raise SubjectError(
            f"{name} answered {width} words to {inputs} numbers; expected {inputs} numbers, or {inputs} codes and "
            f"{scales} {'scales and zero points' if affine else 'scales'}{halves}"
        )
    end = width - scales
    codes = _narrow(table[:, :end], 8 if packed else bits, name, "a code")
    format = as_format(quantizer.scale.format)
    stored = _narrow(table[:, end : end + blocks], format.bits, name, "a scale")
    found = [
        Typed(codes.dtype.name, codes), Typed(stored.dtype.name if format.bits <= 8 else format.name, stored)
    ]  # fmt: skip
    if isinstance(quantizer.element, Integer):
        if not packed:
            found[0] = Typed("int64", signed(codes, quantizer.element))
        if affine:
            found.append(Typed("int64", signed(_narrow(table[:, end + blocks :], bits, name, "a zero point"),
                                               quantizer.element)))  # fmt: skip
    return found


def _narrow(words: Array, bits: int, name: str, what: str) -> Array:
    if words.size and int(words.max()) >> bits:
        raise SubjectError(f"{name} answered {int(words.max()):#x} as {what}, which has {bits} bits")
    return np.ascontiguousarray(words.astype(f"uint{next(width for width in (8, 16, 32, 64) if bits <= width)}"))


class BlockProgram(Program):
    """A program that reads a line of hex words for each block, and prints a line of words."""

    def __init__(self, text: str, quantizer: Quantizer, decodes: bool = False, timeout: float = TIMEOUT) -> None:
        super().__init__(text, timeout)
        self._quantizer, self._decodes = quantizer, decodes

    def call(self, arrays: Sequence[Typed], most: int) -> list[Typed]:
        """See mpsim.validate.subjects.calling.Callee. The words of several arrays follow each other on a line."""
        table, inputs = _table(self._ask(arrays), self.name), arrays[0].words[0].size
        if not self._decodes:
            return answers_of(table, self._quantizer, inputs, self.name)
        if table.shape[1] != inputs:
            raise SubjectError(f"{self.name} answered {table.shape[1]} words to {inputs} codes; expected numbers")
        return [Typed("float32", _narrow(table, 32, self.name, "a number"))]


def _table(rows: Sequence[Sequence[object]], name: str) -> Array:
    """Returns lines of words, hex digits or integers, as uint64."""
    if len({len(row) for row in rows}) > 1:
        raise SubjectError(f"{name} has lines of different numbers of words")
    try:
        found = np.array([[word(each) for each in row] for row in rows], np.uint64)
    except UsageError as error:
        raise SubjectError(f"{name}: {error}") from error
    return found.reshape(len(rows), -1) if rows else np.zeros((0, 0), np.uint64)


class BlockFile(NamedTuple):
    """Blocks of a file, float32 (n, inputs), their answers, and random words if there are some.

    ``inputs`` is the number of numbers in a line, and ``across`` that of blocks.
    """

    numbers: Array
    words: Array | None
    answers: list[Typed]
    inputs: int
    across: int


def read(path: Path, quantizer: Quantizer) -> BlockFile:
    """Reads a file of blocks and answers, as ``mpsim vectors blocks`` writes it.

    Hex text has lines ``INPUT … CODE … SCALE … [ZERO_POINT …] [RANDOM …]`` or ``INPUT … VALUE …``. JSON lines and npz
    have ``input``, and ``expected``, ``scale`` and ``zero_point`` or ``values``.

    Raises:
        SubjectError: The file cannot be read, or holds something else.
    """
    try:
        columns = {".npz": _npz, ".jsonl": _json}.get(path.suffix, _text)(path, quantizer)
        if INPUT not in columns or not ({CODES, SCALES} <= set(columns) or VALUES in columns):
            raise UsageError(f"expected 'input', and 'expected' and 'scale' or 'values'; found {', '.join(columns)}")
    except (OSError, ValueError, KeyError) as error:
        raise SubjectError(f"{path}: {error}") from error
    rows = len(columns[INPUT])
    if not rows or any(len(column) != rows for column in columns.values()):
        raise SubjectError(f"{path}: expected as many answers as inputs, and at least one")
    inputs = columns[INPUT].shape[1]
    names = (CODES, SCALES, POINTS) if CODES in columns else (VALUES,)
    table = np.concatenate([columns[name] for name in names if name in columns], axis=1)
    numbers = _narrow(columns[INPUT], 32, str(path), "a number").view(np.float32)
    words = _narrow(columns[WORDS], 32, str(path), "a random word") if WORDS in columns else None
    return BlockFile(
        numbers, words, answers_of(table, quantizer, inputs, str(path)), inputs, blocks_of(quantizer, inputs)
    )


def _text(path: Path, quantizer: Quantizer) -> Mapping[str, Array]:
    lines = text(path).splitlines()
    table = _table([row for line in lines if (row := line.split("//")[0].split("#")[0].split())], str(path))
    if not len(table):
        raise UsageError("no lines of inputs and answers")
    comment = lines[0].partition("; ")[2] if lines[0].startswith("//") else ""
    described = json_text.decoded(comment) if comment.startswith("{") else {}
    if "columns" in described:
        widths = described["columns"]
        if not isinstance(widths, dict) or any(type(width) is not int or width < 0 for width in widths.values()):
            raise UsageError(f"'columns' are names and numbers of words, got {str(widths)[:60]}")
    else:
        rows, columns = quantizer.group.shape
        if rows is None or columns is None:
            raise UsageError(
                'the lines of rows, columns and tensors need a first line as \'// ; {"columns": {"input": 64, '
                '"expected": 64, "scale": 1}}\''
            )
        size = rows * columns
        random = size * quantizer.element.policy.mode.needs_random_bits
        widths = {INPUT: size, CODES: table.shape[1] - size - random, WORDS: random}
        if widths[CODES] == size:
            widths = {INPUT: size, VALUES: size, WORDS: random}
        if CODES in widths:
            scales = 1 + (quantizer.statistic.of == "range")
            widths = {INPUT: size, CODES: widths[CODES] - scales, SCALES: scales, WORDS: random}
        if min(widths.values()) < 0:
            raise UsageError(f"lines have {table.shape[1]} words; expected {size} numbers and their answers")
    if sum(widths.values()) != table.shape[1]:
        raise UsageError(f"lines have {table.shape[1]} words; expected {sum(widths.values())}")
    ends = np.cumsum([0, *widths.values()])
    return {name: table[:, ends[i] : ends[i + 1]] for i, name in enumerate(widths) if widths[name]}


def _json(path: Path, quantizer: Quantizer) -> Mapping[str, Array]:
    rows = [row for row in objects(path) if INPUT in row]
    names = [name for name in NAMES if rows and name in rows[0]]
    for number, row in enumerate(rows, 1):
        if lacking := [name for name in names if name not in row]:
            raise UsageError(f"block {number} has no {lacking[0]!r}, which the first one has")
    return {name: _table([_words(row[name]) for row in rows], f"{path}, {name}") for name in names}


def _words(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _npz(path: Path, quantizer: Quantizer) -> Mapping[str, Array]:
    found = npz(path, NAMES)
    for name, array in found.items():
        if array.dtype.kind not in "iuf" or not array.ndim or not array.size:
            raise UsageError(f"{name!r} is {array.dtype} of shape {array.shape}; expected words (n, k)")
    halves = INPUT in found and CODES in found and found[CODES].size == found[INPUT].size // 2
    return {name: _npz_words(name, array, quantizer, halves).reshape(len(array), -1) for name, array in found.items()}


def _npz_words(name: str, array: Array, quantizer: Quantizer, halves: bool) -> Array:
    """Returns an array as uint64 words. halves: whether the codes are two a byte."""
    if array.dtype.kind == "f" and name in (INPUT, VALUES):
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
        if not np.array_equal(single.astype(array.dtype), array, equal_nan=True):
            raise UsageError(f"{name!r} is {array.dtype}, and has numbers that float32 does not hold")
        array = single
    elif array.dtype.kind == "f" and (name != SCALES or array.dtype.name != as_format(quantizer.scale.format).name):
        raise UsageError(
            f"{name!r} is {array.dtype}; expected codes. Numbers in place of codes and scales are {VALUES!r}"
        )
    words = np.ascontiguousarray(array).view(f"uint{8 * array.dtype.itemsize}").astype(np.uint64)
    if name in (CODES, POINTS) and isinstance(quantizer.element, Integer) and not (halves and name == CODES):
        bits = quantizer.element.bits
        below = (array < 0) & (array >= -(1 << bits - 1))
        words = np.where(below, words & np.uint64((1 << bits) - 1), words)
    return np.asarray(words)
