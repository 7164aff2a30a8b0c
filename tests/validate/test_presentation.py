"""Every command of ``mpsim validate`` gives text, JSON, JUnit XML and a picture of one verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from step_samples import clean

from mpsim.files.tensors import write_tensors
from mpsim.validate.presentation import Presentation
from mpsim.validate.step import report as steps
from mpsim.validate.step.comparison import compare_steps

SUBJECTS = """
import numpy as np

def cast(x):
    return (x.view(np.uint32) >> 16).astype(np.uint16)

def quantise(x):
    return np.zeros_like(x)

def multiply(a, b):
    return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
"""


@pytest.fixture
def commands(tmp_path: Path) -> dict[str, list[str]]:
    """A wrong subject for each command."""
    (tmp_path / "subjects.py").write_text(SUBJECTS)
    record = clean("small_cnn", "standard")
    record.write(tmp_path / "ours.npz")
    wrong = dict(record.tensors)
    wrong["Y/1/0"] = wrong["Y/1/0"] * np.float32(2)
    write_tensors(tmp_path / "other.npz", wrong, record.index)
    subject = str(tmp_path / "subjects.py")
    step = ["step", str(tmp_path / "other.npz"), "--against", str(tmp_path / "ours.npz")]
    return {
        "cast": ["cast", f"{subject}:cast", "--format", "bfloat16", "--mode", "nearest_even"],
        "blocks": ["blocks", f"{subject}:quantise", "--format", "mxfp4"],
        "dot": ["dot", f"{subject}:multiply", "--length", "40", "--accumulator", "chunk=none"],
        "step": step,
        "replay": [*step, "--teacher-forced"],
    }


@pytest.mark.parametrize("name", ["cast", "blocks", "dot", "step", "replay"])
def test_one_verdict_in_every_form(
    name: str, commands: dict[str, list[str]], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    xml, picture = tmp_path / "report.xml", tmp_path / "picture.png"
    code, out, _ = call("validate", *commands[name], "--json", "--junit", str(xml), "--plot", str(picture))
    assert code == 1 and json.loads(out)["verdict"] == "different"
    root = ElementTree.parse(xml).getroot()
    failed = [case for case in root if case.find("failure") is not None]
    assert int(root.attrib["tests"]) == len(root) and int(root.attrib["failures"]) == len(failed) > 0
    assert root.attrib["name"].startswith(f"mpsim validate {commands[name][0]} ")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000
    text = call("validate", *commands[name])[1]
    shown = " ".join(text.split())
    for case in failed:
        lines = (case[0].text or "").splitlines()
        assert lines[0] in shown or name in ("step", "replay") and case.attrib["name"] in {"Y/1/0", *lines[0].split()}


@pytest.mark.parametrize("name", ["cast", "blocks", "dot", "step"])
def test_what_cannot_be_told_is_an_error_in_junit(
    name: str, commands: dict[str, list[str]], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    xml = tmp_path / "report.xml"
    arguments = commands[name]
    arguments[1] = str(tmp_path / "absent.npz") if name == "step" else str(tmp_path / "absent.py:f")
    code, _, error = call("validate", *arguments, "--junit", str(xml))
    root = ElementTree.parse(xml).getroot()
    assert code == 2 and root.attrib["errors"] == "1" and root.attrib["failures"] == "0"
    found = root.find("testcase/error")
    assert found is not None and found.attrib["message"] in error


def test_a_file_that_cannot_be_written_is_told_first(
    commands: dict[str, list[str]], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    for option in ("--junit", "--plot"):
        code, _, error = call("validate", *commands["blocks"], option, str(tmp_path / "no/such/file.png"))
        assert code == 2 and option in error and "No such file" in error


def test_points_of_steps_stand_where_their_shares_are(commands: dict[str, list[str]], tmp_path: Path) -> None:
    report = compare_steps(tmp_path / "other.npz", tmp_path / "ours.npz")
    presentation: Presentation = steps
    axes = Figure().subplots()
    presentation.draw(report, axes)
    drawn = {(int(x), round(float(y), 9)) for points in axes.collections for x, y in np.asarray(points.get_offsets())}
    assert drawn == {(i, round(100 * tensor.differing_share, 9)) for i, tensor in enumerate(report.tensors)}
    assert [text.get_text() for text in axes.texts] == ["Y/1/0"]
    assert presentation.cases(report)["every stored tensor"] is None
