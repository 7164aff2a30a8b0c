"""Arrays on a device: the device in use, its streams, and memory that is used again from step to step.

Kernels run in one stream, in the order in which they are launched, so memory that an array has left can be given to
the next array at once: what still reads it was launched before. Copies have a stream of their own; events order
the two streams where they meet.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from math import prod
from typing import Any

import numpy as np
from numba import cuda
from numba.cuda.cudadrv import driver

from mpsim.kernels.cuda.intrinsics import SIMULATED
from mpsim.kernels.errors import BackendUnavailable, DeviceMemoryError

#: For ``flattened``: to make a dtype of a type takes longer than to find the view.
INT32, INT64, UINT32 = (np.dtype(name) for name in ("int32", "int64", "uint32"))
#: numba's array on a device, and what holds its memory; the simulator has others.
DeviceNDArray: Any = None if SIMULATED else cuda.cudadrv.devicearray.DeviceNDArray
MemoryPointer: Any = object if SIMULATED else driver.MemoryPointer

#: Sizes are rounded up to a multiple of this many bytes, so that few different ones occur.
GRANULE = 512
MEBIBYTE = 1 << 20


@dataclass
class Pool:
    """Memory of one device: pieces in use, and pieces kept by size for the next array that asks."""

    context: Any = None  # the device's; to ask numba for it takes 10 microseconds
    free: defaultdict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    #: address -> piece in use: a piece must not be garbage together with its last array, or it goes to the device
    lent: dict[int, Any] = field(default_factory=dict)
    reserved: int = 0  # bytes that the device has given, in use or free
    used: int = 0  # bytes of arrays that live
    peak: int = 0  # the most bytes used at a time since ``reset_peak``

    def take(self, size: int) -> Any:
        """A piece of ``size`` bytes, given back when its last array and view are gone."""
        if not self.free[size]:
            self.free[size].append(self._reserve(size))
        piece = self.free[size].pop()
        self.used += size
        self.peak = max(self.peak, self.used)
        address = int(piece.device_pointer)
        self.lent[address] = piece
        return Lent(self, address, size)

    def give_back(self, address: int, size: int) -> None:
        """A piece for the next array."""
        self.free[size].append(self.lent.pop(address))
        self.used -= size

    def _reserve(self, size: int) -> Any:
        for attempt in range(2):
            try:
                piece = self.context.memalloc(size)
            except (driver.CudaAPIError, MemoryError) as error:
                if "OUT_OF_MEMORY" not in str(error).upper() and not isinstance(error, MemoryError):
                    raise
                if attempt == 1:
                    raise DeviceMemoryError(self._shortage(size), asked=size, used=self.used, total=_total()) from error
                self.release()
            else:
                self.reserved += size
                return piece

    def _shortage(self, size: int) -> str:
        return (
            f"the device has no {size / MEBIBYTE:.1f} MiB left: of its {_total() / MEBIBYTE:.0f} MiB, "
            f"{self.used / MEBIBYTE:.0f} MiB hold arrays of this process, the rest is in other hands"
        )

    def release(self) -> None:
        """Gives the free pieces back to the device."""
        for size, pieces in list(self.free.items()):
            self.reserved -= size * len(pieces)
            pieces.clear()
        if not SIMULATED:
            cuda.synchronize()
            self.context.memory_manager.deallocations.clear()

    def reset_peak(self) -> None:
        """Starts to look for the most bytes used anew."""
        self.peak = self.used


class Lent(MemoryPointer):
    """A piece of the pool, which goes back when the last array and view that hold it are gone."""

    def __init__(self, pool: Pool, address: int, size: int) -> None:
        super().__init__(pool.context, driver.binding.CUdeviceptr(address), size)
        self.pool, self.address = pool, address

    def __del__(self) -> None:  # less to do than for weakref.finalize
        self.pool.give_back(self.address, self.size)


def _total() -> int:
    return 0 if SIMULATED else int(cuda.current_context().get_memory_info().total)


@dataclass
class Device:
    """One device with its streams and memory."""

    number: int
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    kernel_stream: Any
    copy_stream: Any
    pool: Pool = field(default_factory=Pool)

    @cached_property
    def kernel_handle(self) -> int:
        """The stream of kernels, as the driver knows it."""
        return int(self.kernel_stream)

    def copies_after_kernels(self) -> None:
        """Copies launched from now on wait for the kernels launched so far."""
        event = cuda.event(timing=False) if not SIMULATED else cuda.event()
        event.record(self.kernel_stream)
        event.wait(self.copy_stream)

    def kernels_after_copies(self) -> None:
        """Kernels launched from now on wait for the copies launched so far."""
        event = cuda.event(timing=False) if not SIMULATED else cuda.event()
        event.record(self.copy_stream)
        event.wait(self.kernel_stream)


_devices: dict[int, Device] = {}
_in_use = threading.local()


def use_device(number: int = 0) -> Device:
    """Makes the device the one that this thread's new arrays and launches are on.

    Raises BackendUnavailable, with the cause and what to do, without a driver or without such a device.
    """
    if getattr(_in_use, "device", None) is not None and _in_use.device.number == number:
        return _in_use.device
    if number not in _devices:
        _devices[number] = _open(number)
    if not SIMULATED:
        cuda.select_device(number)
    _in_use.device = _devices[number]
    return _devices[number]


def device() -> Device:
    """The device in use by this thread: number 0 unless ``use_device`` said otherwise."""
    try:
        return _in_use.device
    except AttributeError:
        return use_device(0)


def _open(number: int) -> Device:
    if SIMULATED:
        if number != 0:
            raise BackendUnavailable(f"'cuda': the CUDA simulator has one device, number 0; asked for {number}")
        return Device(0, "CUDA simulator, not a device", (0, 0), 1, cuda.stream(), cuda.stream())
    check_devices(number)
    cuda.select_device(number)
    hardware = cuda.get_current_device()
    name = hardware.name.decode() if isinstance(hardware.name, bytes) else str(hardware.name)
    return Device(
        number,
        name,
        tuple(hardware.compute_capability),
        hardware.MULTIPROCESSOR_COUNT,
        cuda.stream(),
        cuda.stream(),
        Pool(cuda.current_context()),
    )


def describe() -> str:
    """The device in use and what drives it, in a line."""
    current, parts = device(), [f"numba-cuda {version('numba-cuda')}"]
    if not SIMULATED:
        driver_version = ".".join(map(str, cuda.cudadrv.driver.driver.get_version()))
        memory = _total() / MEBIBYTE / 1024
        parts = [
            f"compute capability {'.'.join(map(str, current.compute_capability))}",
            f"{current.multiprocessors} multiprocessors, {memory:.0f} GiB, driver for CUDA {driver_version}",
            *parts,
        ]
    return f"device {current.number}: {current.name}; {'; '.join(parts)}"


OTHERS = 'or pass backend="compiled", which gives the same bits on the CPU'


def check_devices(number: int = 0) -> None:
    """Raises BackendUnavailable unless there are a driver and a device of this number."""
    try:
        count = len(cuda.gpus)
    except Exception as error:  # the driver's absence has several exceptions, by version
        cause = " ".join(str(error).split()) or type(error).__name__
        raise BackendUnavailable(
            f"'cuda': no NVIDIA driver can be used ({cause}). Install the driver of an NVIDIA device, "
            f"or set NUMBA_ENABLE_CUDASIM=1 to try kernels in the slow simulator, {OTHERS}."
        ) from error
    if count == 0:
        raise BackendUnavailable(f"'cuda': the driver sees no NVIDIA device. Check CUDA_VISIBLE_DEVICES, {OTHERS}.")
    if not 0 <= number < count:
        raise BackendUnavailable(f"'cuda': there is no device {number}; the driver sees 0 to {count - 1}.")


# -- arrays -------------------------------------------------------------------------------------------------


def empty(shape: int | Sequence[int], dtype: Any = np.float32) -> Any:
    """A contiguous array on the device in use; its elements are not set. Raises DeviceMemoryError."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if SIMULATED or size == 0:
        return cuda.device_array(shape, dtype)
    current = device()
    memory = current.pool.take(-(-size // GRANULE) * GRANULE)
    strides = tuple(prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape)))
    return DeviceNDArray(shape, strides, dtype, current.kernel_stream, memory)


