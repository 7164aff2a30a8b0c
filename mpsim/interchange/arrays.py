"""Converts arrays of other libraries to NumPy, as numbers or as bit patterns, without changing a bit.

NumPy reads most arrays itself, by ``__array__`` or DLPack. It does not read tensors of PyTorch that require gradients,
are on a device, or have a type that NumPy lacks (bfloat16, float8).
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from mpsim.errors import UsageTypeError
from mpsim.interchange.dtypes import name_of
from mpsim.interchange.pytorch import TorchTensor

Array = np.ndarray[Any, Any]


class Words(NamedTuple):
    """The bit patterns of an array, as unsigned integers in its shape, and the name of its type."""

    type: str
    words: Array


def as_array(x: object) -> Array:
    """Returns x as a NumPy array with the same numbers.

    Args:
        x: Anything that NumPy reads, an array of JAX or with DLPack, or a dense tensor of PyTorch on any device.

    Returns:
        An array of x's type. Types that only ml_dtypes has are returned as its types, or, where it is not installed, as
        float32 with the same numbers. It may share memory with x.

    Raises:
        UsageTypeError: A tensor is not dense, its elements hold several numbers each (``torch.float4_e2m1fn_x2``), an
            array has a mask, which would be lost, or NumPy cannot make an array of x, such as rows of different length.

    >>> as_array([1, 2]).tolist()
    [1, 2]
    """
    if isinstance(x, np.ma.MaskedArray):
        raise UsageTypeError("an array without a mask was expected; pass x.data, or x.filled(value)")
    if isinstance(x, np.ndarray | np.generic | int | float):
        return np.asarray(x)
    if not _is_tensor(x):
        try:
            return np.from_dlpack(x) if hasattr(x, "__dlpack__") and not hasattr(x, "__array__") else np.asarray(x)
        except (ValueError, TypeError, BufferError) as error:
            raise UsageTypeError(
                f"an array was expected; NumPy makes none of this {type(x).__name__}: {error}"
            ) from error
    tensor, name = _dense(x)
    if not _needs_bits(tensor, name):
        return np.asarray(tensor.numpy())
    if (found := getattr(_ml_dtypes(), name, None)) is None:
        return np.asarray(tensor.float().numpy())
    return _words(tensor).view(found)


def words_of(x: object) -> Words:
    """Returns the bit patterns of an array and the name of its type, also without ml_dtypes.

    >>> words_of(np.float16([1.0]))
    Words(type='float16', words=array([15360], dtype=uint16))
    """
    if _is_tensor(x):
        tensor, name = _dense(x)
        if _needs_bits(tensor, name):
            return Words(name, _words(tensor))
        array = np.asarray(tensor.numpy())
    else:
        array = as_array(x)
    if array.dtype.kind in "iub":
        return Words(array.dtype.name, array)
    if array.dtype.kind not in "fV" or not array.dtype.itemsize or array.dtype.names or array.dtype.itemsize > 8:
        raise UsageTypeError(f"an array of integers or of floats of at most 64 bits was expected, got {array.dtype}")
    native = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False)).reshape(array.shape)
    return Words(array.dtype.name, native.view(f"uint{8 * array.dtype.itemsize}"))


def _is_tensor(x: object) -> TypeGuard[TorchTensor]:
    return any(each.__name__ == "Tensor" and each.__module__ == "torch" for each in type(x).__mro__)


def _dense(x: TorchTensor) -> tuple[TorchTensor, str]:
    """Returns a tensor in the host's memory without a graph, and the name of its type."""
    name = name_of(x.dtype) or str(x.dtype)
    if name.endswith("_x2"):
        raise UsageTypeError(f"elements of {x.dtype} hold two numbers each; unpack them, and pass their codes as uint8")
    if str(x.layout) != "torch.strided" or x.is_quantized:
        raise UsageTypeError(f"a dense tensor was expected, got layout {x.layout}; call to_dense() or dequantize()")
    return x.detach().cpu().resolve_conj().resolve_neg(), name


def _needs_bits(tensor: TorchTensor, name: str) -> bool:
    """Returns whether NumPy lacks the type of a tensor."""
    return bool(tensor.dtype.is_floating_point) and name not in ("float16", "float32", "float64")


def _words(tensor: TorchTensor) -> Array:
    """Returns the bit patterns of a tensor of a type of one or two bytes, as unsigned integers."""
    torch = import_module("torch")
    flat = tensor.contiguous().reshape(-1).view({1: torch.uint8, 2: torch.int16}[tensor.element_size()])
    words = flat.numpy().reshape(tuple(tensor.shape))
    return np.asarray(words.view(np.uint16) if words.dtype == np.int16 else words)


@cache
def _ml_dtypes() -> ModuleType | None:
    try:
        return import_module("ml_dtypes")
    except ModuleNotFoundError:
        return None
