"""Describes a product's order as a list of steps on registers, for orders without a backend's own kernel.

A register has one float64 number for each of the outputs that are computed together: an exact product (48 bits), or a
sum in float64 or in a format within float32. Each backend has one function that runs the steps of any order (``run`` in
its module ``steps``). mpsim/kernels/contractions/rules.py writes the steps of each order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mpsim.kernels.contractions.narrow import Rounding
from mpsim.products.stages import FLOAT32, Product, Scale, Sums

#: Operations of a step (what, to, x, y, how). r are registers, and e exact sums.
ZERO = 0  # r[to] = +0
MULTIPLY = 1  # r[to] = a[x] * b[x], exact
ROUND = 2  # r[to] = r[x] rounded by sums[how]
ADD = 3  # r[to] = r[x] + r[y] rounded by sums[how]
RISING = 4  # for k in places[x : x + y]: r[to] = r[to] + a[k] * b[k] rounded by sums[how]
ALIGNED = 5  # r[to] = the instructions of aligned[how] over places[x : x + y], from the c that is r[to]
CLEAR = 6  # e[to] = 0
GATHER = 7  # e[to] = e[to] + r[x], exact; how: whether ODD follows, which needs the signs of zeros
TOTAL = 8  # r[to] = e[x] rounded to float32
LOAD = 9  # r[to] = block y of table x: C, beta, alpha, scales, bias, or a sum
TIMES = 10  # r[to] = r[x] * r[y], exact, for numbers of 24 bits
SUBTRACT = 11  # r[to] = r[x] - r[y] rounded by sums[how]
ODD = 12  # r[to] = e[x] rounded to odd to float64; -0 if every number was
LATE = 13  # r[to] = the instruction late[how] over places[x : x + y]: the number of groups, their sizes, their terms
SCALED = (
    14  # r[to] = the instruction scaled[how] over places[x : x + y]: the same, and each group's block after the sizes
)

#: Tables that a product reads besides its operands (mpsim/kernels/contractions/tables.py).
C, BETA, ALPHA, LEFT, RIGHT, BIAS, SUM = range(7)


#: A term: the k of a product, or what writes the steps of a result and says its register.
Term = int | Callable[[], int]


class AlignedNumbers(NamedTuple):
    """The numbers of an aligned order's instruction."""

    terms: int
    fraction: float  # 2**-fraction_bits
    least_left: float  # 2**(smallest normal exponent of the left operand's format)
    least_right: float
    least_sum: float
    least: float  # 2**least_exponent
    sums: int


class LateNumbers(NamedTuple):
    """The numbers of an order that aligns c late."""

    fraction: float  # 2**-fraction_bits
    sum_fraction: float  # 2**-sum_bits
    reach: float  # 2**-reach, or 0
    least_left: float  # as in AlignedNumbers
    least_right: float
    least_sum: float
    sums: int


class ScaledNumbers(NamedTuple):
    """The numbers of an aligned order with scales of blocks of k."""

    grouped: int  # whether the products of a group are added before they are scaled and aligned
    fraction: float  # 2**-fraction_bits
    least_left: float  # as in AlignedNumbers
    least_right: float
    least_sum: float
    least: float
    least_scale: float  # 2**(smallest normal exponent of the scales' format)
    left_table: int  # the indices of LEFT and RIGHT among the tables that are read
    right_table: int
    sums: int


class Steps(NamedTuple):
    """The steps of one product of one length. The result is a float32 number."""

    code: np.ndarray  # int64 (steps, 5)
    places: np.ndarray  # int64
    sums: tuple[Rounding, ...]
    aligned: tuple[AlignedNumbers, ...]
    late: tuple[LateNumbers, ...]
    scaled: tuple[ScaledNumbers, ...]
    reads: tuple[int, ...]  # the tables that LOAD reads, by number
    registers: int
    exact_sums: int
    result: int  # its register

    @property
    def is_stochastic(self) -> bool:
        """Whether random bits are used."""
        return any(each.random_bits for each in self.sums)

    @property
    def most_groups(self) -> int:
        """The largest number of groups of terms in an instruction with scales."""
        if not self.scaled:
            return 0
        return max((int(self.places[x]) for what, _, x, _, _ in self.code.tolist() if what == SCALED), default=0)


