"""How a kernel is written down, compiled and launched.

A kernel is a function decorated with its signatures:

    @kernel("float32[::1], float32[::1], float32[::1]")
    def add_elements(a, b, y):
        for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
            y[i] = add_rn(a[i], b[i])

    add_elements.over(y.size)(a, b, y)                 # one dimension, any number of threads
    sum_tiles[(columns, rows), (32, 8)](a, b, out)     # a grid and a block of its own, which the simulator keeps too

It is compiled at its first launch for the types that come. The signatures are examples of them, which tests compile to
PTX, without a device. A family is a function that makes kernels with numbers built in; ``FAMILIES`` has them
all, so that a test finds every kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any

from numba import cuda
from numba.cuda import config

from mpsim.kernels.cuda import arrays
from mpsim.kernels.cuda.intrinsics import SIMULATED

if not SIMULATED:
    from mpsim.kernels.cuda import direct

# Kernels on a layer's few parameters fill no device, and numba would warn of each.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

#: Threads of a block, and elements that a thread takes before another block starts, of launches in one dimension.
THREADS, ELEMENTS = (4, 1 << 30) if SIMULATED else (256, 4)
#: Blocks of such a launch for each multiprocessor, at most: as many threads as one holds. A loop in the kernel takes
#: the rest, so that what a block does once (adding its counts) is done for many elements.
BLOCKS_PER_MULTIPROCESSOR = 8
#: Threads of a block where each has much to do.
FEW = min(THREADS, 64)

Shape = tuple[int, int, int]

#: name -> kernel, of every kernel that stands at a module's top.
KERNELS: dict[str, Kernel] = {}
#: Each gives all kernels of a family.
FAMILIES: list[Callable[[], Iterable[Kernel]]] = []


class Kernel:
    """A function for the device and the signatures it may be launched with."""

    def __init__(
        self, function: Callable[..., None], signatures: tuple[Any, ...], name: str, registers: int | None = None
    ) -> None:
        self.function, self.name = function, name
        #: of a thread, at most; None: as many as the compiler likes
        self.registers = registers
        #: each as text, or as a tuple of numba types and texts where a type has no name
        self.signatures = signatures
        #: (device, kinds of arguments) -> how to launch it directly; None: by numba
        self.entries: dict[tuple[Any, ...], Any] = {}

    @cached_property
    def compiled(self) -> Any:
        """What numba makes of it."""
        return cuda.jit(self.function, **({} if SIMULATED else {"max_registers": self.registers}))

    def __getitem__(self, shape: tuple[Any, ...]) -> Callable[..., None]:
        """The kernel on this (grid, block), in the stream of kernels of the device in use."""
        grid, block = shape
        if SIMULATED:
            return self.compiled[grid, block, arrays.device().kernel_stream]
        return partial(self.launch, _three(grid), _three(block))

    def launch(self, grid: Shape, block: Shape, *arguments: Any) -> None:
        """Past numba (direct.py), if it would hand the driver the same words."""
        device, kinds, words = arrays.device(), list[Any](), list[Any]()
        direct.words_of(arguments, kinds, words)
        key = (device.number, *kinds)
        try:
            entry = self.entries[key]
        except KeyError:
            entry = self.entries[key] = direct.open_kernel(self, arguments, kinds, words)
        if entry is None:
            self.compiled[grid, block, device.kernel_stream](*arguments)
        else:
            entry.launch(grid, block, device.kernel_handle, words)

    def over(self, count: int) -> Callable[..., None]:
        """The kernel on enough threads for ``count`` elements; it must loop with cuda.gridsize(1)."""
        blocks = min(-(-count // (THREADS * ELEMENTS)), arrays.device().multiprocessors * BLOCKS_PER_MULTIPROCESSOR)
        return self[(max(1, blocks), 1, 1), (THREADS, 1, 1)]

    def each(self, count: int) -> Callable[..., None]:
        """The same on a thread for each element, in small blocks: for few elements with much to do."""
        return self[(min(max(1, -(-count // FEW)), 65535), 1, 1), (FEW, 1, 1)]


def _three(shape: int | tuple[int, ...]) -> Shape:
    """The extent in three dimensions, one where it has none."""
    if isinstance(shape, tuple) and len(shape) == 3:
        return shape
    sizes = shape if isinstance(shape, tuple) else (shape,)
    return (*sizes, 1, 1)[:3]  # type: ignore[return-value]


def kernel(*signatures: Any) -> Callable[[Callable[..., None]], Kernel]:
    """Makes a function at a module's top a kernel."""

    def decorate(function: Callable[..., None]) -> Kernel:
        made = Kernel(function, signatures, f"{function.__module__.rpartition('.')[2]}.{function.__name__}")
        KERNELS[made.name] = made
        return made

    return decorate


def every_kernel() -> Iterator[Kernel]:
    """All kernels of the modules imported so far, those of families last."""
    yield from KERNELS.values()
    for family in FAMILIES:
        yield from family()


def device_function(function: Callable[..., Any]) -> Any:
    """Decorates what kernels call; its code becomes part of theirs, so that no device is needed to compile them.

    One that names ``cuda`` stands in the file of the kernels that call it: in the simulator it is a plain function,
    and that name means the simulated block in the kernel's file only.
    """
    return function if SIMULATED else cuda.jit(device=True, inline="always")(function)
