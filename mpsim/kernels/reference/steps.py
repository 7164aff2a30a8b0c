"""Any order of summation in NumPy: each step of mpsim.kernels.contractions.steps once, for many outputs."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contractions import steps
from mpsim.kernels.contractions.lowering import Contraction
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.contractions.steps import AlignedNumbers, Steps
from mpsim.kernels.reference.aligned import Instruction
from mpsim.kernels.reference.exact import ExactSum
from mpsim.kernels.reference.fma import exact_product, round_narrow, sum_to_odd

Sums = tuple[Narrow, bool]


#: Numbers in a register: small enough for the cache, large enough to hide the cost of a NumPy call.
BLOCK = 16384


def run(c: Contraction, program: Steps, threads: int = 1) -> np.ndarray:
    """Every output of the contraction, by the steps."""
    out = np.zeros(c.out_shape, np.float32)
    groups, rows, _, columns = c.shape
    width = max(1, BLOCK // max(1, groups * rows))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start in range(0, columns, width):
            block = c.columns(start, start + width)
            machine = _Machine(block, program)
            for what, to, x, y, how in program.code.tolist():
                machine.do(what, to, x, y, how)
            block.put(out.reshape(-1), machine.registers[0].astype(np.float32))
    return out


class _Machine:
    def __init__(self, c: Contraction, program: Steps) -> None:
        self.c, self.program = c, program
        groups, rows, _, columns = c.shape
        self.shape = groups, rows, columns
        self.registers = [np.zeros(self.shape) for _ in range(program.registers)]
        self.exact = [ExactSum(groups * rows * columns) for _ in range(program.exact_sums)]
        self.instructions = [_instruction(numbers, program.sums) for numbers in program.aligned]

    def do(self, what: int, to: int, x: int, y: int, how: int) -> None:
        """One step."""
        r = self.registers
        if what == steps.ZERO:
            r[to] = np.zeros(self.shape)
        elif what == steps.MULTIPLY:
            r[to] = self.product(x)
        elif what == steps.ROUND:
            r[to] = _rounded(r[x], self.program.sums[how])
        elif what == steps.ADD:
            r[to] = _rounded(sum_to_odd(r[x], r[y]), self.program.sums[how])
        elif what == steps.RISING:
            for k in self.program.places[x : x + y]:
                r[to] = _rounded(sum_to_odd(r[to], self.product(k)), self.program.sums[how])
        elif what == steps.ALIGNED:
            r[to] = self.aligned(r[to], self.program.places[x : x + y], self.instructions[how])
        elif what == steps.CLEAR:
            self.exact[to] = ExactSum(r[0].size)
        elif what == steps.GATHER:
            self.exact[to].add(r[x].ravel())
        else:
            r[to] = self.exact[x].total().astype(np.float64).reshape(self.shape)

    def product(self, k: int) -> np.ndarray:
        return exact_product(self.c.left(k)[:, :, None], self.c.right(k)[:, None, :])

    def aligned(self, total: np.ndarray, places: np.ndarray, instruction: Instruction) -> np.ndarray:
        for first in range(0, places.size, instruction.terms):
            k = places[first : first + instruction.terms]
            total = instruction(self.c.left(k)[:, :, :, None], self.c.right(k)[:, :, None, :], total)
        return total


def _rounded(x: np.ndarray, sums: Sums) -> np.ndarray:
    """Numbers rounded to odd, rounded to a format."""
    narrow, toward_zero = sums
    return round_narrow(x, narrow, toward_zero)


def _instruction(numbers: AlignedNumbers, sums: tuple[Sums, ...]) -> Instruction:
    narrow, toward_zero = sums[numbers.sums]
    least = numbers.least_left, numbers.least_right, numbers.least_sum, numbers.least
    return Instruction(numbers.terms, numbers.fraction, least, narrow, toward_zero)
