"""Copies with other orders of axes in every variant: parts that stay together, runs, and transposed matrices."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from kernel_cases import with_specials

_kernels = pytest.importorskip("mpsim._kernels", reason="the compiled backend is not built")
from mpsim.kernels import bind  # noqa: E402


@pytest.fixture(params=_kernels.variants())
def variant(request: pytest.FixtureRequest):
    _kernels.force_variant(request.param)
    yield request.param
    _kernels.force_variant(None)


@pytest.mark.parametrize("threads", [1, 2])
def test_every_order(variant: str, threads: int) -> None:
    kernels = bind("compiled", threads)
    for shape in ((), (5,), (3, 1, 4, 2, 3), (2, 16, 1, 32), (70, 33), (5, 129, 66), (0, 3, 2), (2, 3, 37, 150)):
        x = with_specials(1, *shape)
        for axes in permutations(range(len(shape))):
            found = kernels.permute(x, axes)
            wanted = x.transpose(axes).copy()
            assert found.shape == wanted.shape and found.flags.c_contiguous, (shape, axes)
            assert found.tobytes() == wanted.tobytes(), (shape, axes)
            assert found.size < 2 or not np.shares_memory(found, x)
