"""Finds what installed packages provide.

These are mpsim's optional packages, and entry points of mpsim.backends, mpsim.datasets and mpsim.models.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from types import ModuleType

from mpsim.errors import MissingExtra, UsageError

#: The packages that mpsim installs only with an extra: module -> (the package's name, the extra).
EXTRAS = {
    "matplotlib": ("matplotlib", "plots"),
    "PIL": ("Pillow", "images"),
    "hypothesis": ("Hypothesis", "testing"),
    "torch": ("PyTorch", "torch"),
    "ml_dtypes": ("ml_dtypes", "ml-dtypes"),
}


def require(module: str, purpose: str) -> ModuleType:
    """Imports an optional package and returns it.

    Args:
        module: A key of ``EXTRAS``.
        purpose: What needs it, as the beginning of the message.

    Raises:
        MissingExtra: It is not installed. The message has the command that installs it.

    >>> require("matplotlib", "a figure").__name__
    'matplotlib'
    """
    check_extra(module, purpose)
    return import_module(module)


def remedy(message: str) -> str:
    """Returns the end of a message that says that an optional package is missing: the command that installs it, or "".

    >>> remedy("cannot import torch: No module named 'torch' (ModuleNotFoundError)")
    "; run: pip install 'mpsim[torch]'"
    """
    found = re.search(r"No module named '(\w+)", message)
    return f"; run: pip install 'mpsim[{EXTRAS[found[1]][1]}]'" if found and found[1] in EXTRAS else ""


def check_extra(module: str, purpose: str) -> None:
    """Raises MissingExtra as ``require`` does, without importing the package."""
    if not has_extra(module):
        package, extra = EXTRAS[module]
        raise MissingExtra(f"{purpose} needs {package}, which is not installed; run: pip install 'mpsim[{extra}]'")


def has_extra(module: str) -> bool:
    """Returns whether an optional package is installed, without importing it."""
    return find_spec(module) is not None


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
