"""The command line: answers for people and for programs, exit codes, no traceback for a user's mistake."""

import subprocess
import sys

import pytest

from mpsim.cli import app, main
from mpsim.formats import FORMATS
from mpsim.kernels import BACKENDS, HAS_EXTENSION
from mpsim.training.trainer import Trainer

QUICK = ["--width", "0.0625", "--epochs", "1", "--batch", "479"]


# -- formats, round, backends -------------------------------------------------------------------------------


def test_formats_lists_every_named_one(call, call_json):
    rows = {row["name"]: row for row in call_json("formats")}
    assert list(rows) == list(FORMATS)
    assert rows["float8_e4m3fn"]["largest"] == 448 and rows["float8_e4m3fn"]["bits"] == 8
    assert [row["largest"] for row in call_json("formats", "fp_4_3_4", "fp_5_2_0")] == [30.0, 114688.0]
    code, output, _ = call("formats")
    assert code == 0 and all(name in output for name in FORMATS)


def test_round_tells_value_code_neighbours_and_error(call_json):
    row = call_json("round", "0.3", "--format", "float8_e4m3fn")
    assert (row["value"], row["code"], row["binary"]) == (0.3125, "0x2a", "0 0101 010")
    assert (row["below"], row["above"]) == (0.28125, 0.3125)
    assert row["error"] == 0.0125  # of 0.3 itself, which float64 does not hold
    assert call_json("round", "0.3", "--format", "float8_e4m3fn", "--source", "float64")["error"] == 0.3125 - 0.3


@pytest.mark.parametrize(
    ("text", "format", "code"),
    [
        ("1157425104234217473", "bfloat16", "0x5d81"),  # above a midpoint by 1 of 2**60
        ("1157425104234217472", "bfloat16", "0x5d80"),  # the midpoint: to even
        ("1.0039062500000000000000000001", "bfloat16", "0x3f81"),
        ("1.0625000000000000000001", "float8_e4m3fn", "0x39"),
        ("0x1.1000000000000000001p0", "float8_e4m3fn", "0x39"),
        ("0x1.1p0", "float8_e4m3fn", "0x38"),
        ("-17/16", "float8_e4m3fn", "0xb8"),
        ("1/3", "float8_e4m3fn", "0x2b"),
        ("-1e999999999999", "bfloat16", "0xff80"),
        ("1e-999999999999", "bfloat16", "0x0000"),
    ],
)
def test_round_rounds_the_text_once(call_json, text, format, code):
    assert call_json("round", text, "--format", format)["code"] == code


def test_round_of_text_is_the_definition_in_every_mode(call_json):
    """Just above and below midpoints, nearer than float64 can represent."""
    for format in ("bfloat16", "float8_e5m2", "p3109_k8p3"):
        for mode in ("nearest_even", "nearest_away", "nearest_zero", "toward_zero", "up", "down", "to_odd"):
            above = call_json("round", "1.1250000000000000000000000001", "--format", format, "--mode", mode)
            below = call_json("round", "-1.1249999999999999999999999999", "--format", format, "--mode", mode)
            near = ["1.1251", "-1.1249"]  # the same side of everything that matters
            wanted = [call_json("round", x, "--format", format, "--mode", mode) for x in near]
            assert [above["code"], below["code"]] == [row["code"] for row in wanted]


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "cuda"])
def test_round_takes_negative_numbers_and_several(call_json, backend):
    rows = call_json(
        "round", "-431.99999999999994", "500", "nan", "-0.0", "--format", "float8_e4m3fn", "--backend", backend
    )
    assert [row["value"] for row in rows] == [-416.0, "NaN", "NaN", 0.0]
    assert [row["code"] for row in rows] == ["0xfd", "0x7f", "0x7f", "0x80"]
    assert rows[1]["below"] == 448 and rows[1]["above"] is None and rows[1]["error"] is None


def test_round_at_a_number_of_the_format_shows_the_ones_beside_it(call_json):
    row = call_json("round", "1", "--format", "float8_e4m3fn")
    assert (row["below"], row["value"], row["above"], row["error"]) == (0.9375, 1.0, 1.125, 0.0)


def test_round_by_mode_overflow_and_random_bits(call_json):
    assert call_json("round", "1.01", "--format", "bfloat16", "--mode", "up")["value"] == 1.015625
    assert call_json("round", "1e9", "--format", "fp_4_3_4", "--overflow", "saturate")["value"] == 30
    marked = call_json("round", "1e9", "--format", "fp_4_3_4", "--overflow", "mark")
    assert (marked["value"], marked["code"]) == ("Infinity", None)
    options = ["--format", "float8_e5m2", "--mode", "stochastic", "--random-bit-count", "2", "--random-bits"]
    # 1.0625 lies a quarter of the way from 1 to 1.25: floor(0.25 * 4) + R >= 4 for R = 3 only
    values = [row["value"] for row in call_json("round", *["1.0625"] * 4, *options, "0,1,2,3")]
    assert values == [1.0, 1.0, 1.0, 1.25]
    legacy = ["round", "1.5e-5", "--format", "fp_5_2_0", "--mode", "qpytorch_nearest", "--overflow", "saturate"]
    assert call_json(*legacy, "--source", "float32")["value"] == 2.0**-16


