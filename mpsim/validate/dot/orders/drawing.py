"""A tree of additions as lines of text and as a picture, both summarised where the tree is large.

What is added one after the other is one line, or one box, however many terms it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpsim.products.stages import Node
from mpsim.validate.dot.orders.arithmetic import marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Parts of a sum that are shown, those after the first and before the last being counted; terms of a box; boxes; depth.
MOST_PARTS, MOST_TERMS, MOST_BOXES, MOST_DEPTH = 8, 4, 40, 5


@dataclass(frozen=True)
class Box:
    """What is not divided further: its words, and how many terms it stands for."""

    words: str
    terms: int


@dataclass(frozen=True)
class Sum:
    """Parts that are added one after the other."""

    parts: tuple[Box | Sum, ...]
    terms: int


def summary(tree: Node) -> Box | Sum:
    """The tree in few boxes.

    >>> summary((((0, 4), 8), (((1, 5), 9), 2)))
    Sum(parts=(Box(words='1, 5, 9, 2', terms=4), Box(words='0, 4, 8', terms=3)), terms=7)
    """
    flat = marked(tree)
    for depth in range(MOST_DEPTH, 0, -1):
        found = _summary(flat, depth)
        if _boxes(found) <= MOST_BOXES:
            break
    return found


def _boxes(part: Box | Sum) -> int:
    return sum(map(_boxes, part.parts)) if isinstance(part, Sum) else 1


def _summary(node: Node, depth: int) -> Box | Sum:
    if isinstance(node, int):
        return Box(str(node), 1)
    parts: list[Box | Sum] = []
    run: list[int] = []
    for child in (*node, ()):
        if isinstance(child, int):
            run.append(child)
            continue
        if run:
            parts.append(Box(_listed(run), len(run)))
            run = []
        if child:
            parts.append(_summary(child, depth - 1))
    terms = sum(part.terms for part in parts)
    if len(parts) == 1:
        return parts[0]
    if depth <= 0:
        return Box(f"{terms} terms", terms)
    if len(parts) > MOST_PARTS:
        left = parts[MOST_PARTS - 2 : -1]
        words = f"{len(left)} more parts"
        parts = [*parts[: MOST_PARTS - 2], Box(words, sum(part.terms for part in left)), parts[-1]]
    return Sum(tuple(parts), terms)


def _listed(run: list[int]) -> str:
    if len(run) <= MOST_TERMS:
        return ", ".join(map(str, run))
    return f"{', '.join(map(str, run[: MOST_TERMS - 1]))}, …, {run[-1]}"


def outline(tree: Node) -> list[str]:
    """The tree as lines: what is further to the right is added first, and parts of a sum from the top.

    >>> print(*outline((((0, 4), 8), ((1, 5), 9))), sep="\\n")
    6 terms, added from the top:
      0, 4, 8 one after the other
      1, 5, 9 one after the other
    """
    lines: list[str] = []
    _outline(summary(tree), 0, lines)
    return lines


def _outline(part: Box | Sum, depth: int, lines: list[str]) -> None:
    if isinstance(part, Sum):
        lines.append(f"{'  ' * depth}{part.terms} terms, added from the top:")
        for each in part.parts:
            _outline(each, depth + 1, lines)
        return
    together = " one after the other" if part.terms > 1 and not part.words.endswith(("terms", "parts")) else ""
    lines.append(f"{'  ' * depth}{part.words}{together}")


def draw_tree(tree: Node, axes: Axes) -> None:
    """The tree on axes: boxes from top to bottom, sums to the right of what they add."""
    boxes: list[str] = []
    height = _draw(summary(tree), axes, boxes)[0]
    axes.set_yticks(range(len(boxes)), boxes, fontsize=8 if len(boxes) <= 24 else 5)
    axes.set_ylim(len(boxes) - 0.5, -0.5)
    axes.set_xlim(0, height + 0.5)
    axes.set_xticks([])
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xlabel("sums (dots), each of what is to the left of it")
    axes.set_ylabel("k of the terms, added one after the other")


def _draw(part: Box | Sum, axes: Axes, boxes: list[str]) -> tuple[float, float]:
    """(x, y) of the part."""
    if isinstance(part, Box):
        boxes.append(part.words)
        return 0.0, len(boxes) - 1.0
    ends = [_draw(each, axes, boxes) for each in part.parts]
    x, y = ends[0]
    for place, (right, below) in enumerate(ends[1:]):
        column = max(x, right) + 1 if place == 0 or right >= x else x + 0.5
        middle = (y + below) / 2
        axes.plot([x, column, column], [y, y, middle], color="0.4", lw=1)
        axes.plot([right, column, column], [below, below, middle], color="0.4", lw=1)
        axes.plot([column], [middle], "o", color="tab:blue", ms=4)
        x, y = column, middle
    axes.annotate(str(part.terms), (x, y), (3, -3), textcoords="offset points", va="top", fontsize=7, color="tab:blue")
    return x, y
