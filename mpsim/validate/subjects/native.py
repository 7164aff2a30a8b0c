"""Subjects outside Python: functions of a C library, and programs that speak hex lines."""

from __future__ import annotations

import ctypes
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.validate.sources import Source

Array = np.ndarray[Any, Any]


class NativeError(RuntimeError):
    """A library or program cannot be used as it is described."""


#: C types by name: (ctypes type, width in bits, whether it is a float)
C_TYPES: dict[str, tuple[Any, int]] = {
    "float": (ctypes.c_float, 32),
    "double": (ctypes.c_double, 64),
    "_Float16": (ctypes.c_uint16, 16),
    "uint8_t": (ctypes.c_uint8, 8),
    "uint16_t": (ctypes.c_uint16, 16),
    "uint32_t": (ctypes.c_uint32, 32),
    "uint64_t": (ctypes.c_uint64, 64),
    "unsigned char": (ctypes.c_uint8, 8),
    "unsigned": (ctypes.c_uint32, 32),
    "unsigned int": (ctypes.c_uint32, 32),
    "size_t": (ctypes.c_size_t, 64),
    "int": (ctypes.c_int, 32),
    "int64_t": (ctypes.c_int64, 64),
    "long": (ctypes.c_long, 64),
}
EXAMPLE = "void NAME(const float *in, uint8_t *out, size_t n) or uint8_t NAME(float x)"
_ANSWERS = {"float": np.float32, "double": np.float64, "_Float16": np.float16}


def c_function(
    library: Path, name: str, signature: str | None, header: Path | None, random_bits: bool
) -> Callable[[Source, Array, Array | None], Array]:
    """(source, patterns, random bits) -> codes or numbers, by calling ``name`` of a library.

    The prototype is ``signature``, or the one of ``name`` in ``header`` or in a .h or .c file beside the library.
    Array form: ``void f(const IN *, OUT *, size_t)`` with ``const uint32_t *`` of random bits after the input
    where it takes them; element form: ``OUT f(IN)`` or ``OUT f(IN, uint32_t)``. An OUT that is an integer is a code.

    Raises NativeError for a prototype it cannot read, OSError if the library cannot be loaded.
    """
    loaded = ctypes.CDLL(str(library.resolve()))
    if not hasattr(loaded, name):
        raise NativeError(f"{library} exports no {name!r}")
    answer, parameters = _parse(signature or _find_prototype(library, name, header), name)
    function = getattr(loaded, name)
    pointers = [kind for kind in parameters if kind.endswith("*")]
    if pointers:
        if len(pointers) != 2 + random_bits or not pointers[-1]:
            raise NativeError(f"{name} takes {len(pointers)} arrays; expected {2 + random_bits}: {EXAMPLE}")
        return _array_form(function, parameters)
    if len(parameters) != 1 + random_bits:
        raise NativeError(f"{name} takes {len(parameters)} arguments; expected {1 + random_bits}: {EXAMPLE}")
    return _element_form(function, answer, parameters)


def _array_form(function: Any, parameters: list[str]) -> Callable[[Source, Array, Array | None], Array]:
    function.restype = None
    function.argtypes = [ctypes.c_void_p if kind.endswith("*") else _c_type(kind)[0] for kind in parameters]
    kinds = [kind.rstrip("* ") for kind in parameters if kind.endswith("*")]

    def call(source: Source, patterns: Array, bits: Array | None) -> Array:
        _check_width(kinds[0], source)
        out = np.empty(patterns.size, _ANSWERS.get(kinds[-1], np.dtype(f"uint{_c_type(kinds[-1])[1]}")))
        arrays = [patterns, out] if len(kinds) == 2 else [patterns, np.ascontiguousarray(bits), out]
        following = iter(arrays)
        function(*(next(following).ctypes.data if kind.endswith("*") else patterns.size for kind in parameters))
        return out

    return call


