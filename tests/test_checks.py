"""Checks of arguments: what is taken, what is refused, and what a refusal says."""

from __future__ import annotations

import pickle
import re
from typing import Any

import numpy as np
import pytest

import reference_models
from mpsim import MpsimError, checks, nn
from mpsim.assignment import assign, parse_levels
from mpsim.data import load as load_data
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import as_format
from mpsim.initialization import initialize
from mpsim.kernels import load as load_backend
from mpsim.policies import Policy
from mpsim.trace import trace
from mpsim.training.semantics import as_semantics


@pytest.mark.parametrize("value", [0, 7, np.int8(7), np.uint64(7), np.int64(0)])
def test_whole_numbers_of_python_and_numpy_become_ints(value: Any) -> None:
    found = checks.whole("k", value, most=7)
    assert type(found) is int and found == int(value)


@pytest.mark.parametrize("value", [0.5, 1, np.float32(0.5), np.float64(0.25), np.float16(1), np.int32(1), 0])
def test_real_numbers_stay_what_they_are(value: Any) -> None:
    found = checks.real("ratio", value, least=0, most=1)
    assert type(found) in (int, float) and found == value
    assert isinstance(value, np.generic) or found is value


WRONG_TYPES = ["1", None, [1], True, np.True_, 1j, object, np.array([1]), b"1"]


@pytest.mark.parametrize("value", [*WRONG_TYPES, 1.0, np.float32(1), float("nan")])
def test_what_is_not_a_whole_number_is_a_wrong_type(value: Any) -> None:
    with pytest.raises(UsageTypeError, match=r"^k must be a whole number of at least 1, got ") as refused:
        checks.whole("k", value, least=1)
    assert refused.value.argument == "k"


@pytest.mark.parametrize("value", WRONG_TYPES)
def test_what_is_not_a_number_is_a_wrong_type(value: Any) -> None:
    with pytest.raises(UsageTypeError, match=r"^lr must be a finite number, got "):
        checks.real("lr", value)


INFINITE = [float("nan"), float("inf"), -float("inf"), np.float32("nan"), np.float64("inf"), np.float16("-inf")]


@pytest.mark.parametrize("value", INFINITE)
@pytest.mark.parametrize("bounds", [{}, {"least": 0}, {"above": 0}, {"most": 1}, {"least": 0, "most": 1}, {"below": 1}])
def test_nan_and_infinities_are_in_no_range(value: Any, bounds: dict) -> None:
    with pytest.raises(UsageError, match="got -?(nan|inf)$"):
        checks.real("lr", value, **bounds)


@pytest.mark.parametrize(
    ("check", "inside", "outside", "expected"),
    [
        (lambda v: checks.whole("n", v, least=-2, most=3), [-2, 3], [-3, 4, 10**400], "a whole number from -2 to 3"),
        (lambda v: checks.whole("n", v), [0, 10**400], [-1], "a whole number of at least 0"),
        (lambda v: checks.real("n", v, above=0), [5e-324, 1e308], [0, 0.0, -1], "a finite number above 0"),
        (
            lambda v: checks.real("n", v, above=0, below=1),
            [0.5],
            [0, 1, 10**400],
            "a finite number above 0 and below 1",
        ),
        (lambda v: checks.share("n", v), [0, 1, 0.0, 1.0], [-1e-300, 1.0000000000000002], "a share from 0 to 1"),
        (lambda v: checks.share("n", v, zero=False), [1e-300, 1], [0, 0.0], "a share above 0 and at most 1"),
        (lambda v: checks.seed("n", v), [0, 2**64 - 1], [-1, 2**64], "a whole number from 0 to 2**64 - 1"),
        (lambda v: checks.batch("n", v), [1, 1 << 24], [0, (1 << 24) + 1, 10**20], "a whole number from 1 to 2**24"),
        (lambda v: checks.epochs("n", v), [1, 2**32 - 1], [0, 2**32], "a whole number from 1 to 2**32 - 1"),
        (lambda v: checks.classes("n", v), [1, 1 << 20], [0, 10**20], "a whole number from 1 to 2**20"),
        (lambda v: checks.width("n", v), [0.01, 1024], [0, -1.0, 1e9], "a finite number above 0 and at most 1024"),
    ],
)
def test_ranges(check: Any, inside: list, outside: list, expected: str) -> None:
    assert [check(value) for value in inside] == inside
    for value in outside:
        with pytest.raises(UsageError, match=f"^n must be {re.escape(expected)}, got "):
            check(value)


def test_threads_and_processes_are_those_of_the_machine_by_default() -> None:
    assert checks.threads(None) == checks.processes(None) == checks.available_threads()
    assert (checks.threads(1), checks.processes(np.int64(1024))) == (1, 1024)
    for check, name in ((checks.threads, "threads"), (checks.processes, "processes")):
        for wrong in (0, -1, 1025, 100_000, 10**20):
            with pytest.raises(
                UsageError, match=f"{name} must be a whole number from 1 to 1024, or None .*got {wrong}"
            ):
                check(wrong)


