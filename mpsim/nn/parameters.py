"""Creates the parameters of layers, and checks the numbers that layers take."""

from __future__ import annotations

from math import prod

import numpy as np

from mpsim import checks
from mpsim.engine.tensor import Parameter


def filled(value: float, *shape: int) -> Parameter:
    """Returns a parameter with one value everywhere."""
    checks.fits_memory(
        f"a parameter of shape {shape} needs", 4 * prod(shape), "make it smaller, e.g. by reducing the network's width"
    )
    return Parameter(np.full(shape, value, np.float32) if value else np.zeros(shape, np.float32))


def at_least_one(name: str, value: int) -> int:
    """Returns a number of channels or elements if it is at least 1."""
    return checks.whole(name, value, least=1)
