"""Finds what installed packages provide: entry points of mpsim.backends, mpsim.datasets and mpsim.models."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

from mpsim.errors import UsageError


@cache
def of_group(group: str) -> dict[str, EntryPoint]:
    """Returns the entry points of a group by name. Of two with the same name, the first that Python finds counts."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, point)
    return found


def load(group: str, name: str) -> object:
    """Loads the object of an entry point, or returns None if there is no such entry point.

    Raises:
        UsageError: It cannot be imported. The message has the cause and the package.
    """
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
