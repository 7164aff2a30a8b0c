"""Fingerprints: what rounds by a known rule is described by it, for every mode, policy, format and peculiarity."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from samples import TEST_FORMATS

from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Overflow, Policy
from mpsim.validate import PRESETS, Rule, Subject, validate_cast
from mpsim.validate.answers import NO_CODE
from mpsim.validate.cast.asking import ask
from mpsim.validate.cast.fingerprint import Fingerprint, fingerprint
from mpsim.validate.cast.policy.treatments import FIELDS, QUIRKS
from mpsim.validate.cast.presets import as_preset, rules
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.sources import SOURCES, Source

MODES = [mode for mode in Mode if not mode.needs_random_bits and not mode.is_legacy]
E4M3 = FORMATS["float8_e4m3"]


def subject_of(rule: Rule, source: Source, codes: bool) -> Subject:
    """A cast that does what a rule says; codes where every result has one, if asked."""

    def call(x: np.ndarray) -> np.ndarray:
        patterns = x.view(source.unsigned)
        outcome = rule.outcome(source.values(patterns), source, "codes", backend="reference")
        if codes and (outcome.keys != NO_CODE).all():
            return outcome.keys
        return outcome.values

    return Subject.of(call, rule.describe())


def fingerprint_of(rule: Rule, source: str, codes: bool = False) -> Fingerprint:
    kind = SOURCES[source]
    patterns = cast_corpus(rule.format, source, 4096)
    return fingerprint(ask(subject_of(rule, kind, codes), kind, rule.format, patterns))


def e8m0_of_patterns(x: np.ndarray) -> np.ndarray:
    """float32 -> codes of float8_e8m0fnu as PyTorch makes them: the exponent field, one more from half of the way up
    (below the smallest normal number of float32: beyond half); infinity and NaN give 0xff; the sign is ignored."""
    exponent = (x.view(np.uint32) >> 23 & 0xFF).astype(np.int64)
    fraction = (x.view(np.uint32) & 0x7FFFFF).astype(np.int64)
    up = np.where(exponent == 0, fraction > 0x400000, fraction >= 0x400000)
    return np.where(exponent == 0xFF, 0xFF, exponent + up).astype(np.uint8)


@pytest.mark.parametrize("source", ["float32", "bfloat16"])
def test_a_sign_that_is_ignored_and_a_zero_that_is_the_smallest_number(source: str) -> None:
    subject = Subject.of(lambda x: e8m0_of_patterns(x.astype(np.float32)), "e8m0")
    report = validate_cast(subject, "float8_e8m0fnu", source)
    found = report.fingerprint
    assert found is not None and found.unexplained == 0 and report.equal
    assert found.rule.quirks == ("sign_ignored", "small_powers_up") and found.rule.zero == "smallest"
    assert found.equal_presets == ["torch<2.12", "torch>=2.12"]
    words = found.paragraph("e8m0", source)
    assert "The sign is ignored" in words and "Zeros: become 5.877471754111438e-39" in words
    assert "flushed" not in words


@pytest.mark.parametrize(("mode", "overflow"), list(product(MODES, Overflow)))
def test_modes_and_overflow_policies(mode: Mode, overflow: Overflow) -> None:
    rule = Rule(E4M3, Policy(mode, overflow))
    found = fingerprint_of(rule, "float16")
    assert found.unexplained == 0
    assert found.rule.policy.mode is mode and found.rule.via is None
    inward = mode in (Mode.TOWARD_ZERO, Mode.TO_ODD)
    if inward and overflow is Overflow.SATURATE_PROPAGATE:  # what "infinity" is for these modes
        rule = rule.with_(policy=Policy(mode, Overflow.INFINITY))
    if overflow is not Overflow.MARK:  # the same as "infinity" for a nearest mode, in a format that has one
        assert found.rule == rule


@pytest.mark.parametrize("name", TEST_FORMATS)
def test_formats(name: str) -> None:
    """Numbers and codes of every format, by three policies."""
    format = TEST_FORMATS[name]
    if format.bits >= 32:
        pytest.skip(f"{name} is as wide as the source")
    policies = (Policy(Mode.NEAREST_EVEN, Overflow.SATURATE), Policy(Mode.DOWN), Policy(Mode.TO_ODD, Overflow.MARK))
    source = "float32" if format.fits_float32 and format.bits <= 16 else "float64"
    for policy, codes in zip(policies, (False, True, False), strict=True):
        if format.bits > 10 and policy.mode is not Mode.NEAREST_EVEN:
            continue
        found = fingerprint_of(Rule(format, policy), source, codes)
        assert found.unexplained == 0, found.paragraph(name, source)


@pytest.mark.parametrize(("via", "source"), [("float32", "float64"), ("float16", "float32"), ("bfloat16", "float32")])
@pytest.mark.parametrize("truncates", [False, True])
def test_double_rounding(via: str, source: str, truncates: bool) -> None:
    found = fingerprint_of(Rule(E4M3, via=via, via_truncates=truncates), source)
    assert (found.unexplained, found.rule.via, found.rule.via_truncates) == (0, via, truncates)
    assert f"double rounding, via {via}" in found.paragraph("it", source)


@pytest.mark.parametrize("quirk", [name for name in QUIRKS if name not in ("nan_as_number", "small_powers_up")])
def test_peculiarities(quirk: str) -> None:
    found = fingerprint_of(Rule(E4M3, quirks=(quirk,)), "float32")
    assert found.unexplained == 0, found.paragraph(quirk, "float32")


@pytest.mark.parametrize("source", ["uint8", "ue4m3"])
def test_nothing_is_said_of_negative_numbers_where_none_were_asked(source: str) -> None:
    report = validate_cast(lambda x: x.astype(np.float32).astype(np.float16), "float16", source)
    assert report.fingerprint is not None and report.fingerprint.rule.quirks == (), report


@pytest.mark.parametrize("quirk", ["sign_ignored", "negative_to_nan", "negative_to_zero"])
def test_what_negative_numbers_become_in_formats_without_a_sign(quirk: str) -> None:
    found = fingerprint_of(Rule(FORMATS["float8_e5m3fnu"], quirks=(quirk,)), "float32")
    assert (found.unexplained, found.rule.quirks) == (0, (quirk,)), found.paragraph(quirk, "float32")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("source", ["float32", "float16"])
def test_fields_of_a_policy_are_found(field: str, source: str) -> None:
    """Every value, each alone; that of infinity against the overflow policy that says something else."""
    format = E4M3 if field != "subnormal_inputs" else FORMATS["bfloat16"]
    for value in list(FIELDS[field])[1:]:
        overflow = Overflow.SATURATE if (field, value) == ("infinity", "infinity") else Overflow.INFINITY
        rule = Rule(format, Policy(Mode.NEAREST_EVEN, overflow)).with_(**{field: value})
        if field == "subnormal_inputs" and source == "float32":
            continue  # below every number of the format
        found = fingerprint_of(rule, source)
        assert found.unexplained == 0, found.paragraph(value, source)
        if (field, value) == ("infinity", "infinity"):
            assert found.rule.policy.overflow is Overflow.SATURATE_PROPAGATE  # the same, by its own name
            continue
        assert getattr(found.rule, field) == value, (found.rule.describe(), value)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("source", SOURCES)
def test_presets_describe_themselves(preset: str, source: str) -> None:
    names = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3", "float16", "float4_e2m1fn", "fp_4_3_0", "p3109_k8p4")
    known = [(FORMATS[name], as_preset(preset).rule(FORMATS[name], SOURCES[source])) for name in names]
    for format, rule in known:
        if rule is None or format.bits >= SOURCES[source].format.bits:
            continue
        if source == "float64" and format.bits == 16 and preset != "numpy":
            continue  # many inputs, and the same rules
        found = fingerprint_of(rule, source, codes=True)
        assert found.unexplained == 0 and preset in found.equal_presets


def test_every_preset_knows_something_and_says_where_from() -> None:
    formats = [*FORMATS.values(), *(FORMATS[name] for name in ("fp_4_3_0", "fp_5_10_0", "p3109_k8p4"))]
    known = {name for format in formats for source in SOURCES.values() for name in rules(format, source)}
    assert known == set(PRESETS)
    assert all(preset.source and preset.what for preset in PRESETS.values())


def test_another_format_of_the_same_name_has_no_preset() -> None:
    mine = Format("float8_e5m2", 5, 2, bias=16)
    assert not {"ml_dtypes", "ocp_saturate"} & set(rules(mine, SOURCES["float32"]))


def test_what_no_rule_describes_is_said_to_be_so() -> None:
    def strange(x: np.ndarray) -> np.ndarray:
        y = Rule(E4M3).values(x, SOURCES["float32"])
        return np.where((x > 1) & (x < 1.5), y + 0.125, y)

    report = validate_cast(Subject.of(strange, "strange"), "float8_e4m3", shrink=False)
    assert report.fingerprint is not None and report.fingerprint.unexplained > 0
    assert "nearest description found" in report.fingerprint.paragraph("strange", "float32")
    assert not report.equal
