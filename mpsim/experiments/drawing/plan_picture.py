"""Draws a plan: the formats of each op, and bytes by role and group."""

from __future__ import annotations

import io
from pathlib import Path

from mpsim.assignment import Plan
from mpsim.engine.tensor import ROLES
from mpsim.errors import UsageError
from mpsim.experiments.drawing.figures import COLOURS
from mpsim.files.whole import write_whole
from mpsim.plugins import require

#: The shades of the roles. They are grey, so that they are not confused with the colours of the formats.
GREYS = ("#222222", "#c8c8c8", "#666666", "#a0a0a0")
SUFFIXES = (".png", ".svg", ".pdf")


def bytes_by_group(plan: Plan) -> dict[str, list[float]]:
    """Returns the bytes of each group's tensors for each role. A parameter belongs to the group that its op reads."""
    ops = plan.network.ops
    table = {role: [0.0] * len(plan.network.groups) for role in ROLES}
    for tensor, count in plan.elements.items():
        op = ops[tensor.op]
        place = op if tensor.role.startswith("activation") else ops[op.producers[0]]
        table[tensor.role][place.group] += count * plan.formats[tensor].bits / 8
    return table


def draw_plan(plan: Plan, path: str | Path) -> Path:
    """Draws a plan.

    The upper part has a row for each role and a column for each op, coloured by format. The lower part has the bytes of
    each group, stacked by role.

    Args:
        plan: The plan.
        path: The file. Its suffix must be .png, .svg or .pdf.

    Raises:
        ValueError: The suffix is unknown.
        OSError: The file cannot be written.
    """
    require("matplotlib", "a picture of a plan")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"the suffix of a picture must be one of {', '.join(SUFFIXES)}, got {path.name!r}")
    names = list(dict.fromkeys(format.name for format in plan.formats.values()))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, height_ratios=(2, 3))
    for tensor, format in plan.formats.items():
        row = ROLES.index(tensor.role)
        above.broken_barh([(tensor.op - 0.5, 1)], (row - 0.45, 0.9), color=colours[format.name], linewidth=0)
    above.set_yticks(range(len(ROLES)), [role.replace("_", " ") for role in ROLES])
    above.set_xlim(-0.5, len(plan.network.ops) - 0.5)
    above.set_ylim(len(ROLES) - 0.5, -0.5)
    above.set_xlabel("op, in order of execution")
    patches = [Patch(color=colours[name], label=name) for name in names]
    above.legend(handles=patches, ncols=len(names), fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    bottom = [0.0] * len(plan.network.groups)
    for role, colour in zip(ROLES, GREYS, strict=True):
        sizes = [size / 1e6 for size in bytes_by_group(plan)[role]]
        below.bar(range(len(bottom)), sizes, bottom=bottom, color=colour, label=role.replace("_", " "))
        bottom = [low + size for low, size in zip(bottom, sizes, strict=True)]
    below.set_ylim(0, 1.05 * max(bottom))
    below.set_xlabel("group")
    below.set_ylabel("megabytes")
    below.legend(fontsize=8)
    network = plan.network
    figure.suptitle(
        f"{network.model}, width {network.width:g}, batch {network.batch}: {plan.scheme}, {plan.low_share:.1%} low"
    )
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix[1:], dpi=120)
    write_whole(path, content.getvalue())
    return path