def test_of_several_numbers_the_wrong_one_is_named() -> None:
    assert checks.shares("ratios", (0, np.float32(0.5), 1)) == [0, 0.5, 1]
    with pytest.raises(UsageError, match=r"^ratios\[1\] must be a share from 0 to 1, got nan"):
        checks.shares("ratios", [0.1, float("nan")])
    for wrong in (0.5, "0.5", None):
        with pytest.raises(UsageTypeError, match="^ratios must be a sequence of shares"):
            checks.shares("ratios", wrong)
    with pytest.raises(
        UsageError, match=r"^input_shape must be \(channels, height, width\), whole numbers .*; got \(1,"
    ):
        checks.sizes("input_shape", (1, 8), "(channels, height, width)")
    with pytest.raises(UsageError, match=r"^input_shape\[2\] must be a whole number of at least 1, got 0"):
        checks.sizes("input_shape", (1, 8, 0), "(channels, height, width)")


def test_more_than_the_machine_has_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "machine_memory", lambda: 1000)
    checks.fits_memory("this takes", 1000, "take less")
    with pytest.raises(UsageError, match="^this takes 1,001 bytes and this machine has 1,000; take less$"):
        checks.fits_memory("this takes", 1001, "take less")
    with pytest.raises(UsageError, match=r"^a parameter of shape \(32, 16, 3, 3\) needs 18,432 bytes"):
        reference_models.build("small_cnn")
    monkeypatch.setattr(checks, "machine_memory", lambda: 10_000)  # enough for each layer, and not for both
    layers = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))
    with pytest.raises(UsageError, match="^the network's parameters need 13,120 bytes .*; reduce its width"):
        initialize(layers)


def test_errors_keep_their_old_bases_and_survive_a_process_border() -> None:
    for error in (UsageError("width must be 1, got 2", "width"), UsageTypeError("no", "x"), MpsimError("failed")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), again.argument) == (type(error), str(error), error.argument)
    assert issubclass(UsageError, ValueError) and issubclass(UsageTypeError, TypeError)
    assert not issubclass(MpsimError, ValueError | TypeError)


def test_a_message_is_short_and_on_one_line() -> None:
    for value in ("x" * 10_000, "a\nb", list(range(1000)), np.zeros(1000), 10**400, -(10**10_000)):
        assert len(checks.shown(value)) <= 60 and "\n" not in checks.shown(value)


# -- names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bf16", "; did you mean bfloat16? Known"),
        ("fp16", "; did you mean float16? Known"),
        ("half", "; did you mean float16? Known"),
        ("float", "; did you mean float32? Known"),
        ("fp32", "; did you mean float32? Known"),
        ("double", "; did you mean float64? Known"),
        ("FP64", "; did you mean float64? Known"),
        ("fp4", "; did you mean float4_e2m1fn? Known"),
        ("fp8_e4m3fn", "; did you mean float8_e4m3fn? Known"),
        ("e8m0", "; did you mean float8_e8m0fnu? Known"),
        ("bfloat17", "; did you mean bfloat16, "),
        (
            "e5m2",
            "may mean float8_e5m2 (largest 57344, infinity) or float8_e5m2fnuz (largest 57344, no infinity). Known",
        ),
        (
            "e4m3",
            "; it may mean float8_e4m3fn (largest 448, no infinity), float8_e4m3 (largest 240, infinity), "
            "float8_e4m3fnuz (largest 240, no infinity) or float8_e4m3b11fnuz (largest 30, no infinity). Known",
        ),
        ("fp8_e4m3", "; it may mean float8_e4m3fn (largest 448, no infinity), float8_e4m3 (largest 240, infinity), "),
        ("fp8", "; it may mean float8_e5m2 (largest 57344, infinity), float8_e4m3fn (largest 448, no infinity), "),
        ("mxfp4", "; for block formats, whose elements share scales, use mpsim.blocks and 'mpsim validate blocks'."),
        ("nvfp4", "; for block formats, whose elements share scales, use mpsim.blocks"),
        ("int8", ". Known: float64, "),
        ("", ". Known: float64, "),
    ],
)
def test_format_names_in_common_use_lead_to_ours(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"unknown format {name!r}")) as refused:
        as_format(name)
    assert said in str(refused.value)


LOOKUPS = {
    "rounding mode": (
        lambda name: Policy(name),
        "nearest",
        "nearest_even, nearest_away, nearest_zero or qpytorch_nearest",
    ),
    "overflow policy": (lambda name: Policy("up", name), "saturat", "saturate"),
    "backend": (load_backend, "compile", "compiled"),
    "scheme": (lambda name: assign(None, name), "largest_frist", "largest_first"),
    "model": (reference_models.build, "resnet", "resnet18"),
    "dataset": (load_data, "cifar", "cifar10 or cifar100"),
    "levels": (parse_levels, "fp8", "fp8_ocp or fp8_float16"),
    "semantics": (as_semantics, "lee", "lee2023"),
}


@pytest.mark.parametrize("what", LOOKUPS)
def test_every_look_up_offers_near_names_and_all_of_them(what: str) -> None:
    look_up, wrong, near = LOOKUPS[what]
    with pytest.raises(UsageError, match=rf"^unknown {what} '{wrong}'; did you mean {near}") as refused:
        look_up(wrong)
    assert "? Known: " in str(refused.value)
    with pytest.raises(UsageError, match=rf"^unknown {what} 'qqq'\. Known: "):
        look_up("qqq")
    with pytest.raises(UsageTypeError, match=f"^{what} must be a name, got 3. Known: "):
        look_up(3)


def test_trace_offers_near_names_too() -> None:
    with pytest.raises(UsageError, match="did you mean standard"):
        trace(reference_models.build("small_cnn", seed=None), 2, "standart")
