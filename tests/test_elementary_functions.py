"""The functions of one argument against the C library's long double: below 0.51 units in the last place.

The usual test draws arguments. The slow one takes every float32 number of the ranges in which a function is neither its
limit nor nearly linear, and every 4001st elsewhere.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.kernels import load
from mpsim.kernels.elementary.functions import FUNCTIONS, NUMBER, evaluate

#: function -> (least, largest) magnitude of the dense range, and the signs.
DENSE: dict[str, tuple[float, float, tuple[int, ...]]] = {
    "exp": (2.0**-26, 105.0, (0, 1)),
    "log": (0.5, 4.0, (0,)),
    "sqrt": (1.0, 4.0, (0,)),
    "erf": (2.0**-14, 4.2, (0,)),
    "tanh": (2.0**-14, 10.0, (0,)),
    "sigmoid": (2.0**-14, 105.0, (0, 1)),
    "softplus": (2.0**-14, 105.0, (0, 1)),
    "silu": (2.0**-14, 110.0, (0, 1)),
    "gelu": (2.0**-14, 15.0, (0, 1)),
    "gelu_tanh": (2.0**-14, 15.0, (0, 1)),
    "inverse_root": (1.0, 4.0, (0,)),
}
CHUNK = 1 << 22


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (cc)")
    library = tmp_path_factory.mktemp("oracle") / "oracle.so"
    source = Path(__file__).with_name("elementary_oracle.c")
    subprocess.run(
        [compiler, "-O2", "-fopenmp", "-shared", "-fPIC", str(source), "-o", str(library), "-lm"], check=True
    )
    function = ctypes.CDLL(str(library)).largest_error
    function.restype = ctypes.c_double
    return function


def largest_error(oracle: Any, name: str, x: np.ndarray) -> float:
    y = load("compiled").unary(x, name)
    pointers = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, y))
    return oracle(NUMBER[name], *pointers, ctypes.c_int64(x.size))


def patterns(name: str) -> Iterator[np.ndarray]:
    least, largest, signs = DENSE[name]
    first, last = (int(np.float32(bound).view(np.uint32)) for bound in (least, largest))
    for sign in signs:
        for start in range(first, last, CHUNK):
            yield np.arange(start, min(start + CHUNK, last), dtype=np.uint32) + np.uint32(sign << 31)
    yield np.arange(0, 1 << 32, 4001, dtype=np.uint64).astype(np.uint32)


def test_every_smooth_function_is_compared() -> None:
    assert list(FUNCTIONS)[: len(DENSE)] == list(DENSE)


@pytest.mark.parametrize("name", DENSE)
def test_error_on_a_sample(name: str, oracle: Any) -> None:
    generator, (least, largest, _) = np.random.default_rng(0), DENSE[name]
    near = np.exp(generator.uniform(np.log(least), np.log(largest), 5000)) * generator.choice([-1, 1], 5000)
    drawn = generator.integers(0, 1 << 32, 5000, dtype=np.uint32).view(np.float32)
    assert largest_error(oracle, name, np.concatenate([near.astype(np.float32), drawn])) < 0.51


@pytest.mark.slow
@pytest.mark.parametrize("name", DENSE)
def test_error_everywhere(name: str, oracle: Any) -> None:
    assert max(largest_error(oracle, name, chunk.view(np.float32)) for chunk in patterns(name)) < 0.51


@pytest.mark.parametrize("name", ["exp", "gelu", "gelu_slope"])
def test_estimates_have_the_bits_of_the_definition(name: str) -> None:
    """Taken alone, the estimate of GELU's slope is wrong for about 18 of these numbers, and that of GELU for 2."""
    generator = np.random.default_rng(1)
    usual = generator.standard_normal(1 << 19) * generator.choice([0.01, 1, 3], 1 << 19)
    usual[:2] = 0.0, -0.0  # no other number of their block needs the definition
    drawn = generator.integers(0, 1 << 32, 1 << 14, dtype=np.uint32).view(np.float32)
    ends = np.float32([8, -8, 90, -110, 88.7, -87.4, -103.97, 2**-24, -(2**-25), 1e-45, -3e-45])
    x = np.concatenate([usual.astype(np.float32), drawn, ends, np.nextafter(ends, np.float32(0))])
    expected, found = evaluate(x, name), load("compiled").unary(x, name)
    assert np.array_equal(np.isnan(expected), np.isnan(found))
    numbers = ~np.isnan(expected)
    assert np.array_equal(expected[numbers].view(np.uint32), found[numbers].view(np.uint32))


def test_the_comparison_notices_a_wrong_result(oracle: Any) -> None:
    x = np.float32([0.5, 1.0])
    y = np.nextafter(load("reference").unary(x, "erf"), np.float32(2))
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, y)]
    assert oracle(NUMBER["erf"], *pointers, ctypes.c_int64(2)) > 0.51


def test_special_arguments() -> None:
    inf, nan = np.inf, np.nan
    x = np.float32([0.0, -0.0, inf, -inf, nan])
    expected = {
        "exp": [1, 1, inf, 0, nan],
        "log": [-inf, -inf, inf, nan, nan],
        "sqrt": [0, -0.0, inf, nan, nan],
        "erf": [0, -0.0, 1, -1, nan],
        "tanh": [0, -0.0, 1, -1, nan],
        "sigmoid": [0.5, 0.5, 1, 0, nan],
        "softplus": [np.log(2), np.log(2), inf, 0, nan],
        "silu": [0, -0.0, inf, nan, nan],
        "gelu": [0, -0.0, inf, nan, nan],
        "gelu_tanh": [0, -0.0, inf, nan, nan],
        "leaky_relu": [0, -0.0, inf, -inf, nan],
        "hard_sigmoid": [0.5, 0.5, 1, 0, nan],
        "hard_swish": [0, -0.0, inf, nan, nan],
    }
    for name, values in expected.items():
        y, wanted = evaluate(x, name, 0.25), np.float32(values)
        assert np.array_equal(y, wanted, equal_nan=True), (name, y)
        numbers = ~np.isnan(wanted)
        assert np.array_equal(np.signbit(y[numbers]), np.signbit(wanted[numbers])), name
    bounds = evaluate(np.float32([-2, -1, 0.5, 3, nan]), "clamp", -1, 1)
    assert np.array_equal(bounds, np.float32([-1, -1, 0.5, 1, nan]), equal_nan=True)
