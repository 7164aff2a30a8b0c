"""What commands print: texts as they are, quiet ends, and which errors are a user's mistakes."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import pytest

from mpsim.cli import command, main
from mpsim.cli.output import console, is_failure, is_usage_error, print_table
from mpsim.cli.progress import Progress
from mpsim.errors import MpsimError, UsageError, UsageTypeError
from mpsim.experiments.keeping import keys_of
from mpsim.experiments.results import ResultsError
from mpsim.experiments.workers import WorkerError
from mpsim.files.checkpoint import CheckpointError
from mpsim.kernels import BackendUnavailable, DeviceMemoryError
from tests.notices import own_words

#: Texts that rich takes for emoji, markup, a closing tag without an opening one, a style.
NAMES = (":up:", "f.py:smile:", "[bold]", "[/red]", "[link=x]y[/link]", "\\[a]", "'quoted' 1.5 True")


def test_a_table_shows_every_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([*NAMES], [list(NAMES), [1.5, None, *NAMES[2:]]], title=" ".join(NAMES))
    output = capsys.readouterr().out
    title, _, headings, *_ = output.splitlines()
    assert title.rstrip() == " ".join(NAMES)
    assert [cell.strip() for cell in headings.strip("┃").split("┃")] == list(NAMES)
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if line[0] == "│"]
    assert rows == [list(NAMES), ["1.5", "", *NAMES[2:]]]
    assert "\x1b" not in output


@dataclass(frozen=True)
class Job:
    model: str
    label: str
    width: float = 1.0
    seed: int = 0
    epochs: int = 3
    data: str = "digits"
    data_path: str | None = None

    def contents(self) -> None:
        return None

    def to_dict(self, contents: Any) -> dict[str, Any]:
        return asdict(self)


def test_bars_show_every_text_as_it_is() -> None:
    jobs: Any = [Job(name, name) for name in NAMES]
    keys = {key: job for job, key in keys_of(jobs).items()}
    with Progress(keys, SimpleNamespace(epochs_done=dict)) as progress:
        progress.update(dict.fromkeys(keys, 1))
        shown = io.StringIO()
        console(file=shown, width=200).print(progress._bars.get_renderable())
    for name in NAMES:
        assert f"  {name} 1, {name}, seed 0" in shown.getvalue()


def test_a_file_with_such_a_name_is_named_in_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for name in (":up:", "[/red]"):
        with pytest.raises(SystemExit) as stopped:
            main(["train", f"{name}.py:build"])
        assert stopped.value.code == 2 and f"{name}.py" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["formats", "formats --json", "plan small_cnn --ratio 0.5 --json"])
def test_a_reader_that_leaves_ends_a_command_quietly(arguments: str) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "mpsim.cli", *arguments.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    errors = running.stderr.read().decode()
    running.stderr.close()
    assert running.wait() == 1 and own_words(errors) == ""


# -- which errors are mistakes ------------------------------------------------------------------------------


def test_errors_are_told_apart_by_their_type() -> None:
    for mistake in (UsageError("x"), UsageTypeError("x")):
        assert is_usage_error(mistake)
    failures = (MpsimError, CheckpointError, ResultsError, WorkerError, BackendUnavailable, OSError, MemoryError)
    for failure in failures:
        assert is_failure(failure("x")) and not is_usage_error(failure("x"))
    assert is_failure(DeviceMemoryError("x", asked=1, used=1, total=1))
    for defect in (IndexError("x"), KeyError("x"), RuntimeError("x")):
        assert not is_failure(defect) and not is_usage_error(defect)


@pytest.mark.parametrize("error", [ValueError("a defect"), TypeError("a defect")])
def test_a_plain_error_is_a_defect_wherever_it_is_raised(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a file of mpsim, by a line that starts with raise: it was reported as a mistake once."""

    def broken(*_: Any, **__: Any) -> None:
        raise error

    code = broken.__code__.replace(co_filename=sys.modules["mpsim.trace"].__file__ or "")
    monkeypatch.setattr(broken, "__code__", code)
    monkeypatch.setattr("mpsim.cli.plans.trace", broken)
    with pytest.raises(type(error), match="a defect"):
        main(["plan", "small_cnn", "--ratio", "0.5"])


OPTIONS = [
    (["train", "--lr", "nan"], "--lr must be a finite number from 0 to 3.40282e+38, got nan"),
    (["sweep", "--width", "1e9"], "--width must be a finite number above 0 and at most 1024, got 1000000000.0"),
    (["plan", "small_cnn", "--ratio", "0.5", "--width", "nan"], "--width must be a finite number above 0 and at most"),
    (["sweep", "--ratios", "0.1,nan"], "--ratios[1] must be a share from 0 to 1, got nan"),
    (["figure", "4", "--widths", "0.5,inf", "--dry-run"], "--widths must be a finite number above 0"),
    (["train", "--threads", "100000"], "--threads must be a whole number from 1 to 1024, or None for one per core"),
    (["figure", "4", "--processes", "0", "--dry-run"], "--processes must be a whole number from 1 to 1024, or None"),
    (["round", "1", "--format", "tf32", "--random-bit-count", "33"], "--random-bit-count is for mode 'stochastic'"),
    (
        ["round", "1", "--format", "tf32", "--mode", "stochastic", "--random-bits", "0", "--random-bit-count", "33"],
        "--random-bit-count must be a whole number from 1 to 32, got 33",
    ),
    (["sweep", "--processes", "-1"], "--processes must be a whole number from 1 to 1024, or None for one per core"),
    (["train", "--promotion", "nan"], "--promotion must be a share above 0 and at most 1, got nan"),
    (["train", "--scheme", "random", "--plan-seed", "-1"], "--plan-seed must be a whole number from 0 to 2**64 - 1"),
    (["train", "--k", "-1"], "--k must be a whole number of at least 0, got -1"),
]


@pytest.mark.parametrize("arguments,message", OPTIONS, ids=lambda value: value if isinstance(value, str) else "")
def test_an_error_names_the_option(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and capsys.readouterr().err.startswith(f"mpsim: {message}")
    assert not list(tmp_path.iterdir()), "nothing is begun"


def test_an_argument_that_is_no_option_keeps_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    options = [SimpleNamespace(name="width", opts=["-w", "--width"]), SimpleNamespace(name="model", opts=["model"])]
    running = SimpleNamespace(command=SimpleNamespace(params=options))
    assert command.message(UsageError("width must be 1", "width")) in ("width must be 1", "--width must be 1")
    monkeypatch.setattr(command, "_RUNNING", SimpleNamespace(get=lambda: running))
    assert command.message(UsageError("width must be 1", "width")) == "--width must be 1"
    assert command.message(UsageError("widths must be 1", "widths")) == "widths must be 1"
    assert command.message(UsageError("model must be a name", "model")) == "model must be a name"
    assert command.message(UsageError("the width is wrong", "width")) == "the width is wrong"
    assert command.message(MemoryError()) == "MemoryError"
