"""What mpsim raises on purpose. The command line prints such an error in one line; any other one is a defect."""

from __future__ import annotations


class MpsimError(Exception):
    """The base of every error that mpsim raises on purpose: for wrong usage, or where something outside fails.

    Those for wrong usage are ValueErrors or TypeErrors too. ``argument``: the name of the argument that is wrong, if
    there is one to blame; the message then starts with it.

    >>> UsageError("width must be a finite number above 0, got nan", "width").argument
    'width'
    """

    def __init__(self, message: str = "", argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class UsageError(MpsimError, ValueError):
    """An argument has a value that does not fit."""


class UsageTypeError(MpsimError, TypeError):
    """An argument has a type that does not fit."""
