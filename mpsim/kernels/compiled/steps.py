"""Calls ext/orders/steps.c, which sums in any order."""

from __future__ import annotations

import numpy as np

from mpsim import _kernels
from mpsim.kernels.compiled.structs import Aligned, Late, RandomStream, Scaled, SumRounding, packed
from mpsim.kernels.contractions.lowering import Contraction
from mpsim.kernels.contractions.steps import AlignedNumbers, Steps
from mpsim.kernels.contractions.tables import Reads

#: The steps do not truncate operands, because these are converted before.
WHOLE = -1


def run(c: Contraction, program: Steps, reads: Reads, threads: int) -> np.ndarray:
    """Computes every output of the contraction by the steps."""
    out = np.zeros(c.out_shape, np.float32)
    aligned = [_aligned(numbers, program) for numbers in program.aligned]
    _kernels.run_steps(
        *(c.a, c.a_group, c.a_row, c.a_k),
        *(c.b, c.b_group, c.b_column, c.b_k),
        *(out.reshape(-1), c.out_group, c.out_row, c.out_column, *c.shape),
        *(program.code.reshape(-1), len(program.code), _or_none(program.places)),
        b"".join(packed(SumRounding(*each)) for each in program.sums) or None,
        b"".join(map(packed, aligned)) or None,
        _or_none(np.array([numbers.sums for numbers in program.aligned], np.int64)),
        b"".join(packed(Late(*each)) for each in program.late) or None,
        *(b"".join(packed(Scaled(*each)) for each in program.scaled) or None, program.most_groups),
        *(_or_none(reads.values), _or_none(reads.places)),
        packed(RandomStream(reads.stream.key, reads.stream.words)),
        *(program.registers, program.exact_sums, program.result, threads),
    )
    return out


def _or_none(array: np.ndarray) -> np.ndarray | None:
    return array if array.size else None


def _aligned(numbers: AlignedNumbers, program: Steps) -> Aligned:
    toward_zero = program.sums[numbers.sums].toward_zero
    least = numbers.least_left, numbers.least_right, numbers.least_sum, numbers.least
    return Aligned(numbers.terms, numbers.fraction, *least, WHOLE, WHOLE, toward_zero)
