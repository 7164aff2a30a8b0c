"""Gives casts under test one interface, from bit patterns to results. ``open_subject`` lists the kinds of subjects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsim.errors import UsageTypeError
from mpsim.formats import FORMATS, Format
from mpsim.integers import Integer, as_integer, is_integer_name
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.rounding import decode
from mpsim.validate.answers import Outcome, SubjectError, value_keys
from mpsim.validate.sources import Source
from mpsim.validate.subjects import vectors_in, worker
from mpsim.validate.subjects.calling import Callee, Child, InProcess
from mpsim.validate.subjects.native.building import CType
from mpsim.validate.subjects.opening import Calling, is_library, open_native, open_python
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.vectors_in import Vectors
from mpsim.validate.subjects.worker import Typed


@dataclass
class Results:
    """The answer of a subject. ``space`` is "codes" or "values"."""

    space: str
    outcome: Outcome


@dataclass
class Subject:
    """A cast under test.

    Args:
        name: The name in messages.
        callee: What is called with an array of the source, and with random words if they are given.
        vectors: The pairs of a file, in place of a callee.
        format: The format that a dtype or a file declares.
        integer: The integer type that a dtype declares.
        reads: For a C function, the type of its input.
        notes: Remarks for the report.
        called: What the results depend on besides the subject itself, such as the shim of a C function.

    >>> Subject.of(lambda x: x.astype(np.float16), "half").name
    'half'
    """

    name: str
    callee: Callee | None = None
    format: Format | None = None
    vectors: Vectors | None = None
    reads: CType | None = None
    notes: list[str] = field(default_factory=list)
    called: str = ""
    integer: Integer | None = None

    @classmethod
    def of(cls, function: Callable[..., object], name: str | None = None) -> Subject:
        """Returns the subject of a Python function in this process.

        The function maps an array (and random bits) to codes or numbers.

        >>> Subject.of(abs).name
        'abs'
        """
        called = name or str(getattr(function, "__name__", type(function).__name__))
        return cls(called, InProcess(called, lambda: (worker.of_function(function), {})))

    @property
    def state(self) -> list[str]:
        """What is unusual about the floating-point arithmetic in the subject's process."""
        return [] if self.callee is None else self.callee.state

    def run(self, patterns: Array, source: Source, format: Format, random_bits: Array | None = None) -> Results:
        """Returns the subject's results for patterns of the source. Raises SubjectError if it fails."""
        return read_answer(self.answer(patterns, source, random_bits), patterns.size, format, self.name)

    def answer(self, patterns: Array, source: Source, random_bits: Array | None = None) -> Typed:
        """Returns the subject's unprocessed answer."""
        self.submit(patterns, source, random_bits)
        return self.result()

    def submit(self, patterns: Array, source: Source, random_bits: Array | None = None) -> None:
        """Sends a request without waiting (see mpsim.validate.subjects.calling.Callee)."""
        if self.callee is None:
            raise SubjectError(
                f"{self.name} holds vectors: it answers its own inputs only, and stochastic modes with its own random "
                f"words (--given-bits)"
            )
        if self.reads is not None and not self.reads.holds(8 * source.unsigned.itemsize, source.name):
            raise SubjectError(f"{self.name} reads {self.reads.name}; the source is {source.name}")
        arrays = [Typed(*source.typed(patterns, self.format is not None or self.integer is not None))]
        if random_bits is not None:
            arrays.append(Typed("uint32", random_bits))
        self.callee.submit(arrays, 16 * patterns.size + 64)

    def result(self) -> Typed:
        """Returns the answer to the first open request."""
        assert self.callee is not None
        answers = self.callee.result()
        if len(answers) != 1:
            raise SubjectError(f"{self.name} answers {len(answers)} arrays; expected one, of codes or numbers")
        return answers[0]

    @property
    def is_concurrent(self) -> bool:
        """Whether it answers while this process continues."""
        return isinstance(self.callee, Child)

    def forget(self) -> None:
        """Discards the answers to open requests."""
        if self.callee is not None:
            self.callee.forget()

    def close(self) -> None:
        """Ends the subject's process, if it has one."""
        if self.callee is not None:
            self.callee.close()


