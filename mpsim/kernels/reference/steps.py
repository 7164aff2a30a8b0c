"""Sums in any order in NumPy: runs each step of mpsim.kernels.contractions.steps once for many outputs."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contractions import steps
from mpsim.kernels.contractions.lowering import Contraction
from mpsim.kernels.contractions.narrow import STOCHASTIC, Rounding
from mpsim.kernels.contractions.steps import AlignedNumbers, ScaledNumbers, Steps
from mpsim.kernels.contractions.tables import Reads
from mpsim.kernels.philox import philox4x32
from mpsim.kernels.reference.aligned import Instruction, grouped, late_instruction, scaled_instruction
from mpsim.kernels.reference.exact import ExactSum
from mpsim.kernels.reference.fma import exact_product, round_narrow, round_stochastic, sum_to_odd, truncated_sum

#: Numbers in a register: few enough for the cache, and enough to hide the cost of a NumPy call.
BLOCK = 16384


def run(c: Contraction, program: Steps, reads: Reads, threads: int = 1) -> np.ndarray:
    """Computes every output of the contraction by the steps."""
    out = np.zeros(c.out_shape, np.float32)
    groups, rows, _, columns = c.shape
    width = max(1, BLOCK // max(1, groups * rows))
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for start in range(0, columns, width):
            block = c.columns(start, start + width)
            machine = _Machine(block, program, reads.columns(start, start + width))
            for what, to, x, y, how in program.code.tolist():
                machine.do(what, to, x, y, how)
            block.put(out.reshape(-1), machine.registers[program.result].astype(np.float32))
    return out


class _Machine:
    def __init__(self, c: Contraction, program: Steps, reads: Reads) -> None:
        self.c, self.program, self.reads = c, program, reads
        groups, rows, _, columns = c.shape
        self.shape = groups, rows, columns
        self.registers = [np.zeros(self.shape) for _ in range(program.registers)]
        self.exact = [ExactSum(groups * rows * columns) for _ in range(program.exact_sums)]
        self.instructions = [_instruction(numbers, program.sums) for numbers in program.aligned]
        self.roundings = 0  # stochastic ones so far
        self.elements = _outer(c.out_group, c.out_row, c.out_column)

    def do(self, what: int, to: int, x: int, y: int, how: int) -> None:
        """Runs one step."""
        r = self.registers
        if what == steps.ZERO:
            r[to] = np.zeros(self.shape)
        elif what == steps.MULTIPLY:
            r[to] = self.product(x)
        elif what == steps.ROUND:
            r[to] = self.rounded(r[x], how)
        elif what == steps.ADD:
            r[to] = self.sum(r[x], r[y], how)
        elif what == steps.SUBTRACT:
            r[to] = self.sum(r[x], -r[y], how)
        elif what == steps.RISING:
            for k in self.program.places[x : x + y]:
                r[to] = self.sum(r[to], self.product(k), how)
        elif what == steps.ALIGNED:
            r[to] = self.aligned(r[to], self.program.places[x : x + y], self.instructions[how])
        elif what == steps.CLEAR:
            self.exact[to] = ExactSum(r[0].size)
        elif what == steps.GATHER:
            self.exact[to].add(r[x].ravel())
        elif what == steps.TOTAL:
            r[to] = self.exact[x].total().astype(np.float64).reshape(self.shape)
        elif what == steps.ODD:
            r[to] = self.exact[x].to_odd().reshape(self.shape)
        elif what == steps.LATE:
            groups, places = grouped(self.program.places[x : x + y])
            a, b = self.c.left(places)[:, :, :, None], self.c.right(places)[:, :, None, :]
            rounding = self.program.sums[self.program.late[how].sums]
            r[to] = late_instruction(a, b, groups, r[to], self.program.late[how], rounding)
        elif what == steps.SCALED:
            r[to] = self.scaled(r[to], self.program.places[x : x + y], self.program.scaled[how])
        elif what == steps.LOAD:
            r[to] = self.load(x, y)
        else:
            r[to] = r[x] * r[y]

    def product(self, k: int) -> np.ndarray:
        return exact_product(self.c.left(k)[:, :, None], self.c.right(k)[:, None, :])

    def aligned(self, total: np.ndarray, places: np.ndarray, instruction: Instruction) -> np.ndarray:
        for first in range(0, places.size, instruction.terms):
            k = places[first : first + instruction.terms]
            total = instruction(self.c.left(k)[:, :, :, None], self.c.right(k)[:, :, None, :], total)
        return total

    def scaled(self, total: np.ndarray, places: np.ndarray, numbers: ScaledNumbers) -> np.ndarray:
        count = int(places[0])
        blocks = places[1 + count : 1 + 2 * count].tolist()
        groups, k = grouped(np.delete(places, slice(1 + count, 1 + 2 * count)))
        a, b = self.c.left(k)[:, :, :, None], self.c.right(k)[:, :, None, :]
        scales = [(self.load(numbers.left_table, each), self.load(numbers.right_table, each)) for each in blocks]
        return scaled_instruction(a, b, groups, scales, total, numbers, self.program.sums[numbers.sums])

    def load(self, table: int, block: int) -> np.ndarray:
        """Returns a table's numbers for each output and one block."""
        values, step, *axes = self.reads.tables[table]
        return np.asarray(values[_outer(*axes) + step * block].astype(np.float64))

    def sum(self, x: np.ndarray, y: np.ndarray, how: int) -> np.ndarray:
        """Returns x + y, rounded once."""
        rounding = self.program.sums[how]
        if rounding.double:
            return truncated_sum(x, y) if rounding.toward_zero else x + y
        return self.rounded(sum_to_odd(x, y), how)

    def rounded(self, x: np.ndarray, how: int) -> np.ndarray:
        """Rounds numbers that were rounded to odd to a format."""
        rounding = self.program.sums[how]
        if rounding.double:
            return x
        if rounding.mode == STOCHASTIC:
            x = round_stochastic(x, self.words(), rounding)
        else:
            x = round_narrow(x, rounding.format, rounding.mode)
        if rounding.flush_below:
            zero = np.copysign(0.0, x) if rounding.format.negative_zero else 0.0
            x = np.where(np.abs(x) < rounding.flush_below, zero, x)
        return x

    def words(self) -> np.ndarray:
        """Returns the random words of the next rounding, one for each output."""
        stream = self.reads.stream
        step, tensor, purpose = stream.words
        counter = np.empty((self.elements.size, 4), np.uint32)
        counter[:, 0] = self.elements.ravel() // 4
        counter[:, 1:] = step, tensor, purpose + (self.roundings << 8)
        self.roundings += 1
        words = philox4x32(counter, stream.key)[np.arange(counter.shape[0]), self.elements.ravel() % 4]
        return words.reshape(self.shape)


def _outer(group: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Returns the places of all outputs: (groups, rows, columns)."""
    return np.add.outer(np.add.outer(group, row), column)


def _instruction(numbers: AlignedNumbers, sums: tuple[Rounding, ...]) -> Instruction:
    rounding = sums[numbers.sums]
    least = numbers.least_left, numbers.least_right, numbers.least_sum, numbers.least
    return Instruction(numbers.terms, numbers.fraction, least, rounding.format, rounding.mode)
