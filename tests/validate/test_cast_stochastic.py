"""Stochastic rounding: with given bits exactly, without them by neighbours and frequencies."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim import round_to
from mpsim.cli import app
from mpsim.formats import FORMATS, Format
from mpsim.policies import Policy
from mpsim.validate import Subject, SubjectError, open_subject
from mpsim.validate.cast import nans
from mpsim.validate.cast.asking import LENGTHS
from mpsim.validate.cast.report import text
from mpsim.validate.cast.rules import Rule
from mpsim.validate.cast.stochastic import validate_given_bits, validate_own_bits
from mpsim.validate.cast.stochastic.result import ALL_BITS
from mpsim.validate.sources import SOURCES

FORMAT, FLOAT32 = FORMATS["float8_e4m3"], SOURCES["float32"]


def rule(count: int = ALL_BITS, format: Format = FORMAT) -> Rule:
    """Stochastic rounding with this many random bits, and any NaN for a NaN."""
    return Rule(format, Policy("stochastic", "infinity", count), nan_codes=nans.ANY)


def given(count: int, **changes: int) -> Subject:
    def call(x: np.ndarray, bits: np.ndarray) -> np.ndarray:
        bits = bits + np.uint32(changes.get("added", 0))
        return round_to(x, FORMAT, "stochastic", random_bits=bits, random_bit_count=count)

    return Subject.of(call, "given")


def own(count: int, mode: str = "stochastic") -> Subject:
    generator = np.random.default_rng(0)

    def call(x: np.ndarray) -> np.ndarray:
        if mode != "stochastic":
            return round_to(x, FORMAT, mode)
        words = generator.integers(0, 1 << 32, x.size, np.uint32)
        return round_to(x, FORMAT, mode, random_bits=words, random_bit_count=count)

    return Subject.of(call, "own")


C_CODE = """
#include <stddef.h>
#include <stdint.h>
#include <string.h>
void stochastic(const float *in, const uint32_t *words, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, in + i, 4);
        if ((u & 0x7fffffff) > 0x7f800000) u = (u & 0x80000000) | 0x7fc00000;
        else if ((u & 0x7f800000) != 0x7f800000) u += words[i] & 0xffff;
        out[i] = u >> 16;
    }
}
"""


def test_given_bits_of_a_c_function(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler (cc or gcc) to build a library with")
    (tmp_path / "cast.c").write_text(C_CODE)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "cast.so", tmp_path / "cast.c"], check=True)
    subject = open_subject(f"{tmp_path / 'cast.so'}:stochastic", random_bits=True)
    assert validate_given_bits(subject, rule(16, FORMATS["bfloat16"]), FLOAT32).equal


@pytest.mark.parametrize("count", [1, 8, 32])
def test_given_bits(count: int) -> None:
    assert validate_given_bits(given(count), rule(count), FLOAT32).equal


@pytest.mark.parametrize("added", [1, 0xFFFFFFFF])
def test_one_word_in_four_billion_decides(added: int) -> None:
    """With 32 bits, only the first word that carries, or the one before it, shows that these are wrong."""
    report = validate_given_bits(given(32, added=added), rule(32), FLOAT32)
    assert report.mismatches > 10_000


@pytest.mark.parametrize("subject", [given(8, added=1), given(9), given(7)], ids=["off by one", "9 bits", "7 bits"])
def test_given_bits_used_differently(subject: Subject) -> None:
    report = validate_given_bits(subject, rule(8), FLOAT32)
    assert not report.equal and report.smallest is not None and report.word is not None
    x = np.array([report.smallest.input.value], np.float32)
    ours = round_to(x, FORMAT, "stochastic", random_bits=np.array([report.word], np.uint32), random_bit_count=8)
    assert ours[0] == report.smallest.expected.value != report.smallest.got.value


def test_own_bits() -> None:
    assert validate_own_bits(own(24), rule(), FLOAT32).equal
    assert validate_own_bits(own(4), rule(), FLOAT32, random_bit_count=4).equal


def test_too_few_bits_are_noticed() -> None:
    """Four bits cut the place between the neighbours to sixteenths."""
    report = validate_own_bits(own(4), rule(), FLOAT32)
    assert not report.equal and not report.mismatches
    assert all(f.share < f.expected_share for f in report.frequencies)
    assert "up in" in text(report) and "1e-09" in text(report)


def test_nearest_is_not_stochastic() -> None:
    assert len(validate_own_bits(own(0, "nearest_even"), rule(), FLOAT32).frequencies) > 50


def test_a_result_that_is_no_neighbour() -> None:
    subject = Subject.of(lambda x: round_to(x, FORMAT, "down") * np.float32(4), "shifted")
    report = validate_own_bits(subject, rule(), FLOAT32)
    assert report.mismatches and report.smallest is not None
    assert report.smallest.got.value == 4 * round_to(np.float32(report.smallest.input.value), FORMAT, "down")


def test_false_alarms_are_rare() -> None:
    """At a rate of one half per session, a right subject passes about half of the time; at 1e-9, always."""
    reports = [validate_own_bits(own(24), rule(), FLOAT32, seed=seed, draws=500) for seed in range(10)]
    assert all(report.equal for report in reports)


def test_subjects_without_random_bits_say_so() -> None:
    with pytest.raises(SubjectError, match="takes no random bits"):
        open_subject("ml_dtypes.float8_e5m2", random_bits=True)


def test_command_line(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    path.write_text(
        "from mpsim import round_to\n"
        "def cast(x, bits):\n"
        "    return round_to(x, 'float8_e5m2', 'stochastic', random_bits=bits, random_bit_count=16)\n"
    )
    common = ["validate", "cast", f"{path}:cast", "--format", "float8_e5m2", "--source", "float16"]
    words = [*common, "--mode", "stochastic", "--given-bits"]
    result = CliRunner().invoke(app, [*words, "--random-bit-count", "16", "--json"], catch_exceptions=False)
    assert result.exit_code == 0 and json.loads(result.stdout)["trials"] == 4 * 65536 + sum(LENGTHS)
    result = CliRunner().invoke(app, [*words, "--random-bit-count", "15"], catch_exceptions=False)
    assert result.exit_code == 1 and "trials differ" in result.stdout
    assert CliRunner().invoke(app, words).exit_code == 2
    assert CliRunner().invoke(app, [*common, "--mode", "nearest_even", "--given-bits"]).exit_code == 2


@pytest.mark.parametrize(
    ("name", "bits", "preset"), [("float16", 13, "ptx_rs"), ("float4_e2m1fn", 8, "ptx_rs_satfinite")]
)
def test_presets(name: str, bits: int, preset: str, tmp_path: Path) -> None:
    """A preset has its number of random bits and its overflow policy."""
    overflow = "infinity" if preset == "ptx_rs" else "saturate"
    (tmp_path / "mine.py").write_text(
        "import mpsim\n"
        "def given(x, words):\n"
        f"    options = {{'random_bits': words, 'random_bit_count': {bits}}}\n"
        f"    return mpsim.round_to(x, {name!r}, 'stochastic', {overflow!r}, **options)\n"
    )
    command = ["validate", "cast", f"{tmp_path}/mine.py:given", "--format", name, "--given-bits", "--preset"]
    assert CliRunner().invoke(app, [*command, preset]).exit_code == 0
    for words in (["--mode", "stochastic"], ["--random-bit-count", "3"]):
        assert CliRunner().invoke(app, [*command, preset, *words]).exit_code == 2
    assert CliRunner().invoke(app, [*command, preset, "--source", "float64"]).exit_code == 2


def test_fields_that_have_no_meaning_are_refused() -> None:
    command = ["validate", "cast", "ml_dtypes.float8_e5m2", "--mode", "stochastic", "--subnormal-results", "flush_tiny"]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == 2 and "flush_before" in found.stderr
