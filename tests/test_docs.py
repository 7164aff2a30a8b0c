"""The documents say what the code does."""

import re
from pathlib import Path

import pytest

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
