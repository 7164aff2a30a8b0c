"""Pickles of NumPy arrays, lists, texts and numbers, read without running anything that they name."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from mpsim.errors import UsageError


class UnsafePickle(UsageError):
    """A pickle names something that is no part of a NumPy array."""


def _array_type(*arguments: object) -> None:
    """Stands for numpy.ndarray, which ``_reconstruct`` gets and nothing calls."""
    raise UnsafePickle("the pickle calls numpy.ndarray itself")


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """What NumPy's ``_reconstruct`` gives: an array that the pickle's state then fills."""
    if kind is not _array_type:
        raise UnsafePickle(f"the pickle makes an array of {kind!r}")
    return np.ndarray.__new__(np.ndarray, (0,), np.uint8)


def _data_type(name: str | bytes, align: object = False, copy: object = False) -> np.dtype:
    text = name.decode("ascii") if isinstance(name, bytes) else name
    if text.lstrip("<>|=") not in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        raise UnsafePickle(f"the pickle has an array of data type {text!r}; only numbers are read")
    return np.dtype(text)


def _latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old protocols."""
    if encoding != "latin1":
        raise UnsafePickle(f"the pickle encodes bytes as {encoding!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy._core.multiarray", "_reconstruct"): _empty_array,
    ("numpy", "ndarray"): _array_type,
    ("numpy", "dtype"): _data_type,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise UnsafePickle(f"the pickle names {module}.{name}, which is not read")
        return ALLOWED[module, name]


def load_arrays(content: bytes) -> Any:
    """The object of a pickle of Python 2 or 3; texts of Python 2 are bytes.

    Raises UnsafePickle if it needs more than arrays, ValueError if it is broken.
    """
    try:
        return _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except UnsafePickle:
        raise
    except Exception as error:  # a broken pickle raises almost anything
        raise UsageError(f"not a readable pickle ({type(error).__name__}: {error})") from error
