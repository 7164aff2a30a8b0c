"""Archives are zipfile's, byte for byte. Ctrl-C at any line that packs or reads prints nothing."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from types import FrameType
from typing import Any

import numpy as np
import pytest

from mpsim.files import archive, npz

PARTS = {"x": np.float32([0.5, 1]), "y": np.arange(3, dtype=np.int64)}


def pack_parts() -> None:
    archive.pack(PARTS, {"text": "t"})


def interrupted_at(line: int, call: Callable[[], None] = pack_parts) -> tuple[int, type[BaseException] | None]:
    """Calls, with Ctrl-C at one line of archive.py, npz.py or zipfile. Returns the lines run, and what was raised."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        nonlocal count
        if frame.f_code.co_filename not in (archive.__file__, npz.__file__, zipfile.__file__):
            return None
        if frame.f_code.co_name == "__del__":  # nothing can catch what a destructor raises
            return None
        if event == "line":
            count += 1
            if count == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except BaseException as error:
        return count, type(error)
    finally:
        sys.settrace(before)
    return count, None


@pytest.fixture
def complaints(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is printed of errors that cannot be raised, as those of a destructor."""
    found: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", found.append)
    return found


def test_ctrl_c_while_an_archive_is_made(complaints: list[Any]) -> None:
    lines, raised = interrupted_at(0)
    assert raised is None and lines > 100 and not complaints
    for line in range(1, lines + 1):
        assert interrupted_at(line) == (line, KeyboardInterrupt)


def test_ctrl_c_leaves_nothing_to_complain_about(complaints: list[Any]) -> None:
    lines, _ = interrupted_at(0)
    for line in range(1, lines + 1):
        interrupted_at(line)
    assert not complaints


def by_zipfile(members: dict[str, bytes], method: int) -> bytes:
    """The archive of Python's library, with the fields that pack sets."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in members.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr, entry.compress_type = 3, 0o644 << 16, method
            made.writestr(entry, content)
    return buffer.getvalue()


@pytest.mark.parametrize("limit", [None, 2000, 220, 120, 12])
@pytest.mark.parametrize("deflate", [False, True])
def test_the_bytes_are_those_of_zipfile(monkeypatch: pytest.MonkeyPatch, deflate: bool, limit: int | None) -> None:
    """Also where sizes, places or the directory need fields of 64 bits, here from a smaller limit on."""
    if limit is not None:
        monkeypatch.setattr(archive, "LIMIT", limit)
        monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    texts = {"empty": "", "größe/µ": "t", "long": "word " * 500, **{f"of {n}": "x" * n for n in range(8, 15)}}
    arrays = {**PARTS, "weights": np.random.default_rng(0).random(40, np.float32), "none": np.float16([])}
    members = {name: text.encode() for name, text in texts.items()}
    for name, array in arrays.items():
        np.save(file := io.BytesIO(), array)
        members[f"{name}.npy"] = file.getvalue()
    expected = by_zipfile(members, zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED)
    assert archive.pack(arrays, texts, deflate=deflate) == expected


@pytest.mark.parametrize("count", [0, 4, 5, 6])
def test_many_members_are_those_of_zipfile(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(archive, "MOST_MEMBERS", 5)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 5)
    texts = {str(n): "t" for n in range(count)}
    found = archive.pack({}, texts)
    expected = by_zipfile(dict.fromkeys(texts, b"t"), zipfile.ZIP_STORED)
    if count > 5:  # zipfile compares with its constant and writes the smaller of the number and 65,535
        end = len(expected) - 22
        assert found[end + 8 : end + 12] == bytes([5, 0, 5, 0])
        found = found[: end + 8] + bytes([count, 0, count, 0]) + found[end + 12 :]
    assert found == expected


@pytest.mark.parametrize(("limit", "longer"), [(95, True), (96, True), (140, True), (141, False)])
def test_a_long_directory_is_that_of_zipfile(monkeypatch: pytest.MonkeyPatch, limit: int, longer: bool) -> None:
    """Three members of 32 bytes and a directory of 141 at place 96: from 96 on only its size needs 64 bits."""
    monkeypatch.setattr(archive, "LIMIT", limit)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", limit)
    found = archive.pack({}, {"a": "t", "b": "t", "c": "t"})
    assert found == by_zipfile(dict.fromkeys("abc", b"t"), zipfile.ZIP_STORED)
    assert (b"PK\6\6" in found) is longer and found[96:100] == b"PK\1\2"


def test_ctrl_c_while_an_archive_is_read(complaints: list[Any]) -> None:
    """At any line: KeyboardInterrupt, and no word of a destructor."""
    content = io.BytesIO(archive.pack(PARTS, {"text": "t"}))

    def read() -> None:
        found = npz.Archive(content)
        assert len([found[name] for name in found]) == 2 and found.text("text") == b"t"

    lines, raised = interrupted_at(0, read)
    assert raised is None and lines > 300
    for line in range(1, lines + 1):
        assert interrupted_at(line, read) == (line, KeyboardInterrupt)
    assert not complaints


def test_what_is_packed_is_read() -> None:
    with np.load(io.BytesIO(archive.pack(PARTS))) as found:
        assert {name: found[name].tolist() for name in found.files} == {"x": [0.5, 1], "y": [0, 1, 2]}