def test_backends_say_what_runs(call, call_json):
    rows = {row["name"]: row for row in call_json("backends")}
    assert list(rows) == list(BACKENDS)
    assert rows["reference"]["available"] and rows["reference"]["threads"] >= 1
    for row in rows.values():
        assert row["available"] or "pip install" in row["cause"] or "Install the driver" in row["cause"]
    if rows["compiled"]["available"]:
        assert rows["compiled"]["variant"] in rows["compiled"]["variants"]
    assert call("backends")[0] == 0


# -- plan ---------------------------------------------------------------------------------------------------


def test_plan_prints_one_object(call, call_json):
    options = ["--width", "0.5", "--classes", "100", "--batch", "128", "--scheme", "largest_first", "--ratio", "0.3"]
    plan = call_json("plan", "resnet18", *options, "--semantics", "lee2023")
    assert (plan["model"], plan["width"], plan["classes"], plan["batch"]) == ("resnet18", 0.5, 100, 128)
    assert (plan["scheme"], plan["ratio"], plan["semantics"]) == ("largest_first", 0.3, "lee2023")
    assert set(plan["ops"][0]) >= {"index", "name", "kind", "group", "producers"}
    assert set(plan["tensors"][0]) == {"op", "role", "index", "elements", "format"}
    assert sum(plan["groups"]) == plan["total_elements"] == sum(row["elements"] for row in plan["tensors"])
    chosen = sum(plan["groups"][group] for group in plan["chosen_groups"])
    assert plan["reached"] == chosen / plan["total_elements"] >= 0.3
    code, output, _ = call("plan", "small_cnn", "--ratio", "0.5")
    assert code == 0 and "fp_4_3_4" in output


@pytest.mark.parametrize(
    "options,scheme",
    [
        (["--scheme", "random", "--ratio", "0.5", "--seed", "3"], "random"),
        (["--scheme", "largest_k", "--k", "2"], "largest_k"),
        (["--scheme", "operator_based_extended", "--levels", "bfloat16:float8_e4m3fn"], "operator_based_extended"),
    ],
)
def test_plan_knows_every_option(call_json, options, scheme):
    assert call_json("plan", "small_cnn", *options)["scheme"] == scheme


def test_commands_that_train_say_what_skipped_steps_do(call, call_json, tmp_path):
    arguments = ["train", "--scheme", "uniform_low", *QUICK, "--results", tmp_path]
    kept = call_json(*arguments, "--skipped-statistics", "kept", "--save", tmp_path / "state")
    assert Trainer.load(tmp_path / "state").recipe.skipped_statistics == "kept"
    assert kept["key"] != call_json(*arguments)["key"]
    for command in ("train", "sweep"):
        code, _, errors = call(command, *QUICK, "--skipped-statistics", "keep", "--results", tmp_path / "none")
        assert code == 2 and "unknown skipped_statistics 'keep'; did you mean kept?" in errors
        assert not (tmp_path / "none").exists()


# -- mistakes and failures ----------------------------------------------------------------------------------

MISTAKES = [
    (["round", "0.3", "--format", "float8_e4m4fn"], "did you mean float8_e4m3fn"),
    (["round", "abc", "--format", "bfloat16"], "'abc' is not a number"),
    (["round", "1", "--format", "bfloat16", "--mode", "upward"], "upward"),
    (["round", "1"], "Missing option '--format'"),
    (["round", "1", "--format", "bfloat16", "--source", "float16"], "none of text, float64, float32"),
    (["round", "1", "--format", "tf32", "--mode", "stochastic"], "--random-bit-count"),
    (["round", "1", "--format", "tf32", "--mode", "stochastic", "--random-bits", "-1"], "should be one number"),
    (["round", "1", "--format", "bfloat16", "--backend", "compile"], "did you mean compiled"),
    (["formats", "bfloat17"], "did you mean bfloat16"),
    (["figure", "3"], "figure 3 is not a comparison of training runs"),
    (["figure", "--dry-run"], "give a figure"),
    (["figure", "4", "--ratios", "a"], "'a' should be numbers with commas"),
    (["figure", "4", "--scale", "tiny"], "unknown scale 'tiny'"),
    (["figure", "4", "--models", "small_cn", "--data", "digits"], "did you mean small_cnn"),
    (["plan", "small_cn", "--ratio", "0.5"], "did you mean small_cnn"),
    (["plan", "small_cnn", "--ratio", "1.5"], "--ratio must be a share from 0 to 1, got 1.5"),
    (["plan", "small_cnn"], "needs ratio"),
    (["plan", "small_cnn", "--scheme", "largest_fist", "--ratio", "0.5"], "did you mean largest_first"),
    (["plan", "small_cnn", "--ratio", "0.5", "--semantics", "lee"], "unknown semantics"),
    (["plan", "small_cnn", "--ratio", "0.5", "--levels", "papr"], "did you mean paper"),
    (["plan", "resnet18", "--ratio", "0.5", "--width", "0.3"], "0.3"),
    (["plan", "small_cnn", "--batch", "0", "--ratio", "0.5"], "--batch must be a whole number from 1 to 2**24, got 0"),
    (["train", "--data", "digit"], "did you mean digits"),
    (["train", "--data", "cifar10"], "needs the path of its archive or folder (--data-path)"),
    (["train", "--batch", "1438"], "--batch is 1438 examples, but there are only 1437 training examples of digits"),
    (["sweep", "--batch", "1438"], "--batch is 1438 examples, but there are only 1437 training examples of digits"),
    (["train", "--lr", "-1"], "--lr must be a finite number from 0"),
    (["train", "--promotion", "2"], "--promotion must be a share"),
    (["train", "--epochs", "0"], "--epochs must be a whole number from 1 to 2**32 - 1, got 0"),
    (["train", "--rounding", "stochastic", "--scheme", "uniform_low"], "--random-bit-count"),
    (["train", "resnet18", "--width", "0.1"], "resnet18"),
    (["sweep", "--ratios", "0.5;1"], "numbers with commas"),
    (["sweep", "--processes", "0"], "--processes must be a whole number from 1 to 1024"),
    (["sweep", "--ratios", "2"], "--ratios[0] must be a share from 0 to 1, got 2"),
    (["nothing"], "No such command"),
    (["sweep", "--nothing"], "No such option"),
]


