"""Stores runs in one SQLite file: settings, plan, an entry for each epoch, and the result.

An epoch and the checkpoint after it are written in one transaction. A killed run therefore resumes after its last
stored epoch, and no entry is ever incomplete.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mpsim import checks
from mpsim.errors import MpsimError, UsageError
from mpsim.files import json_text
from mpsim.files.records import Fields, Json
from mpsim.files.semantics import FIELD, warn_if_older
from mpsim.files.whole import make_folder

#: The name of the file in a results folder.
FILE_NAME = "mpsim.sqlite"
#: The application id of mpsim's SQLite files ("mpsm"), and the version of the tables.
APPLICATION_ID, VERSION = 0x6D70736D, 2

_TABLES = """
CREATE TABLE runs (
    key TEXT PRIMARY KEY, settings TEXT NOT NULL, plan TEXT NOT NULL, environment TEXT NOT NULL,
    started TEXT NOT NULL, finished TEXT, final_plan TEXT, result TEXT);
CREATE TABLE epochs (key TEXT NOT NULL REFERENCES runs, epoch INTEGER NOT NULL, metrics TEXT NOT NULL,
    PRIMARY KEY (key, epoch));
CREATE TABLE checkpoints (key TEXT PRIMARY KEY REFERENCES runs, epoch INTEGER NOT NULL, state BLOB NOT NULL);
"""
#: Version 2 adds the SHA-256 of every row, because SQLite does not notice a changed bit inside one.
_CHECKS = """
CREATE TABLE checks (source TEXT, key TEXT, epoch INTEGER, sha256 TEXT NOT NULL, PRIMARY KEY (source, key, epoch))"""
#: The rows of each table, or those of a run, with the columns that a check covers. A row without an epoch has -1.
_ROWS = {
    "runs": "SELECT key, -1 AS epoch, settings, plan, environment, started, finished, final_plan, result FROM runs "
    "WHERE key = ifnull(?, key) ORDER BY started, rowid",
    "epochs": "SELECT key, epoch, metrics FROM epochs WHERE key = ifnull(?, key) ORDER BY key, epoch",
    "checkpoints": "SELECT key, epoch, state FROM checkpoints WHERE key = ifnull(?, key)",
}


class ResultsError(MpsimError, RuntimeError):
    """A results file cannot be read or written. The message says why and what to do."""


@dataclass(frozen=True)
class StoredRun:
    """An entry in the table of runs. ``result`` is None until the run is finished."""

    key: str
    settings: Fields
    result: Fields | None


def settings_key(settings: Mapping[str, Json]) -> str:
    """Computes the SHA-256 (hex) of the settings as canonical JSON. It is the key under which a run is stored.

    >>> settings_key({"seed": 0, "scheme": "float32"}) == settings_key({"scheme": "float32", "seed": 0})
    True
    """
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Results:
    """Stores and reads the runs of one results file. Several processes may open it, and their writes wait.

    Args:
        path: The file.
        create: Whether to create a missing file.

    Raises:
        ResultsError: The file is not an SQLite file, belongs to another program or a newer mpsim, or cannot be read or
            written (e.g. because the disk is full). Entries written earlier are kept.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, Results.in_folder(folder) as results:
    ...     results.start("k", {"seed": 0}, plan="{}", environment={})
    ...     results.add_epoch("k", 0, {"train_loss": 2.3}, checkpoint=b"state")
    ...     results.checkpoint("k"), results.history("k")
    ((0, b'state'), [{'train_loss': 2.3}])
    """

    def __init__(self, path: str | Path, *, create: bool = True) -> None:
        self.path, self._process = Path(path), os.getpid()
        if not create and not self.path.exists():
            raise ResultsError(f"no results file {self.path}; 'mpsim sweep' or 'mpsim train' creates one")
        try:
            make_folder(self.path.parent)
        except OSError as error:
            raise ResultsError(f"cannot create the results folder {self.path.parent}: {error}") from error
        with self._errors("open"):
            self._database = sqlite3.connect(self.path, timeout=60, isolation_level=None)
        try:
            with self._errors("open"):
                self._open()
        except ResultsError:
            self._database.close()
            raise

    @classmethod
    def in_folder(cls, folder: str | Path, *, create: bool = True) -> Results:
        """Opens the results file of a folder. It creates a missing one unless ``create`` is False."""
        return cls(Path(folder) / FILE_NAME, create=create)

    def _open(self) -> None:
        self._database.execute("PRAGMA synchronous = EXTRA")
        with self._transaction():
            tables = self._query("SELECT count(*) FROM sqlite_master")[0][0]
            marks = tuple(self._query(f"PRAGMA {name}")[0][0] for name in ("application_id", "user_version"))
            if tables == 0 and marks == (0, 0):
                for statement in (*_TABLES.split(";"), _CHECKS):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                self._database.execute(f"PRAGMA user_version = {VERSION}")
                return
            if marks == (APPLICATION_ID, 1):
                self._database.execute(_CHECKS)
                self._database.execute(f"PRAGMA user_version = {VERSION}")
                for source in _ROWS:
                    self._write_checks(source)
                return
        if marks[0] != APPLICATION_ID:
            raise ResultsError(
                f"{self.path} is an SQLite file of another program; it was not changed. "
                f"Move it away, or pass another results folder"
            )
        if marks[1] != VERSION:
            raise ResultsError(
                f"{self.path} has version {marks[1]} of the results tables, this mpsim reads version {VERSION}; "
                f"it was not changed. Pass another results folder, or use the mpsim that wrote it"
            )

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter for a message with damaged text in it
            hint = "Earlier entries are kept; free some space or correct the folder's permissions, then call again"
            if isinstance(error, UnicodeDecodeError) or any(x in str(error) for x in ("not a database", "malformed")):
                hint = "It was not changed. Move it away, or pass another results folder"
            raise ResultsError(f"cannot {what} the results file {self.path}: {error}. {hint}") from error

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[None]:
        if os.getpid() != self._process:  # e.g. a user's file forked; two writers would share one file handle
            raise ResultsError(f"{self.path} was opened before this process was forked; open it again here")
        self._database.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            if self._database.in_transaction:  # SQLite has already undone it when the disk is full
                self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    # -- checksums ------------------------------------------------------------------------------------------
    def _write_checks(self, source: str, key: str | None = None, epoch: int | None = None) -> None:
        """Stores the checksums of a table's rows, of a run's, or of an epoch's, in the transaction that wrote them."""
        rows = [
            (source, row["key"], row["epoch"], _sha256(row))
            for row in self._unverified(source, key)
            if epoch is None or row["epoch"] == epoch
        ]
        self._database.executemany("INSERT OR REPLACE INTO checks VALUES (?, ?, ?, ?)", rows)

    def _drop_checkpoint(self, key: str) -> None:
        self._database.execute("DELETE FROM checkpoints WHERE key = ?", (key,))
        self._database.execute("DELETE FROM checks WHERE source = 'checkpoints' AND key = ?", (key,))

    def _query(self, query: str, parameters: Sequence[str | None] = ()) -> list[sqlite3.Row]:
        """Returns the rows of a query. An error ends it too: a cursor in a traceback would keep the file locked."""
        with closing(self._database.cursor()) as cursor:
            cursor.row_factory = sqlite3.Row
            return cursor.execute(query, parameters).fetchall()

    def _unverified(self, source: str, key: str | None) -> list[sqlite3.Row]:
        return self._query(_ROWS[source], (key,))

    def _verified(self, source: str, key: str | None) -> list[sqlite3.Row]:
        """Returns the rows of a table, or those of a run. It raises ResultsError if one is not as it was written."""
        query = "SELECT key, epoch, sha256 FROM checks WHERE source = ? AND key = ifnull(?, key)"
        stored = {(key, epoch): sha256 for key, epoch, sha256 in self._query(query, (source, key))}
        rows = self._unverified(source, key)
        if stored != {(row["key"], row["epoch"]): _sha256(row) for row in rows}:
            raise ResultsError(
                f"{self.path} is damaged: its table {source} is not as mpsim wrote it. Restore the file from a backup, "
                f"or move it away and run again"
            )
        return rows

    # -- writing --------------------------------------------------------------------------------------------
    def start(self, key: str, settings: Mapping[str, Json], *, plan: str, environment: Mapping[str, Json]) -> None:
        """Stores a run unless it is already stored. ``plan`` is JSON text. ``environment`` does not affect bits."""
        row = (key, json.dumps(settings, sort_keys=True), plan, json.dumps(environment), _now())
        with self._errors("write"), self._transaction():
            inserted = self._database.execute(
                "INSERT OR IGNORE INTO runs (key, settings, plan, environment, started) VALUES (?, ?, ?, ?, ?)", row
            )
            if inserted.rowcount == 1:
                self._write_checks("runs", key)

    def add_epoch(self, key: str, epoch: int, metrics: Mapping[str, Json], checkpoint: bytes) -> None:
        """Stores the metrics of an epoch and the trainer's state after it."""
        with self._errors("write"), self._transaction():
            self._database.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?, ?)", (key, epoch, _to_json(metrics)))
            self._write_checks("epochs", key, epoch)
            self._drop_checkpoint(key)
            self._database.execute("INSERT INTO checkpoints VALUES (?, ?, ?)", (key, epoch, checkpoint))
            self._write_checks("checkpoints", key)

    def finish(self, key: str, result: Mapping[str, Json], *, final_plan: str) -> None:
        """Stores the result and the plan after promotions, and deletes the checkpoint."""
        with self._errors("write"), self._transaction():
            self._verified("runs", key)
            self._database.execute(
                "UPDATE runs SET finished = ?, result = ?, final_plan = ? WHERE key = ?",
                (_now(), _to_json(result), final_plan, key),
            )
            self._write_checks("runs", key)
            self._drop_checkpoint(key)

    # -- reading --------------------------------------------------------------------------------------------
    def _rows(self, source: str, key: str | None = None) -> list[sqlite3.Row]:
        with self._errors("read"), self._transaction("DEFERRED"):
            return self._verified(source, key)

    def runs(self) -> list[StoredRun]:
        """Returns all runs in the order in which they were started."""
        return [
            StoredRun(row["key"], self._value(row["settings"]), self._decoded(row["result"]) if row["result"] else None)
            for row in self._rows("runs")
        ]

    def result(self, key: str) -> Fields | None:
        """Returns the result of a finished run, otherwise None.

        The warning OlderSemantics is issued if the run has an older version of the definition.

        Raises:
            ResultsError: Its version is newer than this mpsim's.
        """
        rows = self._rows("runs", key)
        return self._decoded(rows[0]["result"]) if rows and rows[0]["result"] is not None else None

    def _decoded(self, result: str) -> Fields:
        found = self._value(result)
        try:
            warn_if_older(found.get(FIELD), f"a run in {self.path}")
        except UsageError as error:
            raise ResultsError(str(error)) from error
        return found

    def _value(self, text: str) -> Fields:
        """Returns the object of a JSON text. The checksum fits whatever a stranger wrote."""
        try:
            found = json_text.decoded(text)
            if not isinstance(found, dict):
                raise UsageError(f"it is not an object, but {checks.shown(found)}")
        except UsageError as error:
            raise ResultsError(f"{self.path} has a JSON text that mpsim did not write: {error}") from error
        return found

    def finished(self, key: str) -> str | None:
        """Returns the time at which a run finished (ISO 8601, UTC), or None."""
        rows = self._rows("runs", key)
        return rows[0]["finished"] if rows else None

    def plans(self, key: str) -> tuple[str, str | None]:
        """Returns the initial plan and the plan after all promotions (None if unfinished), as JSON text."""
        rows = self._rows("runs", key)
        if not rows:
            raise ResultsError(f"{self.path} has no run {key}")
        return rows[0]["plan"], rows[0]["final_plan"]

    def history(self, key: str) -> list[Fields]:
        """Returns the metrics of the stored epochs, in order."""
        return [self._value(row["metrics"]) for row in self._rows("epochs", key)]

    def checkpoint(self, key: str) -> tuple[int, bytes] | None:
        """Returns the last stored epoch of an unfinished run and the trainer's state after it, or None."""
        rows = self._rows("checkpoints", key)
        return (rows[0]["epoch"], rows[0]["state"]) if rows else None

    def epochs_done(self) -> dict[str, int]:
        """Returns the number of stored epochs of each run."""
        return dict(Counter(row["key"] for row in self._rows("epochs")))

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _to_json(value: Mapping[str, Json]) -> str:
    """Returns JSON text. Infinity and NaN (e.g. a diverged loss) become null."""
    finite = {
        name: None if isinstance(item, float) and not math.isfinite(item) else item for name, item in value.items()
    }
    return json.dumps(finite, allow_nan=False)


def _sha256(row: sqlite3.Row) -> str:
    """Returns the SHA-256 (hex) of a row's values, with their types and lengths."""
    digest = hashlib.sha256()
    for value in row:
        content = value if isinstance(value, bytes) else str(value).encode()
        digest.update(f"{type(value).__name__} {len(content)} ".encode())
        digest.update(content)
    return digest.hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
