"""Runs functions in IEEE 754's default floating-point environment: to nearest even, with subnormal numbers.

Other code of the process may have left another one in this thread. A shared object that was linked with ``-ffast-math``
does so when it is loaded, and a thread starts with the state of the thread that started it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar

from mpsim.process.forking import release_threads
from mpsim.process.waiting import threads_that_sleep

try:
    with threads_that_sleep():
        from mpsim._kernels import enter_float_environment, leave_float_environment
except ImportError:  # a wheel without the C extension
    try:
        from mpsim.process.registers import enter_float_environment, leave_float_environment
    except ImportError:  # nor Numba: NumPy computes in the state that it finds

        def enter_float_environment() -> int:
            """Does nothing."""
            return 0

        def leave_float_environment(before: int) -> None:
            """Does nothing."""


__all__ = [
    "default_float_environment", "enter_float_environment", "in_default_environment", "leave_float_environment",
]  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])
#: The default state, without the flags of exceptions that x86 keeps in the lowest six bits. Arm's register is 0.
DEFAULTS = (0x1F80, 0)
FLAGS = 0x3F


def _enter() -> int:
    """Enters the default environment, and returns the caller's.

    The threads of Numba's loops have the state of the thread that started them, and keep it. In a caller's thread
    whose state is not the default they are therefore started again.
    """
    before = enter_float_environment()
    if before & ~FLAGS not in DEFAULTS:
        release_threads()
    return before


def in_default_environment(function: Function) -> Function:
    """Wraps a function so that it runs in the default environment and restores the caller's at the end.

    >>> in_default_environment(abs)(-1.5)
    1.5
    """

    @wraps(function)
    def guarded(*arguments: object, **options: object) -> Any:
        __tracebackhide__ = True  # of pytest: an assertion that is wrapped shows its caller
        before = _enter()
        try:
            return function(*arguments, **options)
        finally:
            leave_float_environment(before)

    return guarded  # type: ignore[return-value]


@contextmanager
def default_float_environment() -> Iterator[None]:
    """Runs the statements inside in the default environment, and restores the caller's state at the end."""
    before = _enter()
    try:
        yield
    finally:
        leave_float_environment(before)
