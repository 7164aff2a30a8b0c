"""mpsim train, sweep and figure: what is stored is said, paths are looked at first, a picture for each kind of run."""

import csv
import json
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from mpsim.cli.paths import check_output, check_results
from mpsim.experiments.drawing.figures import memory_accuracy
from mpsim.training.trainer import Trainer

QUICK = ["--width", "0.0625", "--epochs", "1", "--batch", "479"]
#: A sweep of 6 runs.
SWEEP = ["sweep", *QUICK, "--ratios", "0.5", "--levels", "paper", "--processes", "1"]
NETWORK = """from mpsim import nn


def build(classes=10):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
    network.input_shape = (1, 8, 8)
    return network
"""
STORED = (
    r"mpsim: stored on \d{4}-\d\d-\d\d in .*mpsim.sqlite: nothing was trained; another --results folder trains again\n"
)


def test_train_stores_shows_and_saves(call, call_json, tmp_path):
    arguments = ["train", "--scheme", "uniform_low", *QUICK, "--results", tmp_path / "r"]
    first = call_json(*arguments)
    assert first["scheme"] == "uniform_low" and len(first["history"]) == 1 and first["stored_on"] is None
    again = call_json(*arguments)
    assert re.match(r"\d{4}-\d\d-\d\dT", again["stored_on"]) and again | {"stored_on": None} == first
    code, output, errors = call(*arguments)
    assert code == 0 and "uniform_low" in output and re.fullmatch(STORED, errors)
    code, output, errors = call(*arguments, "--save", tmp_path / "state")
    assert code == 0 and "uniform_low" in output and "trained again for --save" in errors
    assert Trainer.load(tmp_path / "state").digest() == first["digest"]
    assert call_json(*arguments[:-1], tmp_path / "elsewhere")["stored_on"] is None


