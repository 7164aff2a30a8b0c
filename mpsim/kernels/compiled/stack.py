"""Refuses stacks of OpenMP's threads in which the kernels do not fit: they would end the process without a word."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from mpsim.checks import DIGITS
from mpsim.kernels.errors import BackendUnavailable

#: The least stack of a thread in bytes. The kernels need 24 KiB with AVX-512.
LEAST = 64 << 10
_UNITS = {"b": 1, "": 1 << 10, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def check_stack_size(variables: Mapping[str, str] = os.environ) -> None:
    """Raises BackendUnavailable if OMP_STACKSIZE (or GOMP_STACKSIZE, as GCC also names it) is less than 64 KiB.

    >>> check_stack_size({"OMP_STACKSIZE": "4M"})
    """
    for name in ("OMP_STACKSIZE", "GOMP_STACKSIZE"):
        found = re.fullmatch(rf"\s*({DIGITS})\s*([bkmg]?)\s*", variables.get(name, ""), re.IGNORECASE)
        if found and int(found[1]) * _UNITS[found[2].lower()] < LEAST:
            raise BackendUnavailable(
                f"'compiled': {name}={variables[name]} is too small for its threads. Unset it, or set at least 64K"
            )
