"""The cuda backend without a device: its kernels in the CUDA simulator, against the reference."""

from __future__ import annotations

from simulator import run_in_simulator


def test_kernels_in_the_simulator() -> None:
    run_in_simulator("cuda_simulated.py")
