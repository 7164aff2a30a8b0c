"""How a kernel is written down, compiled and launched.

A kernel is a function decorated with its signatures:

    @kernel("float32[::1], float32[::1], float32[::1]")
    def add_elements(a, b, y):
        for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
            y[i] = add_rn(a[i], b[i])

    add_elements.over(y.size)(a, b, y)                 # one dimension, any number of threads
    sum_tiles[(columns, rows), (32, 8)](a, b, out)     # a grid and a block of its own, which the simulator keeps too

It is compiled at its first launch, for the types of the arguments. The signatures are examples of these types, which
tests compile to PTX without a device. A family is a function that yields kernels with numbers built in. ``FAMILIES``
has them all, so that a test finds every kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from typing import Any, TypeVar

from numba import cuda
from numba.cuda import config

from mpsim.kernels.cuda.device.devices import device
from mpsim.kernels.cuda.device.intrinsics import SIMULATED

if not SIMULATED:
    from mpsim.kernels.cuda.device import cubins, direct

# Kernels on a layer's few parameters fill no device, and Numba would warn of each.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

#: Threads of a block, and elements that a thread takes before another block starts, of launches in one dimension.
THREADS, ELEMENTS = (4, 1 << 30) if SIMULATED else (256, 4)
#: Blocks of such a launch for each multiprocessor, at most: as many threads as one holds. A loop in the kernel takes
#: the rest, so that what a block does once (adding its counts) is done for many elements.
BLOCKS_PER_MULTIPROCESSOR = 8
#: Threads of a block where each has much to do.
FEW = min(THREADS, 64)
#: What the names of modules of kernels begin with.
ROOM = "mpsim.kernels.cuda."
#: A flat array of float32, in signatures.
VECTOR = "float32[::1]"

Shape = tuple[int, int, int]
#: Types as text, or a tuple of texts and Numba's types where a type has no name.
Signature = str | tuple[Any, ...]
Function = TypeVar("Function", bound=Callable[..., object])
#: Yields kernels.
Family = TypeVar("Family", bound=Callable[[], "Iterable[Kernel]"])

#: name -> kernel, of every kernel at the top of a module.
KERNELS: dict[str, Kernel] = {}
#: Each yields all kernels of a family.
FAMILIES: list[Callable[[], Iterable[Kernel]]] = []


class Kernel:
    """A function for the device and the signatures it may be launched with."""

    def __init__(
        self, function: Callable[..., None], signatures: Iterable[Signature], name: str, registers: int | None = None
    ) -> None:
        self.function, self.signatures, self.name = function, tuple(signatures), name
        #: of a thread, at most; None: as many as the compiler chooses
        self.registers = registers
        #: (device, kinds of arguments) -> how to launch it directly; None: by Numba
        self.entries: dict[tuple[Any, ...], direct.Entry | None] = {}

    @cached_property
    def compiled(self) -> Any:
        """Numba's dispatcher."""
        return cuda.jit(self.function, **({} if SIMULATED else {"max_registers": self.registers}))

    def __getitem__(self, shape: tuple[Any, ...]) -> Callable[..., None]:
        """The kernel on this (grid, block), in the stream of kernels of the device in use."""
        grid, block = shape
        if SIMULATED:
            return self.compiled[grid, block, device().kernel_stream]
        return partial(self.launch, _three(grid), _three(block))

    def launch(self, grid: Shape, block: Shape, *arguments: Any) -> None:
        """Launches it directly (direct.py), or through Numba where Numba passes other words to the driver."""
        current, kinds, words = device(), list[direct.Kind](), list[direct.Word]()
        direct.words_of(arguments, kinds, words)
        key = (current.number, *kinds)
        try:
            entry = self.entries[key]
        except KeyError:
            entry = self.entries[key] = self._open(arguments, kinds, words)
        if entry is None:
            self.compiled[grid, block, current.kernel_stream](*arguments)
        else:
            entry.launch(grid, block, current.kernel_handle, words)

    def _open(
        self, arguments: tuple[Any, ...], kinds: list[direct.Kind], words: list[direct.Word]
    ) -> direct.Entry | None:
        """The kernel for such arguments, from the disk or compiled; None where Numba passes other words than these."""
        name = cubins.name_of(self.name, repr(kinds), device().compute_capability, self.registers)
        found = cubins.find(name)
        if found is None:
            compiled = self.compiled.compile(tuple(self.compiled.typeof_pyval(x) for x in arguments))
            if direct.words_of_numba(compiled, arguments) != words:
                return None
            library = compiled._codelibrary
            found = library._entry_name.encode(), bytes(library.get_cubin().code)
            cubins.keep(name, *found)
        return direct.Entry(direct.load(*found), kinds)

    def over(self, count: int) -> Callable[..., None]:
        """The kernel on enough threads for ``count`` elements; it must loop with cuda.gridsize(1)."""
        blocks = min(-(-count // (THREADS * ELEMENTS)), device().multiprocessors * BLOCKS_PER_MULTIPROCESSOR)
        return self[(max(1, blocks), 1, 1), (THREADS, 1, 1)]

    def each(self, count: int) -> Callable[..., None]:
        """The same on a thread for each element, in small blocks: for few elements with much to do."""
        return self[(min(max(1, -(-count // FEW)), 65535), 1, 1), (FEW, 1, 1)]


def _three(shape: int | tuple[int, ...]) -> Shape:
    """The extent in three dimensions, one where it has none."""
    sizes = shape if isinstance(shape, tuple) else (shape,)
    rows, columns, layers = (*sizes, 1, 1)[:3]
    return rows, columns, layers


def kernel(*signatures: Signature) -> Callable[[Callable[..., None]], Kernel]:
    """Makes a function at the top of a module a kernel. Its name is the path below ``ROOM``, and its own."""

    def decorate(function: Callable[..., None]) -> Kernel:
        made = Kernel(function, signatures, f"{function.__module__.removeprefix(ROOM)}.{function.__name__}")
        KERNELS[made.name] = made
        return made

    return decorate


def family(function: Family) -> Family:
    """Decorates a function that yields kernels, for ``every_kernel``."""
    FAMILIES.append(function)
    return function


def every_kernel() -> Iterator[Kernel]:
    """All kernels of the modules imported so far, those of families last."""
    yield from KERNELS.values()
    for kernels in FAMILIES:
        yield from kernels()


def device_function(function: Function) -> Function:
    """Decorates what kernels call. Its code becomes part of theirs, so that no device is needed to compile them.

    One that names ``cuda`` stands in the file of the kernels that call it: in the simulator it is a plain function,
    and that name means the simulated block in the kernel's file only.
    """
    return function if SIMULATED else cuda.jit(device=True, inline="always")(function)
