"""What installed packages bring along: entry points of the groups mpsim.backends, mpsim.datasets and mpsim.models."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mpsim.errors import UsageError


@cache
def of_group(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name; of two with one name the first that Python finds."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, point)
    return found


def load(group: str, name: str) -> Any:
    """What an entry point of that name stands for; None if there is none. Raises UsageError where it cannot be
    imported, with the cause and the package."""
    point = of_group(group).get(name)
    if point is None:
        return None
    try:
        return point.load()
    except Exception as error:
        package = point.dist.name if point.dist is not None else "an installed package"
        raise UsageError(
            f"{name!r} comes from {package} ({point.value}), which cannot be imported: {error} ({type(error).__name__})"
        ) from error
