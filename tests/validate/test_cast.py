"""mpsim validate cast: subjects of every form, sources, exit codes, reports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from their_version import PRESET
from typer.testing import CliRunner

from mpsim import round_to
from mpsim.cli import app
from mpsim.formats import FORMATS
from mpsim.kernels import spec_codes
from mpsim.rounding import encode
from mpsim.validate import Calling, SubjectError, Verdict, open_subject, validate_cast
from mpsim.validate.cast.classify import Kind
from mpsim.validate.cast.report import text
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import SOURCES


def run(*words: str) -> tuple[int, str]:
    """(exit code, standard output) of ``mpsim validate cast``."""
    result = CliRunner().invoke(app, ["validate", "cast", *words], catch_exceptions=False)
    return result.exit_code, result.stdout


def run_json(*words: str) -> tuple[int, dict[str, Any]]:
    code, output = run(*words, "--json")
    return code, json.loads(output)


def by_float32(folder: Path) -> str:
    (folder / "by_float32.py").write_text(
        "import ml_dtypes, numpy\ndef cast(x): return x.astype(numpy.float32).astype(ml_dtypes.float8_e4m3fn)\n"
    )
    return f"{folder / 'by_float32.py'}:cast"


# -- ml_dtypes ----------------------------------------------------------------------------------------------


def test_float64_by_way_of_float32_is_found(tmp_path: Path) -> None:
    """As ml_dtypes cast it before 0.7."""
    code, report = run_json(by_float32(tmp_path), "--format", "float8_e4m3fn", "--source", "float64")
    assert code == 0 and "ml_dtypes<0.7" in report["fingerprint"]["equal_presets"]
    assert report["fingerprint"]["rule"]["via"] == "float32" and report["fingerprint"]["unexplained"] == 0
    (finding,) = report["against_one_rounding"]["findings"]
    assert finding["class"] == "double_rounding" and "float32" in finding["cause"]
    # half the smallest number and one ulp: float32 has no such number, and takes it for the tie
    smallest = finding["smallest"]
    assert smallest["input"] == {"value": np.nextafter(2.0**-10, 1), "bits": "0x3f50000000000001"}
    assert smallest["expected"] == {"value": 2.0**-9, "bits": "0x01"}
    assert smallest["got"] == {"value": 0.0, "bits": "0x00"}
    assert smallest["midpoint"] == {"value": 2.0**-10, "exact": "1/1024"}


def test_float32_equals_its_preset_and_differs_from_the_saturating_one() -> None:
    code, report = run_json("ml_dtypes.float8_e4m3fn", "--source", "float32")
    assert code == 0 and report["equal"]
    assert PRESET in report["fingerprint"]["equal_presets"]
    assert report["fingerprint"]["rule"]["via"] is None
    other = report["presets"]["ocp_saturate"]
    assert {finding["class"] for finding in other["findings"]} == {"overflow_edge", "infinity"}
    edge = other["findings"][0]["smallest"]
    assert edge["input"]["value"] == np.nextafter(np.float32(464), np.float32(500))
    assert (edge["expected"]["value"], edge["got"]["value"]) == (448.0, "NaN")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "name",
    ["float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e3m4", "float4_e2m1fn", "float6_e3m2fn", "bfloat16"],
)
def test_ml_dtypes_follow_their_preset(name: str, source: str) -> None:
    if FORMATS[name].bits >= SOURCES[source].format.bits and source != "float16":
        pytest.skip(f"{name} is not narrower than {source}")
    report = validate_cast(f"ml_dtypes.{name}", source=source, preset=PRESET)
    assert report.equal, report.declared


def test_nan_of_formats_without_nan() -> None:
    """ml_dtypes gives zero of the other sign: +NaN to -0, -NaN to +0."""
    report = validate_cast("ml_dtypes.float4_e2m1fn")
    assert report.fingerprint is not None and report.fingerprint.rule.nan == "opposite_zero"
    assert report.fingerprint.equal_presets == ["ml_dtypes<0.7", "ml_dtypes>=0.7"]


def test_numpy_float16_rounds_once_from_float64() -> None:
    report = validate_cast("numpy.float16", source="float64")
    assert report.fingerprint is not None
    assert report.fingerprint.equal_presets == ["numpy"] and report.fingerprint.rule.via is None


# -- forms of subjects --------------------------------------------------------------------------------------

MODULE = """
import numpy as np
from mpsim.rounding import encode, round_to

def codes(x):
    return encode(x, "float8_e5m2")

def numbers(x):
    return round_to(x, "float8_e5m2")

def wrong_shape(x):
    return x[:-1]

def failing(x):
    raise KeyError("no kernel")

def words(x):
    return np.array(["a"] * x.size)