def part(array: Any, start: int, size: int) -> Any:
    """Elements ``start`` to ``start + size`` of a flat array; numba's slices take ten times as long."""
    if SIMULATED:
        return array[start : start + size]
    item, whole = array.dtype.itemsize, array.gpu_data
    place = driver.binding.CUdeviceptr(int(whole.device_pointer) + start * item)
    memory = MemoryPointer(whole.context, place, size * item, owner=whole)
    return DeviceNDArray((size,), (item,), array.dtype, array.stream, memory)


def flattened(array: Any, dtype: Any = None) -> Any:
    """The contiguous array in one dimension, and as of another dtype if one is given: views that are made once."""
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
    else:  # past numba's reshape, which takes ten times as long
        other = array.dtype if dtype is None else dtype
        flat = DeviceNDArray((array.nbytes // other.itemsize,), (other.itemsize,), other, array.stream, array.gpu_data)
    array.flat_views[dtype] = flat
    return flat


def from_numpy(array: np.ndarray, *, threads: int = 1) -> Any:
    """A copy on the device; an array that is there already, itself."""
    if is_on_device(array):
        return array
    array = np.ascontiguousarray(array).reshape(np.shape(array))
    result, current = empty(array.shape, array.dtype), device()
    if array.size:
        current.copies_after_kernels()
        result.copy_to_device(array, stream=current.copy_stream)
        current.kernels_after_copies()
        if not SIMULATED:
            current.copy_stream.synchronize()  # the caller may change the array
    return result


def to_numpy(array: Any, *, threads: int = 1) -> np.ndarray:
    """A copy on the host, complete when this returns."""
    if not is_on_device(array):
        return np.asarray(array)
    if array.size == 0:
        return np.empty(tuple(array.shape), array.dtype)
    current = device()
    current.copies_after_kernels()
    result = array.copy_to_host(stream=current.copy_stream)
    if not SIMULATED:
        current.copy_stream.synchronize()
    return np.asarray(result).reshape(tuple(array.shape))


def zeros(shape: int | Sequence[int], *, threads: int = 1) -> Any:
    """float32 array of +0."""
    return cleared(empty(shape))


def cleared(array: Any) -> Any:
    """The array, with every byte set to zero."""
    if array.size:
        driver.device_memset(array, 0, array.nbytes, stream=device().kernel_stream)
    return array


def is_on_device(array: Any) -> bool:
    """Whether it is an array of a device, and not of NumPy."""
    return hasattr(array, "__cuda_ndarray__")
