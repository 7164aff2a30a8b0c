"""exp and log against 50-digit decimal arithmetic."""

from __future__ import annotations

import math
from decimal import Context, Decimal

import numpy as np
import pytest

from mpsim.kernels.elementary import exp32, exp64, log32, log64

DIGITS = Context(prec=50)
GENERATOR = np.random.default_rng(0)
EXP_ARGUMENTS = np.concatenate(
    [GENERATOR.uniform(-708, 709, 800), GENERATOR.normal(size=800), GENERATOR.normal(size=200) * 1e-6,
     (np.arange(-40, 40) + 0.5) * math.log(2)]
)  # fmt: skip
LOG_ARGUMENTS = np.concatenate(
    [2.0 ** GENERATOR.uniform(-1070, 1020, 800), GENERATOR.uniform(0, 2, 800), 1 + GENERATOR.normal(size=300) * 1e-6,
     np.nextafter(np.sqrt(0.5) * 2.0 ** np.arange(-5, 5), 1), np.nextafter(1.0, [0, 2])]
)  # fmt: skip


def relative_error(values: np.ndarray, exact: list[Decimal]) -> float:
    return max(float(abs(Decimal(value) / truth - 1)) for value, truth in zip(values.tolist(), exact, strict=True))


def test_exp64_error() -> None:
    exact = [Decimal(x).exp(DIGITS) for x in EXP_ARGUMENTS.tolist()]
    assert relative_error(exp64(EXP_ARGUMENTS), exact) < 2.0**-51


def test_log64_error() -> None:
    exact = [Decimal(x).ln(DIGITS) for x in LOG_ARGUMENTS.tolist()]
    assert relative_error(log64(LOG_ARGUMENTS), exact) < 2.0**-50


@pytest.mark.parametrize(("function", "arguments"), [(exp32, EXP_ARGUMENTS / 8.5), (log32, LOG_ARGUMENTS)])
def test_float32_error(function: object, arguments: np.ndarray) -> None:
    """Below 0.51 units in the last place."""
    with np.errstate(over="ignore", under="ignore"):
        x = arguments.astype(np.float32)
    x = x[np.isfinite(x) & (x != 0) & (x != 1)]
    results = function(x)  # type: ignore[operator]
    assert results.dtype == np.float32
    for value, result in zip(x.tolist(), results, strict=True):
        exact = Decimal(value).exp(DIGITS) if function is exp32 else Decimal(value).ln(DIGITS)
        unit = Decimal(float(np.spacing(np.abs(result))))
        assert abs(Decimal(float(result)) - exact) <= unit * Decimal("0.51"), value


def test_special_arguments() -> None:
    nan, inf = math.nan, math.inf
    x = np.array([0.0, -0.0, inf, -inf, nan, 709.79, -745.2, 5e-324])
    assert np.array_equal(exp64(x), [1, 1, inf, 0, nan, inf, 0, 1], equal_nan=True)
    x = np.array([1.0, 0.0, -0.0, inf, -inf, nan, -1.0, 5e-324])
    assert np.array_equal(log64(x), [0, -inf, -inf, inf, nan, nan, nan, -1074 * math.log(2)], equal_nan=True)
    x32 = np.float32([89.0, -104.0, -103.0, 1e-45, nan])
    assert np.array_equal(exp32(x32), np.float32([inf, 0, 2.0**-149, 1, nan]), equal_nan=True)
    assert log32(np.float32([2.0**-149]))[0] == np.float32(-149 * math.log(2))


def test_nothing_warns() -> None:
    """With every floating-point condition an error; conditions that a result does not depend on are silenced."""
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        exp64(np.array([0.0, 700.0, -math.inf, math.nan]))
        log64(np.array([0.0, -1.0, math.inf, math.nan]))
        exp32(np.float32([100.0, -200.0]))
