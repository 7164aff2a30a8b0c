"""The memory-accuracy curve as PNG and SVG (paper figures 4 and 10 to 12)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpsim.errors import UsageError
from mpsim.experiments.study_tables import over_seeds

#: One colour for each level pair, told apart in common kinds of colour blindness (Wong 2011).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: scheme -> (marker, label); the schemes of the curve are drawn as one line.
MARKERS = {
    "uniform_high": ("D", "uniform high"),
    "uniform_low": ("s", "uniform low"),
    "operator_based": ("^", "operator-based"),
    "operator_based_extended": ("v", "operator-based, extended"),
}
CURVE = "largest_first"
#: Percentage points below the best accuracy that the axis shows; what lies further down is drawn at the bottom.
SPAN = 15.0


class Point(NamedTuple):
    """The mean over seeds of one scheme, ratio and level pair; shares and accuracies in 0..1."""

    scheme: str
    ratio: float | None
    levels: str
    low_share: float
    accuracy: float
    lowest: float
    highest: float
    diverged: bool


def points(rows: Iterable[Mapping[str, Any]]) -> list[Point]:
    """Rows (as of ``mpsim sweep --json``) gathered over seeds, in order of first appearance."""
    plans = over_seeds(rows, lambda row: (row["scheme"], row["ratio"], row["levels"]))
    return [
        Point(*plan, spread.low_share, spread.accuracy, spread.lowest, spread.highest, spread.diverged > 0)
        for plan, spread in plans.items()
    ]


def pareto_front(candidates: Iterable[Point]) -> list[Point]:
    """The points that no other point beats: none has a share as high and an accuracy as high, and one higher.

    In rising order of share.

    >>> a, b, c = (Point("s", None, "l", share, accuracy, 0, 0, False) for share, accuracy in
    ...            ((0.0, 0.9), (0.5, 0.8), (0.4, 0.7)))
    >>> pareto_front([a, b, c]) == [a, b]
    True
    """
    front: list[Point] = []
    for point in sorted(candidates, key=lambda point: (-point.low_share, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front[::-1]


def memory_accuracy(rows: Sequence[Mapping[str, Any]], path: str | Path, *, title: str = "") -> list[Path]:
    """Draws test accuracy against the share of elements held low: PNG and SVG, ``path`` without its suffix.

    One colour per level pair; the paper's plans as a line in order of r (bars: lowest and highest seed), the other
    schemes as marks, the Pareto front of each pair as a pale band. Returns the two files written. ValueError if
    there is no finished run.
    """
    if not rows:
        raise UsageError("no finished run to draw; 'mpsim sweep' makes some")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    all_points = points(rows)
    pairs = list(dict.fromkeys(point.levels for point in all_points if point.scheme != "float32"))
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpsim", "font.size": 10}):
        figure, axes = pyplot.subplots(figsize=(9.2, 5.2), layout="constrained")
        floor = _floor(all_points)
        for number, pair in enumerate(pairs):
            _draw_pair(axes, [point for point in all_points if point.levels == pair], pair, number, floor)
        for point in all_points:
            if point.scheme == "float32":
                _draw_float32(axes, point)
        _finish(axes, all_points, title, floor)
        return save(figure, path)


def save(figure: Any, path: str | Path) -> list[Path]:
    """Writes a pyplot figure as PNG and SVG, ``path`` with these suffixes, and closes it; the same bytes each time."""
    from matplotlib import pyplot

    stem = Path(path).with_suffix("")
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_suffix(".png"), stem.with_suffix(".svg")]
    figure.savefig(files[0], dpi=150)
    figure.savefig(files[1], metadata={"Date": None})
    pyplot.close(figure)
    return files


def _percent(value: float) -> float:
    return 100 * value


def _draw_pair(axes: Any, pair_points: list[Point], pair: str, number: int, floor: float) -> None:
    colour = COLOURS[number % len(COLOURS)]
    comparable = [point for point in pair_points if point.scheme != "float32"]
    front = pareto_front(p for p in comparable if not p.diverged and _percent(p.accuracy) >= floor)
    front = front * 2 if len(front) == 1 else front  # a line of one point would not be drawn
    axes.plot(
        [_percent(point.low_share) for point in front],
        [_percent(point.accuracy) for point in front],
        color=colour, alpha=0.22, linewidth=9, solid_capstyle="round", solid_joinstyle="round", zorder=1,
    )  # fmt: skip
    curve = sorted((p for p in comparable if p.scheme == CURVE), key=lambda p: p.ratio or 0.0)
    if curve:
        _draw_curve(axes, curve, colour, floor, above=number % 2 == 0)
    for point in comparable:
        x, y = _percent(point.low_share), _percent(point.accuracy)
        if y < floor:
            place = floor + 0.05 * SPAN * number  # a row for each pair, so that they do not hide each other
            _note_below(axes, x, y, place, colour)
            y = place
        if point.scheme in MARKERS:
            axes.plot(x, y, MARKERS[point.scheme][0], color=colour, markersize=8, fillstyle="none", mew=1.6, zorder=4)
        if point.diverged:
            axes.plot(x, y, "x", color="black", markersize=9, zorder=5)
    end = max(curve or comparable, key=lambda p: p.low_share)
    axes.annotate(
        pair, (_percent(end.low_share), max(floor, _percent(end.accuracy))), xytext=(11, 0), textcoords="offset points",
        va="center", fontsize=10, fontweight="bold", color=colour, annotation_clip=False, zorder=6,
    )  # fmt: skip


def _draw_curve(axes: Any, curve: list[Point], colour: str, floor: float, above: bool) -> None:
    """The paper's plans: a line with the range over seeds, r beside the points that leave room for it."""
    x = [_percent(point.low_share) for point in curve]
    y = [max(floor, _percent(point.accuracy)) for point in curve]
    spread = [
        [_percent(point.accuracy - point.lowest) for point in curve],
        [_percent(point.highest - point.accuracy) for point in curve],
    ]
    axes.errorbar(
        x, y, yerr=spread if any(map(any, spread)) else None, color=colour, marker="o", markersize=4,
        linewidth=1.4, elinewidth=0.8, capsize=2, zorder=3,
    )  # fmt: skip
    last: float | None = None
    for point, at, height in zip(curve, x, y, strict=True):
        if point.ratio is not None and (last is None or abs(at - last) > 5.5):
            same = [p.ratio for p in curve if p[3:5] == point[3:5] and p.ratio is not None]
            ratios = f"{min(same):g}" if len(same) == 1 else f"{min(same):g}–{max(same):g}"
            axes.annotate(
                f"r={ratios}", (at, height), xytext=(0, 9) if above else (-4, -5), textcoords="offset points",
                ha="center" if above else "right", va="bottom" if above else "top", fontsize=7.5, color=colour,
                zorder=6,
            )  # fmt: skip
            last = at


