"""Reads a user's own data by their place: an .npz file, a folder of IDX files, or FILE.py:FUNCTION."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from mpsim import checks
from mpsim.data.dataset import LabelledImages, check_split
from mpsim.data.digests import file_digest
from mpsim.data.own import remembered
from mpsim.data.own.idx import files_of, read_idx_folder
from mpsim.data.own.items import fixed_generators
from mpsim.data.own.npz import read_npz
from mpsim.data.own.parts import as_parts
from mpsim.data.own.remembered import Parts
from mpsim.errors import MpsimError, UsageError
from mpsim.user_code import FileFunction, failure, file_function, line_of

EXPECTED = "an .npz file, a folder of IDX files (the format of MNIST), or FILE.py:FUNCTION"


class _Place(NamedTuple):
    """Where data are: a function, or a file or folder."""

    path: Path
    function: FileFunction | None

    @property
    def label(self) -> str:
        """The name in messages."""
        return str(self.path) if self.function is None else self.function.label

    def identity(self) -> tuple[str, ...]:
        """Returns what changes when the files that are read change. Raises OSError if one cannot be read."""
        if self.function is not None:
            return "function", str(self.path.absolute()), self.function.function, file_digest(self.path)
        if self.path.is_dir():
            files = files_of(self.path)
            return "idx", str(self.path.absolute()), *(f"{what} {file_digest(file)}" for what, file in files.items())
        return "npz", str(self.path.absolute()), file_digest(self.path)

    def read(self) -> object:
        if self.function is not None:
            return _returned(self.function)
        return read_idx_folder(self.path) if self.path.is_dir() else read_npz(self.path)


def read_arrays(
    path: str | Path, split: str = "train", *, normalisation: str | None = None, test_share: float | None = None
) -> LabelledImages:
    """Returns a part of the data at a place.

    Args:
        path: An .npz file, a folder of IDX files, or FILE.py:FUNCTION.
        split: "train" or "test".
        normalisation, test_share: As for ``as_parts``.

    Raises:
        UsageError: The data are broken. The message names the file.
        OSError: A file cannot be read.
    """
    check_split(split)
    place = _place(path)
    identity = place.identity()
    read = partial(_read, place, identity, normalisation, test_share)
    return remembered.parts((identity, normalisation, test_share), read)[split == "test"]


def arrays_digest(path: str | Path, *, normalisation: str | None = None, test_share: float | None = None) -> str:
    """Computes the digest of both parts of the data at a place, as they are after preparation.

    Equal images and labels have equal digests, whatever file or function they come from. A function is called once in a
    process while its file stays the same.

    Raises:
        UsageError, OSError: As for ``read_arrays``.
    """
    place = _place(path)
    identity = place.identity()
    read = partial(_read, place, identity, normalisation, test_share)
    return remembered.digest((identity, normalisation, test_share), read)


def _place(path: str | Path) -> _Place:
    text = os.fspath(path)
    function = file_function(text, "load", "returns the data")
    found = _Place(Path(text) if function is None else function.path, function)
    if not found.path.exists():
        raise FileNotFoundError(f"{found.path} does not exist; expected {EXPECTED}")
    if function is None and found.path.is_file() and found.path.suffix != ".npz":
        raise UsageError(f"{found.path} is of an unknown kind; expected {EXPECTED}")
    return found


def _read(place: _Place, identity: tuple[str, ...], normalisation: str | None, test_share: float | None) -> Parts:
    given = place.read()
    try:
        parts = as_parts(given, normalisation=normalisation, test_share=test_share, name=place.label)
    except MpsimError as error:
        if (line := line_of(error, place.path)) is None:
            raise
        raise type(error)(f"{error} (line {line} of {place.path.name})") from error
    if place.identity() != identity:
        raise UsageError(f"{place.path} changed while it was read; restart the command")
    return parts


def _returned(file: FileFunction) -> object:
    """Returns the result of a user's function, with the generators of ``fixed_generators``."""
    function = file.load()
    try:
        required = [
            name for name, each in inspect.signature(function).parameters.items()
            if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
        ]  # fmt: skip
    except ValueError:  # a function that is not of Python
        required = []
    if required:
        raise UsageError(f"{file.label} needs the arguments {', '.join(required)}; mpsim calls it without any")
    had_torch = "torch" in sys.modules
    result = _called(function, file)
    # A function that itself imported PyTorch has drawn from a generator without the seed.
    return result if had_torch or "torch" not in sys.modules else _called(function, file)


def _called(function: Callable[..., object], file: FileFunction) -> object:
    with fixed_generators():
        try:
            return function()
        except MpsimError as error:
            raise type(error)(f"{file.label}: {error}") from error
        except (Exception, SystemExit) as error:
            raise UsageError(f"{file.label} failed {failure(error, file.path)}") from error


def is_function(path: str | None) -> bool:
    """Returns whether a path of data has the form FILE.py:FUNCTION."""
    return path is not None and ".py:" in path


def is_place(text: str) -> bool:
    """Returns whether a text has the form of a place of data, rather than of a name.

    >>> is_place("faces.npz"), is_place("my_data.py:load"), is_place("mnist/"), is_place("digits")
    (True, True, True, False)
    """
    checks.instance("data", text, str, "a name of a dataset, or the place of data")
    by_name = text.endswith((".npz", ".py", ".txt")) or ".py:" in text or "/" in text or os.sep in text
    return by_name or os.path.isdir(text)
