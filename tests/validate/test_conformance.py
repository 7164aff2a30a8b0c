"""``mpsim conformance p3109``: implementations from rational numbers, right and wrong, and what is said of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim.arithmetic import operate
from mpsim.cli import app
from mpsim.errors import UsageError
from mpsim.formats import FORMATS
from mpsim.validate.answers import SubjectError, Verdict
from mpsim.validate.conformance import report as presentation
from mpsim.validate.conformance.names import OPERATIONS, projection_of
from mpsim.validate.conformance.specializations import Specialization, chosen, required
from mpsim.validate.conformance.validation import ConformanceReport, check_p3109, kappa_of

#: An implementation of Binary4p2sf alone, from its table of values: sums, products, comparisons and neighbours.
IMPLEMENTATION = '''
from fractions import Fraction
import numpy as np

VALUES = [Fraction(n, 4) for n in (0, 1, 2, 3, 4, 6, 8, 12)]
VALUE = dict(enumerate(VALUES)) | {code + 8: -value for code, value in enumerate(VALUES) if code}
CODE = {value: code for code, value in VALUE.items()}
NAN = 8

def rounded(x):
    """To nearest, ties to the even code; beyond the largest number, the largest: the format is finite."""
    sizes = sorted(VALUES)
    below = max(v for v in sizes if v <= min(abs(x), sizes[-1]))
    above = min([v for v in sizes if v > below], default=below)
    up = 2 * abs(x) > below + above or (2 * abs(x) == below + above and CODE[below] % 2)
    size = above if up else below
    return CODE[-size if x < 0 else size]

def of_two(rule):
    def function(x, y):
        rows = [(VALUE.get(a), VALUE.get(b)) for a, b in zip(x.tolist(), y.tolist())]
        return np.array([rule(None, None) if None in row else rule(*row) for row in rows], np.uint8)
    return function

def arithmetic(rule):
    return of_two(lambda a, b: NAN if a is None else rounded(rule(a, b)))

Add = arithmetic(lambda a, b: a + b)
Multiply = arithmetic(lambda a, b: a * b)
CompareLess = of_two(lambda a, b: False if a is None else a < b)

def NextGreaterThan(x):
    order = sorted(CODE)
    return np.array([NAN if c == NAN or c == CODE[order[-1]] else CODE[order[order.index(VALUE[c]) + 1]]
                     for c in x.tolist()], np.uint8)

def make(operation, formats, result, mode, saturation):
    assert formats[0] == "Binary4p2sf" and mode in (None, "NearestTiesToEven")
    return globals()[operation]
'''
NAMES = ["add", "multiply", "less", "next_greater"]
F4 = FORMATS["p3109_k4p2_finite"]
ALL_FOUR = list(chosen(NAMES, [F4], [], [projection_of("nearest_even", "SatNone")]))


def written(folder: Path, *, more: str = "") -> str:
    (folder / "mine.py").write_text(IMPLEMENTATION + more)
    return str(folder / "mine.py")


def outcomes(report: ConformanceReport) -> dict[str, str]:
    return {OPERATIONS[row.specialization.operation]: row.outcome for row in report.rows}


def test_the_required_list() -> None:
    """§4.5 with one external format: its lines counted by hand from the sets' sizes (3 formats, and 1)."""
    found = list(required([FORMATS["float32"]]))
    counts = {name: sum(each.operation == name for each in found) for name in OPERATIONS}
    assert counts["convert"] == counts["reciprocal"] == 16 and counts["negate"] == counts["abs"] == 3
    assert counts["add"] == counts["subtract"] == counts["multiply"] == counts["scaled_add"] == 3 * 3 * 3
    assert counts["fma"] == counts["faa"] == 3 * 3 and counts["minimum_finite"] == counts["is_one"] == 3
    assert counts["divide"] == counts["total_order"] == counts["clamp"] == 0 and len(found) == len(set(found)) == 293
    texts = {str(each) for each in found}
    assert "FMA<Binary4p2sf, Binary8p3se, binary32, binary32, (NearestTiesToEven, SatNone)>" in texts
    assert "CompareLessEqual<Binary8p3se, Binary8p3se>" in texts and "NextLessThan<Binary4p2sf>" in texts
    scaled = "ScaledAdd<(Binary8p1uf, Binary4p2sf), (Binary8p1uf, Binary8p3se), binary32, (NearestTiesToEven, SatNone)>"
    assert scaled in texts


