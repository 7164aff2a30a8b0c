"""Contractions and pooling of the 'cuda' backend: in the CUDA simulator, and as the compiler makes them."""

from __future__ import annotations

import re

import pytest
from simulator import run_in_simulator


def test_every_result_is_the_reference() -> None:
    run_in_simulator("cuda_contraction_simulated.py")


@pytest.mark.parametrize("capability", (pytest.param((8, 0), marks=pytest.mark.slow), (9, 0)), ids=str)
def test_sums_stay_in_registers(capability: tuple[int, int]) -> None:
    """Four k are written out, factors come from shared memory as vectors, and memory has no sums."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test-cuda]'")
    from numba import cuda
    from numba.cuda.core import sigutils

    from mpsim.kernels.cuda.contraction.plan import TILES, Form
    from mpsim.kernels.cuda.contraction.tile import tile_kernel

    tile = TILES[0][0]
    kernel = tile_kernel(tile, Form(True, True, False, False))
    arguments, _ = sigutils.normalize_signature(f"({kernel.signatures[0]})")
    ptx, _ = cuda.compile_ptx(kernel.function, arguments, cc=capability)
    operations = re.findall(r"^\s+(?:@!?%p\d+ )?([a-z][\w.]+)", ptx, re.MULTILINE)
    count = {name: operations.count(name) for name in set(operations)}
    assert count["fma.rn.f32"] == 4 * tile.thread_rows * tile.thread_columns
    assert count["ld.shared.v4.f32"] == 4 * tile.thread_rows // 4
    assert count["ld.shared.v2.f32"] == 4 * tile.thread_columns // 2
    assert "ld.shared.f32" not in count and "mul.rn.f32" not in count
    assert not any("ftz" in name or "approx" in name or "f64" in name for name in count)
    loop = re.search(r"bar\.sync(.*)fma\.rn", ptx, re.DOTALL)
    assert loop and ".local" not in loop[1]


def test_work_is_shared_out() -> None:
    """On a device with 132 multiprocessors: large tiles for large outputs, chunks side by side for few of them."""
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test-cuda]'")
    from mpsim.kernels.cuda.contraction.plan import TILES, Plan, plan

    tiles = [tile for tile, _ in TILES]
    assert plan(1, 4096, 4096, 16, 132, True) == Plan(tiles[0], False, False)
    assert plan(1, 64, 524288, 3, 132, True) == Plan(tiles[1], False, False)  # a convolution of 64 channels
    assert plan(1, 64, 576, 2048, 132, True) == Plan(tiles[1], False, True)  # its gradient by the weights
    assert plan(1, 524288, 64, 3, 132, True) == Plan(tiles[1], True, False)
    assert plan(144, 1, 9, 2048, 132, True) == Plan(None, False, True)  # depthwise, by the weights
    assert plan(1, 64, 576, 2048, 132, False) == Plan(None, False, True)  # another accumulator
