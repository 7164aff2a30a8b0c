"""Defines the exceptions that mpsim raises on purpose.

The command line prints them in one line. All other exceptions are defects.
"""

from __future__ import annotations


class MpsimError(Exception):
    """The base of every exception that mpsim raises on purpose, for wrong usage or an external failure.

    Exceptions for wrong usage are also ValueErrors or TypeErrors.

    Args:
        message: The message. If there is an ``argument``, the message starts with its name.
        argument: The name of the wrong argument, if there is one.

    >>> UsageError("width must be a finite number above 0, got nan", "width").argument
    'width'
    """

    def __init__(self, message: str = "", argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class UsageError(MpsimError, ValueError):
    """An argument has a wrong value."""


class UsageTypeError(MpsimError, TypeError):
    """An argument has a wrong type."""


class MissingExtra(MpsimError, ModuleNotFoundError):
    """An optional package is not installed. The message states what needs it and the command that installs it.

    The command line exits with code 2, as for wrong usage.
    """