def too_large(x):
    return np.full(x.size, 256)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "subject.py"
    path.write_text(MODULE)
    return path


@pytest.mark.parametrize("name", ["codes", "numbers"])
def test_python_functions(module: Path, name: str) -> None:
    report = validate_cast(f"{module}:{name}", "float8_e5m2", "float16", mode="nearest_even")
    assert report.equal and report.exhaustive and report.inputs == 65536


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong_shape", "answered shape"),
        ("failing", "no kernel"),
        ("words", "expected integers"),
        ("too_large", "codes of float8_e5m2 are 0 to 0xff"),
        ("absent", "has no 'absent'"),
    ],
)
def test_what_cannot_run_says_why(module: Path, name: str, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        validate_cast(f"{module}:{name}", "float8_e5m2", "float16", mode="nearest_even")


def test_answers_that_depend_on_the_place_are_different_and_random_ones_refused() -> None:
    """As of a loop whose first elements take another path; or of random bits."""

    def head(x: np.ndarray) -> np.ndarray:
        return np.concatenate([round_to(x[:1000], "float8_e5m2", "up"), round_to(x[1000:], "float8_e5m2")])

    generator = np.random.default_rng(0)

    def random(x: np.ndarray) -> np.ndarray:
        words = generator.integers(0, 1 << 32, x.size, np.uint32)
        return round_to(x, "float8_e5m2", "stochastic", random_bits=words, random_bit_count=8)

    report = validate_cast(head, "float8_e5m2", "float16")
    assert report.verdict is Verdict.DIFFERENT and report.unsteady is not None
    assert "depends on the length of the array or on the place in it" in text(report)
    with pytest.raises(SubjectError, match="differently in equal calls: it is random"):
        validate_cast(random, "float8_e5m2", "float16")


C_CODE = """
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* bfloat16 by truncation, and by adding half: ties away from zero */
void truncate_all(const float *in, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) { uint32_t u; memcpy(&u, in + i, 4); out[i] = u >> 16; }
}
uint16_t away(float x) { uint32_t u; memcpy(&u, &x, 4); return (u + 0x8000) >> 16; }
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to build a library with")
    folder = tmp_path_factory.mktemp("library")
    (folder / "casts.c").write_text(C_CODE)
    built = folder / "casts.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, folder / "casts.c"], check=True)
    return built


def test_a_c_function_on_arrays(library: Path) -> None:
    """The prototype comes from casts.c beside the library."""
    report = validate_cast(f"{library}:truncate_all", "bfloat16", mode="nearest_even")
    assert report.declared is not None
    kinds = {finding.kind: finding for finding in report.declared.findings}
    assert kinds[Kind.ROUNDING].cause == "rounded as toward_zero"
    assert validate_cast(f"{library}:truncate_all", "bfloat16").fingerprint.rule.policy.mode == "toward_zero"  # type: ignore[union-attr]


def test_a_c_function_on_one_number(library: Path) -> None:
    subject = open_subject(f"{library}:away", Calling(signature="uint16_t away(float x)"))
    report = validate_cast(subject, "bfloat16", mode="nearest_even")
    assert report.declared is not None
    ties = next(finding for finding in report.declared.findings if finding.kind is Kind.TIE)
    assert ties.cause == "rounded as nearest_away" and ties.smallest.input.bits == 0x00008000


@pytest.mark.parametrize(
    ("name", "signature", "message"),
    [
        ("absent", None, "exports no 'absent'"),
        ("away", "uint16_t away(float x, float y)", r"takes float y as well: say what to pass, as --argument y=1.0"),
        ("away", "uint16_t away(quad x)", "the C compiler cannot call away"),
        ("away", "uint16_t", "cannot read the prototype"),
        ("away", "uint16_t away(double x)", "the source is float32"),
    ],
)
def test_wrong_prototypes(library: Path, name: str, signature: str | None, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        subject = open_subject(f"{library}:{name}", Calling(signature=signature))
        validate_cast(subject, "bfloat16", mode="nearest_even")


@pytest.mark.parametrize("spoiled", [None, 0x3C81])
@pytest.mark.parametrize(
    ("subject", "cause"),
    [
        (lambda x: encode(x, "float8_e4m3fnuz", mode="toward_zero", overflow="saturate"), "rounded as toward_zero"),
        (lambda x: encode(x, "float8_e4m3b11fnuz", overflow="saturate"), "results are encoded as float8_e4m3b11fnuz"),
    ],
    ids=["rounding", "codes"],
)
def test_a_cause_gives_every_answer(subject: Callable[[Any], Any], cause: str, spoiled: int | None) -> None:
    """One input of 65,536 that the cause does not explain, and it is not named."""

    def spoilt(x: np.ndarray) -> np.ndarray:
        codes = subject(x)
        if spoiled is not None:
            codes[x.view(np.uint16) == spoiled] ^= 0x01
        return codes

    report = validate_cast(spoilt, "float8_e4m3fnuz", "float16", mode="nearest_even", overflow="saturate", shrink=False)
    assert report.declared is not None and report.exhaustive
    causes = [finding.cause for finding in report.declared.findings]
    assert (cause in causes) == (spoiled is None), causes


PROGRAM = """
import sys
for line in sys.stdin:
    bits = int(line, 16)
    print(line.strip(), format((bits + 0x7F + (bits >> 8 & 1)) >> 8 & 0xFF, "02X"), "00")
"""


def test_a_program_that_speaks_hex(tmp_path: Path) -> None:
    """float8_e5m2 by an integer trick that forgets NaN: 0x7fff carries into the sign."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    words = ("--format", "float8_e5m2", "--source", "float16", "--mode", "nearest_even")
    for nan, expected in ((("--nan", "canonical"), {"nan", "nan_code"}), ((), {"nan"})):
        code, report = run_json(f"command:{sys.executable} {path}", *words, *nan)
        assert code == 1
        assert {finding["class"] for finding in report["declared"]["findings"]} == expected


def test_vectors(tmp_path: Path) -> None:
    """Right in three forms; one code changed is found, and is the counterexample."""
    patterns = cast_corpus(FORMATS["float8_e4m3"], "float32", 100)
    codes = encode(SOURCES["float32"].values(patterns), "float8_e4m3")
    lines = [f"{p:08x} {c:02x}  // tie\n" for p, c in zip(patterns.tolist(), codes.tolist(), strict=True)]
    (tmp_path / "right.txt").write_text("# made here\n" + "".join(lines))
    objects = [{"input": f"{p:#x}", "expected": c} for p, c in zip(patterns.tolist(), codes.tolist(), strict=True)]
    (tmp_path / "right.jsonl").write_text("\n".join(json.dumps(item) for item in objects))
    np.savez(tmp_path / "right.npz", input=patterns.view(np.float32), expected=codes, format="float8_e4m3")
    for name in ("right.txt", "right.jsonl", "right.npz"):
        assert validate_cast(str(tmp_path / name), "float8_e4m3", mode="nearest_even").equal
    codes[np.flatnonzero(patterns == 0x3F880000)] ^= 1  # 1.0625, a tie
    np.savez(tmp_path / "wrong.npz", input=patterns, expected=codes)
    report = validate_cast(str(tmp_path / "wrong.npz"), "float8_e4m3", mode="nearest_even")
    assert report.declared is not None and report.declared.mismatches == 1
    assert report.declared.findings[0].smallest.input.value == 1.0625


def test_vectors_that_are_no_pairs(tmp_path: Path) -> None:
    """Arrays of two lengths are none; a pattern that comes 65 536 times is not every input."""
    same = np.full(1 << 16, 0x3C00, np.uint16)
    np.savez(tmp_path / "short.npz", input=same, expected=(same >> 8)[1:])
    with pytest.raises(SubjectError, match=r"'input' has shape \(65536,\) and 'expected' \(65535,\)"):
        validate_cast(str(tmp_path / "short.npz"), "float8_e5m2", "float16", mode="nearest_even")
    np.savez(tmp_path / "same.npz", input=same, expected=same >> 8)
    report = validate_cast(str(tmp_path / "same.npz"), "float8_e5m2", "float16", mode="nearest_even")
    assert report.equal and not report.exhaustive and "every input" not in text(report)


# -- command line -------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_report_that_cannot_be_written_is_no_difference() -> None:
    """Exit code 1 would say "different"."""
    words = [sys.executable, "-m", "mpsim.cli", "validate", "cast", "ml_dtypes.float8_e5m2", "--preset", PRESET]
    with open("/dev/full", "w") as full:
        printed = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    kept = subprocess.run([*words, "--junit", "/dev/full"], capture_output=True, text=True, check=False)
    for done in (printed, kept):
        assert done.returncode == 2 and "No space left" in done.stderr and "Traceback" not in done.stderr


def test_exit_codes_and_junit(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    assert run("ml_dtypes.float8_e5m2", "--preset", PRESET, "--junit", str(file))[0] == 0
    assert ElementTree.parse(file).getroot().attrib["failures"] == "0"
    assert run("ml_dtypes.float8_e5m2", "--overflow", "saturate", "--junit", str(file))[0] == 1
    root = ElementTree.parse(file).getroot()
    assert {case.attrib["name"] for case in root if len(case)} == {"overflow_edge", "infinity"}
    assert run("ml_dtypes.float8_e5m3", "--junit", str(file))[0] == 2
    assert ElementTree.parse(file).getroot().attrib["errors"] == "1"
    for wrong in (
        ["nothing"],
        ["ml_dtypes.float8_e5m2", "--preset", "ml_dtipes"],
        ["ml_dtypes.float8_e5m2", "--preset", PRESET, "--mode", "up"],
        ["ml_dtypes.float8_e5m2", "--source", "float128"],
        ["no_such_module:cast", "--format", "float8_e5m2"],
        ["mpsim.rounding:encode"],
        ["ml_dtypes.float8_e5m2", "--resume", "state.json"],
        ["ml_dtypes.float8_e5m2", "--exhaustive", "--source", "float64"],
    ):
        assert run(*wrong)[0] == 2, wrong


def test_text_and_picture(tmp_path: Path) -> None:
    picture = tmp_path / "error.png"
    words = (by_float32(tmp_path), "--format", "float8_e4m3fn", "--source", "float64")
    code, text = run(*words, "--plot", str(picture))
    assert code == 0 and "double rounding, via float32" in text and "0x3f50000000000001" in text
    assert picture.read_bytes().startswith(b"\x89PNG")


# -- corpora ------------------------------------------------------------------------------------------------


def test_sources_read_and_write_patterns() -> None:
    for source in SOURCES.values():
        patterns = cast_corpus(FORMATS["float8_e5m2"], source, 1000)
        values = source.values(patterns)
        number = ~np.isnan(values)
        assert np.array_equal(source.patterns(values)[number], patterns[number])
    bfloat16 = np.array([1.00390625, 1.01171875, 3.4e38, np.nan], np.float32)
    assert SOURCES["bfloat16"].patterns(bfloat16).tolist() == [0x3F80, 0x3F82, 0x7F80, 0x7FC0]


@pytest.mark.parametrize("source", ["float32", "float64"])
def test_a_corpus_has_what_it_promises(source: str) -> None:
    format, kind = FORMATS["float8_e4m3fn"], SOURCES[source]
    patterns = set(cast_corpus(format, source, 100).tolist())
    numbers = [spec_codes.decode(code, format) for code in format.finite_codes]
    for lower, upper in zip(numbers, [*numbers[1:], 480.0], strict=True):
        middle = np.array([(lower + upper) / 2])
        pattern = int(kind.patterns(middle)[0])
        assert {pattern - 1, pattern, pattern + 1, int(kind.patterns(np.array([lower]))[0])} <= patterns
        assert pattern | kind.sign_mask in patterns
    for special in (0.0, np.inf, np.nan):
        assert int(kind.patterns(np.array([special]))[0]) in patterns


@pytest.mark.parametrize("source", ["float16", "bfloat16"])
def test_16_bit_sources_are_exhaustive(source: str) -> None:
    report = validate_cast(lambda x: round_to(x, "float8_e4m3"), "float8_e4m3", source, mode="nearest_even")
    assert report.exhaustive and report.equal


# -- places and shrinking -----------------------------------------------------------------------------------


def test_places_between_neighbours() -> None:
    """float8_e4m3: 1 and 1.125, midpoint 1.0625; 1.9375 lies below a power of two; 2**-10 is half the smallest."""
    x = np.array([1.0625, 1.0625 + 2.0**-23, 1.0625 + 2.0**-13, 1.0625 + 2.0**-12, 1.25, 1.9, 2.0**-10], np.float32)
    place = places(x, FORMATS["float8_e4m3"], SOURCES["float32"])
    assert place.tie.tolist() == [True, False, False, False, False, False, True]
    assert place.near.tolist() == [False, True, True, False, False, False, False]
    assert place.beside_power.tolist() == [True, True, True, True, False, True, False]
    assert place.below_normal.tolist() == [False] * 6 + [True]
    assert place.lower.tolist() == [1, 1, 1, 1, 1.25, 1.875, 0]
    assert place.middle.tolist() == [1.0625] * 4 + [1.3125, 1.9375, 2.0**-10]
    bfloat16 = places(np.array([1.0703125], np.float32), FORMATS["float8_e4m3"], SOURCES["bfloat16"])
    assert bfloat16.near[0]  # one ulp of the source from the midpoint, an eighth of a quantum


@pytest.mark.parametrize("sign", [1, -1])
def test_shrinking_ends_at_the_first_wrong_input(sign: int) -> None:
    """Wrong from an arbitrary float64 on: 52 bits to find."""
    start = 1.0123456789012345

    def wrong(x: np.ndarray) -> np.ndarray:
        y = round_to(x, "float8_e4m3")
        return np.where((x * sign > start) & (x * sign < 1.0625), y * 1.125, y)

    report = validate_cast(wrong, "float8_e4m3", "float64", mode="nearest_even")
    assert report.declared is not None
    (finding,) = report.declared.findings
    assert finding.smallest.input.value == sign * np.nextafter(start, 2)
