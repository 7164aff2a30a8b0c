"""Reads pickles of NumPy arrays, lists, strings and numbers without running any code that they name.

NumPy's own functions take no part: an array is built from its shape, type and bytes after these were checked.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable

import numpy as np

from mpsim.checks import shown
from mpsim.errors import UsageError

#: The types of arrays that are read.
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
_MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}


class UnsafePickle(UsageError):
    """A pickle names something that is not part of a NumPy array."""


class _Type:
    """Replaces numpy.dtype. ``name`` is its type without byte order, ``order`` one of "<", ">", "|" and "="."""

    def __init__(self, name: object, align: object = False, copy: object = False) -> None:
        text = name.decode("latin1") if isinstance(name, bytes) else name
        if not isinstance(text, str) or text.lstrip("<>|=") not in TYPES:
            raise UnsafePickle(f"the pickle has an array of data type {shown(text)}; only numbers are read")
        self.name = text.lstrip("<>|=")
        self.order = text[0] if text[0] in "<>" else "="

    def __setstate__(self, state: object) -> None:
        # (version, byte order, subarray, names, fields, size, alignment, flags)
        plain = isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None)
        order = state[1] if isinstance(state, tuple) and plain else None
        order = order.decode("latin1") if isinstance(order, bytes) else order
        if order not in ("<", ">", "|", "="):
            raise UnsafePickle(f"the pickle has a data type with the state {shown(state)}; only numbers are read")
        self.order = str(order)

    def dtype(self) -> np.dtype:
        return np.dtype(f"{'<' if self.order == '|' else self.order}{self.name}")


class _Array:
    """Replaces numpy.ndarray and collects the state of an array."""

    array: np.ndarray | None = None

    def __init__(self, *arguments: object) -> None:
        raise UnsafePickle("the pickle calls numpy.ndarray itself")

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise UnsafePickle(f"the pickle has an array with the state {shown(state)}")
        _, shape, kind, in_columns, content = state
        self.array = _filled(shape, kind, bool(in_columns), content)


def _filled(shape: object, kind: object, in_columns: bool, content: object) -> np.ndarray:
    """Returns the array of these bytes, in the machine's byte order, after all was checked."""
    lengths = shape if isinstance(shape, tuple) else ()
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in lengths) or len(lengths) > 32:
        raise UsageError(f"the pickle has an array of shape {shown(shape)}")
    if not isinstance(kind, _Type) or not isinstance(content, bytes | bytearray):
        raise UnsafePickle("the pickle has an array that is not of numbers")
    dtype = kind.dtype()
    if math.prod(lengths) * dtype.itemsize != len(content):
        raise UsageError(f"the pickle has {len(content)} bytes for an array {dtype} {shown(shape)}")
    flat = np.frombuffer(content, dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(lengths, order="F" if in_columns else "C")


def _from_buffer(content: object, kind: object, shape: object, order: object, axes: object = None) -> _Array:
    """Replaces NumPy's ``_frombuffer``, which protocol 5 names: the default of Python from 3.14 on."""
    if order not in ("C", "F") or axes is not None:
        raise UnsafePickle(f"the pickle has an array of the order {shown(order)}; expected C or F")
    made = _Array.__new__(_Array)
    made.array = _filled(shape, kind, order == "F", content)
    return made


def _empty_array(kind: object, shape: object, code: object) -> _Array:
    """Replaces NumPy's ``_reconstruct``. The pickle's state fills the array that it returns."""
    if kind is not _Array:
        raise UnsafePickle(f"the pickle creates an array of {shown(kind)}")
    return _Array.__new__(_Array)


def _latin1(text: str, encoding: str) -> bytes:
    """Replaces ``_codecs.encode``, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1" or not isinstance(text, str):
        raise UnsafePickle(f"the pickle encodes bytes as {shown(encoding)}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("numpy._core.numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in ALLOWED:
            raise UnsafePickle(f"the pickle names {module[:60]}.{name[:60]}, which is not allowed")
        return ALLOWED[module, name]


def load_arrays(content: bytes) -> dict[object, object]:
    """Reads the dictionary in a pickle of Python 2 or 3. Strings of Python 2 become bytes.

    Raises:
        UnsafePickle: The pickle needs more than arrays.
        ValueError: The pickle is broken, or its object is not a dictionary.
    """
    try:
        _check_memo(content)
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except UsageError:
        raise
    except Exception as error:  # a broken pickle raises almost anything
        raise UsageError(f"not a readable pickle ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise UsageError(f"the pickle must contain a dictionary, got {type(found).__name__}")
    _check_inside(found)
    return {key: _finished(value) for key, value in found.items()}


def _check_inside(found: dict[object, object]) -> None:
    """Refuses arrays in lists and keys, and the replacements of NumPy's types, at any depth. A list may hold itself."""
    waiting = [*found, *(value for value in found.values() if not isinstance(value, _Array))]
    seen: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple | set | frozenset):
            if id(value) not in seen:
                seen.add(id(value))
                waiting += [*value, *value.values()] if isinstance(value, dict) else value
        elif value is not None and type(value) not in (bool, int, float, complex, str, bytes, bytearray):
            raise UnsafePickle(f"the pickle has {shown(value)} where only numbers, texts and lists of them are read")


def _check_memo(content: bytes) -> None:
    """Refuses a memo longer than the pickle. Python allocates memory for all entries below the largest index."""
    for operation, argument, _ in pickletools.genops(content):
        if operation.name in _MEMO and isinstance(argument, int) and not 0 <= argument <= len(content):
            raise UsageError(f"the pickle stores an object under the number {argument}, which is not plausible")


def _finished(value: object) -> object:
    if not isinstance(value, _Array):
        return value
    if value.array is None:
        raise UsageError("the pickle has an array without content")
    return value.array
