"""Declares, compiles and launches kernels.

A kernel is a function decorated with its signatures:

    @kernel("float32[::1], float32[::1], float32[::1]")
    def add_elements(a, b, y):
        for i in range(cuda.grid(1), y.size, cuda.gridsize(1)):
            y[i] = add_rn(a[i], b[i])

    add_elements.over(y.size)(a, b, y)                 # one dimension, any number of threads
    sum_tiles[(columns, rows), (32, 8)](a, b, out)     # an explicit grid and block, also in the simulator

It is compiled at its first launch, for the types of the arguments. The signatures are examples of these types. Tests
compile them to PTX without a device. A family is a function that yields kernels with compile-time constants.
``FAMILIES`` lists all families, so that tests find every kernel.
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

# Kernels on a layer's few parameters do not fill a device, and Numba would warn about each.
config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

#: For launches in one dimension: the threads of a block, and the elements per thread that justify another block.
THREADS, ELEMENTS = (4, 1 << 30) if SIMULATED else (256, 4)
#: The most blocks of such a launch per multiprocessor, which make all its threads resident. The kernel loops over the
#: other elements, so that a block's fixed cost (adding its counts) is shared by many of them.
BLOCKS_PER_MULTIPROCESSOR = 8
#: Threads of a block if each has much work.
FEW = min(THREADS, 64)
#: The prefix of the names of modules with kernels.
PACKAGE = "mpsim.kernels.cuda."
#: A flat array of float32, in signatures.
VECTOR = "float32[::1]"

Shape = tuple[int, int, int]
#: Types as text, or a tuple of texts and Numba's types if a type has no name.
Signature = str | tuple[Any, ...]
Function = TypeVar("Function", bound=Callable[..., object])
#: A function that yields kernels.
Family = TypeVar("Family", bound=Callable[[], "Iterable[Kernel]"])

#: name -> kernel, for every kernel at the top level of a module.
KERNELS: dict[str, Kernel] = {}
#: All families.
FAMILIES: list[Callable[[], Iterable[Kernel]]] = []


class Kernel:
    """A device function and the signatures that it may be launched with."""

    def __init__(
        self, function: Callable[..., None], signatures: Iterable[Signature], name: str, registers: int | None = None
    ) -> None:
        self.function, self.signatures, self.name = function, tuple(signatures), name
        #: the most per thread; None: the compiler's choice
        self.registers = registers
        #: (device, kinds of arguments) -> entry for direct launches; None: launched by Numba
        self.entries: dict[tuple[Any, ...], direct.Entry | None] = {}

    @cached_property
    def compiled(self) -> Any:
        """Numba's dispatcher."""
        return cuda.jit(self.function, **({} if SIMULATED else {"max_registers": self.registers}))

    def __getitem__(self, shape: tuple[Any, ...]) -> Callable[..., None]:
        """Returns a launch of the kernel with this (grid, block), in the current device's stream of kernels."""
        grid, block = shape
        if SIMULATED:
            return self.compiled[grid, block, device().kernel_stream]
        return partial(self.launch, _three(grid), _three(block))

    def launch(self, grid: Shape, block: Shape, *arguments: Any) -> None:
        """Launches the kernel directly (direct.py), or by Numba if Numba passes different words to the driver."""
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
        """Loads or compiles the kernel for these arguments. Returns None if Numba passes different words."""
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
        """Returns a launch with enough threads for ``count`` elements. The kernel must loop with cuda.gridsize(1)."""
        blocks = min(-(-count // (THREADS * ELEMENTS)), device().multiprocessors * BLOCKS_PER_MULTIPROCESSOR)
        return self[(max(1, blocks), 1, 1), (THREADS, 1, 1)]

    def each(self, count: int) -> Callable[..., None]:
        """Returns a launch with one thread per element in small blocks, for few elements with much work each."""
        return self[(min(max(1, -(-count // FEW)), 65535), 1, 1), (FEW, 1, 1)]


def _three(shape: int | tuple[int, ...]) -> Shape:
    """Pads the shape with ones to three dimensions."""
    sizes = shape if isinstance(shape, tuple) else (shape,)
    rows, columns, layers = (*sizes, 1, 1)[:3]
    return rows, columns, layers


def kernel(*signatures: Signature) -> Callable[[Callable[..., None]], Kernel]:
    """Decorates a function at the top level of a module as a kernel, named by its path below ``PACKAGE``."""

    def decorate(function: Callable[..., None]) -> Kernel:
        made = Kernel(function, signatures, f"{function.__module__.removeprefix(PACKAGE)}.{function.__name__}")
        KERNELS[made.name] = made
        return made

    return decorate


def family(function: Family) -> Family:
    """Decorates a function that yields kernels, so that ``every_kernel`` finds them."""
    FAMILIES.append(function)
    return function


def every_kernel() -> Iterator[Kernel]:
    """Yields all kernels of the modules imported so far, those of families last."""
    yield from KERNELS.values()
    for kernels in FAMILIES:
        yield from kernels()


def device_function(function: Function) -> Function:
    """Decorates a function that kernels call. It is inlined, so that no device is needed to compile the kernels.

    A function that uses ``cuda`` must be in the same file as the kernels that call it. In the simulator it is a plain
    function, and ``cuda`` means the simulated block only in the kernel's file.
    """
    return function if SIMULATED else cuda.jit(device=True, inline="always")(function)