def _element_form(function: Any, answer: str, parameters: list[str]) -> Callable[[Source, Array, Array | None], Array]:
    function.restype = _c_type(answer)[0]
    function.argtypes = [_c_type(kind)[0] for kind in parameters]
    dtype = _ANSWERS.get(answer, np.dtype(f"uint{_c_type(answer)[1]}"))

    def call(source: Source, patterns: Array, bits: Array | None) -> Array:
        _check_width(parameters[0], source)
        given: list[Any] = (
            source.values(patterns).tolist() if parameters[0] in ("float", "double") else patterns.tolist()
        )
        results = [function(x) for x in given] if bits is None else list(map(function, given, bits.tolist()))
        if answer == "_Float16":
            return np.array(results, np.uint16).view(np.float16)
        return np.array(results, dtype)

    return call


def _c_type(kind: str) -> tuple[Any, int]:
    if kind not in C_TYPES:
        raise NativeError(f"unknown C type {kind!r}. Known: {', '.join(C_TYPES)}")
    return C_TYPES[kind]


def _check_width(kind: str, source: Source) -> None:
    if _c_type(kind)[1] != source.format.bits:
        raise NativeError(f"the function reads {kind}, of {_c_type(kind)[1]} bits; the source is {source.name}")


def _find_prototype(library: Path, name: str, header: Path | None) -> str:
    """The declaration of ``name`` in a header, or in a file beside the library."""
    files = [header] if header else [library.with_suffix(suffix) for suffix in (".h", ".hpp", ".c", ".cpp")]
    for file in files:
        if file.exists():
            found = re.search(rf"[\w \t]+[\s*]\b{re.escape(name)}\s*\([^)]*\)", file.read_text(encoding="utf-8"))
            if found:
                return found[0]
    raise NativeError(
        f"no prototype of {name!r} in {', '.join(map(str, files))}; pass --signature {EXAMPLE!r} or --header FILE"
    )


def _parse(prototype: str, name: str) -> tuple[str, list[str]]:
    """(type of the answer, types of the parameters); pointers end in '*'."""
    found = re.fullmatch(r"\s*(.*?)\b\w+\s*\(([^)]*)\)\s*;?\s*", prototype, re.DOTALL)
    if not found:
        raise NativeError(f"cannot read the prototype {prototype!r} of {name}; expected {EXAMPLE}")
    answer = _type_of(found[1] + " result")
    return answer, [_type_of(part) for part in found[2].split(",") if part.strip() and part.strip() != "void"]


def _type_of(declaration: str) -> str:
    words = re.sub(r"\b(const|restrict|__restrict__|static|inline|extern|struct)\b|\"C\"", " ", declaration)
    pointer = "*" in words or "[" in words
    names = re.sub(r"\[.*?\]|\*", " ", words).split()
    kind = " ".join(names)
    while kind not in C_TYPES and kind != "void" and " " in kind:
        kind = kind.rsplit(" ", 1)[0]
    return f"{kind} *" if pointer else kind


# -- programs -----------------------------------------------------------------------------------------------


def command(text: str) -> Callable[[Array], Array]:
    """patterns -> codes, by writing one hex pattern a line to a program and reading ``OPERAND RESULT`` lines back
    (TestFloat's form: anything after the result, such as flags, is left alone), or the results alone."""
    words = shlex.split(text)
    if not words:
        raise NativeError("command: names no program")

    def call(patterns: Array) -> Array:
        digits = 2 * patterns.dtype.itemsize
        lines = "".join(f"{pattern:0{digits}X}\n" for pattern in patterns.tolist())
        done = subprocess.run(words, input=lines, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NativeError(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
        return _results(done.stdout, patterns)

    return call


def _results(text: str, patterns: Array) -> Array:
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith(("#", "//"))]
    if len(rows) != patterns.size:
        raise NativeError(f"the program answered {len(rows)} lines to {patterns.size}")
    try:
        if all(len(row) == 1 for row in rows):
            return np.array([int(row[0], 16) for row in rows], np.uint64)
        operands = np.array([int(row[0], 16) for row in rows], patterns.dtype)
        results = np.array([int(row[1], 16) for row in rows], np.uint64)
    except (ValueError, IndexError, OverflowError) as error:
        raise NativeError(f"expected lines 'OPERAND RESULT' of hex digits: {error}") from error
    if not np.array_equal(operands, patterns):
        first = int(np.flatnonzero(operands != patterns)[0])
        raise NativeError(f"line {first + 1} answers operand {rows[first][0]}, not {int(patterns[first]):x}")
    return results
