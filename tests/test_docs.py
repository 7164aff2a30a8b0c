"""The documents say what the code does."""

import csv
import re
from ast import literal_eval
from pathlib import Path
from typing import Any

import pytest

from mpsim.experiments.studies import panels
from mpsim.experiments.study_tables import summary
from mpsim.kernels import contract

ROOT = Path(__file__).parent.parent


def test_semantics_lists_every_kernel_as_the_contract_has_it() -> None:
    document = (ROOT / "docs/semantics.md").read_text()
    assert contract.write_into(document) == document, "run 'nox -s docs'"
    assert all(f"**`{name}`**" in document for name in contract.CONTRACT)


def test_a_measured_choice_prints_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs/plans.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    exec(compile(example, "docs/plans.md", "exec"), {})
    assert f"prints `{capsys.readouterr().out.strip()}`" in document


def test_own_data_in_python_are_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    document = (ROOT / "docs/own_data.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```$", document, re.DOTALL | re.MULTILINE)
    exec(compile(example, "docs/own_data.md", "exec"), {})
    assert example.rstrip().endswith(f"# {capsys.readouterr().out.strip()}")


def exported(line: dict[str, str]) -> dict[str, Any]:
    """A line of an exported file as the row it was; key and digest stay text."""

    def value(name: str, text: str) -> Any:
        if not text:
            return None
        try:
            return text if name in ("key", "digest", "data_sha256") else literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    return {name: value(name, text) for name, text in line.items()}


@pytest.mark.parametrize("number", [4, 5, 17])
def test_the_studys_tables_are_those_of_its_export(number: int) -> None:
    document = (ROOT / "docs/reproducing-the-paper.md").read_text()
    with (ROOT / "docs/small_scale_study.csv").open(newline="") as file:
        rows = {line["key"]: exported(line) for line in csv.DictReader(file)}
    for panel in panels(number):
        parts = summary([(panel.title, [rows[job.key] for job in panel.jobs])]).strip().split("\n\n")
        assert "\n\n".join(parts[:3]) in document  # title, recipe and table
        assert number != 4 or all(sentence in document for sentence in parts[3:])
