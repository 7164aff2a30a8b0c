"""Defines the version of the definition of every bit, and checks it where a record of results is read.

docs/semantics.md, "The version of the definition", says when the number changes and which files contain it.
"""

from __future__ import annotations

import warnings

from mpsim.errors import UsageError

#: The version of the definition in docs/semantics.md. Files without a number are of version 1.
SEMANTICS = 2
#: The name of the field in records.
FIELD = "semantics_version"


class OlderSemantics(UserWarning):
    """A record was written with an older version of the definition, so that some of its results may differ today."""


def check(recorded: object, source: str) -> str | None:
    """Compares the version in a record with today's.

    Args:
        recorded: The record's field, or None if it has none.
        source: What messages call the record.

    Returns:
        None if the versions are equal, otherwise a note that the record's is older.

    Raises:
        UsageError: The version is newer than this mpsim's, or is not a whole number of at least 1.

    >>> check(2, "the pack") is None
    True
    >>> print(check(None, "the pack").partition(":")[0])
    the pack has semantics 1 and this mpsim has 2
    """
    version = 1 if recorded is None else recorded
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise UsageError(f"{source}: {FIELD} must be a whole number of at least 1, got {recorded!r}")
    if version > SEMANTICS:
        raise UsageError(
            f"{source} has semantics {version}, which is newer than this mpsim's semantics {SEMANTICS}; "
            "read it with an mpsim of that version"
        )
    if version == SEMANTICS:
        return None
    return (
        f"{source} has semantics {version} and this mpsim has {SEMANTICS}: "
        'results listed under "Results that changed" in CHANGELOG.md may differ'
    )


def warn_if_older(recorded: object, source: str) -> None:
    """Issues the warning OlderSemantics with the note of ``check``, if there is one. Raises as ``check`` does."""
    if note := check(recorded, source):
        warnings.warn(note, OlderSemantics, stacklevel=3)
