"""Selects each thread's current device, and creates its streams.

Kernels have one stream and copies another. Events order the two where they depend on each other.
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
    """One device with its memory and its streams, which are Numba's."""

    number: int
    name: str
    compute_capability: tuple[int, int]
    multiprocessors: int
    kernel_stream: Any
    copy_stream: Any
    pool: Pool = field(default_factory=Pool)

    @cached_property
    def kernel_handle(self) -> int:
        """The driver's handle of the kernels' stream."""
        return int(self.kernel_stream)

    def copies_after_kernels(self) -> None:
        """Makes copies launched from now on wait for the kernels launched so far."""
        _order(self.kernel_stream, self.copy_stream)

    def kernels_after_copies(self) -> None:
        """Makes kernels launched from now on wait for the copies launched so far."""
        _order(self.copy_stream, self.kernel_stream)

    def wait_for_copies(self) -> None:
        """Waits until the copies launched so far are complete."""
        if not SIMULATED:
            self.copy_stream.synchronize()


def _order(first: Any, second: Any) -> None:
    event = cuda.event() if SIMULATED else cuda.event(timing=False)
    event.record(first)
    event.wait(second)


_devices: dict[int, Device] = {}
_in_use = threading.local()


def use_device(number: int = 0) -> Device:
    """Selects the device for this thread's new arrays and launches.

    Raises:
        BackendUnavailable: If there is no driver or no such device.
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
    """Returns this thread's current device: number 0 unless ``use_device`` selected another."""
    try:
        return _in_use.device
    except AttributeError:
        return use_device(0)


def _open(number: int) -> Device:
    if SIMULATED:
        if number != 0:
            raise BackendUnavailable(f"'cuda': the CUDA simulator has only device 0, got device {number}")
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
    """Describes the current device and its software in one line."""
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
    """Raises BackendUnavailable unless there is a driver and a device of this number."""
    try:
        count = len(cuda.gpus)
    except Exception as error:  # Numba's versions raise different exceptions without a driver
        cause = " ".join(str(error).split()) or type(error).__name__
        raise BackendUnavailable(
            f"'cuda': no usable NVIDIA driver ({cause}). Install the driver of an NVIDIA device, "
            f"or set NUMBA_ENABLE_CUDASIM=1 to try kernels in the slow simulator, {OTHERS}."
        ) from error
    if count == 0:
        raise BackendUnavailable(f"'cuda': the driver finds no NVIDIA device. Check CUDA_VISIBLE_DEVICES, {OTHERS}.")
    if not 0 <= number < count:
        raise BackendUnavailable(f"'cuda': there is no device {number}; the driver finds devices 0 to {count - 1}.")
