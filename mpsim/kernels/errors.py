"""Errors of backends other than invalid arguments."""

from __future__ import annotations

from mpsim.errors import MissingExtra, MpsimError


class BackendUnavailable(MpsimError, RuntimeError):
    """A backend cannot be loaded here. The message states the cause and a remedy.

    >>> import types
    >>> from mpsim import extend
    >>> try:
    ...     extend.backend("empty", types.ModuleType("empty"))
    ... except BackendUnavailable as error:
    ...     print(str(error).partition(";")[0])
    empty is not a backend: there is no function from_numpy
    """


class BackendNotInstalled(BackendUnavailable, MissingExtra):
    """A backend needs packages that an extra installs."""


class DeviceMemoryError(MpsimError, MemoryError):
    """A device has too little memory for an array of ``asked`` bytes. ``used`` of its ``total`` bytes are in use."""

    def __init__(self, message: str, *, asked: int, used: int, total: int) -> None:
        super().__init__(message)
        self.asked, self.used, self.total = asked, used, total
