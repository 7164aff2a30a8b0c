"""Fifteen mutants: each found, under the right heading, with its cause, shrunk to its smallest counterexample."""

from __future__ import annotations

import numpy as np
import pytest
from mutants import MUTANTS, Mutant, cast

from mpsim import encode, round_to
from mpsim.formats import FORMATS
from mpsim.validate import Subject, validate_cast
from mpsim.validate.cast import nans
from mpsim.validate.cast.compare import Comparison


def compared(defect: str = "", source: str = "float32") -> Comparison:
    subject = Subject.of(lambda x: cast(defect)(x.astype(np.float32)), defect or "correct")
    report = validate_cast(subject, "float8_e4m3", source, mode="nearest_even", nan="canonical")
    assert report.declared is not None
    return report.declared


def test_the_cast_without_defect_is_correct() -> None:
    assert compared().equal
    assert compared(source="float16").equal


def test_there_are_fifteen() -> None:
    assert len({mutant.defect for mutant in MUTANTS}) == 15


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.defect)
def test_found_classed_shrunk_explained(mutant: Mutant) -> None:
    comparison = compared(mutant.defect)
    found = {finding.kind.value: finding for finding in comparison.findings}
    assert {kind: finding.smallest.input.bits for kind, finding in found.items()} == mutant.classes
    assert sum(finding.count for finding in found.values()) == comparison.mismatches
    first = found[next(iter(mutant.classes))]
    assert mutant.cause in (first.cause or f"unexplained; {first.observed}")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.defect)
def test_no_smaller_counterexample_exists(mutant: Mutant) -> None:
    """The input itself is wrong, the one before it right; up to 2**-10, nothing is."""
    wrong, right = cast(mutant.defect), cast()
    small = np.arange(0, 0x3A800000, 10_007, dtype=np.uint32).view(np.float32)
    assert np.array_equal(wrong(small), right(small))
    for kind, pattern in mutant.classes.items():
        if kind != "sign_of_zero":
            pair = np.array([pattern - 1, pattern], np.uint32).view(np.float32)
            assert (wrong(pair) != right(pair)).tolist() == [False, True], kind


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.defect)
def test_fingerprints_of_mutants(mutant: Mutant) -> None:
    """None passes for a preset; most are described exactly."""
    subject = Subject.of(cast(mutant.defect), mutant.defect)
    report = validate_cast(subject, "float8_e4m3", shrink=False)
    assert report.fingerprint is not None and report.fingerprint.presets["ml_dtypes<0.7"] > 0
    described = report.fingerprint.unexplained == 0
    strange = ("tolerant_ties", "subnormals_truncated", "carry_lost", "exponent_too_high", "early_overflow")
    assert described == (mutant.defect not in strange)
    assert FORMATS["float8_e4m3"].name in report.fingerprint.paragraph(mutant.defect, "float32")


def test_wrong_payloads_are_not_codes_of_a_format_without_payloads() -> None:
    """A cast by way of float32 that sets another bit of NaN: float8_e8m0fnu, which has 8 bits too, has no mantissa."""

    def cast_and_mark(x: np.ndarray) -> np.ndarray:
        codes = encode(round_to(x.astype(np.float32), "float8_e5m2"), "float8_e5m2")
        return np.where(np.isnan(x), nans.codes(x, FORMATS["float8_e5m2"], nans.PAYLOAD) ^ 1, codes).astype(np.uint8)

    with np.errstate(all="ignore"):
        report = validate_cast(cast_and_mark, "float8_e5m2", "float64", mode="nearest_even", nan="payload")
    assert report.declared is not None and not report.declared.equal
    assert {finding.kind for finding in report.declared.findings} == {"double_rounding", "nan_code"}
