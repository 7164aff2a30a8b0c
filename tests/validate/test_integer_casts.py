"""Casts to and from integers as subjects: found, declared, explained; sources and answers of every form."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from mpsim.errors import UsageError
from mpsim.integers import IntegerPolicy, as_integer
from mpsim.integers.rounding import as_dtype
from mpsim.validate import SubjectError, open_subject, validate_cast, validate_integer_cast
from mpsim.validate.cast.classify import Kind
from mpsim.validate.cast.integers.report import cases, text
from mpsim.validate.cast.integers.rules import PRESETS, IntegerRule
from mpsim.validate.corpora import cast_corpus, integer_patterns
from mpsim.validate.sources import as_source
from mpsim.validate.subjects.opening import Calling


def quantise(x: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.where(np.isnan(x), 0, np.clip(np.rint(x), -128, 127)).astype(np.int8)


def following(rule: IntegerRule, source: str) -> Callable[[np.ndarray], np.ndarray]:
    """A subject that follows a rule, of arrays of the source's values."""
    read = as_source(source)
    return lambda x: as_dtype(rule.codes(x.astype(read.wide) if x.dtype.kind == "f" else x, read), rule.target)


@pytest.mark.parametrize("name", ["x86", "arm_nearest", "riscv", "ptx", "java", "ecmascript", "onnx"])
def test_presets_are_found(name: str) -> None:
    target, source = as_integer("int8" if name == "onnx" else "int32"), as_source("float64")
    rule = PRESETS[name].rule(target, source) or PRESETS[name].rule(target, as_source("float32"))
    assert rule is not None
    origin = "float64" if PRESETS[name].rule(target, source) else "float32"
    report = validate_integer_cast(following(rule, origin), target, origin)
    assert report.found is not None and report.found.equal, text(report)
    assert name in report.equal_presets and report.equal


def test_what_presets_say() -> None:
    """What 3e9, -3e9, 2.5 and NaN become in int32 (onnx: int8), from the systems' specifications."""
    least, most = -(2**31), 2**31 - 1
    expected = {
        "x86": (least, least, 2, least), "x86_nearest": (least, least, 2, least), "arm": (most, least, 2, 0),
        "arm_nearest": (most, least, 2, 0), "riscv": (most, least, 2, most), "riscv_nearest": (most, least, 2, most),
        "ptx": (most, least, 2, least), "ptx_nearest": (most, least, 2, least), "rust": (most, least, 2, 0),
        "java": (most, least, 2, 0), "ecmascript": (-1294967296, 1294967296, 2, 0), "onnx": (127, -128, 2, 0),
    }  # fmt: skip
    x = np.float64([3e9, -3e9, 2.5, np.nan])
    for name, preset in PRESETS.items():
        source = as_source("float32" if name == "onnx" else "float64")
        target = as_integer("int8" if name == "onnx" else "int32")
        rule = preset.rule(target, source)
        assert rule is not None
        codes = rule.codes(x.astype(source.wide), source).tolist()
        assert tuple(target.number(code) for code in codes) == expected[name], name
        up = rule.codes(np.array([3.75], source.wide), source).tolist()
        assert up == [4 if name.endswith("nearest") or name == "onnx" else 3], name


@pytest.mark.parametrize(
    ("type", "source", "policy", "changes"),
    [
        ("uint4", "float16", IntegerPolicy("nearest_zero", nan="most"), {}),
        ("int12", "bfloat16", IntegerPolicy("up", "indefinite", nan=-3, infinity="zero"), {}),
        ("int8_sign_magnitude", "float32", IntegerPolicy("to_odd"), {}),
        ("uint8_z128", "float32", IntegerPolicy("down", "wrap"), {}),
        ("int64", "float64", IntegerPolicy("nearest_away", nan="most"), {}),
        ("int8", "float64", IntegerPolicy("nearest_even"), {"rounded_to": "float32"}),
        ("int8", "float64", IntegerPolicy("toward_zero", "indefinite", nan="indefinite"), {"via": "int32"}),
        ("int8", "float32", IntegerPolicy("nearest_even"), {"half": "floored"}),
        ("uint8_z3", "float32", IntegerPolicy("nearest_even"), {"zero_point_first": True}),
        ("int8", "int16", IntegerPolicy("nearest_even", "wrap"), {}),
        ("int4", "uint64", IntegerPolicy("nearest_even"), {}),
        ("int8", "float8_e4m3fn", IntegerPolicy("toward_zero"), {}),
    ],
)  # type: ignore[arg-type]
def test_rules_are_found(type: str, source: str, policy: IntegerPolicy, changes: dict[str, object]) -> None:
    rule, read = IntegerRule(as_integer(type), policy).with_(**changes), as_source(source)
    function = following(rule, source)
    subject = function if read.is_float or read.integer else lambda codes: function(read.values(codes))
    report = validate_integer_cast(subject, type, source)
    assert report.found is not None and report.found.equal, text(report)
    assert report.equal == rule.rounds_once
    found = report.found.rule
    assert (found.rounded_to, found.half, found.zero_point_first) == (rule.rounded_to, rule.half, rule.zero_point_first)
    if read.integer is None:
        assert found.half or found.policy.mode == policy.mode
        assert "NaN becomes" in text(report)
    else:
        assert "NaN" not in text(report) and "nearest" not in text(report)


