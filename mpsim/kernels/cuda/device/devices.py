"""The device in use by a thread, with its streams.

Kernels have one stream and copies another. Events order the two where they meet.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any

from numba import cuda

from mpsim.kernels.cuda.device.intrinsics import SIMULATED
from mpsim.kernels.cuda.device.memory import MEBIBYTE, Pool, total
from mpsim.kernels.errors import BackendUnavailable

OTHERS = 'or pass backend="compiled", which gives the same bits on the CPU'


@dataclass
class Device:
    """One device with its streams, which are Numba's, and memory."""

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
        _order(self.kernel_stream, self.copy_stream)

    def kernels_after_copies(self) -> None:
        """Kernels launched from now on wait for the copies launched so far."""
        _order(self.copy_stream, self.kernel_stream)

    def wait_for_copies(self) -> None:
        """Returns when the copies launched so far are complete."""
        if not SIMULATED:
            self.copy_stream.synchronize()


def _order(first: Any, second: Any) -> None:
    event = cuda.event() if SIMULATED else cuda.event(timing=False)
    event.record(first)
    event.wait(second)


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
    """The device in use by this thread: number 0 unless ``use_device`` chose another."""
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
        memory = total() / MEBIBYTE / 1024
        parts = [
            f"compute capability {'.'.join(map(str, current.compute_capability))}",
            f"{current.multiprocessors} multiprocessors, {memory:.0f} GiB, driver for CUDA {driver_version}",
            *parts,
        ]
    return f"device {current.number}: {current.name}; {'; '.join(parts)}"


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
