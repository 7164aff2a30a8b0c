"""A figure of the paper's as a picture: one panel per network, accuracy against the share held low, bars over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpsim.errors import UsageError
from mpsim.experiments.figures import COLOURS, MARKERS, save
from mpsim.experiments.study_tables import Mean, Row, means

#: Panels beside each other.
COLUMNS = 2


class Curve(NamedTuple):
    """A line of a figure: what it holds, its label and style."""

    scheme: str
    promotes: bool
    label: str
    colour: str
    marker: str = "o"


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
#: What a figure compares -> its lines.
CURVES = {"plans": _PLANS, "orders": _ORDERS, "promotion": _PROMOTION}


def draw(compares: str, titled: Sequence[tuple[str, Sequence[Row]]], path: str | Path, title: str = "") -> list[Path]:
    """Draws the panels (title, rows) as PNG and SVG, ``path`` without its suffix; returns the two files.

    x: elements held low, mean over seeds and epochs, so promotion moves a point to the left. y: mean test accuracy, the
    bar from the lowest to the highest seed. A black cross: a run of that plan diverged. ValueError without rows.
    """
    if not any(rows for _, rows in titled):
        raise UsageError("no finished run to draw")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(COLUMNS, len(titled))
    lines = -(-len(titled) // columns)
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpsim", "font.size": 9}):
        size = (4.9 * columns, 3.9 * lines + 0.7)
        figure, axes = pyplot.subplots(lines, columns, figsize=size, layout="constrained", squeeze=False)
        for place, (name, rows) in zip(axes.flat, titled, strict=False):
            _panel(place, compares, name, means(rows))
        for place in axes.flat[len(titled) :]:
            place.set_visible(False)
        handles: dict[str, Any] = {}
        for place in axes.flat:
            handles |= dict(zip(*reversed(place.get_legend_handles_labels()), strict=True))
        figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=1 + columns, frameon=False, fontsize=8.5
        )
        figure.suptitle(title, fontsize=10, wrap=True)
        return save(figure, path)


def _panel(axes: Any, compares: str, title: str, every: Sequence[Mean]) -> None:
    for curve in CURVES[compares]:
        line = [mean for mean in every if (mean.scheme, mean.promotes) == (curve.scheme, curve.promotes)]
        _line(axes, curve, sorted(line, key=lambda mean: mean.ratio or 0.0))
    if compares == "plans":
        for number, (scheme, (marker, label)) in enumerate(MARKERS.items()):
            for mean in every:
                if mean.scheme == scheme:
                    _bar(axes, [mean], COLOURS[(number + 1) % len(COLOURS)], marker, label, "none")
    for mean in every:
        if mean.scheme == "float32":
            level = 100 * mean.accuracy
            axes.axhline(level, color="0.35", linewidth=1, linestyle=(0, (5, 3)), zorder=1, label="float32")
    lost = [mean for mean in every if mean.diverged]
    if lost:
        x, y = (
            [100 * value for value in values] for values in zip(*[(m.low_share, m.accuracy) for m in lost], strict=True)
        )
        axes.plot(x, y, "x", color="black", markersize=9, linestyle="", zorder=6, label="a run diverged")
    axes.set_xlim(-3, 103)
    axes.set_xlabel("elements held low [%]")
    axes.set_ylabel("test accuracy [%]")
    axes.set_title(title, fontsize=10)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _line(axes: Any, curve: Curve, line: Sequence[Mean]) -> None:
    if not line:
        return
    _bar(axes, line, curve.colour, curve.marker, curve.label, "full")
    for mean in (line[0], line[-1]):
        axes.annotate(
            f"r={mean.ratio:g}", (100 * mean.low_share, 100 * mean.accuracy), xytext=(0, 7),
            textcoords="offset points", ha="center", fontsize=7.5, color=curve.colour, zorder=7,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _bar(axes: Any, points: Sequence[Mean], colour: str, marker: str, label: str, fill: str) -> None:
    """The points as a line, each with a bar from its lowest to its highest seed."""
    x, y = [100 * point.low_share for point in points], [100 * point.accuracy for point in points]
    below = [100 * (point.accuracy - point.lowest) for point in points]
    above = [100 * (point.highest - point.accuracy) for point in points]
    axes.errorbar(
        x, y, yerr=[below, above], color=colour, marker=marker, markersize=4 if fill == "full" else 7, fillstyle=fill,
        linewidth=1.4, elinewidth=0.8, capsize=2, zorder=3, label=label,
    )  # fmt: skip
