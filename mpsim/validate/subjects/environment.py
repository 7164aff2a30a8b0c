"""Protects the floating-point environment from subjects, so that expected values use IEEE 754's default."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects import worker

try:
    from mpsim._kernels import enter_float_environment, leave_float_environment
except ImportError:  # without the extension a changed environment is detected but cannot be restored

    def enter_float_environment() -> int:
        """Raises SubjectError if this thread's arithmetic is not the default."""
        if found := worker.float_state():
            raise SubjectError(
                f"this process has {' and '.join(found)}, which only mpsim's C extension can set back; it is not built"
            )
        return 0

    def leave_float_environment(before: int) -> None:
        """Does nothing."""


@contextmanager
def default_float_environment() -> Iterator[None]:
    """Sets rounding to nearest even with subnormal numbers, and restores the caller's state at the end."""
    before = enter_float_environment()
    try:
        yield
    finally:
        leave_float_environment(before)


__all__ = ["default_float_environment", "enter_float_environment", "leave_float_environment"]
