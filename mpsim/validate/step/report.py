"""Reports on training steps as mpsim.validate.presentation has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpsim.validate.step.comparison import StepComparison
from mpsim.validate.step.replay import TeacherReport
from mpsim.validate.step.tensor_compare import TensorComparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def text(report: StepComparison | TeacherReport, width: int = 110) -> str:
    """What differs, in order of computation."""
    return str(report)


def cases(report: StepComparison | TeacherReport) -> dict[str, list[str] | None]:
    """One case for each tensor, and one for whether all that a step stores was compared."""
    found = {
        tensor.name: [str(tensor), *tensor.details()] if _fails(report, tensor) else None for tensor in report.tensors
    }
    missing = report.not_compared if isinstance(report, StepComparison) else ()
    found["every stored tensor"] = [f"not compared: {name}" for name in missing] or None
    return found


def draw(report: StepComparison | TeacherReport, axes: Axes) -> None:
    """The share of each tensor's elements that differ, in order of computation."""
    groups: dict[str, list[tuple[int, float]]] = {}
    for place, tensor in enumerate(report.tensors):
        word = "different" if _fails(report, tensor) else "as sums in another order may give"
        groups.setdefault("equal" if tensor.equal else word, []).append((place, 100 * tensor.differing_share))
    colors = {"equal": "0.6", "different": "tab:red", "as sums in another order may give": "tab:blue"}
    for word, points in groups.items():
        places, shares = zip(*points, strict=True)
        axes.scatter(places, shares, s=10, color=colors[word], label=f"{word} ({len(points)})")
    first = next((place for place, tensor in enumerate(report.tensors) if _fails(report, tensor)), None)
    if first is not None:
        tensor = report.tensors[first]
        axes.annotate(tensor.name, (first, 100 * tensor.differing_share), xytext=(5, 5), textcoords="offset points")
    axes.set_ylim(-5, 105)
    axes.set_xlabel("tensors in order of computation")
    axes.set_ylabel("elements that differ [%]")
    names = (report.other, report.ours) if isinstance(report, StepComparison) else (report.source, "its own inputs")
    axes.set_title(f"{names[0]} against {names[1]}", fontsize=9)
    axes.legend(loc="best")


def _fails(report: StepComparison | TeacherReport, tensor: TensorComparison) -> bool:
    return tensor.suspect if isinstance(report, TeacherReport) else not tensor.equal
