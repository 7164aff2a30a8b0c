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
from mpsim.validate.cast import report as casts
from mpsim.validate.cast.validation import sweep_all, validate_cast
from mpsim.validate.presentation import Presentation, junit, junit_error
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


ODD = 'a$x^$ <&>"\x1b[31m\x00\ud800\ufffe é'


def test_junit_is_xml_whatever_the_names_hold() -> None:
    for text in (junit(ODD, ODD, {ODD: None, "nan": ["one", ODD]}), junit_error(ODD, ODD, ODD)):
        case = ElementTree.fromstring(text.encode())[-1]
        assert case.attrib["classname"] == r'a$x^$ <&>"\x1b[31m\x00\ud800\ufffe é'
        assert case[0].attrib["message"] == case.attrib["classname"]


def test_a_dollar_sign_in_a_name_is_no_formula(tmp_path: Path, call: Callable[..., tuple[int, str, str]]) -> None:
    subject, drawn = tmp_path / "a$x^$.py", tmp_path / "b.svg"
    subject.write_text(SUBJECTS)
    code, _, error = call("validate", "blocks", f"{subject}:quantise", "--format", "mxfp4", "--plot", str(drawn))
    assert (code, error) == (1, "") and drawn.stat().st_size > 5000


@pytest.mark.parametrize("name", ["x.xyz", "x", "report.xml"])
def test_what_cannot_be_a_picture_is_told_first(
    name: str, commands: dict[str, list[str]], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    xml, drawn = tmp_path / "report.xml", tmp_path / name
    code, out, error = call("validate", *commands["blocks"], "--junit", str(xml), "--plot", str(drawn))
    assert (code, out) == (2, "") and "--plot" in error and ".png, .svg, .pdf" in error
    assert not drawn.exists() and not xml.exists()


def test_two_outputs_are_two_files(
    commands: dict[str, list[str]], tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    both = tmp_path / "both.svg"
    code, _, error = call("validate", *commands["blocks"], "--junit", str(both), "--plot", str(both))
    assert code == 2 and "--junit" in error and "--plot" in error and not both.exists()


def truncated(x: np.ndarray) -> np.ndarray:
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def toward_zero(x: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(x), np.uint16(0x7FC0), truncated(x))


def almost(x: np.ndarray) -> np.ndarray:
    """Toward zero but for one input, which no corpus has."""
    return toward_zero(x) + (x.view(np.uint32) == 0x00012345)


def test_junit_has_no_failure_where_one_rounding_explains_what_no_preset_does() -> None:
    report = validate_cast(toward_zero, "bfloat16")
    assert report.equal and all(each.mismatches for each in report.presets.values())
    assert set(casts.cases(report).values()) == {None}


def test_a_sweep_goes_on_with_the_rule_that_explains_the_corpus_and_its_mismatch_fails_in_junit() -> None:
    assert sweep_all(validate_cast(toward_zero, "bfloat16"), blocks=1).equal
    report = sweep_all(validate_cast(almost, "bfloat16"), blocks=1)
    assert report.sweep is not None and report.sweep.mismatches == 1 and not report.equal
    found = {name for name, lines in casts.cases(report).items() if lines is not None}
    assert "sweep" in found and len(found) == 2
