"""Draws the memory-accuracy curve as PNG and SVG (paper figures 4 and 10 to 12)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

from mpsim.errors import UsageError
from mpsim.experiments.drawing import accuracy_axis
from mpsim.experiments.labels import GIVEN, TRAINING, Row, differences
from mpsim.experiments.study_tables import Mean, over_seeds
from mpsim.files.records import Fields
from mpsim.plugins import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

#: One colour for each pair of levels, distinguishable with common kinds of colour blindness (Wong 2011, Tol's "muted").
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#332288", "#999933", "#44aa99",
)  # fmt: skip
#: The colour of float32 if all rows are trained in the same way, and of the marks in the legend.
GREY = "0.35"


class Style(NamedTuple):
    """How a scheme is drawn. ``line`` is matplotlib's style of the line through its ratios or numbers of groups."""

    marker: str
    label: str
    line: str | tuple[float, tuple[float, ...]] = ""


STYLES = {
    "float32": Style("+", "float32", (0, (5, 3))),
    "uniform_high": Style("D", "uniform high"),
    "uniform_low": Style("s", "uniform low"),
    "operator_based": Style("^", "operator-based"),
    "operator_based_extended": Style("v", "operator-based, extended"),
    "largest_first": Style("o", "largest first (the paper's)", "-"),
    "smallest_first": Style("h", "smallest first", "--"),
    "random": Style("P", "random order", ":"),
    "largest_k": Style("p", "the k largest groups", "-."),
    GIVEN: Style("*", "given plan"),
}
#: The marks of schemes that are not in STYLES, in the order of their names.
SPARE_MARKERS = "<>dX8H1234"
#: A translucent background for text on lines.
BEHIND_WORDS = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.6}
#: Schemes whose points are annotated with r or k.
_ANNOTATED = ("largest_first", "largest_k")
#: The least distance of two annotations, in percentage points of the share.
_APART = 5.5


class Group(NamedTuple):
    """The points of one colour, i.e. of one pair of levels and one recipe."""

    name: str
    colour: str
    points: list[Mean]


def styles(schemes: Iterable[str]) -> dict[str, Style]:
    """Returns the style of each scheme. A scheme that STYLES lacks gets a spare mark.

    >>> [style.marker for style in styles(["mine", "random", "another"]).values()]
    ['>', 'P', '<']
    """
    names = list(dict.fromkeys(schemes))
    spare = dict(zip(sorted(set(names) - set(STYLES)), SPARE_MARKERS * len(names), strict=False))
    return {name: STYLES[name] if name in STYLES else Style(spare[name], name) for name in names}


