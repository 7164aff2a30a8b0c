"""Reuses device memory from step to step.

Kernels run in one stream, in the order of their launches. The memory of a deleted array can therefore be reused at
once: all kernels that still read it were launched before.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from numba import cuda
from numba.cuda.cudadrv import driver

from mpsim.kernels.cuda.device.intrinsics import SIMULATED
from mpsim.kernels.errors import DeviceMemoryError

#: Numba's class of an array's memory. The simulator has none.
MemoryPointer: Any = object if SIMULATED else driver.MemoryPointer
#: Sizes are rounded up to a multiple of this many bytes, so that there are few different sizes.
GRANULE = 512
MEBIBYTE = 1 << 20


@dataclass
class Pool:
    """Memory of one device: the pieces in use, and free pieces by size for the next arrays."""

    context: Any = None  # Numba's context of the device. Looking it up takes 10 microseconds.
    free: defaultdict[int, list[MemoryPointer]] = field(default_factory=lambda: defaultdict(list))
    #: address -> piece in use. Without this reference Numba would free the piece together with its last array.
    in_use: dict[int, MemoryPointer] = field(default_factory=dict)
    reserved: int = 0  # bytes allocated on the device, in use or free
    used: int = 0  # bytes of live arrays
    peak: int = 0  # the largest ``used`` since ``reset_peak``

    def take(self, count: int) -> Piece:
        """Returns a piece of at least ``count`` bytes. It returns to the pool when its last array and view are gone."""
        size = -(-count // GRANULE) * GRANULE
        if not self.free[size]:
            self.free[size].append(self._reserve(size))
        piece = self.free[size].pop()
        self.used += size
        self.peak = max(self.peak, self.used)
        address = int(piece.device_pointer)
        self.in_use[address] = piece
        return Piece(self, address, size)

    def give_back(self, address: int, size: int) -> None:
        """Returns a piece to the pool for the next array."""
        self.free[size].append(self.in_use.pop(address))
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
            f"cannot allocate {size / MEBIBYTE:.1f} MiB on the device: of its {total() / MEBIBYTE:.0f} MiB, "
            f"{self.used / MEBIBYTE:.0f} MiB are used by arrays of this process, the rest by other processes"
        )

    def release(self) -> None:
        """Frees the unused pieces on the device."""
        for size, pieces in list(self.free.items()):
            self.reserved -= size * len(pieces)
            pieces.clear()
        if not SIMULATED:
            cuda.synchronize()
            self.context.memory_manager.deallocations.clear()

    def reset_peak(self) -> None:
        """Restarts the measurement of peak memory."""
        self.peak = self.used


class Piece(MemoryPointer):
    """A piece of the pool. It returns to the pool when the last array and view that use it are gone."""

    def __init__(self, pool: Pool, address: int, size: int) -> None:
        super().__init__(pool.context, driver.binding.CUdeviceptr(address), size)
        self.pool, self.address = pool, address

    def __del__(self) -> None:  # costs less than weakref.finalize
        self.pool.give_back(self.address, self.size)


def total() -> int:
    """Returns the bytes of memory of the current device."""
    return 0 if SIMULATED else int(cuda.current_context().get_memory_info().total)
