"""Casts of other libraries: each found, classed and explained; skipped, with the cause, where one is not installed.

ml_dtypes is in the test extra. PyTorch (large), QPyTorch (compiles against PyTorch when imported) and pychop (needs
pandas and dask) are not; what QPyTorch computed is in tests/data, so that its defects are tested everywhere.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.formats import FORMATS
from mpsim.validate import CastReport, Subject, validate_cast
from mpsim.validate.cast.classify import Kind
from mpsim.validate.cast.compare import Finding

EXAMPLES = Path(__file__).parent.parent / "data" / "rounding_qpytorch_example.npz"


def found(report: CastReport) -> dict[Kind, Finding]:
    """What differs from one rounding, by class."""
    assert report.once is not None
    return {finding.kind: finding for finding in report.once.findings}


def imported(name: str) -> Any:
    """A module, or a skip with the cause."""
    try:
        return pytest.importorskip(name, reason=f"{name} is not installed")
    except Exception as error:  # QPyTorch compiles C++ when it is imported
        pytest.skip(f"{name} cannot be imported: {error}")


# -- PyTorch ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"])
def test_torch(name: str, source: str) -> None:
    torch = imported("torch")
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    report = validate_cast(f"torch.{name}", source=source)
    assert report.fingerprint is not None and report.fingerprint.unexplained == 0
    assert ("torch>=2.12" if version >= (2, 12) else "torch<2.12") in report.fingerprint.equal_presets
    kinds = found(report)
    if source != "float64":
        assert not kinds
        return
    assert set(kinds) == {Kind.DOUBLE_ROUNDING} and "float32" in kinds[Kind.DOUBLE_ROUNDING].cause
    half = FORMATS[name].smallest / 2
    assert kinds[Kind.DOUBLE_ROUNDING].smallest.input.value == np.nextafter(half, 1)


@pytest.mark.parametrize("source", ["float16", "bfloat16", "float32", "float64"])
def test_torch_e8m0_ignores_the_sign_and_has_a_code_for_zero(source: str) -> None:
    imported("torch")
    report = validate_cast("torch.float8_e8m0fnu", source=source)
    assert report.equal and report.fingerprint is not None
    assert report.fingerprint.unexplained == 0 and "torch>=2.12" in report.fingerprint.equal_presets


def test_torch_e4m3fn_saturates_since_2_12() -> None:
    torch = imported("torch")
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < (2, 12):
        pytest.skip(f"PyTorch is {torch.__version__}, before 2.12")
    report = validate_cast("torch.float8_e4m3fn", preset="torch<2.12")
    assert report.declared is not None
    kinds = {finding.kind: finding for finding in report.declared.findings}
    assert set(kinds) == {Kind.OVERFLOW, Kind.INFINITY}
    assert {finding.cause for finding in kinds.values()} == {"overflow saturate"}


def test_torch_nan_code() -> None:
    imported("torch")
    report = validate_cast("torch.float8_e5m2", preset="ml_dtypes<0.7")
    assert report.declared is not None
    (finding,) = report.declared.findings
    assert finding.kind is Kind.NAN_CODE and "0x7f where 0x7e" in finding.observed


# -- QPyTorch -----------------------------------------------------------------------------------------------


def check_qpytorch(report: CastReport) -> None:
    kinds = found(report)
    assert set(kinds) == {Kind.TIE, Kind.DOUBLE_ROUNDING, Kind.NAN, Kind.ZERO_SIGN}
    assert kinds[Kind.TIE].cause.startswith("rounded as nearest_away")
    assert "below the smallest normal number" in kinds[Kind.DOUBLE_ROUNDING].cause
    assert kinds[Kind.ZERO_SIGN].cause.startswith("negative numbers that round to zero give +0")


@pytest.mark.parametrize("name", ["fp_4_3_0", "fp_5_2_0", "fp_6_9_0"])
def test_qpytorch_on_a_cpu(name: str) -> None:
    torch = imported("torch")
    quant = imported("qtorch.quant")
    format = FORMATS[name]

    def cast(x: np.ndarray) -> Any:
        return quant.float_quantize(
            torch.from_numpy(x), exp=format.exponent_bits, man=format.mantissa_bits, rounding="nearest"
        )

    report = validate_cast(cast, name)
    check_qpytorch(report)
    assert report.fingerprint is not None and report.fingerprint.equal_presets == ["qpytorch_cpu"]
    assert found(report)[Kind.NAN].cause == "NaN is rounded like a number, and clipped"
    assert found(report)[Kind.TIE].smallest.input.value == format.smallest / 2


@pytest.mark.parametrize("name", ["fp_5_2_0", "fp_4_3_4"])
def test_qpytorch_by_what_it_computed(name: str, tmp_path: Path) -> None:
    """On a GPU, as a file of vectors: NaN is -0 there."""
    with np.load(EXAMPLES) as arrays:
        inputs, results = arrays[f"{name}/input"], arrays[f"{name}/saturate"].view(np.float32)
    np.savez(tmp_path / "vectors.npz", input=inputs, expected=results, format=name)
    report = validate_cast(str(tmp_path / "vectors.npz"))
    assert report.fingerprint is not None and report.fingerprint.rule.policy.mode == "qpytorch_nearest"
    assert report.fingerprint.unexplained == 0 and report.fingerprint.nearest_preset == "qpytorch"
    kinds = found(report)
    assert {Kind.TIE, Kind.ZERO_SIGN, Kind.NAN} <= set(kinds)
    assert kinds[Kind.TIE].cause.startswith("rounded as nearest_away")
    assert kinds[Kind.NAN].cause == "NaN becomes -0"


# -- pychop -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "top"), [("float8_e5m2", 65536.0), ("float8_e4m3", 256.0)])
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_pychop(name: str, top: float, source: str) -> None:
    os.environ.setdefault("chop_backend", "numpy")
    pychop = imported("pychop")
    pychop.backend("numpy")
    format = FORMATS[name]
    chop = pychop.Chop(exp_bits=format.exponent_bits, sig_bits=format.mantissa_bits, rmode=1)
    report = validate_cast(Subject.of(chop, "pychop"), name, source)
    assert not report.equal and report.fingerprint is not None
    assert report.fingerprint.nearest_preset == "pychop" and report.fingerprint.unexplained < 20
    kinds = found(report)
    edge = kinds[Kind.OVERFLOW]
    # the midpoint beyond the largest number should overflow, and gives a number that the format does not have
    assert edge.smallest.input.value == format.overflow_threshold[0]
    assert (edge.smallest.expected.value, edge.smallest.got.value, edge.smallest.got.bits) == (np.inf, top, None)
    assert "inputs from there to twice that become zero" in edge.cause
    assert kinds[Kind.ZERO_SIGN].cause == "-0 loses its sign"
    # near-ties of subnormal results
    assert "taken for ties" in kinds[Kind.SUBNORMAL].cause
