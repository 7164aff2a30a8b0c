"""Runs functions of a user's Python files, which arguments name as FILE.py:FUNCTION."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from mpsim.errors import UsageError


class FileFunction(NamedTuple):
    """A Python file and the name of a function in it."""

    path: Path
    function: str

    @property
    def label(self) -> str:
        """The file's name and the function. It does not contain the folder, so it is the same in every location."""
        return f"{self.path.name}:{self.function}"

    def read(self) -> bytes:
        """Returns the file's content. Raises UsageError if it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise UsageError(f"the file {self.path} cannot be read ({error.strerror})") from None

    def load(self) -> Callable[..., object]:
        """Runs the file and returns the function. The file's folder is not added to the search path of modules.

        Raises:
            UsageError: The file cannot be read or fails (the message has the line), or has no such function.
        """
        source = self.read()
        module = ModuleType(self.path.stem)
        module.__file__ = str(self.path)
        try:
            exec(compile(source, str(self.path), "exec"), vars(module))
        except (Exception, SystemExit) as error:
            raise UsageError(f"{self.path} cannot be imported: it failed {failure(error, self.path)}") from error
        function = getattr(module, self.function, None)
        if not callable(function):
            own = [
                name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
            ]
            found = ", ".join(own) or "none"
            raise UsageError(f"{self.path} has no function {self.function!r}. Its functions and classes: {found}")
        return function


def file_function(text: str, example: str, what: str) -> FileFunction | None:
    """Returns the function that ``text`` names (e.g. ``folder/my_net.py:build``), or None for any other text.

    Args:
        text: The text.
        example: A name of a function, for the message.
        what: What the function does, for the message.

    Raises:
        UsageError: The text is the name of a Python file without a function.

    >>> file_function("nets/my_net.py:build", "build", "builds the network").label
    'my_net.py:build'
    """
    path, colon, function = text.rpartition(":")
    if not colon and text.endswith(".py"):
        raise UsageError(f"{text!r} needs the function that {what}, e.g. {text}:{example}")
    return FileFunction(Path(path), function) if path.endswith(".py") else None


def label_of(text: str) -> str:
    """Returns a text without the folder if it names a function of a file.

    >>> label_of("nets/my_net.py:build"), label_of("small_cnn")
    ('my_net.py:build', 'small_cnn')
    """
    path, colon, function = text.rpartition(":")
    return f"{Path(path).name}:{function}" if path.endswith(".py") else text


def failure(error: BaseException, path: str | Path) -> str:
    """Describes the line of the file that failed, and the error."""
    number = line_of(error, path)
    if isinstance(error, SyntaxError):
        number, error = error.lineno, SyntaxError(error.msg)
    line = "" if number is None else f"at line {number} "
    return f"{line}({type(error).__name__}: {error})"


def line_of(error: BaseException | None, path: str | Path) -> int | None:
    """Returns the line of the file that failed, for an error of its code or one that such an error caused, or None."""
    while error is not None:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        if lines:
            return lines[-1]
        error = error.__cause__
    return None
