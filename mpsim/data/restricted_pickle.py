"""Reads pickles of NumPy arrays, lists, strings and numbers without running any code that they name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

import numpy as np

from mpsim.errors import UsageError


class UnsafePickle(UsageError):
    """A pickle names something that is not part of a NumPy array."""


def _array_type(*arguments: object) -> None:
    """Replaces numpy.ndarray, which ``_reconstruct`` receives and which must not be called."""
    raise UnsafePickle("the pickle calls numpy.ndarray itself")


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """Replaces NumPy's ``_reconstruct``. The pickle's state fills the array that it returns."""
    if kind is not _array_type:
        raise UnsafePickle(f"the pickle creates an array of {kind!r}")
    return np.ndarray.__new__(np.ndarray, (0,), np.uint8)


def _data_type(name: str | bytes, align: object = False, copy: object = False) -> np.dtype:
    text = name.decode("ascii") if isinstance(name, bytes) else name
    if text.lstrip("<>|=") not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        raise UnsafePickle(f"the pickle has an array of data type {text!r}; only numbers are read")
    return np.dtype(text)


def _latin1(text: str, encoding: str) -> bytes:
    """Replaces ``_codecs.encode``, by which Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise UnsafePickle(f"the pickle encodes bytes as {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): _array_type,
    ("numpy", "dtype"): _data_type,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Callable[..., object]:
        if (module, name) not in ALLOWED:
            raise UnsafePickle(f"the pickle names {module}.{name}, which is not allowed")
        return ALLOWED[module, name]


def load_arrays(content: bytes) -> dict[object, object]:
    """Reads the dictionary in a pickle of Python 2 or 3. Strings of Python 2 become bytes.

    Raises:
        UnsafePickle: The pickle needs more than arrays.
        ValueError: The pickle is broken, or its object is not a dictionary.
    """
    try:
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except UnsafePickle:
        raise
    except Exception as error:  # a broken pickle raises almost anything
        raise UsageError(f"not a readable pickle ({type(error).__name__}: {error})") from error
    if not isinstance(found, dict):
        raise UsageError(f"the pickle must contain a dictionary, got {type(found).__name__}")
    return found
