"""Presents validation reports as text, JUnit XML or a picture. A report provides its JSON itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree

from mpsim.files.records import Record
from mpsim.plugins import require
from mpsim.validate.answers import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: The suffixes of the files that ``picture`` writes.
PICTURES = (".png", ".svg", ".pdf")
#: The characters that an XML document must not contain, even escaped.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Report(Protocol):
    """The result of a validation."""

    @property
    def verdict(self) -> Verdict:
        """Equal, different, or undecided."""

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""


class Presentation(Protocol):
    """What the module ``report`` of each package provides for its reports."""

    def text(self, report: Any, width: int = 110) -> str:
        """Returns the report in lines of about ``width`` columns, with the verdict first."""

    def cases(self, report: Any) -> Mapping[str, list[str] | None]:
        """Returns what was checked, by name: None if it is right, otherwise lines that describe the failure."""

    def draw(self, report: Any, axes: Axes) -> None:
        """Draws the report on matplotlib's axes."""


def junit(suite: str, subject: str, cases: Mapping[str, list[str] | None]) -> str:
    """Returns JUnit XML. Characters that XML cannot contain are written as Python escapes.

    Args:
        suite: The name of the suite.
        subject: The class name of the test cases.
        cases: Test cases by name: None if they pass, otherwise the lines of the failure.

    >>> print(junit("mpsim validate cast f", "f", {"tie": None, "nan": ["nan: 3", "unexplained"]}).splitlines()[1])
    <testsuite name="mpsim validate cast f" tests="2" failures="1" errors="0">
    """
    failures = sum(lines is not None for lines in cases.values())
    root = ElementTree.Element("testsuite", name=suite, tests=str(len(cases)), failures=str(failures), errors="0")
    for name, lines in cases.items():
        case = ElementTree.SubElement(root, "testcase", classname=subject, name=name)
        if lines is not None:
            failure = ElementTree.SubElement(case, "failure", message=lines[-1])
            failure.text = "\n".join(lines)
    return _xml(root)


def junit_error(suite: str, subject: str, message: str) -> str:
    """Returns JUnit XML of a subject that could not be judged."""
    root = ElementTree.Element("testsuite", name=suite, tests="1", failures="0", errors="1")
    case = ElementTree.SubElement(root, "testcase", classname=subject, name="run")
    ElementTree.SubElement(case, "error", message=message)
    return _xml(root)


def _xml(root: ElementTree.Element) -> str:
    for element in root.iter():
        element.attrib.update({name: _escaped(value) for name, value in element.attrib.items()})
        element.text = element.text and _escaped(element.text)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _escaped(text: str) -> str:
    return _NOT_XML.sub(lambda found: ascii(found[0])[1:-1], text)


def picture(presentation: Presentation, report: Report, path: str | Path) -> None:
    """Draws the report to ``path``, whose suffix selects the type (PICTURES)."""
    matplotlib = require("matplotlib", "a picture")
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "mpsim"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        presentation.draw(report, axes)
        for text in (axes.title, *axes.texts):  # a dollar sign in a name does not start a formula
            text.set_parse_math(False)
        figure.savefig(path)
