"""Memory of a device that is used again from step to step.

Kernels run in one stream, in the order in which they are launched. So memory that an array has left can be passed to
the next array at once: the kernels that still read it were launched before.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from numba import cuda
from numba.cuda.cudadrv import driver

from mpsim.kernels.cuda.device.intrinsics import SIMULATED
from mpsim.kernels.errors import DeviceMemoryError

#: What holds the memory of one of Numba's arrays; the simulator has no such class.
MemoryPointer: Any = object if SIMULATED else driver.MemoryPointer
#: Sizes are rounded up to a multiple of this many bytes, so that few different ones occur.
GRANULE = 512
MEBIBYTE = 1 << 20


@dataclass
class Pool:
    """Memory of one device: pieces in use, and pieces kept by size for the next array that asks."""

    context: Any = None  # Numba's, of the device; to ask Numba for it takes 10 microseconds
    free: defaultdict[int, list[MemoryPointer]] = field(default_factory=lambda: defaultdict(list))
    #: address -> piece in use. A piece that became garbage together with its last array would go to the device.
    lent: dict[int, MemoryPointer] = field(default_factory=dict)
    reserved: int = 0  # bytes that the device has allocated, in use or free
    used: int = 0  # bytes of arrays that live
    peak: int = 0  # the most bytes used at a time since ``reset_peak``

    def take(self, count: int) -> Lent:
        """A piece of ``count`` bytes or a few more. It returns when its last array and view are gone."""
        size = -(-count // GRANULE) * GRANULE
        if not self.free[size]:
            self.free[size].append(self._reserve(size))
        piece = self.free[size].pop()
        self.used += size
        self.peak = max(self.peak, self.used)
        address = int(piece.device_pointer)
        self.lent[address] = piece
        return Lent(self, address, size)

    def give_back(self, address: int, size: int) -> None:
        """Keeps a piece for the next array."""
        self.free[size].append(self.lent.pop(address))
        self.used -= size

    def _reserve(self, size: int) -> MemoryPointer:
        for attempt in range(2):
            try:
                piece = self.context.memalloc(size)
            except (driver.CudaAPIError, MemoryError) as error:
                if "OUT_OF_MEMORY" not in str(error).upper() and not isinstance(error, MemoryError):
                    raise
                if attempt == 1:
                    raise DeviceMemoryError(self._shortage(size), asked=size, used=self.used, total=total()) from error
                self.release()
            else:
                self.reserved += size
                return piece

    def _shortage(self, size: int) -> str:
        return (
            f"the device has no {size / MEBIBYTE:.1f} MiB left: of its {total() / MEBIBYTE:.0f} MiB, "
            f"{self.used / MEBIBYTE:.0f} MiB are used by arrays of this process, the rest by other processes"
        )

    def release(self) -> None:
        """Returns the free pieces to the device."""
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
    """A piece of the pool, which returns when the last array and view that hold it are gone."""

    def __init__(self, pool: Pool, address: int, size: int) -> None:
        super().__init__(pool.context, driver.binding.CUdeviceptr(address), size)
        self.pool, self.address = pool, address

    def __del__(self) -> None:  # costs less than weakref.finalize
        self.pool.give_back(self.address, self.size)


def total() -> int:
    """Bytes of memory of the device in use."""
    return 0 if SIMULATED else int(cuda.current_context().get_memory_info().total)