@pytest.mark.parametrize("form", ["make", "{Operation}"])
def test_a_right_implementation(form: str, tmp_path: Path) -> None:
    report = check_p3109(f"{written(tmp_path)}:{form}", ALL_FOUR)
    assert report.verdict is Verdict.EQUAL and set(outcomes(report).values()) == {"equal"}
    assert [row.answers for row in report.rows] == [256, 256, 256, 16] and all(row.exhaustive for row in report.rows)
    assert len(report.missing) == 207 - 2  # without external formats §4.5 has 207, two of them these
    words = presentation.text(report)
    assert "equal in every bit in 4 specializations, each on all operands (784 answers)" in words
    assert (
        "Add<Binary4p2sf, Binary4p2sf, Binary4p2sf, (NearestTiesToEven, SatNone)>: equal on all 256 operands" in words
    )
    for said in (
        "own\ndefinition",
        "504",
        "unapproved draft",
        "not a declaration",
        "Not looked at",
        "BitwidthOf",
        "mpsim 0",
    ):
        assert said in words, said


WRONG = {
    "one step": ("Add = arithmetic(lambda a, b: a + b if (a, b) != (1, 1) else Fraction(3))", "add", 1, 1.0),
    "two steps": ("Add = arithmetic(lambda a, b: a + b if (a, b) != (0, 0) else Fraction(1, 2))", "add", 1, 2.0),
    "a NaN": ("_add = Add\ndef Add(x, y):\n    r = _add(x, y); r[(x == 0) & (y == 0)] = 8; return r", "add", 1, np.nan),
    "of truth": ("CompareLess = of_two(lambda a, b: True if a is None else a < b)", "less", 31, None),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_implementation(kind: str, tmp_path: Path) -> None:
    """κ of §4.4: values of the format between; NaN where one is NaN alone; none for a truth value."""
    more, operation, wrong, kappa = WRONG[kind]
    report = check_p3109(f"{written(tmp_path, more=more)}:make", ALL_FOUR)
    assert report.verdict is Verdict.DIFFERENT
    (row,) = report.of("different")
    assert (row.specialization.operation, row.wrong) == (operation, wrong)
    assert row.kappa == kappa or (kind == "a NaN" and row.kappa is not None and np.isnan(row.kappa))
    assert "expected" in presentation.text(report) and len(report.of("equal")) == 3
    failures = [name for name, lines in presentation.cases(report).items() if lines is not None]
    assert failures == [str(row.specialization)]


def test_kappa_of_infinities() -> None:
    """An infinity for a number is infinitely far; signs count."""
    format = FORMATS["p3109_k8p3"]
    assert kappa_of(np.array([0x7E]), np.array([0x7F]), format) == np.inf
    assert kappa_of(np.array([0x7F]), np.array([0xFF]), format) == np.inf
    assert kappa_of(np.array([0x01, 0x7F]), np.array([0x81, 0x7F]), format) == 2


@pytest.mark.parametrize(
    ("more", "outcome", "why"),
    [
        ("del Add", "absent", ""),
        ("import os\ndef Add(x, y): os._exit(3)", "failed", "ended its process (exit code 3)"),
        ("def Add(x, y): return x.astype(float)", "failed", "expected codes"),
        ("def Add(x, y): return x[:5]", "failed", "answers shape (5,)"),
        ("def Add(x, y): return x * 0 + 16", "failed", "answers 0x10; expected 0 to 0xf"),
        ("def Add(x, y): return x if len(x) > 50 else y", "failed", "differently among 33 elements"),
    ],
)
def test_operations_that_cannot_be_compared(more: str, outcome: str, why: str, tmp_path: Path) -> None:
    """The others are compared all the same. --partial lets an operation be absent, but not fail."""
    subject = f"{written(tmp_path, more=more)}:make"
    report = check_p3109(subject, ALL_FOUR)
    assert report.verdict is Verdict.UNDECIDED
    assert outcomes(report) == {"Add": outcome} | dict.fromkeys(("Multiply", "CompareLess", "NextGreaterThan"), "equal")
    assert why in report.rows[0].why
    partial = check_p3109(subject, ALL_FOUR, partial=True)
    assert partial.verdict is (Verdict.EQUAL if outcome == "absent" else Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("subject", "why"),
    [
        ("{folder}/nosuch.py:make", "cannot import"),
        ("{folder}/nosuch.py:{{Operation}}", "cannot import"),
        ("{folder}/other.py:two", "expected a function of operation, formats, result, mode, saturation"),
        ("{folder}/other.py:nosuch", "expected a function of operation, formats, result, mode, saturation"),
    ],
)
def test_a_subject_without_any_operation_is_refused_at_once(subject: str, why: str, tmp_path: Path) -> None:
    """One sentence, not one for each of 293 specializations."""
    (tmp_path / "other.py").write_text("def two(x, y):\n    return x\n")
    with pytest.raises(SubjectError, match=why) as raised:
        check_p3109(subject.format(folder=tmp_path), ALL_FOUR)
    assert "Error)" not in str(raised.value).replace("(FileNotFoundError)", "")


def test_files_of_answers(tmp_path: Path) -> None:
    """TestFloat's lines; a file with some of the operands is equal on these, and not on all."""
    each = ALL_FOUR[0]
    x, y = (axis.reshape(-1) for axis in np.meshgrid(range(16), range(16), indexing="ij"))
    lines = [f"{a:X} {b:X} {r:X} 01" for a, b, r in zip(x, y, operate("add", x, y, formats=F4), strict=True)]
    path = tmp_path / "Add_Binary4p2sf.txt"
    pattern = f"{tmp_path}/{{Operation}}_{{Formats}}.txt"
    path.write_text("\n".join(["// x y r flags", *lines]))
    (row,) = check_p3109(pattern, [each]).rows
    assert (row.outcome, row.answers, row.exhaustive) == ("equal", 256, True)
    path.write_text("\n".join(lines[1:]))
    (row,) = check_p3109(pattern, [each]).rows
    assert (row.outcome, row.answers, row.exhaustive) == ("equal", 255, False)
    path.write_text("\n".join([*lines, "0 0 1 01"]))
    (row,) = check_p3109(pattern, [each]).rows
    assert (row.outcome, row.wrong, row.example) == ("different", 1, ((0, 0), 0, 1))
    for text, why in (("0 0", "2 words"), ("0 0 x", "not hex"), ("10 0 0", "operand 0x10"), ("", "no lines")):
        path.write_text(text)
        (row,) = check_p3109(pattern, [each]).rows
        assert row.outcome == "failed" and why in row.why


def test_the_rules_of_external_formats() -> None:
    """§4.8: one zero between binary32 numbers, and 1 / 0 is NaN; §4.7.5: to odd, overflow of binary16 is infinity."""
    single = FORMATS["float32"]
    assert Specialization("convert", (single,), single).expected([np.array([1 << 31, 5])]).tolist() == [0, 5]
    assert Specialization("reciprocal", (single,), single).expected([np.array([0])]).tolist() == [0x7FC00000]
    odd = Specialization("convert", (FORMATS["p3109_k16p8"],), FORMATS["float16"], projection_of("ToOdd", "SatNone"))
    assert odd.expected([np.array([0x7FFE, 0x7FFF])]).tolist() == [0x7C00, 0x7C00]
    assert operate("convert", 1 << 31, formats="float32") == 1 << 31


def test_random_words(tmp_path: Path) -> None:
    """A stochastic operation gets one more array; all words of all operands where they are few."""
    for flip in (0, 4):
        (tmp_path / f"s{flip}.py").write_text(
            "from mpsim.arithmetic import operate\n"
            "def make(operation, formats, result, mode, saturation):\n"
            "    return lambda x, y, w: operate('multiply', x, y, formats='p3109_k4p2_finite', mode='stochastic_b',\n"
            f"                                   random_bits=w ^ {flip}, random_bit_count=3)\n"
        )
    wanted = list(chosen(["multiply"], [F4], [], [projection_of("StochasticB3", "SatNone")]))
    report = check_p3109(f"{tmp_path / 's0.py'}:make", wanted)
    assert report.verdict is Verdict.EQUAL and report.rows[0].answers == 256 * 8 and report.rows[0].exhaustive
    report = check_p3109(f"{tmp_path / 's4.py'}:make", wanted)
    assert report.verdict is Verdict.DIFFERENT and "random bits" in presentation.text(report)


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_c_functions(tmp_path: Path) -> None:
    """The sign is bit 7 of an 8-bit code, but not of zero (0x00) and NaN (0x80)."""
    (tmp_path / "k.c").write_text(
        "#include <stdint.h>\n#include <stdbool.h>\n"
        "uint8_t abs_p3109_k8p3(uint8_t x) { return x == 0x80 ? x : x & 0x7f; }\n"
        "uint8_t negate_p3109_k8p3(uint8_t x) { return x ^ 0x80; }\n"
        "bool is_zero_p3109_k8p3(uint8_t x) { return x == 0; }\n"
        "uint8_t fma_p3109_k8p3(uint8_t x, uint8_t y, uint8_t z) { return y == 0x40 && z == 0 ? x : 0x80; }\n"
    )
    library = tmp_path / "k.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, tmp_path / "k.c"], check=True)
    names = ["abs", "negate", "is_zero", "is_one", "fma", "faa"]
    wanted = list(chosen(names, [FORMATS["p3109_k8p3"]], [], [projection_of("nearest_even", "infinity")]))
    report = check_p3109(f"{library}:{{operation}}_{{formats}}", wanted)
    found = outcomes(report)
    same = {"Abs": "equal", "IsZero": "equal"}
    assert found == same | {"Negate": "different", "IsOne": "absent", "FMA": "different", "FAA": "absent"}
    assert report.rows[1].wrong == 2 and np.isnan(report.rows[1].kappa or 0)


def test_the_command(tmp_path: Path) -> None:
    subject, xml = f"{written(tmp_path)}:make", tmp_path / "r.xml"
    command = ["conformance", "p3109", subject, "--formats", "Binary4p2sf", "--junit", str(xml)]
    found = CliRunner().invoke(app, [*command, "--operations", "Add,CompareLess"])
    assert found.exit_code == 0 and "equal in every bit in 2 specializations" in found.stdout
    assert 'tests="2" failures="0"' in xml.read_text() and "mpsim conformance p3109" in xml.read_text()
    found = CliRunner().invoke(app, [*command, "--operations", "Add,Sqrt", "--json"])
    record = json.loads(found.stdout)
    assert found.exit_code == 2 and [row["outcome"] for row in record["specializations"]] == ["equal", "absent"]
    assert record["versions"]["mpsim"] and record["answers"] == 256
    assert CliRunner().invoke(app, [*command, "--operations", "Add,Sqrt", "--partial"]).exit_code == 0
    for option, value, message in (
        ("--operations", "Ad", "unknown operation"),
        ("--modes", "StochasticA", "has a number of random bits"),
        ("--saturations", "Sat", "unknown saturation"),
        ("--formats", "float8_e4m3fn", "not a format of P3109"),
    ):
        found = CliRunner().invoke(app, [*command, option, value])
        assert found.exit_code == 2 and message in found.stderr, (option, found.stderr)
    found = CliRunner().invoke(app, [*command[:3], "--operations", "Add"])
    assert found.exit_code == 2 and "need --formats" in found.stderr


def test_wrong_arguments() -> None:
    with pytest.raises(SubjectError, match="names no implementation"):
        check_p3109("nonsense", ALL_FOUR)
    with pytest.raises(SubjectError, match="has {op}; known are"):
        check_p3109("f.py:{op}", ALL_FOUR)
    with pytest.raises(UsageError, match="do not go together"):
        check_p3109("f.py:make", [])


def test_presets(tmp_path: Path) -> None:
    """``--preset p3109`` declares the required projection, for operations and for casts."""
    subject = written(tmp_path)
    command = ["validate", "op", f"{subject}:Add", "--operation", "add", "--preset", "p3109", "--formats"]
    assert CliRunner().invoke(app, [*command, "p3109_k4p2_finite"]).exit_code == 0
    found = CliRunner().invoke(app, [*command, "float8_e4m3"])
    assert found.exit_code == 2 and "needs a format of P3109" in found.stderr
    (tmp_path / "cast.py").write_text(
        "from mpsim import encode\n"
        "def cast(x):\n    return encode(x, 'p3109_k8p3')\n"
        "def saturating(x):\n    return encode(x, 'p3109_k8p3', overflow='saturate')\n"
    )
    cast = ["validate", "cast", "--source", "float16", "--format", "p3109_k8p3", "--preset", "p3109"]
    assert CliRunner().invoke(app, [*cast, f"{tmp_path}/cast.py:cast"]).exit_code == 0
    assert CliRunner().invoke(app, [*cast, f"{tmp_path}/cast.py:saturating"]).exit_code == 1


def test_a_placeholder_that_is_not_whole_is_refused() -> None:
    for subject in ("x.so:{operation", "x.so:operation}", "x.py:{"):
        with pytest.raises(SubjectError, match="not whole"):
            check_p3109(subject)