def test_declared_with_what_nan_becomes() -> None:
    report = validate_integer_cast(quantise, "int8", mode="nearest_even")
    assert report.equal and "becomes 0 (--nan 0)" in text(report)
    assert validate_integer_cast(quantise, "int8", nan="0").open_nan is None
    wrong = validate_integer_cast(quantise, "int8", overflow="wrap", nan="least")
    assert wrong.declared is not None
    causes = {finding.kind: finding.cause for finding in wrong.declared.findings}
    assert causes == {
        Kind.OVERFLOW: "overflow saturate", Kind.INFINITY: "overflow saturate", Kind.NAN: "NaN becomes 0"
    }  # fmt: skip
    assert [name for name, lines in cases(wrong).items() if lines] == ["overflow_edge", "infinity", "nan"]


def test_half_added_is_two_defects() -> None:
    def added(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            y = np.trunc(x + np.copysign(np.float32(0.5), x))
            return np.where(np.isnan(x), 0, np.clip(y, -128, 127)).astype(np.int8)

    report = validate_integer_cast(added, "int8", mode="nearest_even")
    assert report.declared is not None
    tie, near = report.declared.findings
    assert (tie.kind, tie.cause, tie.smallest.value) == (Kind.TIE, "rounded as nearest_away", 0.5)
    assert near.kind is Kind.NEAR_TIE and near.cause is not None and near.cause.startswith("half is added")
    assert near.smallest.value == np.nextafter(np.float32(0.5), np.float32(0))


def test_unexplained_and_no_integer() -> None:
    report = validate_integer_cast(lambda x: np.where(x == 7.5, 100, quantise(x)), "int8", mode="nearest_even")
    assert report.declared is not None
    (finding,) = report.declared.findings
    assert (finding.kind, finding.inputs, finding.cause) == (Kind.TIE, 1, None) and "unexplained" in text(report)
    floats = validate_integer_cast(lambda x: np.clip(x, -128, 127), "int8", "float16", mode="toward_zero")
    assert floats.declared is not None and floats.declared.findings[-1].kind is Kind.NOT_IN_FORMAT


def test_answers_that_depend_on_the_array() -> None:
    def tails(x: np.ndarray) -> np.ndarray:
        y = quantise(x)
        if x.size % 8:
            y[-1] = 99
        return y

    report = validate_integer_cast(tails, "int8", mode="nearest_even")
    assert report.unsteady is not None and not report.equal and "depends on the length" in text(report)


@pytest.mark.parametrize(("source", "format"), [("int64", "bfloat16"), ("uint32", "bfloat16"), ("uint64", "float32")])
def test_integer_sources_are_not_rounded_twice(source: str, format: str) -> None:
    def through_float32(x: np.ndarray) -> np.ndarray:
        with np.errstate(all="ignore"):
            wide = x.astype(np.float32)
            return wide if format == "float32" else wide.astype(getattr(ml_dtypes, format))

    report = validate_cast(through_float32, format, source, mode="nearest_even")
    assert report.declared is not None
    if format == "float32":
        assert report.equal
        return
    kinds = {finding.kind: finding for finding in report.declared.findings}
    assert kinds[Kind.DOUBLE_ROUNDING].cause == (
        "x is rounded to nearest even to float32 first, then rounded (nearest_even): two roundings"
    )
    assert report.fingerprint is None
    found = validate_cast(through_float32, format, source).fingerprint
    assert found is not None and found.unexplained == 0 and found.rule.via == "float32"


def test_integers_through_float64_are_found() -> None:
    report = validate_cast(lambda x: x.astype(np.float64).astype(np.float32), "float32", "int64")
    assert report.fingerprint is not None and report.fingerprint.rule.via == "float64"
    assert report.once is not None and report.once.findings[0].kind is Kind.DOUBLE_ROUNDING
    assert isinstance(report.once.findings[0].smallest.input.value, int)
    assert validate_cast(lambda x: x.astype(np.float64), "float64", "uint64", mode="nearest_even").equal


def test_corpora() -> None:
    assert cast_corpus(as_source("float16").format, "int4").tolist() == list(range(16))
    patterns = integer_patterns(as_integer("int32"), as_source("bfloat16").format)
    numbers = as_source("int32").values(patterns)
    assert patterns.dtype == np.uint32 and {-(2.0**31), 2.0**31 - 1, 0.0, 2.0**24 + 2.0**16 + 1} <= set(
        numbers.tolist()
    )


def test_forms_of_subjects(tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("3fc00000 02\nbfc00000 fe\n43fa0000 7f\n")
    assert validate_integer_cast(str(tmp_path / "vectors.txt"), "int8", mode="nearest_even").equal
    (tmp_path / "eight.txt").write_text("80 c300\n7f 42fe\n")  # int8 to bfloat16
    assert validate_cast(str(tmp_path / "eight.txt"), "bfloat16", "int8", mode="nearest_even").equal
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, numpy as np\n"
        "x = np.array([int(line, 16) for line in sys.stdin], np.uint8).view(np.int8)\n"
        "for each, y in zip(x.view(np.uint8), x.astype(np.float16).view(np.uint16)): print(f'{each:02X} {y:04X}')\n"
    )
    assert validate_cast(f"command:{sys.executable} {program}", "float16", "int8", mode="nearest_even").equal
    assert validate_integer_cast("numpy.uint8", source="float16").subject == "numpy.uint8"
    if shutil.which("cc") is None:
        pytest.skip("no C compiler 'cc'")
    (tmp_path / "q.c").write_text(
        "#include <stdint.h>\n#include <stddef.h>\n#include <math.h>\n"
        "void quantise(const float *in, int8_t *out, size_t n) {\n  for (size_t i = 0; i < n; i++) {\n"
        "    float x = nearbyintf(in[i]);\n    out[i] = x != x ? 0 : x < -128 ? -128 : x > 127 ? 127 : x;\n  }\n}\n"
        "float back(int8_t x) { return x; }\n"
    )
    library = tmp_path / "q.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, tmp_path / "q.c", "-lm"], check=True)
    for name, answer in (("quantise", 0), ("back", None)):
        subject = open_subject(f"{library}:{name}", Calling(signature=None))
        if answer is None:
            assert validate_cast(subject, "bfloat16", "int8", mode="nearest_even").equal
            with pytest.raises(SubjectError, match="reads int8; the source is int16"):
                validate_cast(subject, "bfloat16", "int16")
        else:
            assert validate_integer_cast(subject, "int8", mode="nearest_even", nan="zero").equal
        subject.close()


def test_refusals() -> None:
    for call, words in (
        (lambda: validate_cast(quantise, "int8"), "validate_integer_cast"),
        (lambda: validate_integer_cast(quantise), "does not declare its integer type"),
        (lambda: validate_integer_cast(quantise, "int8", preset="x86"), "no cast from float32 to int8"),
        (lambda: validate_integer_cast(quantise, "int8", preset="vax"), "unknown preset 'vax'"),
        (lambda: validate_integer_cast(quantise, "int8", preset="rust", nan="0"), "give a preset, or"),
        (
            lambda: validate_integer_cast(quantise, "int8", mode="stochastic"),
            "is tested by mpsim.validate.cast.integers.stochastic",
        ),
        (lambda: as_source("float31"), "integers (int8, uint4, ...)"),
        (lambda: as_source("tf32"), "at most 16 bits"),
    ):
        with pytest.raises(UsageError) as raised:
            call()
        assert words in str(raised.value)
