"""``mpsim validate op``: stand-ins of implementations, each with the verdict that follows from what it does."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim.arithmetic import operate
from mpsim.cli import app
from mpsim.formats import FORMATS
from mpsim.validate.answers import SubjectError, Verdict
from mpsim.validate.operations.classes import same_codes
from mpsim.validate.operations.corpus import combinations
from mpsim.validate.operations.validation import validate_operation

FLOAT8 = ml_dtypes.float8_e4m3
Array = np.ndarray


def numbers(codes: Array) -> Array:
    return codes.view(FLOAT8).astype(np.float32)


def add(x: Array, y: Array) -> Array:
    """float32 holds every sum of two of these numbers, but for the far ones, whose float32 sum rounds the same way."""
    return (numbers(x) + numbers(y)).astype(FLOAT8)


def add_numbers(x: Array, y: Array) -> Array:
    return x + y


def multiply_and_flush(x: Array, y: Array) -> Array:
    r = (numbers(x) * numbers(y)).astype(FLOAT8).astype(np.float32)
    return np.where((np.abs(r) < 2.0**-6) & (r != 0), np.copysign(np.float32(0), r), r).astype(FLOAT8)


def one_wrong(x: Array, y: Array) -> Array:
    r = add(x, y).view(np.uint8).copy()
    r[(x == 0x38) & (y == 0x38)] = 1
    return r


def twice_rounded(x: Array, y: Array, z: Array) -> Array:
    return ((numbers(x) * numbers(y)).astype(FLOAT8).astype(np.float32) + numbers(z)).astype(FLOAT8)


def truncated(x: Array, y: Array) -> Array:
    return operate("add", x, y, formats="float8_e4m3", mode="toward_zero", overflow="saturate")


def number_for_nan(x: Array, y: Array) -> Array:
    return operate("minimum_number", x, y, formats="float8_e4m3")


def by_reciprocal(x: Array, y: Array) -> Array:
    with np.errstate(all="ignore"):
        reciprocal = (np.float32(1) / numbers(y)).astype(FLOAT8).astype(np.float32)
        return (numbers(x) * reciprocal).astype(FLOAT8)


def test_equal() -> None:
    report = validate_operation(add, "add", "float8_e4m3")
    assert report.verdict is Verdict.EQUAL and report.exhaustive and report.asked == 65536
    assert [rule.words for rule in report.equal_to] == ["nearest_even, overflow infinity"]
    assert validate_operation(add_numbers, "add", "float8_e4m3", given="numbers", mode="nearest_even").equal


def test_the_rule_is_found() -> None:
    report = validate_operation(truncated, "add", "float8_e4m3")
    assert [rule.words for rule in report.equal_to] == ["toward_zero, overflow saturate"]


@pytest.mark.parametrize(
    ("subject", "operation", "classes", "cause"),
    [
        (multiply_and_flush, "multiply", {"subnormal expected, zero answered"}, "subnormal results are zero"),
        (one_wrong, "add", {"more than one code off"}, None),
        (twice_rounded, "fma", {"one code off", "more than one code off"}, "product is rounded to float8_e4m3"),
        (truncated, "add", {"one code off"}, "rounded toward_zero, overflow saturate"),
        (number_for_nan, "minimum", {"NaN expected"}, "minimum_number is computed"),
        (by_reciprocal, "divide", {"NaN answered"}, "product with the reciprocal"),
    ],
)
def test_causes(subject: Callable, operation: str, classes: set[str], cause: str | None) -> None:
    """The cause changes the answer and gives all of them; one wrong element has none."""
    report = validate_operation(subject, operation, "float8_e4m3", mode="nearest_even")
    assert report.verdict is Verdict.DIFFERENT
    assert classes <= {finding.name for finding in report.findings}
    assert report.wrong == sum(finding.count for finding in report.findings)
    assert (report.cause is None) if cause is None else (cause in str(report.cause))


def test_the_example_is_simple() -> None:
    """The only wrong element is found, and of many the one whose operands are nearest to one."""
    (finding,) = validate_operation(one_wrong, "add", "float8_e4m3").findings
    assert finding.count == 1 and finding.example == ((0x38, 0x38), 0x40, 1)
    (finding,) = validate_operation(multiply_and_flush, "multiply", "float8_e4m3").findings
    assert finding.example == ((0x07, 0x38), 0x07, 0)


def test_answers_as_numbers() -> None:
    """float32 answers are taken if they are numbers of the result's format."""
    assert validate_operation(lambda x, y: numbers(add(x, y).view(np.uint8)), "add", "float8_e4m3").equal
    report = validate_operation(lambda x, y: numbers(x) + numbers(y), "add", "float8_e4m3")
    assert "a number that the result's format does not have" in {finding.name for finding in report.findings}


