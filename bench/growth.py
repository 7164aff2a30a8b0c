"""Plots how the cost of a training step grows with the batch and with the width, to docs/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
NETWORK, WIDTH = "resnet18", 0.25
BATCHES = (32, 64, 128, 256, 512)
WIDTHS = (0.1, 0.25, 0.5, 1.0)
NAMES = {"mpsim": "mpsim, all rounded, counts", "torch": "PyTorch float32", "qtorch": "PyTorch + QPyTorch"}


def points(usual: int) -> list[tuple[str, float, int]]:
    """(network, width, batch): each batch at WIDTH, then each other width at the usual batch."""
    return [(NETWORK, WIDTH, batch) for batch in BATCHES] + [(NETWORK, each, usual) for each in WIDTHS if each != WIDTH]


def draw(rows: list[dict[str, Any]], usual: int, where: str) -> list[Path]:
    """docs/growth_batch.png and docs/growth_width.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    paths = []
    for axis, fixed, value in (("batch", "width", WIDTH), ("width", "batch", usual)):
        shown = sorted((row for row in rows if row[fixed] == value), key=lambda row: row[axis])
        figure = Figure(figsize=(5.5, 4), layout="constrained")
        axes = figure.add_subplot()
        for library, label in NAMES.items():
            if all(library in row["seconds"] for row in shown):
                times = [1e3 * row["seconds"][library]["minimum"] for row in shown]
                axes.loglog([row[axis] for row in shown], times, marker="o", label=label)
        axes.set_xticks([row[axis] for row in shown], [str(row[axis]) for row in shown])
        axes.minorticks_off()
        axes.set(xlabel=axis, ylabel="ms per step (least)", title=f"ResNet-18, {fixed} {value}\n{where}")
        axes.grid(alpha=0.3)
        axes.legend()
        FigureCanvasAgg(figure)
        paths.append(DOCS / f"growth_{axis}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths
