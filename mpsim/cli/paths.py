"""Checks the paths of options before any work. Errors name the option, the path and what to do."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mpsim.assignment import Plan
from mpsim.cli.command import options_given
from mpsim.errors import UsageError
from mpsim.experiments.keeping import contents_apart
from mpsim.experiments.results import FILE_NAME, Results
from mpsim.experiments.settings import RunSettings


def check_output(path: Path | None, option: str, suffixes: Sequence[str] = ()) -> None:
    """Checks that a file can be written at ``path``, without writing it.

    Raises:
        OSError: The file cannot be written.
        UsageError: The suffix is unknown.
    """
    if path is None:
        return
    if suffixes and path.suffix not in suffixes:
        raise UsageError(f"{option} {path}: the file's name should end in one of {', '.join(suffixes)}")
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path} is a folder; give the name of a file")
    folder = path.absolute().parent
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise FileNotFoundError(f"{option} {path}: {folder} {what}; create that folder first, or give another path")
    _check_folder(folder, f"{option} {path}")


def check_results(folder: Path) -> None:
    """Checks that runs can be stored in the folder, without creating it. Raises OSError or ResultsError otherwise."""
    if (folder / FILE_NAME).exists():
        Results.in_folder(folder, create=False).close()
    check_new_folder(folder, "--results")


def check_new_folder(folder: Path, option: str) -> None:
    """Checks that files can be written in the folder of an option, without creating it. Raises OSError otherwise."""
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(f"{option} {folder}: {nearest} is not a folder; give another one")
    _check_folder(nearest, f"{option} {folder}")


def _check_folder(folder: Path, what: str) -> None:
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise type(error)(
            f"{what}: no file can be written in {folder} ({error.strerror}); change its permissions or the path"
        ) from error


def read_plan(path: Path, option: str) -> Plan:
    """Reads the plan of an option.

    Raises:
        OSError: The file cannot be read.
        UsageError: The file is not a plan.
    """
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise type(error)(
            f"{option} {path} cannot be read ({error.strerror}); give a plan's JSON file (from 'mpsim plan --json')"
        ) from error
    except ValueError as error:
        what = "not a text file" if isinstance(error, UnicodeError) else error
        raise UsageError(f"{option} {path}: {what}; give a plan's JSON file (from 'mpsim plan --json')") from error


def check_data(jobs: Iterable[RunSettings], timeout: float | None = None) -> None:
    """Checks that the data of the jobs exist. An OSError names the option. ``timeout``: as for ``contents_apart``."""
    for job in {job.source: job for job in jobs}.values():
        with data_errors(job.data_path):
            contents_apart(job, timeout)


@contextmanager
def data_errors(path: str | None) -> Iterator[None]:
    """Adds the option to the message of an OSError that reading data raises."""
    try:
        yield
    except OSError as error:
        option = "--data-path" if options_given("data_path") else "--data"
        raise type(error)(f"{option} {path}: {error}") from error