def test_a_format_without_nan() -> None:
    """Quotients by zero have no code; they are left out, and said to be."""

    def divide(x: Array, y: Array) -> Array:
        values = np.arange(16).astype(np.uint8).view(ml_dtypes.float4_e2m1fn).astype(np.float32)
        with np.errstate(all="ignore"):
            return (values[x] / values[y]).astype(ml_dtypes.float4_e2m1fn)

    report = validate_operation(divide, "divide", "float4_e2m1fn", mode="nearest_even")
    assert report.equal and report.left_out == 4 and report.asked == 252


def test_an_unsteady_subject() -> None:
    def unsteady(x: Array, y: Array) -> Array:
        r = add(x, y).view(np.uint8).copy()
        r[-1] ^= 1
        return r

    with pytest.raises(SubjectError, match="an operation acts on each element alone"):
        validate_operation(unsteady, "add", "float8_e4m3")


@pytest.mark.parametrize(
    ("subject", "message"),
    [(lambda x, y: x[:-1], "answered shape"), (lambda x, y: x.astype(np.uint16) + 300, "codes of")],
)
def test_wrong_answers(subject: Callable, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        validate_operation(subject, "add", "float8_e4m3")


def test_combinations_of_three_operands() -> None:
    """Edges meet each other: infinity, zero and NaN are among the operands of one call."""
    codes, exhaustive = combinations([FORMATS["p3109_k8p3"]] * 3, 0)
    rows = set(zip(*(array.tolist() for array in codes), strict=True))
    assert not exhaustive and {(0, 0x7F, 0x40), (0x7F, 0x7F, 0xFF), (0x80, 0, 0)} <= rows


def test_any_nan_is_as_good_as_another() -> None:
    format = FORMATS["float16"]
    codes = np.array([0x7E00, 0xFE01, 0x7C00, 0], np.uint64)
    assert same_codes(codes, np.array([0x7C01, 0x7E00, 0x7E00, 0x8000], np.uint64), format).tolist() == [
        True,
        True,
        False,
        False,
    ]


def decode_without_subnormals(codes: Array) -> Array:
    """Every code is read as a normal number: an exponent moved by shifts, as in a kernel that forgets 18 codes."""
    wide = codes.astype(np.uint16)
    return ((wide & 0x80) << 8 | ((wide & 0x7F) << 7) + 0x2000).astype(np.uint16).view(np.float16)


def decode_as_fnuz(codes: Array) -> Array:
    return codes.view(ml_dtypes.float8_e4m3fnuz).astype(np.float32)


def decode_nan_as_480(codes: Array) -> Array:
    values = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    return np.where(np.isnan(values), np.where(codes > 0x7F, -480, 480), values).astype(np.float32)


@pytest.mark.parametrize(
    ("subject", "wrong", "classes", "cause"),
    [
        (decode_without_subnormals, 18,
         {"more than one code off (operand subnormal)": 14, "NaN expected (operand NaN)": 2, "zero expected": 2}, None),
        (decode_as_fnuz, 255, {"NaN answered": 1}, "codes of float8_e4m3fn are read as float8_e4m3fnuz"),
        (decode_nan_as_480, 2, {"NaN expected (operand NaN)": 2}, "read as numbers without infinity and NaN"),
    ],
)  # fmt: skip
def test_decoders(subject: Callable, wrong: int, classes: dict[str, int], cause: str | None) -> None:
    result = "float16" if subject is decode_without_subnormals else "float32"
    report = validate_operation(subject, "convert", "float8_e4m3fn", result=result)
    found = {finding.name: finding.count for finding in report.findings}
    assert report.wrong == wrong and classes.items() <= found.items()
    assert report.cause is None if cause is None else cause in str(report.cause)


def test_the_cast_command_decodes(tmp_path: Path) -> None:
    """A source that is not one of the four wide types is decoded; options that have no meaning there are refused."""
    (tmp_path / "mine.py").write_text(
        "import ml_dtypes\n"
        "def narrow(codes):\n"
        "    return codes.view(ml_dtypes.float8_e5m2).astype('float32').astype(ml_dtypes.float8_e4m3fn)\n"
    )
    command = ["validate", "cast", f"{tmp_path}/mine.py:narrow", "--source", "float8_e5m2"]
    found = CliRunner().invoke(app, [*command, "--format", "float8_e4m3fn", "--json"])
    report = json.loads(found.stdout)
    assert found.exit_code == 0 and report["exhaustive"] and report["against_one_rounding"]["mismatches"] == 0
    assert CliRunner().invoke(app, [*command, "--format", "float8_e4m3fn", "--overflow", "saturate"]).exit_code == 1
    found = CliRunner().invoke(app, [*command, "--format", "float8_e4m3fn", "--exhaustive"])
    assert found.exit_code == 2 and "16-bit sources are always exhaustive" in " ".join(found.stderr.split())
    assert CliRunner().invoke(app, command).exit_code == 2
    command = ["validate", "cast", f"{tmp_path}/mine.py:narrow", "--source", "fp_5_2_0", "--format", "float8_e4m3fn"]
    assert CliRunner().invoke(app, command).exit_code == 0  # what e5m2 has beyond its numbers is NaN in e4m3fn, too
    command = ["validate", "cast", "ml_dtypes.bfloat16", "--source", "float8_e4m3b11fnuz", "--format", "bfloat16"]
    assert CliRunner().invoke(app, command).exit_code == 0


C = """#include <stdint.h>
#include <stddef.h>
uint8_t negate(uint8_t x) { return x ^ 0x80; }
void negate_all(const uint8_t *x, uint8_t *y, size_t n) { for (size_t i = 0; i < n; i++) y[i] = x[i] ^ 0x80; }
uint8_t larger(uint8_t x, uint8_t y) { return (int8_t)x > (int8_t)y ? x : y; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_command_on_c_functions(tmp_path: Path) -> None:
    """Flipping the sign bit is IEEE's negation. In P3109 it exchanges zero and NaN, which have no sign."""
    (tmp_path / "k.c").write_text(C)
    library = tmp_path / "k.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, tmp_path / "k.c"], check=True)

    def run(name: str, *arguments: str) -> tuple[int, dict]:
        given = ["validate", "op", f"{library}:{name}", "--header", str(tmp_path / "k.c"), "--json", *arguments]
        found = CliRunner().invoke(app, given)
        return found.exit_code, json.loads(found.stdout)

    for name in ("negate", "negate_all"):
        code, report = run(name, "--operation", "negate", "--formats", "float8_e4m3fn")
        assert (code, report["equal"], len(report["equal_to"])) == (0, True, 21)
        code, report = run(name, "--operation", "negate", "--formats", "p3109_k8p3")
        wrong = {(finding["class"], *finding["operands"]) for finding in report["findings"]}
        assert (
            code == 1
            and wrong == {("NaN expected (operand NaN)", 0x80), ("NaN answered", 0)}
            and report["cause"] is None
        )
    code, report = run("larger", "--operation", "maximum", "--formats", "float8_e4m3fn")
    assert code == 1 and report["differing_results"] > 16000


def test_the_command_in_words(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def add(x, y):\n    return (x.astype('uint16') + y) % 256\n")
    picture, xml = tmp_path / "op.png", tmp_path / "op.xml"
    arguments = ["validate", "op", f"{file}:add", "--operation", "add", "--formats", "p3109_k4p2"]
    found = CliRunner().invoke(app, [*arguments, "--plot", str(picture), "--junit", str(xml)])
    assert found.exit_code == 2 and "codes of p3109_k4p2 are 0 to 0xf" in found.stderr
    file.write_text("def add(x, y):\n    return (x + y) % 16\n")
    found = CliRunner().invoke(app, [*arguments, "--plot", str(picture), "--junit", str(xml)])
    assert found.exit_code == 1 and "all 256 combinations" in found.stdout and "unexplained" in found.stdout
    assert picture.stat().st_size > 1000 and "NaN expected" in xml.read_text()
    found = CliRunner().invoke(app, [*arguments[:-4], "--operation", "ad", "--formats", "p3109_k4p2"])
    assert found.exit_code == 2 and "add" in found.stderr
