"""The files that a public project has are there, and say the same."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_licence_is_apache_2_word_for_word() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert hashlib.sha256(text).hexdigest() == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert "The mpsim authors" in (ROOT / "NOTICE").read_text()
    assert set(PROJECT["license-files"]) == {"LICENSE", "NOTICE"}
    assert PROJECT["license"].split(" AND ")[0] == "Apache-2.0"


def test_the_citation_names_the_software_and_the_paper() -> None:
    text = (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^(title|cff-version|license): .*", text, re.MULTILINE) == ["cff-version", "title", "license"]
    for word in ("Wonyeol", "Rahul", "Aiken", "2301.13464", "year: 2023", "The mpsim authors"):
        assert word in text


def test_issue_forms_have_what_a_form_needs() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["bug", "config", "disagreement", "feature"]
    for form in forms:
        text = form.read_text()
        assert "\t" not in text
        if form.stem != "config":
            assert re.match(r"name: .+\ndescription: .+\ntitle: .+\nlabels: \[.+\]\nbody:\n", text)
            ids = re.findall(r"^    id: (\w+)$", text, re.MULTILINE)
            assert len(set(ids)) == len(ids) >= 3


def test_every_release_begins_with_results_that_changed() -> None:
    for release in re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]:
        headings = re.findall(r"^### (.+)", release, re.MULTILINE)
        assert headings[0] == "Results that changed", release.splitlines()[0]
