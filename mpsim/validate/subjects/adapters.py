"""Other people's casts behind one interface: bit patterns in, results out.

What a subject is, is read from how it is written (``open_subject`` lists the forms).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.validate.cast.rules import NO_CODE, Outcome, value_keys
from mpsim.validate.sources import Source
from mpsim.validate.subjects import native, vectors_in

Array = np.ndarray[Any, Any]
LIBRARIES = (".so", ".dylib", ".dll")


class SubjectError(RuntimeError):
    """The subject cannot be found, called, or understood; the message says why and what to do."""


@dataclass
class Subject:
    """A cast under test. call(array of the source type, random bits or None) -> codes or numbers.

    format: what a dtype says it is, else None. inputs and expected: for a file of vectors, its patterns and codes.
    """

    name: str
    call: Callable[[Source, Array, Array | None], Any]
    format: Format | None = None
    inputs: Array | None = None
    patterns_in: bool = False
    notes: list[str] = field(default_factory=list)

    def run(self, patterns: Array, source: Source, format: Format, random_bits: Array | None = None) -> Results:
        """The subject's results for patterns of the source. Raises SubjectError with the cause where it fails."""
        try:
            given = patterns if self.patterns_in else source.array(patterns)
            with np.errstate(all="ignore"):
                answer = self.call(source, given.copy(), random_bits)
        except SubjectError:
            raise
        except Exception as error:  # anything at all may come out of somebody else's code
            raise SubjectError(f"{self.name} failed on {patterns.size} {source.name}: {_words(error)}") from error
        return read_answer(answer, patterns.size, format, self.name)


@dataclass
class Results:
    """What a subject answered: "codes" of the format, or "values"; both as an Outcome."""

    space: str
    outcome: Outcome


def open_subject(
    text: str,
    *,
    signature: str | None = None,
    header: Path | None = None,
    arguments: str = "numpy",
    random_bits: bool = False,
) -> Subject:
    """The subject that ``text`` names.

    ``package.module:function`` or ``file.py:function``: called with an array (and uint32 random bits, if
    ``random_bits``), answers an array of the same size: integers are codes, floats are numbers. ``arguments``:
    "numpy" or "torch" arrays. ``ml_dtypes.float8_e4m3fn``, ``numpy.float16``, ``torch.float8_e5m2``: a dtype, cast
    to. ``library.so:name``: a C function; ``signature`` or ``header`` says what it takes. ``command:PROGRAM
    ARGUMENTS``: a program that reads hex operands line by line and prints ``OPERAND RESULT``. A file that ends in
    .txt, .hex, .jsonl, .json or .npz: vectors.

    Raises SubjectError if there is no such thing.
    """
    place, colon, name = text.rpartition(":")
    called = bool(colon) and not text.startswith("command:")
    if random_bits and not called:
        raise SubjectError(f"{text} takes no random bits; a function does: package.module:function, library.so:name")
    if text.startswith("command:"):
        return Subject(text, _reads_patterns(native.command(text.removeprefix("command:"))), patterns_in=True)
    if colon and Path(place).suffix in LIBRARIES:
        return _c_symbol(Path(place), name, signature, header, random_bits)
    path = Path(text)
    if path.suffix in vectors_in.SUFFIXES:
        return _vectors(path)
    if colon:
        function = _attribute(_module(place), name, text)
        if not callable(function):
            raise SubjectError(f"{text} is {type(function).__name__}, not a function")
        return Subject(text, _function(function, arguments, random_bits))
    return _dotted(text, arguments)


def _dotted(text: str, arguments: str) -> Subject:
    place, _, name = text.rpartition(".")
    if not place:
        raise SubjectError(
            f"{text!r} names no subject; expected package.module:function, a dtype as ml_dtypes.float8_e4m3fn, "
            f"library.so:name, command:PROGRAM, or a file of vectors"
        )
    found = _attribute(_module(place), name, text)
    if type(found).__module__.split(".")[0] == "torch" and type(found).__name__ == "dtype":
        return Subject(text, _torch_cast(found), _named_format(name))
    try:
        dtype = np.dtype(found)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind in "fV" and dtype.itemsize:
        return Subject(text, lambda source, x, bits: x.astype(dtype), _named_format(dtype.name))
    if callable(found) and not isinstance(found, type):
        return Subject(text, _function(found, arguments, random_bits=False))
    raise SubjectError(f"{text} is neither a dtype that NumPy casts to nor a function")


def _named_format(name: str) -> Format | None:
    return FORMATS.get(name)


