"""Runs of equal results, and the sweep over every float32: pieces of it, interrupted and resumed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from their_version import PRESET

from mpsim import round_to
from mpsim.formats import FORMATS
from mpsim.policies import Policy
from mpsim.validate import Rule, Subject, open_subject, validate_cast
from mpsim.validate.cast.exhaustive import BLOCK_BITS, BLOCKS, Checker, Sweep, sweep, sweep_key
from mpsim.validate.cast.runs import Runs, runs_of
from mpsim.validate.cast.validation import sweep_all
from mpsim.validate.sources import SOURCES
from mpsim.validate.subjects.opening import Calling
from mpsim.validate.subjects.worker import typed

FLOAT32 = SOURCES["float32"]
E4M3FN = Rule(FORMATS["float8_e4m3fn"])
RULES = {
    "nearest": E4M3FN,
    "saturate": Rule(FORMATS["float8_e5m2"], Policy("nearest_even", "saturate")),  # type: ignore[arg-type]
    "up": Rule(FORMATS["float8_e4m3fnuz"], Policy("up")),  # type: ignore[arg-type]
    "odd": Rule(FORMATS["float6_e3m2fn"], Policy("to_odd"), nan="opposite_zero"),  # type: ignore[arg-type]
    "e8m0": Rule(FORMATS["float8_e8m0fnu"], quirks=("small_powers_up",)),
    "qpytorch": Rule(FORMATS["fp_4_3_0"], Policy("qpytorch_nearest", "saturate")),  # type: ignore[arg-type]
    "flush": Rule(FORMATS["float8_e4m3"], subnormal_results="flush", zero="positive", via="bfloat16"),
    "pychop": Rule(FORMATS["float8_e5m2"], Policy("nearest_even", "mark"), quirks=("top_binade_to_zero",)),  # type: ignore[arg-type]
}


def expand(runs: Runs, patterns: np.ndarray) -> np.ndarray:
    return runs.keys[np.searchsorted(runs.starts, patterns.astype(np.uint64), "right") - 1]


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("source", ["float16", "bfloat16"])
def test_runs_give_every_result_of_16_bit_sources(name: str, source: str) -> None:
    rule = RULES[name]
    if rule.policy.mode.is_legacy and source != "float32":
        rule = rule.with_(policy=Policy("nearest_away", "saturate"))  # type: ignore[arg-type]
    patterns = np.arange(1 << 16, dtype=np.uint16)
    for space in ("codes", "values"):
        runs = runs_of(rule, SOURCES[source], space)
        wanted = rule.outcome(SOURCES[source].values(patterns), SOURCES[source], space).keys
        assert np.array_equal(expand(runs, patterns), wanted)


@pytest.mark.parametrize("name", RULES)
def test_runs_of_float32(name: str) -> None:
    """Random patterns, all of them around the largest number, and all of a stretch of subnormal results."""
    rule = RULES[name]
    stretches = [0x3A7F0000, 0x3B000000, int(FLOAT32.patterns(np.array([rule.format.largest]))[0]) - 50_000]
    patterns = np.concatenate(
        [np.random.default_rng(0).integers(0, 1 << 32, 200_000, np.uint32)]
        + [np.arange(start, start + 200_000, dtype=np.uint32) | sign for start in stretches for sign in (0, 1 << 31)]
    ).astype(np.uint32)
    runs = runs_of(rule, FLOAT32, "codes")
    assert np.array_equal(expand(runs, patterns), rule.outcome(FLOAT32.values(patterns), FLOAT32, "codes").keys)


def test_wide_formats_have_runs() -> None:
    rule = Rule(FORMATS["tf32"])
    patterns = np.random.default_rng(0).integers(0, 1 << 32, 200_000, np.uint32)
    wanted = rule.outcome(FLOAT32.values(patterns), FLOAT32, "codes").keys
    assert np.array_equal(expand(runs_of(rule, FLOAT32, "codes"), patterns), wanted)


def test_no_runs_where_results_are_not_intervals() -> None:
    with pytest.raises(ValueError, match="float64"):
        runs_of(E4M3FN, SOURCES["float64"], "codes")


def interesting_blocks() -> list[int]:
    """Blocks with ties, the overflow edge, infinity and NaN, of both signs."""
    starts = [
        0x00000000,
        0x3A800000,
        0x3F800000,
        0x43E40000,
        0x7F800000,
        0x7FFC0000,
        0x80000000,
        0xC3E40000,
        0xFFFC0000,
    ]
    return [start >> BLOCK_BITS for start in starts]


@pytest.mark.parametrize("numbers", [False, True])
def test_blocks_count_and_keep_mismatches(numbers: bool) -> None:
    """Against the count of a plain comparison, for a right and a wrong subject that gives codes, or numbers."""
    for mode in ("nearest_even", "nearest_away"):
        state, checker = Sweep("key"), Checker(E4M3FN)
        wanted = 0
        for block in interesting_blocks():
            patterns = np.arange(block << BLOCK_BITS, (block + 1) << BLOCK_BITS, dtype=np.uint32)
            x = patterns.view(np.float32)
            theirs = Rule(E4M3FN.format, Policy(mode)).outcome(x, FLOAT32, "codes")  # type: ignore[arg-type]
            ours = E4M3FN.outcome(x, FLOAT32, "codes")
            wanted += int((theirs.keys != ours.keys).sum())
            answer = theirs.values.astype(np.float32) if numbers else theirs.keys.astype(np.uint8)
            checker.check(state, typed(answer), patterns)
        assert state.mismatches == wanted and (wanted > 0) == (mode == "nearest_away")
        kept = np.array(state.kept, np.uint32).view(np.float32)
        assert kept.size == 0 if wanted == 0 else np.isin(np.abs(kept), [464, 2.0**-10, 1.0625]).all()


def test_a_lost_sign_of_zero_is_seen_among_numbers() -> None:
    def without_sign(x: np.ndarray) -> np.ndarray:
        return round_to(x, "float8_e4m3fn") + np.float32(0)

    state = Sweep("key")
    patterns = np.arange(1 << 31, (1 << 31) + (1 << BLOCK_BITS), dtype=np.uint32)
    answer = without_sign(patterns.view(np.float32))
    Checker(E4M3FN).check(state, typed(answer), patterns)
    assert state.mismatches == 1 << BLOCK_BITS


def test_resumed_after_an_interruption(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    calls = 0

    def stopping(x: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return x.astype(ml_dtypes.float8_e4m3fn)

    subject = Subject.of(stopping, "theirs")
    with pytest.raises(KeyboardInterrupt):
        sweep(subject, E4M3FN, resume=file)
    state = sweep(subject, E4M3FN, resume=file, blocks=3)
    assert state.done == 5 and calls == 6 and state.mismatches == 0 and not state.complete
    with pytest.raises(ValueError, match="belongs to another"):
        sweep(subject, E4M3FN.with_(via="bfloat16"), resume=file)
    file.write_text("[]")
    with pytest.raises(ValueError, match="holds no state"):
        sweep(subject, E4M3FN, resume=file)


def test_a_changed_file_is_another_subject(tmp_path: Path) -> None:
    path = tmp_path / "subject.py"
    keys = set()
    for mode in ("nearest_even", "up"):
        path.write_text(f"from mpsim import round_to\ndef cast(x):\n    return round_to(x, 'float8_e5m2', '{mode}')\n")
        keys.add(sweep_key(open_subject(f"{path}:cast"), E4M3FN))
    assert len(keys) == 2


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_changed_module_or_argument_is_another_subject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = tmp_path / "kernels_under_test" / "fast.py"
    module.parent.mkdir()
    (module.parent / "__init__.py").touch()
    keys = set()
    for mode in ("nearest_even", "up"):
        module.write_text(f"from mpsim import round_to\ndef cast(x): return round_to(x, 'float8_e5m2', '{mode}')\n")
        keys.add(sweep_key(open_subject("kernels_under_test.fast:cast"), E4M3FN))
    keys.add(sweep_key(open_subject("kernels_under_test.fast:cast", Calling("torch")), E4M3FN))
    assert len(keys) == 3

    (tmp_path / "scaled.c").write_text("float scaled(float x, float by) { return x * by; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "scaled.so", "scaled.c"], check=True)
    ones, twos = (open_subject("scaled.so:scaled", Calling(given={"by": by})) for by in ("1", "2"))
    assert sweep_key(ones, E4M3FN) != sweep_key(twos, E4M3FN)


def test_a_sweep_finds_what_the_corpus_has_not() -> None:
    """One wrong float32 in 2**32, next to nothing of interest."""
    hidden = np.uint32(0x00012345)

    def nearly(x: np.ndarray) -> np.ndarray:
        codes = x.astype(ml_dtypes.float8_e4m3fn).view(np.uint8).copy()
        codes[x.view(np.uint32) == hidden] = 1
        return codes

    report = validate_cast(nearly, "float8_e4m3fn", preset=PRESET)
    assert report.equal
    swept = sweep_all(report, blocks=1)
    assert not swept.equal and swept.sweep is not None and swept.sweep.mismatches == 1
    assert swept.declared is not None and swept.declared.findings[0].smallest.input.bits == hidden


def test_only_float32_is_swept() -> None:
    with pytest.raises(ValueError, match="takes every float32"):
        sweep_all(validate_cast("ml_dtypes.float8_e5m2", source="float64", preset=PRESET))


def test_mpsim_is_not_what_takes_the_time() -> None:
    """A gigabyte of codes a second is the aim; a tenth of it here, whatever else this machine does."""
    state = sweep(open_subject("ml_dtypes.float8_e4m3fn"), E4M3FN, blocks=64)
    assert state.mismatches == 0 and state.inputs / state.own_seconds > 1e8
    assert BLOCKS << BLOCK_BITS == 1 << 32