def _floor(all_points: list[Point]) -> float:
    """The lowest accuracy that the axis shows, in percent: that of all points, but at most SPAN below the best."""
    accuracies = [_percent(point.accuracy) for point in all_points]
    return max(min(accuracies), max(accuracies) - SPAN)


def _note_below(axes: Any, x: float, y: float, place: float, colour: str) -> None:
    """Says that a mark drawn at the bottom belongs further down."""
    axes.annotate(
        f"↓ {y:.0f} %", (x, place), xytext=(-9, 0), textcoords="offset points", ha="right", va="center", fontsize=8,
        color=colour, zorder=6,
    )  # fmt: skip


def _draw_float32(axes: Any, point: Point) -> None:
    level = _percent(point.accuracy)
    axes.axhline(level, color="0.35", linewidth=1, linestyle=(0, (5, 3)), zorder=2)


def _finish(axes: Any, all_points: list[Point], title: str, floor: float) -> None:
    axes.set_xlabel("elements held in the low format [% of all elements of a training step]")
    axes.set_ylabel("test accuracy [%]")
    axes.set_xlim(-3, 103)
    high = max(_percent(point.accuracy) for point in all_points)
    margin = max(0.5, 0.08 * (high - floor))
    axes.set_ylim(floor - margin, high + margin)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(title, fontsize=11)
    _legend(axes, all_points)


def _legend(axes: Any, all_points: list[Point]) -> None:
    """What the marks mean, in grey: the colours are named beside the curves."""
    from matplotlib.lines import Line2D

    present = {point.scheme for point in all_points}
    grey = "0.3"
    handles = []
    if CURVE in present:
        handles.append(Line2D([], [], color=grey, marker="o", markersize=4, label="demote, largest first"))
    for scheme, (marker, label) in MARKERS.items():
        if scheme in present:
            handles.append(Line2D([], [], color=grey, marker=marker, fillstyle="none", linestyle="", label=label))
    handles.append(Line2D([], [], color=grey, alpha=0.3, linewidth=7, label="Pareto front"))
    if "float32" in present:
        level = _percent(next(point.accuracy for point in all_points if point.scheme == "float32"))
        handles.append(Line2D([], [], color=grey, linestyle=(0, (5, 3)), label=f"float32: {level:.1f} %"))
    if any(point.diverged for point in all_points):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="", label="diverged"))
    axes.figure.legend(handles=handles, fontsize=8.5, frameon=False, loc="outside right upper")
