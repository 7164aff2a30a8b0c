"""Other people's operations behind one interface: codes of the operands in, codes of the result out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.rounding import encode, round_to
from mpsim.validate.answers import NO_CODE, SubjectError
from mpsim.validate.subjects import testfloat, worker
from mpsim.validate.subjects.calling import Callee, InProcess
from mpsim.validate.subjects.casts import values_of
from mpsim.validate.subjects.opening import Calling, is_library, open_native, open_python
from mpsim.validate.subjects.testfloat import Lines
from mpsim.validate.subjects.worker import Typed

#: What a subject is given: codes as unsigned integers, or arrays of the formats' own types.
GIVEN = ("codes", "numbers")


@dataclass
class OperationSubject:
    """An operation under test. formats: of its operands; given: one of GIVEN; lines: of a file, without callee."""

    name: str
    callee: Callee | None
    formats: tuple[Format, ...]
    result: Format
    given: str = "codes"
    lines: Lines | None = None

    def ask(self, codes: Sequence[Array]) -> Array:
        """Return the codes of the results, uint64 (n,), for codes (n,) of each operand.

        A number that the result's format does not have is NO_CODE. Raises SubjectError for answers of another kind.
        """
        assert self.callee is not None
        arrays = [Typed(self._type(format), array) for format, array in zip(self.formats, codes, strict=True)]
        answers = self.callee.call(arrays, 16 * codes[0].size + 4096)
        if len(answers) != 1 or answers[0].words.shape != codes[0].shape:
            shapes = ", ".join(str(each.words.shape) for each in answers)
            raise SubjectError(f"{self.name} answered shape {shapes}; expected one array of shape {codes[0].shape}")
        return self._codes(answers[0])

    def _type(self, format: Format) -> str:
        return f"uint{format.code_bits}" if self.given == "codes" else format.name

    def _codes(self, answer: Typed) -> Array:
        type, words = answer
        if type.startswith(("int", "uint")) or type == self.result.name:
            unsigned = words.view(words.dtype.name.replace("int", "uint")) if words.dtype.kind == "i" else words
            if unsigned.size and int(unsigned.max()) >> self.result.bits:
                raise SubjectError(
                    f"{self.name} answered {int(unsigned.max()):#x}; codes of {self.result} are 0 to "
                    f"{2**self.result.bits - 1:#x}"
                )
            return unsigned.astype(np.uint64)
        values = values_of(answer, self.name)
        with np.errstate(invalid="ignore"):
            kept = np.asarray(round_to(values, self.result, "toward_zero", "saturate_propagate"))
            has_code = (kept == values) | (np.isnan(values) & self.result.has_nan)
        found = np.asarray(encode(np.where(has_code, values, 0.0), self.result)).astype(np.uint64)
        return np.where(has_code, found, np.uint64(NO_CODE))


def open_operation(
    subject: str | Callable[..., object],
    formats: tuple[Format, ...],
    result: Format,
    given: str = "codes",
    calling: Calling = Calling(),
) -> OperationSubject:
    """Open the operation that a name stands for, or a function of this process.

    ``package.module:function`` or ``file.py:function`` takes one array for each operand and returns one;
    ``torch.float16`` and the like are dtypes to convert to; ``library.so:name`` is a C function of the operands, by
    value or of arrays; ``answers.txt`` is a file of operands and results as TestFloat writes it. Raises SubjectError
    if there is no such thing.
    """
    checks.named("given", given, GIVEN)
    if not isinstance(subject, str):
        name = getattr(subject, "__name__", type(subject).__name__)
        function = worker.of_function(subject, calling.arguments)
        return OperationSubject(name, InProcess(name, lambda: (function, {})), formats, result, given)
    if is_library(subject):
        callee, shim = open_native(subject, calling, len(formats))
        for format, read in zip(formats, shim.inputs, strict=True):
            if read.bits != format.code_bits:
                raise SubjectError(f"{subject} reads {read.name}; codes of {format} have {format.code_bits} bits")
        return OperationSubject(subject, callee, formats, result)
    if Path(subject).suffix in testfloat.SUFFIXES:
        return OperationSubject(subject, None, formats, result, lines=_read(Path(subject), formats, result))
    if subject.startswith("command:"):
        raise SubjectError(f"{subject}: an operation is a Python function, a dtype or a C function, not a program")
    callee, dtype = open_python(subject, calling)
    return OperationSubject(subject, callee, formats, result, given if dtype is None else "numbers")


def _read(path: Path, formats: Sequence[Format], result: Format) -> Lines:
    """The lines of a file of answers. Raises SubjectError for lines that are not codes of the formats."""
    try:
        lines = testfloat.read(path, len(formats))
    except (OSError, UnicodeDecodeError, UsageError) as error:
        raise SubjectError(str(error)) from error
    for column, format in zip((*lines.operands, lines.results), (*formats, result), strict=True):
        if int(column.max()) >> format.bits:
            raise SubjectError(f"{path} has {int(column.max()):#x}; codes of {format} are 0 to {2**format.bits - 1:#x}")
    return lines
