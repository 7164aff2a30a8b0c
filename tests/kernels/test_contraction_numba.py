"""Numba's ways through a contraction that other tests are too small for: long k with channels as lanes, many taps."""

from __future__ import annotations

import numpy as np
import pytest
from contractions import Convolution, all_of, assert_same

from mpsim.kernels import load, reference
from mpsim.products.accumulators import Accumulator

CASES = (
    Convolution(9, 2, 8, 9, 33, (3, 3), padding=(1, 1)),  # by the weights: rows in three blocks, k in three chunks
    Convolution(9, 19, 8, 9, 19, (3, 3), padding=(1, 1), groups=19),  # depthwise, the same
    Convolution(3, 5, 11, 10, 5, (5, 5), (2, 2), (2, 2), 5),  # more elements of the kernel than stay in registers
    Convolution(2, 3, 20, 37, 3, (3, 3), padding=(1, 1), groups=3),  # long rows
    Convolution(2, 6, 9, 7, 40, (3, 3), (3, 2), (1, 0)),  # by the input: six remainders, chunks that lose elements
    Convolution(2, 6, 9, 7, 70, (1, 1), (2, 2)),  # by the input: remainders that meet no element of the kernel
)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize(
    "accumulator", (Accumulator(), Accumulator(chunk=7), Accumulator(chunk=None, fma=False)), ids=str
)
def test_equals_the_reference(case: Convolution, accumulator: Accumulator) -> None:
    for kind in ("normal", "specials", "subnormal"):
        arrays = case.draw(kind)
        expected = all_of(reference, case, arrays, accumulator=accumulator)
        for threads in (1, 2):
            found = all_of(load("numba"), case, arrays, accumulator=accumulator, threads=threads)
            for which in range(3):
                assert_same(found[which], expected[which], (kind, which, threads))


def test_a_zero_is_settled_in_the_columns_that_need_it() -> None:
    """Underflow to -0 at some places of an ordinary image; the zeros of dilation make some of them +0."""
    random = np.random.default_rng(0)
    gy, w = (np.float32(random.choice([-1e-30, 1e-30, 1.0], shape)) for shape in ((2, 4, 6, 5), (4, 3, 3, 3)))
    gy[0] = -1e-30
    w[:, 1] = 1e-30
    arguments = (gy, w, (2, 3, 12, 10), (2, 2), (1, 1), 1)
    expected = reference.conv2d_input_gradient(*arguments)
    assert 0 < np.signbit(expected[0, 1]).sum() < expected[0, 1].size and not expected[0, 1].any()
    assert_same(load("numba").conv2d_input_gradient(*arguments), expected)
