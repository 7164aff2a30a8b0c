"""Allocates, views, copies and clears arrays on the current device."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
from numba import cuda
from numba.cuda.cudadrv import driver

from mpsim.kernels.cuda.device.devices import device
from mpsim.kernels.cuda.device.intrinsics import SIMULATED
from mpsim.kernels.cuda.device.memory import MemoryPointer

#: For ``flattened``: creating a dtype takes longer than looking up the view.
INT32, INT64, UINT32 = (np.dtype(name) for name in ("int32", "int64", "uint32"))
#: Numba's class of arrays on a device. The simulator has another one.
DeviceNDArray: Any = None if SIMULATED else cuda.cudadrv.devicearray.DeviceNDArray


class Array(Protocol):
    """A contiguous array on a device, of Numba's class or its simulator's."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def dtype(self) -> np.dtype: ...
    def reshape(self, *shape: int) -> Array: ...


def empty(shape: int | Sequence[int], dtype: str | type | np.dtype = np.float32) -> Array:
    """Allocates a contiguous, uninitialized array on the current device.

    Raises:
        DeviceMemoryError: If the device has not enough memory.
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if SIMULATED or size == 0:
        return cuda.device_array(shape, dtype)
    current = device()
    strides = tuple(prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape)))
    return DeviceNDArray(shape, strides, dtype, current.kernel_stream, current.pool.take(size))


def like(x: Array, out: Array | None = None) -> Array:
    """Returns ``out``, or a new array with the shape and dtype of x."""
    return empty(x.shape, x.dtype) if out is None else out


def part(array: Any, start: int, size: int) -> Any:
    """Returns a view of elements ``start`` to ``start + size`` of a flat array, ten times as fast as Numba's slices."""
    if SIMULATED:
        return array[start : start + size]
    item, whole = array.dtype.itemsize, array.gpu_data
    place = driver.binding.CUdeviceptr(int(whole.device_pointer) + start * item)
    memory = MemoryPointer(whole.context, place, size * item, owner=whole)
    return DeviceNDArray((size,), (item,), array.dtype, array.stream, memory)


def flattened(array: Any, dtype: np.dtype | None = None) -> Array:
    """Returns a one-dimensional view of the array, optionally with another dtype. Views are cached."""
    if array.ndim == 1 and dtype in (None, array.dtype):
        return array
    try:
        return array.flat_views[dtype]
    except AttributeError:
        array.flat_views = {}
    except KeyError:
        pass
    if SIMULATED:
        flat = array.reshape(-1) if dtype is None else array.reshape(-1).view(dtype)
    else:  # Numba's reshape takes ten times as long
        other = array.dtype if dtype is None else dtype
        flat = DeviceNDArray((array.nbytes // other.itemsize,), (other.itemsize,), other, array.stream, array.gpu_data)
    array.flat_views[dtype] = flat
    return flat


def from_numpy(array: Any, *, threads: int = 1) -> Array:
    """Copies an array to the device. An array that is already on a device is returned itself."""
    if is_on_device(array):
        return array
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    result: Any = empty(array.shape, array.dtype)
    if array.size:
        current = device()
        current.copies_after_kernels()
        result.copy_to_device(array, stream=current.copy_stream)
        current.kernels_after_copies()
        current.wait_for_copies()  # the caller may change the array
    return result


def to_numpy(array: Any, *, threads: int = 1) -> np.ndarray:
    """Copies an array to the host, and returns when the copy is complete."""
    if not is_on_device(array):
        return np.asarray(array)
    if array.size == 0:
        return np.empty(tuple(array.shape), array.dtype)
    current = device()
    current.copies_after_kernels()
    result = array.copy_to_host(stream=current.copy_stream)
    current.wait_for_copies()
    return np.asarray(result).reshape(tuple(array.shape))


def zeros(shape: int | Sequence[int], *, threads: int = 1) -> Array:
    """Returns a float32 array of +0."""
    return cleared(empty(shape))


def cleared(array: Array) -> Array:
    """Sets every byte of the array to zero, and returns it."""
    if array.size:
        driver.device_memset(array, 0, array.nbytes, stream=device().kernel_stream)
    return array


def is_on_device(array: object) -> bool:
    """Returns whether the object is an array on a device, not one of NumPy."""
    return hasattr(array, "__cuda_ndarray__")