def pareto_front(candidates: Iterable[Mean]) -> list[Mean]:
    """Returns the Pareto front in rising order of share.

    It consists of the points for which no other point is at least as high in share and accuracy and higher in one.

    >>> a, b, c = (Mean({}, 1, share, accuracy, accuracy, accuracy, 0) for share, accuracy in
    ...            ((0.0, 0.9), (0.5, 0.8), (0.4, 0.7)))
    >>> pareto_front([a, b, c]) == [a, b]
    True
    """
    front: list[Mean] = []
    for point in sorted(candidates, key=lambda point: (-point.low_share, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front[::-1]


def memory_accuracy(rows: Sequence[Row], path: str | Path, *, title: str = "") -> list[Path]:
    """Draws test accuracy against the share of low elements as PNG and SVG, at ``path`` with these suffixes.

    A mark is the mean over the seeds of one plan and recipe, with a bar from the lowest to the highest seed. A line
    joins the plans of a scheme with a ratio or a number of groups. Each pair of levels has a colour, and so has each
    recipe if the rows have several. The Pareto front of a colour is a pale band.

    Returns:
        The two files.

    Raises:
        ValueError: There is no finished run.
    """
    with as_usual():
        return save(memory_accuracy_figure(rows, title), path)


def memory_accuracy_figure(rows: Sequence[Row], title: str = "") -> Figure:
    """Returns the picture of ``memory_accuracy`` as matplotlib's Figure."""
    if not rows:
        raise UsageError("there is no finished run to draw; run 'mpsim sweep' first")
    require("matplotlib", "a figure")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = over_seeds(rows)
    groups = _groups(points)
    figure = Figure(figsize=(9.6, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    accuracy_axis.use(axes, [100 * value for point in points for value in (point.lowest, point.highest)])
    looks = styles(point.scheme for point in points)
    for group in groups:
        _draw_front(axes, group)
        for series in _series(group.points):
            _draw_series(axes, series, group, looks[series[0].scheme])
    _finish(axes, title)
    figure.legend(handles=_legend(points, groups, looks), fontsize=8.5, frameon=False, loc="outside right upper")
    return figure


@contextmanager
def as_usual(font_size: float = 10) -> Iterator[None]:
    """Sets matplotlib's defaults and a fixed salt for SVG, so that a picture has the same bytes each time."""
    matplotlib = require("matplotlib", "a figure")

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpsim", "font.size": font_size}):
        yield


def save(figure: Figure, path: str | Path) -> list[Path]:
    """Writes a figure as PNG and SVG, at ``path`` with these suffixes. The bytes are the same each time."""
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".png", ".svg") else path  # .25 of "0.25" is not a suffix
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = [stem.with_name(f"{stem.name}{ending}") for ending in (".png", ".svg")]
    figure.savefig(files[0], dpi=150)
    figure.savefig(files[1], metadata={"Date": None})
    return files


def _groups(points: Sequence[Mean]) -> list[Group]:
    """Groups the points by levels and recipe. With a single recipe, float32 is grey."""
    trained = differences([point.settings for point in points], (*TRAINING, "promotion"))
    gathered: dict[tuple, list[Mean]] = {}
    for point, words in zip(points, trained, strict=True):
        gathered.setdefault((point.levels, words), []).append(point)
    grey = sum(levels is None for levels, _ in gathered) == 1
    palette = cycle(COLOURS)
    return [
        Group(
            ", ".join(filter(None, [levels or "float32", words])),
            GREY if levels is None and grey else next(palette),
            own,
        )
        for (levels, words), own in gathered.items()
    ]


def _series(points: Iterable[Mean]) -> list[list[Mean]]:
    """Returns the points of each scheme and random order, in rising order of ratio or number of groups."""
    gathered: dict[tuple, list[Mean]] = {}
    for point in points:
        gathered.setdefault((point.scheme, point.settings["plan_seed"]), []).append(point)
    return [sorted(own, key=lambda point: (point.ratio or 0.0, point.settings["k"] or 0)) for own in gathered.values()]


def _places(points: Iterable[Mean]) -> tuple[list[float], list[float]]:
    """Returns shares and accuracies in percent."""
    points = list(points)
    return [100 * point.low_share for point in points], [100 * point.accuracy for point in points]


def draw_points(axes: Axes, points: Sequence[Mean], **style: Any) -> None:
    """Draws points, each with a bar from its lowest to its highest seed."""
    x, y = _places(points)
    # The mean of equal numbers may be rounded below them.
    below = [100 * max(0.0, point.accuracy - point.lowest) for point in points]
    above = [100 * max(0.0, point.highest - point.accuracy) for point in points]
    bars = [below, above] if any(below) or any(above) else None
    axes.errorbar(x, y, yerr=bars, elinewidth=0.8, capsize=2, zorder=3, **style)


def draw_diverged(axes: Axes, points: Iterable[Mean], label: str) -> None:
    """Draws a cross over the points with a diverged run."""
    lost = [point for point in points if point.diverged]
    if lost:
        axes.plot(*_places(lost), "x", color="black", markersize=9, linestyle="", zorder=6, label=label)


def _draw_front(axes: Axes, group: Group) -> None:
    front = pareto_front(point for point in group.points if point.scheme != "float32" and not point.diverged)
    front = front * 2 if len(front) == 1 else front  # a line of one point would not be drawn
    axes.plot(
        *_places(front), color=group.colour, alpha=0.22, linewidth=9, solid_capstyle="round", solid_joinstyle="round",
        zorder=1,
    )  # fmt: skip


def _draw_series(axes: Axes, series: Sequence[Mean], group: Group, style: Style) -> None:
    scheme = series[0].scheme
    draw_points(axes, series, color=group.colour, linewidth=1.4, mew=1.4, label=scheme, **_look(style))
    draw_diverged(axes, series, "diverged")
    above = group.colour in COLOURS[::2]
    if scheme == "float32":
        for level in _places(series)[1]:
            axes.axhline(level, color=group.colour, linewidth=1, linestyle=style.line, zorder=2)
    if scheme in _ANNOTATED:
        _annotate(axes, series, group.colour, above)
    for point in series if scheme == GIVEN else ():
        _write(axes, point, f"{point.settings['given_plan']} {point.settings['plan_sha256'][:4]}", group.colour, above)


def _look(style: Style) -> Fields:
    small = {"markersize": 4} if style.line == "-" else {"markersize": 8, "fillstyle": "none"}
    return {"marker": style.marker, "linestyle": style.line, **small}


def _annotate(axes: Axes, series: Sequence[Mean], colour: str, above: bool) -> None:
    """Writes r or k next to points with enough space."""
    last: float | None = None
    for point in series:
        name, long = ("r", "ratio") if point.ratio is not None else ("k", "k")
        share = 100 * point.low_share
        if last is None or abs(share - last) > _APART:
            same = [p.settings[long] for p in series if p[1:] == point[1:]]
            numbers = f"{min(same):g}" if len(same) == 1 else f"{min(same):g}–{max(same):g}"
            _write(axes, point, f"{name}={numbers}", colour, above)
            last = share


def _write(axes: Axes, point: Mean, text: str, colour: str, above: bool) -> None:
    axes.annotate(
        text, (100 * point.low_share, 100 * point.accuracy), xytext=(0, 9) if above else (-4, -5),
        textcoords="offset points", ha="center" if above else "right", va="bottom" if above else "top", fontsize=7.5,
        color=colour, zorder=2.5, bbox=BEHIND_WORDS,
    )  # fmt: skip


def _finish(axes: Axes, title: str) -> None:
    axes.set_xlabel("elements held in the low format [% of all elements of a training step]")
    axes.set_ylabel("test accuracy [%], linear in the logarithm of the error")
    axes.set_xlim(-3, 103)
    axes.grid(color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if title:
        axes.set_title(fill(title, 90), fontsize=10)


def _legend(points: Sequence[Mean], groups: Sequence[Group], looks: Mapping[str, Style]) -> list[Line2D]:
    """Returns the legend's handles: the marks in grey, then the colours."""
    from matplotlib.lines import Line2D

    handles = []
    for scheme, style in looks.items():
        levels = [100 * point.accuracy for point in points if point.scheme == scheme == "float32"]
        label = f"{style.label}: {levels[0]:.1f} %" if len(levels) == 1 else style.label
        handles.append(Line2D([], [], color=GREY, label=label, **_look(style)))
    handles.append(Line2D([], [], color=GREY, alpha=0.3, linewidth=7, label="Pareto front"))
    if any(point.seeds > 1 for point in points):
        handles.append(
            Line2D([], [], color=GREY, marker="|", linestyle="", markersize=9, label="lowest to highest seed")
        )
    if any(point.diverged for point in points):
        handles.append(Line2D([], [], color="black", marker="x", linestyle="", label="a run diverged"))
    for group in groups:
        if group.colour != GREY:
            handles.append(Line2D([], [], color=group.colour, linewidth=4, label=fill(group.name, 34)))
    return handles
