"""Casts under test behind one interface: bit patterns in, results out. ``open_subject`` lists what a subject may be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array
from mpsim.rounding import decode
from mpsim.validate.answers import Outcome, SubjectError, value_keys
from mpsim.validate.sources import Source
from mpsim.validate.subjects import vectors_in, worker
from mpsim.validate.subjects.calling import Callee, Child, InProcess
from mpsim.validate.subjects.opening import Calling, is_library, open_native, open_python
from mpsim.validate.subjects.programs import Program
from mpsim.validate.subjects.vectors_in import Vectors
from mpsim.validate.subjects.worker import Typed


@dataclass
class Results:
    """What a subject answered: "codes" of the format, or "values"; both as an Outcome."""

    space: str
    outcome: Outcome


@dataclass
class Subject:
    """A cast under test.

    callee: what is called with an array of the source (and words, for given random bits). vectors: the pairs of a file,
    in place of something to call. format: what a dtype or a file says it is, else None. reads: of a C function, bits
    and name of the type of its input ("" for integers). called: in words, what its results depend on beside itself.
    """

    name: str
    callee: Callee | None = None
    format: Format | None = None
    vectors: Vectors | None = None
    reads: tuple[int, str] | None = None
    notes: list[str] = field(default_factory=list)
    called: str = ""

    @classmethod
    def of(cls, function: Callable[..., object], name: str | None = None) -> Subject:
        """A Python function of this process: of an array (and random bits), giving codes or numbers.

        >>> Subject.of(abs).name
        'abs'
        """
        called = name or str(getattr(function, "__name__", type(function).__name__))
        return cls(called, InProcess(called, lambda: (worker.of_function(function), {})))

    @property
    def state(self) -> list[str]:
        """What is unusual about the floating-point arithmetic where the subject runs, in words."""
        return [] if self.callee is None else self.callee.state

    def run(self, patterns: Array, source: Source, format: Format, random_bits: Array | None = None) -> Results:
        """The subject's results for patterns of the source. Raises SubjectError with the cause where it fails."""
        return read_answer(self.answer(patterns, source, random_bits), patterns.size, format, self.name)

    def answer(self, patterns: Array, source: Source, random_bits: Array | None = None) -> Typed:
        """The subject's answer as it came."""
        self._submit(patterns, source, random_bits)
        return self._answer()

    def submit(self, patterns: Array, source: Source) -> None:
        """Asks and does not wait: see mpsim.validate.subjects.calling.Callee."""
        self._submit(patterns, source, None)

    def result(self) -> Typed:
        """The answer to the first question that is open."""
        return self._answer()

    def _submit(self, patterns: Array, source: Source, random_bits: Array | None) -> None:
        if self.callee is None:
            raise SubjectError(f"{self.name} holds vectors: it answers its own inputs only")
        if self.reads is not None and self.reads not in ((source.format.bits, source.name), (source.format.bits, "")):
            bits, type = self.reads
            raise SubjectError(f"{self.name} reads {type or 'integers'} of {bits} bits; the source is {source.name}")
        arrays = [Typed(source.name, patterns)]
        if random_bits is not None:
            arrays.append(Typed("uint32", random_bits))
        self.callee.submit(arrays, 16 * patterns.size + 64)

    def _answer(self) -> Typed:
        assert self.callee is not None
        answers = self.callee.result()
        if len(answers) != 1:
            raise SubjectError(f"{self.name} answers {len(answers)} arrays; expected one, of codes or numbers")
        return answers[0]

    @property
    def is_concurrent(self) -> bool:
        """Whether it answers while this process goes on."""
        return isinstance(self.callee, Child)

    def forget(self) -> None:
        """Gives up the answers to questions that are open."""
        if self.callee is not None:
            self.callee.forget()

    def close(self) -> None:
        """Ends the subject's process, if it has one."""
        if self.callee is not None:
            self.callee.close()


def open_subject(text: str, calling: Calling = Calling(), *, random_bits: bool = False) -> Subject:
    """The subject that ``text`` names.

    ``package.module:function`` or ``file.py:function``: called with an array (and uint32 random bits, if
    ``random_bits``), answers an array of the same size: integers are codes, floats are numbers.
    ``ml_dtypes.float8_e4m3fn``, ``numpy.float16``, ``torch.float8_e5m2``: a dtype, cast to. ``library.so:name``: a C
    function. ``command:PROGRAM ARGUMENTS``: a program that reads hex operands line by line and prints ``OPERAND
    RESULT``. A file that ends in .txt, .hex, .mem, .jsonl, .json or .npz: vectors.

    Raises SubjectError if there is no such thing.
    """
    called = ":" in text and not text.startswith("command:")
    if random_bits and not called:
        raise SubjectError(f"{text} takes no random bits; a function does: package.module:function, library.so:name")
    if text.startswith("command:"):
        return Subject(text, Program(text.removeprefix("command:"), calling.timeout))
    if is_library(text):
        callee, shim = open_native(text, calling, 1 + random_bits)
        if random_bits and shim.second[0] != 32:
            raise SubjectError(f"{text} reads random bits of {shim.second[0]} bits; expected uint32_t")
        return Subject(text, callee, reads=shim.first, called=shim.call)
    if Path(text).suffix in vectors_in.SUFFIXES:
        return _of_vectors(Path(text))
    callee, dtype = open_python(text, calling)
    return Subject(text, callee, FORMATS.get(dtype or ""), called=calling.arguments)


def _of_vectors(path: Path) -> Subject:
    try:
        vectors = vectors_in.read(path)
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path}: {error}") from error
    order = np.argsort(vectors.inputs, kind="stable")
    rising = vectors._replace(inputs=vectors.inputs[order], results=vectors.results[order])
    return Subject(str(path), format=vectors.format, vectors=rising)


def read_answer(answer: Typed, size: int, format: Format, name: str) -> Results:
    """Codes or values from whatever array came back. Raises SubjectError for anything else."""
    type, words = answer
    if words.shape != (size,):
        raise SubjectError(f"{name} answered shape {words.shape} to {size} inputs of shape ({size},)")
    if type == format.name or type.startswith(("int", "uint")):
        return Results("codes", _from_codes(words, format, name))
    values = values_of(answer, name)
    return Results("values", Outcome(values, value_keys(values)))


def values_of(answer: Typed, name: str) -> Array:
    """The numbers of an answer of floats, as float64, exact. Raises SubjectError for a type that is none."""

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