@pytest.mark.parametrize(
    "arguments,message", MISTAKES, ids=lambda value: "" if isinstance(value, str) else " ".join(value)
)
def test_wrong_usage_is_told_and_exits_with_2(call, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, errors = call(*arguments)
    assert code == 2, errors
    assert message in errors and "Traceback" not in errors
    assert not (tmp_path / "results" / "mpsim.sqlite").exists() or arguments[0] in ("train", "sweep")


def test_failures_exit_with_1(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mpsim.sqlite").write_bytes(b"something else entirely" * 100)
    for arguments, message in [
        (["train", *QUICK], "not a database"),
        (["sweep", *QUICK], "not a database"),
        (["figure", "4"], "not a database"),
        (["figure", "--results", "nowhere"], "no results file"),
        (["figure", "4", "--csv", "nowhere/runs.csv", "--results", "other"], "--csv nowhere/runs.csv"),
        (["train", *QUICK, "--plan", "nowhere.json", "--results", "other"], "--plan nowhere.json cannot be read"),
        (["train", *QUICK, "--save", "nowhere/state", "--results", "other"], "--save nowhere/state"),
        (["sweep", *QUICK, "--json", "nowhere/runs.json", "--results", "other"], "--json nowhere/runs.json"),
        (["train", "--data", "cifar10", "--data-path", "nowhere", "--results", "other"], "--data-path nowhere"),
    ]:
        code, _, errors = call(*arguments)
        assert code == 1, (arguments, errors)
        assert message in errors and "Traceback" not in errors


def test_a_plan_for_another_model_is_told(call, tmp_path):
    _, text, _ = call("plan", "small_cnn", "--ratio", "0.6", "--json")
    (tmp_path / "plan.json").write_text(text)
    code, _, errors = call("train", *QUICK, "--results", tmp_path, "--plan", tmp_path / "plan.json")
    assert code == 2 and "width is 1.0 in the plan and 0.0625 here" in errors
    (tmp_path / "plan.json").write_text("{")
    code, _, errors = call("train", *QUICK, "--results", tmp_path, "--plan", tmp_path / "plan.json")
    assert code == 2 and "plan" in errors


def test_a_defect_keeps_its_traceback(monkeypatch):
    """Only mistakes that mpsim recognises lose their traceback."""

    monkeypatch.setattr("mpsim.cli.plans.trace", lambda *_, **__: [][1])
    with pytest.raises(IndexError):
        main(["plan", "small_cnn", "--ratio", "0.5"])
    monkeypatch.setattr("mpsim.cli.plans.trace", lambda *_, **__: int("a defect, not a mistake"))
    with pytest.raises(ValueError, match="invalid literal"):
        main(["plan", "small_cnn", "--ratio", "0.5"])


def test_every_command_explains_itself_and_has_json(call):
    names = [command.name for command in app.registered_commands]
    assert set(names) >= {"formats", "round", "plan", "train", "sweep", "figure", "backends"}
    for name in names:
        code, output, _ = call(name, "--help")
        assert code == 0 and "--json" in output, name


def test_the_command_is_quick_to_start_and_installed():
    output = subprocess.run([sys.executable, "-m", "mpsim.cli", "--help"], capture_output=True, text=True, check=True)
    assert "sweep" in output.stdout
    heavy = ["matplotlib", "sklearn", "typer", "torch"]
    if HAS_EXTENSION:  # elsewhere the default backend is numba
        heavy.append("numba")
    code = f"import sys, mpsim; print([name for name in {heavy} if name in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
