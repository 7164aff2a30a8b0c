"""Packs of test vectors: files of tables, and a manifest with the SHA-256 of each, for hardware and other programs.

The same arguments and version give the same bytes on any machine: files hold no dates. docs/vectors.md shows them in
use.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, TypedDict

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files.records import Fields, Json, Record
from mpsim.vectors.forms import FORMS, Table, table_files


class FileEntry(TypedDict):
    """What a manifest says of a file."""

    sha256: str
    bytes: int


class Manifest(TypedDict):
    """What a pack is made of; ``sets``: of each table its name, number of vectors, files, and what they are."""

    mpsim: str
    pack_version: int
    arguments: Record
    sets: list[Fields]
    files: dict[str, FileEntry]
    digest: str


#: Rises when the bytes of a pack change for the same arguments.
PACK_VERSION = 2
MANIFEST = "manifest.json"


def write_pack(
    out: str | Path, tables: Iterable[Table], arguments: Mapping[str, Json], forms: Sequence[str] = FORMS
) -> Manifest:
    """Writes each table in each form to the folder, then the manifest, which is returned.

    npz: arrays of the columns' names, and of casts format and source; jsonl: a first line on the table, then an object
    a vector; txt: ``INPUT EXPECTED`` in hex, one vector a line (TestFloat's order; random bits come last); mem: one
    file a column, one word a line, for ``$readmemh``; h: C arrays. Raises ValueError for another form.
    """
    for form in forms:
        checks.named("form", form, FORMS)
    folder = Path(out)
    files: dict[str, FileEntry] = {}
    sets: list[Fields] = []
    for table in tables:
        written = write_files(folder, table_files(table, forms))
        files |= written
        sets.append({"name": table.name, "vectors": table.size, **table.about, "files": sorted(written)})
    return write_manifest(folder, files, sets, arguments)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Writes the files by name and returns what a manifest says of each."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: file_entry(content) for name, content in contents.items()}


def file_entry(content: bytes) -> FileEntry:
    """What a manifest says of a file: its SHA-256 and size."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def write_manifest(
    folder: Path, files: Mapping[str, FileEntry], sets: Sequence[Fields], arguments: Mapping[str, Json]
) -> Manifest:
    """The manifest of files already written: versions, arguments, sets, SHA-256 and size of each file, and a digest of
    all this."""
    manifest: Manifest = {
        "mpsim": version("mpsim"), "pack_version": PACK_VERSION, "arguments": dict(arguments), "sets": list(sets),
        "files": {name: files[name] for name in sorted(files)}, "digest": "",
    }  # fmt: skip
    manifest["digest"] = _digest(manifest)
    (folder / MANIFEST).write_bytes((json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _digest(manifest: Manifest) -> str:
    """SHA-256 of what a manifest says, but for its digest."""
    rest = {name: value for name, value in manifest.items() if name != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class Problem(NamedTuple):
    """A file of a pack that is not as it was written. what: "changed", "missing", "not listed" or "no longer listed"
    (a set has it, the list of files does not)."""

    file: str
    what: str


def verify(folder: str | Path) -> list[Problem]:
    """What is no longer as it was written; [] if nothing is. A manifest that lost entries is itself "changed".

    Raises OSError if there is no manifest, ValueError if it is none of a pack.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    listed = manifest["files"]
    found = []
    if manifest["pack_version"] > 1 and manifest.get("digest") != _digest(manifest):
        found.append(Problem(MANIFEST, "changed"))
    for name, entry in listed.items():
        path = folder / name
        if not path.is_file():
            found.append(Problem(name, "missing"))
        elif file_entry(path.read_bytes()) != entry:
            found.append(Problem(name, "changed"))
    of_sets = {name for each in manifest["sets"] for name in each.get("files", [])}
    found += [Problem(name, "no longer listed") for name in sorted(of_sets - set(listed))]
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    found += [Problem(name, "not listed") for name in sorted(there - set(listed) - of_sets - {MANIFEST})]
    return found


def _manifest(folder: Path) -> Manifest:
    """The manifest of a pack. Raises ValueError for another file of that name."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_bytes())
        kinds = {"pack_version": int, "files": dict, "sets": list}
        if all(isinstance(found[name], kind) for name, kind in kinds.items()) and all(
            isinstance(entry, dict) for entry in (*found["files"].values(), *found["sets"])
        ):
            manifest: Manifest = found
            return manifest
    except (ValueError, TypeError, KeyError):
        pass
    raise UsageError(f"{path} is no manifest of a pack of vectors (docs/vectors.md)")