def _module(place: str) -> ModuleType:
    path = Path(place)
    try:
        if path.suffix == ".py":
            spec = importlib.util.spec_from_file_location(f"_subject_{path.stem}", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(place)
    except Exception as error:
        raise SubjectError(f"cannot import {place}: {_words(error)}") from error


def _attribute(module: ModuleType, name: str, text: str) -> Any:
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise SubjectError(f"{text}: {getattr(found, '__name__', found)} has no {part!r}")
        found = getattr(found, part)
    return found


def _function(
    function: Callable[..., Any], arguments: str, random_bits: bool
) -> Callable[[Source, Array, Array | None], Any]:
    if arguments not in ("numpy", "torch"):
        raise SubjectError(f"arguments are 'numpy' or 'torch', not {arguments!r}")

    def call(source: Source, x: Array, bits: Array | None) -> Any:
        given: Any = _tensor(x, source) if arguments == "torch" else x
        if not random_bits:
            return function(given)
        return function(given, bits)

    return call


def _reads_patterns(function: Callable[[Array], Array]) -> Callable[[Source, Array, Array | None], Array]:
    return lambda source, patterns, bits: function(patterns)


def _torch_cast(dtype: Any) -> Callable[[Source, Array, Array | None], Any]:
    return lambda source, x, bits: _tensor(x, source).to(dtype)


def _tensor(x: Array, source: Source) -> Any:
    import torch

    if source.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _c_symbol(library: Path, name: str, signature: str | None, header: Path | None, random_bits: bool) -> Subject:
    try:
        function = native.c_function(library, name, signature, header, random_bits)
    except (native.NativeError, OSError) as error:
        raise SubjectError(str(error)) from error
    return Subject(f"{library}:{name}", lambda source, x, bits: function(source, x, bits), patterns_in=True)


def _vectors(path: Path) -> Subject:
    try:
        vectors = vectors_in.read(path)
    except (OSError, ValueError) as error:
        raise SubjectError(f"{path}: {error}") from error
    order = np.argsort(vectors.inputs, kind="stable")
    inputs, results = vectors.inputs[order], vectors.results[order]

    def call(source: Source, patterns: Array, bits: Array | None) -> Array:
        at = np.searchsorted(inputs, patterns)
        if (at >= inputs.size).any() or (inputs[np.minimum(at, inputs.size - 1)] != patterns).any():
            raise SubjectError(f"{path} has no vector for some of the inputs")
        return results[at]

    return Subject(str(path), call, vectors.format, np.unique(inputs), patterns_in=True)


# -- answers ------------------------------------------------------------------------------------------------


def read_answer(answer: Any, size: int, format: Format, name: str) -> Results:
    """Codes or values from whatever array came back. Raises SubjectError for anything else."""
    array = _numpy(answer, name)
    if array.shape != (size,):
        raise SubjectError(f"{name} answered shape {array.shape} to {size} inputs of shape ({size},)")
    if array.dtype.name == format.name:
        array = array.view(f"uint{8 * array.dtype.itemsize}")
    if array.dtype.kind in "iu":
        return Results("codes", _from_codes(array, format, name))
    if array.dtype.name not in FORMATS:
        raise SubjectError(f"{name} answered {array.dtype}; expected integers (codes) or floats (numbers)")
    with np.errstate(invalid="ignore"):
        values = array.astype(np.float64)
    return Results("values", Outcome(values, value_keys(values)))


def _from_codes(codes: Array, format: Format, name: str) -> Outcome:
    from mpsim.rounding import decode

    if codes.dtype.kind == "i":
        codes = codes.view(codes.dtype.name.replace("int", "uint"))
    if format.bits < 64 and codes.size and int(codes.max()) >> format.bits:
        raise SubjectError(f"{name} answered {int(codes.max()):#x}; codes of {format} are 0 to {2**format.bits - 1:#x}")
    values = decode(codes, format, np.float64, threads=1)
    return Outcome(values, codes.astype(np.uint64))


def _numpy(answer: Any, name: str) -> Array:
    if type(answer).__module__.split(".")[0] == "torch":
        import torch

        answer = answer.detach().cpu()
        if answer.dtype == torch.bfloat16:
            answer = answer.float()
        elif str(answer.dtype).startswith("torch.float8"):
            dtype = str(answer.dtype).removeprefix("torch.")
            codes = answer.view(torch.uint8).numpy()
            try:
                import ml_dtypes

                return codes.view(getattr(ml_dtypes, dtype))
            except ModuleNotFoundError:
                return codes
        return np.asarray(answer.numpy())
    try:
        return np.asarray(answer)
    except Exception as error:
        raise SubjectError(f"{name} answered {type(answer).__name__}, which NumPy cannot read") from error


def _words(error: Exception) -> str:
    return f"{error} ({type(error).__name__})" if str(error) else type(error).__name__


__all__ = ["NO_CODE", "Results", "Subject", "SubjectError", "open_subject", "read_answer"]
