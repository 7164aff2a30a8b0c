"""README's examples run, and print what it says."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

README = (Path(__file__).parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language."""
    return [
        text for tag, text in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE) if tag == language
    ]


def run(block: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    exec(compile(block, "README.md", "exec"), {})
    return capsys.readouterr().out.splitlines()


def test_the_digest_is_the_same_on_reference_and_compiled(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block for block in blocks("python") if "Trainer" in block and "torch" not in block)
    reference, compiled = (line.split() for line in run(example, capsys))
    assert (reference[0], compiled[0]) == ("reference", "compiled")
    assert reference[1:] == compiled[1:]
    assert re.fullmatch("[0-9a-f]{64}", reference[2])


def test_rounding_prints_what_the_comment_says(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = (block for block in blocks("python") if "round_to" in block)
    first, *rest = run(example, capsys)
    assert first == "-416.0"
    assert "0.3125" in rest[0] and "30." in rest[0]


def test_a_network_of_pytorch_is_trained(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[peers]'")
    (example,) = (block for block in blocks("python") if "import torch" in block)
    losses = [float(line) for line in run(example, capsys)]
    assert len(losses) == 4 and all(2 < loss < 3 for loss in losses)  # of ten classes, ln 10 = 2.3 before training


def test_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mpsim.cli import app

    (network,) = (block for block in blocks("python") if "def build(" in block)
    (tmp_path / "my_net.py").write_text(network)
    (data,) = (block for block in blocks("python") if "def load(" in block)
    (tmp_path / "my_data.py").write_text(data)
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("") for line in block.splitlines() if line.startswith("mpsim ")]
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)[1:]
        if words[0] in ("train", "sweep"):
            words += ["--epochs", "1", "--results", str(tmp_path)]
        if words[0] == "sweep":
            words += ["--ratios", "0.5", "--levels", "paper"]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