@in_default_environment
def open_subject(text: str, calling: Calling = Calling(), *, random_bits: bool = False) -> Subject:
    """Opens the subject that ``text`` names.

    Args:
        text: ``package.module:function`` or ``file.py:function`` is called with an array (and uint32 random bits) and
            returns an array of the same size, with codes as integers or numbers as floats.
            ``ml_dtypes.float8_e4m3fn``, ``numpy.float16`` and ``torch.float8_e5m2`` are dtypes to cast to.
            ``library.so:name`` is a C function. ``command:PROGRAM ARGUMENTS`` is a program that reads hex operands line
            by line and prints ``OPERAND RESULT``. A file with suffix .txt, .hex, .mem, .jsonl, .json or .npz has
            vectors.
        calling: How the subject is called.
        random_bits: Whether the subject is called with random bits.

    Raises:
        SubjectError: There is no such subject.

    >>> open_subject("numpy.float16").format.name
    'float16'
    """
    is_file = ":" not in text and Path(text).suffix in vectors_in.SUFFIXES
    if random_bits and ":" not in text and not is_file:
        raise SubjectError(f"{text} takes no random bits; a function does: package.module:function, library.so:name")
    if text.startswith("command:"):
        return Subject(text, Program(text.removeprefix("command:"), calling.timeout))
    if is_library(text):
        callee, shim = open_native(text, calling, 1 + random_bits)
        if random_bits and shim.inputs[1].bits != 32:
            raise SubjectError(f"{text} reads random bits of {shim.inputs[1].bits} bits; expected uint32_t")
        return Subject(text, callee, reads=shim.inputs[0], called=shim.call)
    if Path(text).suffix in vectors_in.SUFFIXES:
        return _of_vectors(Path(text))
    callee, dtype = open_python(text, calling)
    integer = as_integer(dtype) if dtype and is_integer_name(dtype) else None
    return Subject(text, callee, FORMATS.get(dtype or ""), called=calling.arguments, integer=integer)


def as_subject(subject: str | Subject | Callable[..., object]) -> Subject:
    """Returns a Subject unchanged, the subject that a text names, or that of a function of this process.

    Raises:
        SubjectError: There is no such subject.
        UsageTypeError: It is something else.
    """
    if isinstance(subject, Subject):
        return subject
    if isinstance(subject, str):
        return open_subject(subject)
    if callable(subject):
        return Subject.of(subject)
    raise UsageTypeError(f"a subject must be a name, a function or a Subject, got {type(subject).__name__}")


def _of_vectors(path: Path) -> Subject:
    try:
        vectors = vectors_in.read(path)
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path}: {error}") from error
    order = np.argsort(vectors.inputs, kind="stable")
    words = None if vectors.words is None else vectors.words[order]
    rising = vectors._replace(inputs=vectors.inputs[order], results=vectors.results[order], words=words)
    return Subject(str(path), format=vectors.format, vectors=rising)


def narrow_inputs(subject: Subject, source: Source) -> list[str]:
    """A note on vectors whose inputs are all narrower than the source: they may be of another type."""
    if subject.vectors is None or 8 * subject.vectors.inputs.itemsize >= source.bits:
        return []
    bits = 8 * subject.vectors.inputs.itemsize
    return [
        f"no input has more than {bits} bits, and {source.name} has {source.bits}: --source is the type of the inputs"
    ]


def read_answer(answer: Typed, size: int, format: Format, name: str) -> Results:
    """Converts an answer to codes or values. Raises SubjectError if it is neither."""
    type, words = answer
    if words.shape != (size,):
        raise SubjectError(f"{name} answered shape {words.shape} to {size} inputs of shape ({size},)")
    if type == format.name or type.startswith(("int", "uint")):
        return Results("codes", _from_codes(words, format, name))
    values = values_of(answer, name)
    return Results("values", Outcome(values, value_keys(values)))


def values_of(answer: Typed, name: str) -> Array:
    """Converts an answer of floats to float64, exactly. Raises SubjectError for other types."""
    type, words = answer
    if type in worker.PLAIN:
        with np.errstate(invalid="ignore"):
            return np.asarray(words.view(type).astype(np.float64))
    if type not in FORMATS:
        raise SubjectError(f"{name} answered {type}; expected integers (codes) or floats (numbers)")
    return np.asarray(decode(words, type, np.float64, threads=1))


def _from_codes(codes: Array, format: Format, name: str) -> Outcome:
    if codes.dtype.kind == "i":
        codes = codes.view(codes.dtype.name.replace("int", "uint"))
    if format.bits < 64 and codes.size and int(codes.max()) >> format.bits:
        raise SubjectError(f"{name} answered {int(codes.max()):#x}; codes of {format} are 0 to {2**format.bits - 1:#x}")
    values = decode(codes, format, np.float64, threads=1)
    return Outcome(values, codes.astype(np.uint64))
