"""What mpsim does where an optional package is not installed: one sentence with the command that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from mpsim import data, plugins
from mpsim.errors import MissingExtra

ROOT = Path(__file__).parent.parent
Call = Callable[..., tuple[int, str, str]]

TINY = ["--model", "small_cnn", "--width", "0.0625", "--epochs", "1", "--batch", "479", "--data", "digits"]
SWEEP = ["sweep", "--ratios", "0.5", "--levels", "paper", "--processes", "1", *TINY]


def one_sentence(errors: str, package: str, extra: str) -> bool:
    """Whether standard error is one line that names the package and ends with the command."""
    (line,) = errors.splitlines()
    return package in line and line.endswith(f"; run: pip install 'mpsim[{extra}]'") and line.count("; ") == 1


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Bars the import of a package and of its modules."""

    def bar(name: str) -> None:
        for module in [name, *(each for each in sys.modules if each.startswith(f"{name}."))]:
            monkeypatch.setitem(sys.modules, module, None)

    return bar


@pytest.mark.parametrize(
    "command",
    [
        ["figure"],
        ["figure", "4", "--models", "small_cnn", "--widths", "0.0625", "--data", "digits"],
        ["plan", "small_cnn", "--width", "0.0625", "--batch", "8", "--plot", "{}/plan.png"],
        ["validate", "cast", "numpy.float16", "--plot", "{}/cast.png"],
        ["validate", "dot", "accumulator:exact", "--plot", "{}/dot.svg"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_plots(command: list[str], call: Call, without: Callable[[str], None], tmp_path: Path) -> None:
    """Before any work, so that nothing is written."""
    without("matplotlib")
    code, output, errors = call(*[word.format(tmp_path) for word in command])
    assert (code, output) == (2, "")
    assert one_sentence(errors, "matplotlib", "plots")
    assert list(tmp_path.iterdir()) == []


def test_the_main_job_needs_no_extra(call: Call, without: Callable[[str], None], tmp_path: Path) -> None:
    """A sweep prints its table and says how to get the figure; ``mpsim figure`` draws it later."""
    for module in (*plugins.EXTRAS, "sklearn", "torch", "ml_dtypes"):
        without(module)
    code, output, errors = call(*SWEEP, "--results", tmp_path)
    assert code == 0 and "test accuracy" in output
    assert f"run: pip install 'mpsim[plots]', then: mpsim figure --results {tmp_path}\n" in errors
    assert not list(tmp_path.glob("*.png"))


def test_images(call: Call, without: Callable[[str], None], tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
        (tmp_path / split / "cat" / "1.png").write_bytes(b"")
    without("PIL")
    code, _, errors = call("train", "small_cnn", "--data", "images32", "--data-path", tmp_path, "--results", tmp_path)
    assert code == 2 and one_sentence(errors, "Pillow", "images")
    pictures = data.load("images32", "train", tmp_path)
    with pytest.raises(MissingExtra, match=r"run: pip install 'mpsim\[images\]'"):
        pictures.load([0])


def test_testing() -> None:
    """Only strategies and laws need Hypothesis, and say so."""
    program = (
        "import sys; sys.modules['hypothesis'] = None\n"
        "import mpsim.cli, mpsim.validate.cast.validation\n"
        "assert not any(name.startswith('mpsim.testing') for name in sys.modules)\n"
        "import mpsim.testing\n"
        "mpsim.testing.assert_same_bits([1], [1])\n"
        "mpsim.testing.check_gradients\n"
        "for name in ('laws', 'near_ties'):\n"
        "    try: getattr(mpsim.testing, name)\n"
        "    except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(one_sentence(line, "Hypothesis", "testing") for line in lines)


@pytest.mark.parametrize(
    ("subject", "extra"), [("torch.float8_e4m3fn", "torch"), ("ml_dtypes.float8_e4m3fn", "ml-dtypes")]
)
def test_subjects_of_other_packages(subject: str, extra: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def barred(*spec: object, **options: object) -> None:
        raise ModuleNotFoundError(f"No module named {subject.split('.')[0]!r}")

    monkeypatch.setattr("importlib.import_module", barred)
    code, _, errors = call("validate", "cast", subject, "--in-process")
    assert code == 2 and errors.endswith(f"; run: pip install 'mpsim[{extra}]'\n") and len(errors.splitlines()) == 1


def test_every_extra_is_declared_and_the_core_is_small() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {extra: {re.split(r"[\[>=<]", each)[0].lower() for each in each_of} for extra, each_of in extras.items()}
    packages = {"PIL": "pillow"}
    for module, (_, extra) in plugins.EXTRAS.items():
        assert packages.get(module, module) in names[extra]
    assert names["testing"] == {"hypothesis"}
    core = {re.split(r"[>=<]", each)[0] for each in project["dependencies"]}
    assert core == {"numpy", "scipy", "numba", "typer", "rich", "safetensors"}
    assert not any("cuda" in each for each in extras["test"])
