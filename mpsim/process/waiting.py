"""Lets the threads of the C extension sleep soon where they wait for each other.

GCC's OpenMP reads its settings when it is loaded. By default a thread that waits keeps its core busy for a long time.
Where another process has work for that core, the thread that it waits for does not run, and a step takes a hundred
times as long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: A few microseconds of spinning, enough for most waits of two threads with a core each, and then sleep.
SLEEP = {"GOMP_SPINCOUNT": "2000"}
#: Settings of the same, of which a user may have set one.
SET = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def threads_that_sleep() -> Iterator[None]:
    """Sets the environment variable while the extension is loaded, unless the user set one of these.

    >>> with threads_that_sleep():
    ...     policy = os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT")
    >>> policy != (None, None)
    True
    """
    if any(name in os.environ for name in SET):
        yield
        return
    os.environ.update(SLEEP)
    try:
        yield
    finally:
        for name in SLEEP:
            os.environ.pop(name, None)
