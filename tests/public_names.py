"""Every public name of mpsim that can be called."""

from __future__ import annotations

from typing import Any

import mpsim
from website import api


def public() -> dict[int, tuple[str, Any]]:
    """Every public function and class with its name, by its identity."""
    found = {}
    for path, module in {**api.modules(), "mpsim": mpsim}.items():
        for name in api.names_of(module):
            if callable(value := getattr(module, name)):
                found[id(value)] = (f"{path}.{name}", value)
    return found