def test_train_goes_on_and_says_so(call, tmp_path, monkeypatch):
    arguments = ["train", "--width", "0.0625", "--epochs", "3", "--batch", "479", "--results", tmp_path]
    stop = monkeypatch.context()
    with stop as patched:
        patched.setattr("mpsim.cli.runs.Progress.update", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        code, _, errors = call(*arguments)
    assert code == 130 and "the finished epochs are stored" in errors
    code, _, errors = call(*arguments)
    assert code == 0 and "1 of 3 epochs are stored in" in errors


def test_train_under_a_plan_from_a_file(call, call_json, tmp_path):
    _, text, _ = call("plan", "small_cnn", "--width", "0.0625", "--batch", "479", "--ratio", "0.6", "--json")
    (tmp_path / "plan.json").write_text(text)
    arguments = ["train", *QUICK, "--results", tmp_path]
    given = call_json(*arguments, "--plan", tmp_path / "plan.json")
    scheme = call_json(*arguments, "--scheme", "largest_first", "--ratio", "0.6")
    assert given["digest"] == scheme["digest"] and given["bytes"] == scheme["bytes"]
    _, text, _ = call("plan", "small_cnn", "--width", "0.0625", "--ratio", "0.6", "--json")
    (tmp_path / "plan.json").write_text(text)
    code, _, errors = call(*arguments, "--plan", tmp_path / "plan.json")
    assert code == 0 and "plan.json is for batch 128; bytes and shares are those of batch 479" in errors
    for beside in (["--scheme", "uniform_low"], ["--levels", "six_bit"], ["--scheme", "random", "--ratio", "0.5"]):
        code, _, errors = call(*arguments, "--plan", tmp_path / "plan.json", *beside)
        assert code == 2 and f"--plan already defines the plan; remove {' and '.join(beside[::2])}" in errors


def test_sweep_writes_table_figure_and_json(call, call_json, tmp_path):
    arguments = [*SWEEP, "--results", tmp_path / "r"]
    code, output, errors = call(*arguments, "--json", tmp_path / "runs.json")
    assert code == 0, errors
    rows = json.loads((tmp_path / "runs.json").read_text())
    wanted = {"scheme", "ratio", "seed", "low_share", "test_accuracy", "diverged", "promotions", "skipped_steps"}
    assert len(rows) == 6 and all(wanted <= set(row) for row in rows)
    assert "operator_based_extended" in output
    told = [line for line in errors.splitlines() if " of 6 runs: " in line]
    assert len(told) == 6 and told[-1] == "6 of 6 runs: largest_first 0.5 paper, seed 0", errors
    pictures = {file.name for file in (tmp_path / "r").iterdir() if file.suffix in (".png", ".svg")}
    told = "small_cnn_width-0.0625_digits_1-epoch_batch-479_learning-rate-0.1"
    assert len(pictures) == 2 and all(name.startswith(f"sweep_{told}_") for name in pictures)
    drawn = {Path(file).name for file in call_json("figure", "--results", tmp_path / "r")}
    assert drawn == {name.replace("sweep", "memory_accuracy") for name in pictures}


def test_sweep_and_figure_say_how_many_runs_were_stored(call, call_json, tmp_path):
    results = ["--results", tmp_path / "r"]
    call("train", "--scheme", "uniform_low", *QUICK, *results)
    _, _, errors = call(*SWEEP, *results)
    assert f"mpsim: 6 runs: 5 trained now, 1 stored in {tmp_path / 'r' / 'mpsim.sqlite'}\n" in errors
    _, _, errors = call(*SWEEP, "--ratios", "0.5,0.51", *results)
    assert "mpsim: 7 runs: 0 trained now, 6 stored in" in errors and ", 1 equal to another of them" in errors
    assert "another --results folder trains again" in errors
    options = ["--models", "small_cnn", "--data", "digits", "--epochs", "1", "--seeds", "1", "--ratios", "0.5"]
    arguments = ["figure", "17", *options, "--widths", "0.0625", "--levels", "paper", "--processes", "1", *results]
    first, second = call_json(*arguments), call_json(*arguments)
    assert [(made["trained"], made["stored"]) for made in (first, second)] == [(3, 0), (0, 3)]
    assert first["runs"] == second["runs"]


def test_a_figure_of_the_paper_is_listed_run_drawn_and_exported(call, call_json, tmp_path):
    options = ["--models", "small_cnn", "--widths", "0.0625", "--data", "digits", "--epochs", "1", "--seeds", "1"]
    where = ["--levels", "paper", "--results", tmp_path / "r", "--processes", "1"]
    arguments = ["figure", "4", "17", *options, "--ratios", "0.7", *where]
    listed = call_json(*arguments, "--dry-run")
    assert (listed["runs"], len(listed["missing"])) == (6, 6) and 0 < listed["estimated_seconds"] < 600
    assert not (tmp_path / "r").exists()
    code, output, errors = call(*arguments, "--dry-run")
    assert code == 0 and "6 of 6 runs are missing: about 0.0 hours" in output and "operator_based_extended" in output
    recipe = (
        "1 epoch, batch 32, learning rate 0.03, cosine, momentum 0.9, weight decay 0.0005, standard semantics, a test "
        "every 1000 epochs, seed 0"
    )
    assert f"small_cnn, width 0.0625, digits: {recipe}\n" in output
    code, output, errors = call(*arguments, "--csv", tmp_path / "runs.csv")
    assert code == 0, errors
    assert "Figure 17: promotion of tensors that overflow" in output and "| largest_first r=0.7 | no |" in output
    assert f"\n\n{recipe}.\n\n" in output
    with (tmp_path / "runs.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 and {line["batch"] for line in lines} == {"32"}
    again = call_json(*arguments)
    told = "small_data-digits_models-small_cnn_epochs-1_seeds-1_levels-paper_widths-0.0625_ratios-0.7"
    names = [re.sub(r"_[0-9a-f]{8}\.", ".", Path(file).name) for file in again["files"]]
    assert names == [f"figure_{number}_{told}.{ending}" for number in (4, 17) for ending in ("png", "svg", "md")]
    other = call_json(*arguments, "--semantics", "lee2023")
    assert not set(other["files"]) & set(again["files"]) and all(Path(file).exists() for file in again["files"])
    assert call_json(*arguments, "--dry-run")["missing"] == []


# -- a picture for each kind of run ---------------------------------------------------------------------------------


@pytest.fixture
def drawn(monkeypatch):
    """The rows of each picture that is drawn, by the picture's name."""
    seen = {}

    def draw(rows, path, *, title=""):
        assert path.name not in seen, "two pictures under one name"
        seen[path.name] = rows
        return memory_accuracy(rows, path, title=title)

    monkeypatch.setattr("mpsim.experiments.drawing.figures.memory_accuracy", draw)
    return seen


def test_runs_that_are_trained_otherwise_have_a_picture_of_their_own(call, call_json, tmp_path, drawn):
    (tmp_path / "my_net.py").write_text(NETWORK)
    ways = [
        [], ["--lr", "0.2"], ["--batch", "480"], ["--weight-decay", "0.001"], ["--schedule", "constant"],
        ["--epochs", "2"], ["--semantics", "lee2023"], ["--width", "0.125"], ["--width", "0.25"],
    ]  # fmt: skip
    arguments = ["train", *QUICK, "--results", tmp_path]
    for seed in (0, 1):
        for way in ways:
            call(*arguments, *way, "--seed", seed)
    call(*arguments, f"{tmp_path}/my_net.py:build")
    files = call_json("figure", "--results", tmp_path)
    assert len(files) == len(set(files)) == 2 * len(drawn) == 2 * (len(ways) + 1)
    assert all(Path(file).exists() and re.fullmatch(r"[A-Za-z0-9._-]+", Path(file).name) for file in files)
    assert sorted(len(rows) for rows in drawn.values()) == [1] + [2] * len(ways)
    (name,) = (name for name, rows in drawn.items() if rows[0]["lr"] == 0.2)
    assert name.startswith("memory_accuracy_small_cnn_width-0.0625_digits_1-epoch_batch-479_learning-rate-0.2_")
    (name,) = (name for name, rows in drawn.items() if rows[0]["weight_decay"] == 0.001)
    assert "_weight-decay-0.001_" in name


def test_every_plan_is_drawn(call, call_json, tmp_path, drawn):
    """Also plans from files, of which two are told apart, with the others of their kind."""
    arguments = ["train", *QUICK, "--results", tmp_path]
    plans = [
        ["--scheme", "random", "--plan-seed", "1", "--ratio", "0.5"], ["--scheme", "largest_k", "--k", "2"],
        ["--scheme", "random", "--plan-seed", "2", "--ratio", "0.5"], ["--scheme", "uniform_high"],
        ["--scheme", "smallest_first", "--ratio", "0.5"], ["--scheme", "largest_first", "--ratio", "0.5"],
    ]  # fmt: skip
    for number, ratios in enumerate(("0.3,0.7", "0.2,0.9")):
        steps = ["--scheme", "largest_first_in_steps", "--ratios", ratios, "--levels", "fp_6_9_0:fp_5_6_0:fp_4_3_4"]
        _, text, _ = call("plan", "small_cnn", "--width", "0.0625", "--batch", "64", *steps, "--json")
        (tmp_path / f"{number}.json").write_text(text)
        plans.append(["--plan", tmp_path / f"{number}.json"])
    for plan in plans:
        code, _, errors = call(*arguments, *plan)
        assert code == 0, errors
    call_json("figure", "--results", tmp_path)
    (rows,) = drawn.values()
    assert len(rows) == len(plans)
    assert [row["given_plan"] for row in rows[-2:]] == [
        "largest_first_in_steps ratios=0.3,0.7", "largest_first_in_steps ratios=0.2,0.9",
    ]  # fmt: skip


@contextmanager
def older_results(folder: Path) -> Iterator[sqlite3.Connection]:
    """The results file of a folder as one of version 1, which has no checksums, to be changed."""
    with closing(sqlite3.connect(folder / "mpsim.sqlite")) as database, database:
        yield database
        database.execute("DROP TABLE checks")
        database.execute("PRAGMA user_version = 1")


def test_rows_stored_before_get_their_settings_back(call, call_json, tmp_path, drawn):
    """An older results file says less of a run; what it has of the settings determines the rest."""
    arguments = ["train", *QUICK, "--scheme", "uniform_low", "--results", tmp_path]
    rows = [call_json(*arguments, *way) for way in ([], ["--lr", "0.2"])]
    old = ("key", "scheme", "ratio", "plan_seed", "levels", "promotion", "seed", "model", "width", "data", "epochs")
    measured = ("low_share", "bytes", "test_accuracy", "diverged", "digest", "steps", "promotions", "skipped_steps")
    with older_results(tmp_path) as database:
        for row in rows:
            less = json.dumps({name: row[name] for name in (*old, *measured)})
            database.execute("UPDATE runs SET result = ? WHERE key = ?", (less, row["key"]))
    call_json("figure", "--results", tmp_path)
    assert sorted(one["lr"] for rows_ in drawn.values() for one in rows_) == [0.1, 0.2] and len(drawn) == 2
    settings = {name for name in rows[0] if name not in (*measured, "history", "stored_on", "seconds")}
    for row, again in zip(rows, (call_json(*arguments, *way) for way in ([], ["--lr", "0.2"])), strict=True):
        known = {name: value for name, value in row.items() if name in settings and name in again}
        assert known == {name: again[name] for name in known} and {"lr", "batch", "data_sha256"} <= set(known)


def test_given_plans_of_before_with_the_share_of_another_batch_are_left_out(call, tmp_path):
    _, text, _ = call("plan", "small_cnn", "--width", "0.0625", "--ratio", "0.6", "--json")
    (tmp_path / "plan.json").write_text(text)
    call("train", *QUICK, "--plan", tmp_path / "plan.json", "--results", tmp_path)
    with older_results(tmp_path) as database:
        ((settings,),) = database.execute("SELECT settings FROM runs").fetchall()
        database.execute("UPDATE runs SET settings = ?", (json.dumps(json.loads(settings) | {"definition": 1}),))
    code, _, errors = call("figure", "--results", tmp_path)
    assert code == 2 and "1 runs in" in errors and "are omitted" in errors and "no finished run" in errors


# -- paths ----------------------------------------------------------------------------------------------------------


def test_paths_are_looked_at_before_any_work(call, tmp_path, monkeypatch):
    """Nothing is loaded, traced or trained; the option and the path are named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("{")
    (tmp_path / "folder").mkdir()
    _, text, _ = call("plan", "small_cnn", "--width", "0.5", "--ratio", "0.6", "--json")
    (tmp_path / "plan.json").write_text(text)
    for place in ("mpsim.experiments.run._epochs", "mpsim.experiments.studies.panels"):
        module, name = place.rsplit(".", 1)
        monkeypatch.setattr(sys.modules.get(module) or __import__(module, fromlist=["x"]), name, lambda *_, **__: 1 / 0)
    plan = ["plan", "small_cnn", "--scheme", "uniform_low"]
    for arguments, code, message in [
        ([*plan, "--plot", "nowhere/p.png"], 1, "--plot nowhere/p.png"),
        ([*plan, "--plot", "p.gif"], 2, "--plot p.gif: the file's name should end in one of .png, .svg, .pdf"),
        ([*plan, "--compare", "nowhere.json"], 1, "--compare nowhere.json cannot be read (No such file"),
        ([*plan, "--compare", "file"], 2, "--compare file: plan: it is not JSON"),
        ([*plan, "--compare", "plan.json"], 2, "--compare plan.json: the plans are for different networks: width is"),
        (["train", *QUICK, "--plan", "file"], 2, "--plan file: plan: it is not JSON: line 1 column 2"),
        (["train", *QUICK, "--plan", "folder"], 1, "--plan folder cannot be read (Is a directory)"),
        (
            ["train", *QUICK, "--plan", "plan.json"],
            2,
            "--plan plan.json: the plan is for a different network, batch or semantics: width",
        ),
        (["train", *QUICK, "--save", "folder"], 1, "--save folder is a folder; give the name of a file"),
        (["train", *QUICK, "--save", "file/state"], 1, "is not a folder"),
        (["train", *QUICK, "--results", "file"], 1, "--results file:"),
        (["train", *QUICK, "--results", "file/deeper"], 1, "--results file/deeper:"),
        (["sweep", *QUICK, "--json", "folder"], 1, "--json folder is a folder"),
        (["sweep", *QUICK, "--results", "file"], 1, "--results file:"),
        (["trace-step", "small_cnn", "--out", "nowhere/step.npz"], 1, "--out nowhere/step.npz"),
    ]:
        found, _, errors = call(*arguments)
        assert (found, message in errors, "Traceback" in errors) == (code, True, False), (arguments, errors)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder", "plan.json", "results"]


def test_a_folder_without_the_right_to_write_is_told(tmp_path, monkeypatch):
    """As an administrator may write everywhere, the operating system's answer is made here."""

    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"--csv .*runs.csv: no file can be written in .* \(Permission denied\)"):
        check_output(tmp_path / "runs.csv", "--csv")
    with pytest.raises(PermissionError, match="--results .*deeper: no file can be written in"):
        check_results(tmp_path / "new" / "deeper")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(tmp_path, call, monkeypatch):
    """Tables, plans' pictures and exports are written whole."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plan.png").write_bytes(b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", refuse)
    code, _, errors = call("plan", "small_cnn", "--scheme", "uniform_low", "--plot", "plan.png")
    assert code == 1 and "No space left" in errors and (tmp_path / "plan.png").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["plan.png"]


def test_stochastic_rounding_without_its_bits_names_the_option(call):
    code, _, error = call("train", "--rounding", "stochastic")
    assert code == 2 and error.startswith("mpsim: --random-bit-count must be a whole number from 1 to 32")
