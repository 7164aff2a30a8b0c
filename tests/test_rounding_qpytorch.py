"""The legacy modes against bit patterns that QPyTorch computed (tests/data/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from samples import assert_same_bits

from mpsim.formats import FORMATS
from mpsim.kernels import load, spec
from mpsim.policies import Policy

EXAMPLES = np.load(Path(__file__).parent / "data" / "rounding_qpytorch_example.npz")
CASES = [(name, key) for name in ("fp_4_3_4", "fp_5_2_0") for key in ("saturate", "flag")]


def example(name: str, key: str) -> tuple[np.ndarray, np.ndarray, Policy]:
    policy = Policy("qpytorch_nearest", {"flag": "mark"}.get(key, key))  # type: ignore[arg-type]
    return EXAMPLES[f"{name}/input"].view(np.float32), EXAMPLES[f"{name}/{key}"].view(np.float32), policy


@pytest.mark.parametrize(("name", "key"), CASES)
def test_examples(name: str, key: str, backend: str) -> None:
    x, wanted, policy = example(name, key)
    y, _ = load(backend).round_array(x.copy(), FORMATS[name], policy, threads=2)
    assert_same_bits(y, wanted, x)


@pytest.mark.parametrize(("name", "key"), CASES)
def test_definition(name: str, key: str) -> None:
    x, wanted, policy = example(name, key)
    with np.errstate(invalid="ignore"):
        y = [spec.round_value(float(value), "float32", FORMATS[name], policy) for value in x]
    assert_same_bits(np.float32(y), wanted, x)


def test_stochastic_by_hand() -> None:
    """fp_4_3_0: smallest normal 2**-6, quantum there 2**-9; the low 20 random bits are added to the pattern."""
    policy, format = Policy("qpytorch_stochastic", "saturate"), FORMATS["fp_4_3_0"]

    def rounded(x: float, word: int) -> float:
        return spec.round_value(x, "float32", format, policy, word)

    assert rounded(1.0625, 0x7FFFF) == 1.0 and rounded(1.0625, 0x80000) == 1.125  # half a quantum of 1/8
    assert rounded(1.0625, 0xFFF00000) == 1.0  # the high bits take no part
    assert rounded(1.0, 0xFFFFFFFF) == 1.0
    assert rounded(2.0**-10, 0x7FFFF) == 0.0 and rounded(2.0**-10, 0x80000) == 2.0**-9
    assert rounded(1e9, 0) == format.largest and rounded(float("nan"), 0) == 0


def test_known_defects() -> None:
    """What makes these modes legacy: two roundings below the smallest normal number, no -0, NaN gives -0."""
    format = FORMATS["fp_5_2_0"]
    policy = Policy("qpytorch_nearest", "saturate")
    x = np.float32([2.0**-17 * (1 - 2.0**-24), -(2.0**-30), -0.0, np.nan, -np.nan])
    y, _ = load("reference").round_array(x, format, policy)
    assert_same_bits(y, np.float32([2.0**-16, 0.0, 0.0, -0.0, -0.0]), x)