class Writer:
    """Collects the steps and allocates registers. given: the tables that exist."""

    def __init__(self, product: Product, given: frozenset[int] = frozenset()) -> None:
        self.product, self.given = product, given
        self.code: list[tuple[int, int, int, int, int]] = []
        self.places: list[int] = []
        self.sums: dict[Sums, int] = {}
        self._hows: dict[int, tuple[Sums, int]] = {}  # id -> an object that stands in many steps, and its number
        self.aligned: list[AlignedNumbers] = []
        self.late: list[LateNumbers] = []
        self.scaled: list[ScaledNumbers] = []
        self.reads: dict[int, int] = {}
        self.registers = self.exact_sums = self.exact_used = 0
        self._free: list[int] = []
        self.begins_with_c = product.start == "c" and C in given

    def step(self, what: int, to: int, x: int = 0, y: int = 0, how: int = 0) -> None:
        self.code.append((what, to, x, y, how))

    def register(self) -> int:
        if self._free:
            return self._free.pop()
        self.registers += 1
        return self.registers - 1

    def release(self, register: int) -> None:
        self._free.append(register)

    def how(self, sums: Sums) -> int:
        if (known := self._hows.get(id(sums))) is None:
            known = self._hows[id(sums)] = sums, self.sums.setdefault(sums, len(self.sums))
        return known[1]

    def run(self, ks: Sequence[int]) -> tuple[int, int]:
        """Appends these k to the places, and returns where they start and how many they are."""
        first = len(self.places)
        self.places += ks
        return first, len(ks)

    def begin(self, sums: Sums | None = None) -> int:
        """Returns the register with which a sum starts: +0, or C, rounded, if it has not been added yet."""
        if self.begins_with_c:
            self.begins_with_c = False
            to = self.load(C)
            if sums is not None:
                self.round(to, sums)
            return to
        return self.zero()

    def zero(self) -> int:
        """Returns the register of +0."""
        to = self.register()
        self.step(ZERO, to)
        return to

    def load(self, table: int, block: int = 0) -> int:
        """Returns the register of a number from a table."""
        to = self.register()
        self.step(LOAD, to, self.table(table), block)
        return to

    def table(self, table: int) -> int:
        """Returns the index of a table among those that are read."""
        return self.reads.setdefault(table, len(self.reads))

    def value(self, term: Term) -> int:
        """Returns the register of a term."""
        if callable(term):
            return term()
        to = self.register()
        self.step(MULTIPLY, to, term)
        if self.product.products is not None:
            self.round(to, self.product.products)
        return to

    def rounded(self, term: Term, sums: Sums) -> int:
        """The register of a term rounded."""
        to = self.value(term)
        self.round(to, sums)
        return to

    def round(self, register: int, sums: Sums) -> None:
        for each in (sums,) if sums.via is None else sums.parts:
            self.step(ROUND, register, register, 0, self.how(each))

    def add(self, left: int, right: int, sums: Sums) -> int:
        """Returns the register of a sum of two, which replaces the left one."""
        parts = (sums,) if sums.via is None else sums.parts
        self.step(ADD, left, left, right, self.how(parts[0]))
        self.release(right)
        for each in parts[1:]:
            self.round(left, each)
        return left

    def times(self, left: int, right: int) -> int:
        """Returns the register of an exact product of two, which replaces the left one."""
        self.step(TIMES, left, left, right)
        self.release(right)
        return left

    def scale(self, register: int, scale: Scale, block: int = 0) -> int:
        """Returns the register of a number times a factor, which replaces the number."""
        if scale.of == "both":
            factor = self.times(self.load(LEFT, block), self.load(RIGHT, block))
            self.round(factor, FLOAT32)
        else:
            factor = self.load({"left": LEFT, "right": RIGHT, "alpha": ALPHA}[scale.of], block)
        self.times(register, factor)
        if scale.sums is not None:
            self.round(register, scale.sums)
        return register

    def steps(self, result: int) -> Steps:
        """Returns all steps written so far. result: the register of the result."""
        return Steps(
            np.array(self.code, np.int64).reshape(-1, 5),
            np.array(self.places, np.int64),
            tuple(map(Rounding.of, self.sums)),
            tuple(self.aligned),
            tuple(self.late),
            tuple(self.scaled),
            tuple(self.reads),
            self.registers,
            self.exact_sums,
            result,
        )
