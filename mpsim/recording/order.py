"""In which order the tensors of a step come about, from their names alone (docs/step_files.md)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from mpsim import checks
from mpsim.training.optimizer.names import STATES

_FORWARD = ("master", "compensation", *STATES, "P", "Y")
_BACKWARD = ("G", "GX", "sum", "GP", "next_sum")
_NEXT = ("next_master", "next_compensation")
_NAME = re.compile(rf"(unrounded/)?({'|'.join((*_FORWARD, *_BACKWARD, *_NEXT))})/({checks.DIGITS})/({checks.DIGITS})")


def place(name: str) -> tuple[int, ...] | None:
    """A key that sorts names as a step makes the tensors; None for a name that is none of a step's.

    Images and labels, then per op parameters and output, then from the last op to the first the finished gradient
    of its output, what it adds to its inputs' gradients, and its parameters' gradients; the next parameters.
    """
    if name in ("images", "labels"):
        return (0, 0 if name == "images" else 1)
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    rounded, prefix, op, index = found[1] is None, found[2], int(found[3]), int(found[4])
    if prefix in _FORWARD:
        return (1, op, _FORWARD.index(prefix), index, rounded)
    if prefix in _BACKWARD:
        return (2, -op, _BACKWARD.index(prefix), index, rounded)
    return (3, op, index, _NEXT.index(prefix))


def in_order_of_computation(names: Iterable[str]) -> list[str]:
    """The names of a step's tensors in the order in which it makes them; other names are left out.

    >>> in_order_of_computation(["GX/1/0", "GX/2/0", "Y/2/0", "P/2/0", "Y/1/0", "notes"])
    ['Y/1/0', 'P/2/0', 'Y/2/0', 'GX/2/0', 'GX/1/0']
    """
    placed = {name: key for name in names if (key := place(name)) is not None}
    return sorted(placed, key=placed.__getitem__)
