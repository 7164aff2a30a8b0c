"""Draws a figure of the paper with one panel for each network: accuracy against low share, with bars over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mpsim.errors import UsageError
from mpsim.experiments.drawing.figures import (
    BEHIND_WORDS,
    COLOURS,
    STYLES,
    as_usual,
    draw_diverged,
    draw_points,
    save,
    styles,
)
from mpsim.experiments.labels import TRAINING, Row, differences, promotes
from mpsim.experiments.study_tables import SEEDS_AND_ORDERS, Mean, over_seeds
from mpsim.files.records import Fields
from mpsim.plugins import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The number of panels in a row.
COLUMNS = 2


class Curve(NamedTuple):
    """A line of a figure, or only marks if it is not ``joined``, with its scheme, label and style."""

    scheme: str
    promotes: bool
    label: str
    colour: str
    marker: str = "o"
    joined: bool = True


_PLANS = (Curve("largest_first", True, "the paper's plans, rising r", COLOURS[0]),)
_ORDERS = (
    Curve("largest_first", True, "largest first (the paper's)", COLOURS[0]),
    Curve("smallest_first", True, "smallest first", COLOURS[1], "s"),
    Curve("random", True, "random order", COLOURS[2], "^"),
)
_PROMOTION = (
    Curve("largest_first", True, "with promotion (the paper's)", COLOURS[0]),
    Curve("largest_first", False, "without promotion", COLOURS[1], "s"),
)
#: The lines of a figure, by what it compares.
CURVES = {"plans": _PLANS, "orders": _ORDERS, "promotion": _PROMOTION}


def draw(compares: str, titled: Sequence[tuple[str, Sequence[Row]]], path: str | Path, title: str = "") -> list[Path]:
    """Draws the panels (title, rows) as PNG and SVG, at ``path`` with these suffixes, and returns the two files.

    The x axis is the share of low elements, averaged over seeds and epochs, so promotion moves a point to the left. The
    y axis is the mean test accuracy, with a bar from the lowest to the highest seed. For a random order, mean and bar
    are over seeds and orders. A black cross marks a plan with a diverged run.

    Raises:
        ValueError: There are no rows.
    """
    with as_usual(9):
        return save(figure_of(compares, titled, title), path)


def figure_of(compares: str, titled: Sequence[tuple[str, Sequence[Row]]], title: str = "") -> Figure:
    """Returns the picture of ``draw`` as matplotlib's Figure."""
    if not any(rows for _, rows in titled):
        raise UsageError("there is no finished run to draw")
    require("matplotlib", "a figure")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(titled))
    lines = -(-len(titled) // columns)
    figure = Figure(figsize=(4.9 * columns, 3.9 * lines + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False)
    for place, (name, rows) in zip(axes.flat, titled, strict=False):
        _panel(place, compares, name, over_seeds(rows, SEEDS_AND_ORDERS))
    for place in axes.flat[len(titled) :]:
        place.set_visible(False)
    handles: Fields = {}
    for place in axes.flat:
        handles |= dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=1 + columns, frameon=False, fontsize=8.5
    )
    figure.suptitle(title, fontsize=10, wrap=True)
    return figure


def _panel(axes: Axes, compares: str, title: str, every: Sequence[Mean]) -> None:
    trained = differences([mean.settings for mean in every], (*TRAINING, "levels"))
    thresholds = len({mean.settings["promotion"] for mean in every if mean.promotes})
    lines: dict[tuple[Curve, str], list[Mean]] = {}
    for mean, words in zip(every, trained, strict=True):
        if thresholds > 1 and mean.promotes:
            words = ", ".join(filter(None, [words, f"promotion at {mean.settings['promotion']}"]))
        if mean.scheme == "float32":
            level, label = 100 * mean.accuracy, ", ".join(filter(None, ["float32", words]))
            axes.axhline(level, color="0.35", linewidth=1, linestyle=(0, (5, 3)), zorder=1, label=label)
        else:
            lines.setdefault((_curve(compares, mean), words), []).append(mean)
    for number, ((curve, words), line) in enumerate(sorted(lines.items(), key=lambda item: not item[0][0].joined)):
        if words:  # the usual colours of a panel distinguish schemes, not recipes
            curve = curve._replace(label=f"{curve.label}, {words}", colour=COLOURS[number % len(COLOURS)])
        _line(axes, curve, sorted(line, key=lambda mean: mean.ratio or 0.0))
    draw_diverged(axes, every, "a run diverged")
    axes.set_xlim(-3, 103)
    axes.set_xlabel("elements held low [%]")
    axes.set_ylabel("test accuracy [%]")
    axes.set_title(title, fontsize=10)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _curve(compares: str, mean: Mean) -> Curve:
    """Returns the line of the runs, or marks for a scheme that is not compared."""
    for curve in CURVES[compares]:
        if (mean.scheme, mean.promotes) == (curve.scheme, curve.promotes):
            return curve
    style = styles([mean.scheme])[mean.scheme]
    label = f"{style.label}, without promotion" if promotes(mean.scheme) and not mean.promotes else style.label
    colour = COLOURS[[*STYLES, mean.scheme].index(mean.scheme) % len(COLOURS)]
    return Curve(mean.scheme, mean.promotes, label, colour, style.marker, joined=False)


def _line(axes: Axes, curve: Curve, line: Sequence[Mean]) -> None:
    shape = {"markersize": 4} if curve.joined else {"markersize": 7, "fillstyle": "none", "linestyle": ""}
    draw_points(axes, line, color=curve.colour, marker=curve.marker, linewidth=1.4, label=curve.label, **shape)
    for mean in (line[0], line[-1]) if curve.joined else ():
        axes.annotate(
            f"r={mean.ratio:g}", (100 * mean.low_share, 100 * mean.accuracy), xytext=(0, 7),
            textcoords="offset points", ha="center", fontsize=7.5, color=curve.colour, zorder=7,
            bbox=BEHIND_WORDS,
        )  # fmt: skip
