"""How a validation's report is shown: text for people, JUnit XML for a build, a picture. JSON is the report's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from xml.etree import ElementTree

from mpsim.files.records import Record
from mpsim.validate.answers import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Endings of the files that ``picture`` writes.
PICTURES = (".png", ".svg", ".pdf")
#: What no XML document may contain, not even escaped.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Report(Protocol):
    """What a validation found."""

    @property
    def verdict(self) -> Verdict:
        """Equal, different, or that it could not tell."""

    def to_dict(self) -> Record:
        """The fields, for JSON."""


class Presentation(Protocol):
    """What a room's module ``report`` has for the reports of that room."""

    def text(self, report: Any, width: int = 110) -> str:
        """The report in lines of about so many columns, the verdict first."""

    def cases(self, report: Any) -> Mapping[str, list[str] | None]:
        """What was looked at, by name: None for what is as it should be, else lines on what is not."""

    def draw(self, report: Any, axes: Axes) -> None:
        """The report on axes of matplotlib's."""


def junit(suite: str, subject: str, cases: Mapping[str, list[str] | None]) -> str:
    """JUnit XML of test cases by name: None for one that passes, else the lines of its failure. A character that XML
    cannot hold is written as its Python escape.

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
    """JUnit XML of a subject of which nothing can be said."""
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
    """The report's picture, written to ``path``; the suffix gives the type (PICTURES)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "mpsim"}):
        figure = Figure(figsize=(9, 4.5), layout="constrained")
        axes = figure.subplots()
        presentation.draw(report, axes)
        for text in (axes.title, *axes.texts):  # names, in which a dollar sign is no formula
            text.set_parse_math(False)
        figure.savefig(path)
