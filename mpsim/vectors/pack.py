"""Writes and verifies packs of test vectors, i.e. files of tables and a manifest with the SHA-256 of each file.

The same arguments and definition give files with the same bytes, and packs with the same digest, on every machine, as
neither contains dates or the version of mpsim. docs/vectors.md shows how packs are used.
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
from mpsim.files import json_text, semantics
from mpsim.files.records import Fields, Json, Record
from mpsim.files.whole import write_whole
from mpsim.vectors.forms import FORMS, OP_FORMS, Table, table_files


class FileEntry(TypedDict):
    """The entry of a file in a manifest."""

    sha256: str
    bytes: int


class Manifest(TypedDict):
    """Describes a pack. ``sets`` has the name, number of vectors, files and description of each table."""

    mpsim: str
    pack_version: int
    semantics_version: int
    arguments: Record
    sets: list[Fields]
    files: dict[str, FileEntry]
    digest: str


#: The version of packs. It is raised when the bytes of a pack change for the same arguments.
PACK_VERSION = 3
MANIFEST = "manifest.json"


def write_pack(
    out: str | Path, tables: Iterable[Table], arguments: Mapping[str, Json], forms: Sequence[str] = FORMS
) -> Manifest:
    """Writes each table in each form to a folder, then the manifest, and returns the manifest.

    Args:
        out: The folder.
        tables: The tables.
        arguments: What the manifest records as the arguments of the pack.
        forms: "npz": arrays by the columns' names, for casts also format and source. "jsonl": a line that describes the
            table, then an object for each vector. "txt": ``INPUT EXPECTED`` in hex with one vector on each line
            (TestFloat's order, with random bits last). "mem": a file for each column with one word on each line, for
            ``$readmemh``. "h": C arrays. "testfloat", for operations: ``OPERAND … RESULT FLAGS`` in hex, without
            comments, as ``testfloat_ver`` reads it.

    Raises:
        ValueError: A form is unknown.
    """
    for form in forms:
        checks.named("form", form, OP_FORMS)
    folder = Path(out)
    files: dict[str, FileEntry] = {}
    sets: list[Fields] = []
    for table in tables:
        written = write_files(folder, table_files(table, forms))
        files |= written
        sets.append({"name": table.name, "vectors": table.size, **table.about, "files": sorted(written)})
    return write_manifest(folder, files, sets, arguments)


def write_files(folder: Path, contents: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """Writes files by name and returns their entries in a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: file_entry(content) for name, content in contents.items()}


def file_entry(content: bytes) -> FileEntry:
    """Returns the entry of a file in a manifest: its SHA-256 and size."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def write_manifest(
    folder: Path, files: Mapping[str, FileEntry], sets: Sequence[Fields], arguments: Mapping[str, Json]
) -> Manifest:
    """Writes the manifest of existing files, with a digest of its own content, and returns it.

    Files of an earlier pack in the folder are removed, unless they were changed since.
    """
    _remove_earlier(folder, set(files))
    manifest: Manifest = {
        "mpsim": version("mpsim"), "pack_version": PACK_VERSION, "semantics_version": semantics.SEMANTICS,
        "arguments": dict(arguments), "sets": list(sets),
        "files": {name: files[name] for name in sorted(files)}, "digest": "",
    }  # fmt: skip
    manifest["digest"] = _digest(manifest)
    write_whole(folder / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def _remove_earlier(folder: Path, kept: set[str]) -> None:
    """Removes the files that the folder's manifest lists, as they were written."""
    try:
        earlier = _manifest(folder)["files"]
    except (OSError, UsageError):
        return
    for name, entry in earlier.items():
        path = folder / Path(name).name
        if name not in kept and path.is_file() and file_entry(path.read_bytes()) == entry:
            path.unlink()


def _digest(manifest: Manifest) -> str:
    """Computes the SHA-256 of a manifest without its digest and the versions of mpsim and of the definition.

    Packs have equal digests if they have equal arguments and files, whichever mpsim wrote them. In packs of version 2
    the digest covers the version of mpsim.
    """
    left_out = {"digest", semantics.FIELD} | ({"mpsim"} if manifest["pack_version"] > 2 else set())
    rest = {name: value for name, value in manifest.items() if name not in left_out}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


class Problem(NamedTuple):
    """A file of a pack that differs from what was written.

    ``what`` is "changed", "missing", "not listed" or "no longer listed" (a set names it, but the list of files does
    not).
    """

    file: str
    what: str


def verify(folder: str | Path) -> list[Problem]:
    """Lists the files of a pack that differ from what was written. A manifest that lost entries counts as "changed".

    A pack of an older version of the definition is read with the warning OlderSemantics.

    Raises:
        OSError: There is no manifest.
        ValueError: The manifest does not belong to a pack, or its definition is newer than this mpsim's.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    semantics.warn_if_older(manifest.get("semantics_version"), str(folder))
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


def _is_name(name: object) -> bool:
    """Returns whether it is the name of a file inside a folder."""
    return (
        isinstance(name, str)
        and 0 < len(name.encode()) < 256
        and ".." not in name
        and name[0] != "/"
        and "\0" not in name
    )


def _manifest(folder: Path) -> Manifest:
    """Reads the manifest of a pack. Raises UsageError if the file is something else."""
    path = folder / MANIFEST
    try:
        found = json_text.decoded(path.read_bytes())
        kinds = {"pack_version": int, "files": dict, "sets": list}
        if (
            all(isinstance(found[name], kind) for name, kind in kinds.items())
            and all(isinstance(entry, dict) for entry in (*found["files"].values(), *found["sets"]))
            and all(map(_is_name, found["files"]))
            and all(isinstance(each.get("files", []), list) for each in found["sets"])
            and all(_is_name(name) for each in found["sets"] for name in each.get("files", []))
        ):
            manifest: Manifest = found
            return manifest
    except (ValueError, TypeError, KeyError):
        pass
    raise UsageError(f"{path} is not the manifest of a pack of vectors (docs/vectors.md)")
