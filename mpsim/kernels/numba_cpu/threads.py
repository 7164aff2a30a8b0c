"""How many of Numba's threads a kernel may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numba

LARGEST: int = vars(numba.config)["NUMBA_NUM_THREADS"]


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """At most ``count`` of Numba's threads inside; the caller's number again outside."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, LARGEST))
    try:
        yield
    finally:
        numba.set_num_threads(before)
