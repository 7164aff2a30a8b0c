"""Subjects that have many operations: Python functions, C functions and files of answers, found by their names."""

from __future__ import annotations

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.contract import Array
from mpsim.validate.answers import SubjectError
from mpsim.validate.conformance import dispatch
from mpsim.validate.conformance.specializations import Specialization
from mpsim.validate.subjects import testfloat
from mpsim.validate.subjects.calling import Child, InProcess
from mpsim.validate.subjects.native.building import exported
from mpsim.validate.subjects.opening import Calling, is_library, open_native, open_spec
from mpsim.validate.subjects.worker import Typed

PLACEHOLDERS = tuple(
    name for stem in ("operation", "formats", "result", "mode", "saturation") for name in (stem, stem.capitalize())
)
_DISPATCH = str(Path(dispatch.__file__))


class Absent(Exception):
    """The subject does not have an operation."""


class NoOperations(SubjectError):
    """The subject has no operation at all: its module cannot be imported, or its function makes no operations."""


class Answers(NamedTuple):
    """What a subject answered to which operands, uint64."""

    codes: list[Array]
    results: Array


class Subject(Protocol):
    """An implementation of many operations."""

    name: str
    #: Whether the subject decides which operands there are.
    has_operands: bool

    def ask(self, each: Specialization, codes: Sequence[Array]) -> Answers:
        """Return the answers. Raises Absent or SubjectError."""


def open_implementation(subject: str, calling: Calling = Calling()) -> Subject:
    """Open an implementation by name.

    Args:
        subject: "file.py:function" or "package.module:function": a function that returns the function of an operation;
            the same with placeholders in the function's name; "library.so:name" with placeholders; or a path with
            placeholders of files in TestFloat's text.

    Raises:
        SubjectError: The name has none of these forms.
    """
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(subject) if name is not None}
    except ValueError as error:
        raise SubjectError(f"{subject!r} has a placeholder that is not whole: {error}") from None
    if unknown := sorted(names - set(PLACEHOLDERS)):
        raise SubjectError(f"{subject!r} has {{{unknown[0]}}}; known are {', '.join(f'{{{n}}}' for n in PLACEHOLDERS)}")
    if is_library(subject):
        return _Library(subject, calling)
    if Path(subject).suffix in testfloat.SUFFIXES:
        return _Files(subject)
    place, colon, name = subject.rpartition(":")
    if not colon or not place or not name:
        raise SubjectError(
            f"{subject!r} names no implementation; expected file.py:function, library.so:{{operation}}_{{formats}}, "
            f"or a path of answers, as answers/{{operation}}_{{formats}}_{{mode}}.txt"
        )
    return _Python(subject, calling, bool(names))


class _Python:
    """Functions of one Python module, in one process that is started again after a crash."""

    has_operands = False

    def __init__(self, name: str, calling: Calling, is_pattern: bool) -> None:
        if calling.arguments != "numpy":
            raise SubjectError("an implementation's functions are given NumPy arrays of codes, not tensors")
        self.name, self._calling, self._is_pattern = name, calling, is_pattern
        self._callee: Child | InProcess | None = None

    def ask(self, each: Specialization, codes: Sequence[Array]) -> Answers:
        """See Subject."""
        place, _, name = (each.named(self.name) if self._is_pattern else self.name).rpartition(":")
        one_place = "{" not in self.name.rpartition(":")[0]
        asked = {"place": place, "name": name, "one_place": one_place} | (
            {} if self._is_pattern else {"parameters": each.parameters}
        )
        request = Typed("uint8", np.frombuffer(json.dumps(asked).encode(), np.uint8))
        if self._callee is None:
            spec = {"kind": "function", "place": _DISPATCH, "name": "call", "arguments": "numpy"}
            self._callee = open_spec(self.name, spec, self._calling)
        try:
            found = self._callee.call([request, *map(_typed, codes)], 16 * codes[0].size + 4096)
        except SubjectError as error:
            self._callee.close()
            self._callee = None
            text, mark, _ = str(error).rpartition(f" ({dispatch.Unusable.__name__})")
            if mark:
                raise NoOperations(text) from error
            raise
        words = found[0].words
        if words.shape == (2,) and (words == dispatch.ABSENT).all():
            raise Absent
        return Answers(list(codes), _results(self.name, found[0], codes))


class _Library:
    """C functions, found by name; each is compiled into a separate process."""

    has_operands = False

    def __init__(self, name: str, calling: Calling) -> None:
        self.name, self._calling = name, calling

    def ask(self, each: Specialization, codes: Sequence[Array]) -> Answers:
        """See Subject."""
        name = each.named(self.name)
        place, _, function = name.rpartition(":")
        if Path(place).exists():
            try:
                exported(Path(place), function)
            except SubjectError:
                raise Absent from None
        callee, shim = open_native(name, self._calling, len(codes))
        try:
            for array, type in zip(codes, shim.inputs, strict=True):
                if type.bits != 8 * array.itemsize:
                    raise SubjectError(f"{name} reads {type.name}; the codes have {8 * array.itemsize} bits")
            found = callee.call([*map(_typed, codes)], 16 * codes[0].size + 4096)
            return Answers(list(codes), _results(name, found[0], codes))
        finally:
            callee.close()


class _Files:
    """Files in TestFloat's text, one for each operation, with operands of their own. Flags are not compared."""

    has_operands = True

    def __init__(self, name: str) -> None:
        self.name = name

    def ask(self, each: Specialization, codes: Sequence[Array]) -> Answers:
        """See Subject."""
        path = Path(each.named(self.name))
        if not path.exists():
            raise Absent
        try:
            lines = testfloat.read(path, len(codes))
        except (UsageError, OSError, UnicodeDecodeError) as error:
            raise SubjectError(str(error)) from error
        bits = [format.bits for format in each.formats] + [32] * (each.random_bit_count is not None)
        for column, width in zip(lines.operands, bits, strict=True):
            if (largest := int(column.max())) >> width:
                raise SubjectError(f"{path} has the operand {largest:#x}; expected at most {2**width - 1:#x}")
        return Answers([c.astype(a.dtype) for c, a in zip(lines.operands, codes, strict=True)], lines.results)


def _typed(codes: Array) -> Typed:
    return Typed(codes.dtype.name, codes)


def _results(name: str, answer: Typed, codes: Sequence[Array]) -> Array:
    """An answer as uint64. Raises SubjectError where it is not one integer for each row of operands."""
    words = answer.words
    if not answer.type.startswith(("int", "uint")):
        raise SubjectError(f"{name} answers {answer.type}; expected codes, i.e. integers, or truth values")
    if words.shape != codes[0].shape:
        raise SubjectError(f"{name} answers shape {words.shape}; expected {codes[0].shape}")
    unsigned = words.view(words.dtype.name.replace("int", "uint")) if words.dtype.kind == "i" else words
    return unsigned.astype(np.uint64)
