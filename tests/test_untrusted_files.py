"""Files that ask for too much, results with a changed bit, and output that is not a file."""

from __future__ import annotations

import io
import os
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from mpsim import Plan
from mpsim.data.tar import tar_members
from mpsim.errors import UsageError
from mpsim.experiments.results import _ROWS, Results, ResultsError, _sha256
from mpsim.files import checkpoint, json_text, npz
from mpsim.files.tensors import read_tensors
from mpsim.files.whole import write_whole


def _npy(header: str, content: bytes = b"", *, version: int = 1) -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 * version, "little") + text + content


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return content.getvalue()


def _header(shape: str, kind: str = "'<f4'") -> str:
    return f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"


HOSTILE = {
    "four TiB": _zip({"a.npy": _npy(_header("(1099511627776,)"))}),
    "more than 64 bits": _zip({"a.npy": _npy(_header("(4294967296, 4294967296, 4294967296)"))}),
    "a length of 10^20": _zip({"a.npy": _npy(_header(f"({10**20},)"))}),
    "a negative length": _zip({"a.npy": _npy(_header("(-1,)"), bytes(4))}),
    "a text as shape": _zip({"a.npy": _npy(_header("'x'"))}),
    "objects": _zip({"a.npy": _npy(_header("(1,)", "'|O'"), bytes(8))}),
    "fields": _zip({"a.npy": _npy(_header("(1,)", "[('x', '<f4')]"), bytes(4))}),
    "code": _zip({"a.npy": _npy("__import__('os').getpid()")}),
    "brackets": _zip({"a.npy": _npy("{'descr': " + "(" * 5000)}),
    "a header of 4 GB": _zip({"a.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100)}),
    "a bomb": _zip({"a.npy": _npy(_header("(100000000,)"), bytes(400_000_000))}, zipfile.ZIP_DEFLATED),
    "bzip2": _zip({"a.npy": _npy(_header("(1,)"), bytes(4))}, zipfile.ZIP_BZIP2),
    "lzma": _zip({"a.npy": _npy(_header("(1,)"), bytes(4))}, zipfile.ZIP_LZMA),
}


def _encrypted() -> bytes:
    content = bytearray(_zip({"a.npy": _npy(_header("(1,)"), bytes(4))}))
    content[content.index(b"PK\3\4") + 6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


HOSTILE["encrypted"] = _encrypted()


@pytest.mark.parametrize("name", HOSTILE)
def test_archives_that_ask_for_too_much(name: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.npz"
    path.write_bytes(HOSTILE[name])
    begun = time.process_time()
    with pytest.raises(UsageError, match=r"hostile\.npz"):
        read_tensors(path)
    with pytest.raises(checkpoint.CheckpointError, match="hostile"):
        checkpoint.unpack(HOSTILE[name], "hostile")
    assert time.process_time() - begun < 5


@pytest.mark.parametrize("kind", ["<f4", ">f4", "|b1", "<i8", "<f2", "|S3", "<U2"])
@pytest.mark.parametrize("order", "CF")
def test_right_arrays_are_read_as_numpy_reads_them(kind: str, order: str) -> None:
    array = np.asarray(np.arange(24).reshape(2, 3, 4).astype(kind), order=order)
    content = io.BytesIO()
    np.savez_compressed(content, x=array, empty=array[:0])
    archive = npz.Archive(content)
    with np.load(io.BytesIO(content.getvalue())) as expected:
        for name in ("x", "empty"):
            assert archive[name].dtype == expected[name].dtype.newbyteorder("=")
            np.testing.assert_array_equal(archive[name], expected[name])


def test_a_second_member_of_one_name() -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a.npy", b"one")
        archive.writestr("a.npy", b"two")
    with pytest.raises(UsageError, match="two members"):
        npz.Archive(content)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("1" * 10_000, "4300"),
        ('{"a": 1, "a": 2}', "'a' twice"),
        ('["\\ud800"]', "surrogates"),
        (b'"\xff"', "utf-8"),
        ("{", "line 1 column 2"),
    ],
)
def test_json(text: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        json_text.decoded(text)
    if isinstance(text, str):
        with pytest.raises(UsageError, match="^plan: "):
            Plan.from_json(text)


def test_a_tar_of_links_devices_and_bombs(tmp_path: Path) -> None:
    path = tmp_path / "data.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE), ("device", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        member = tarfile.TarInfo("../right")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"abc"))
    assert list(tar_members(path, lambda name: True)) == [("../right", b"abc")]
    assert [entry.name for entry in tmp_path.iterdir()] == ["data.tar"]
    member = tarfile.TarInfo("x")
    member.size = 1 << 33
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UsageError, match=r"data\.tar: a member has 8,589,934,592 bytes"):
        list(tar_members(path, lambda name: True))
    member.size, member.type = 1 << 31, tarfile.XHDTYPE  # an extended header, which Python reads whole
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(UsageError, match="2,147,483,648 bytes"):
        list(tar_members(path, lambda name: True))


def _stored(folder: Path) -> bytes:
    with Results.in_folder(folder) as results:
        for key in ("one", "two"):
            results.start(key, {"seed": 0}, plan='{"a": 1}', environment={})
            results.add_epoch(key, 0, {"train_loss": 2.5}, b"state" * 10)
            results.add_epoch(key, 1, {"train_loss": 2.25}, b"later" * 10)
        results.finish("one", {"test_accuracy": 0.5, "semantics_version": 2}, final_plan='{"a": 2}')
    return (folder / "mpsim.sqlite").read_bytes()


def _read(path: Path) -> list[object]:
    with Results(path, create=False) as results:
        runs = [(run.key, run.settings, run.result) for run in results.runs()]
        keys = [key for key, _, _ in runs]
        return [
            runs, results.epochs_done(), [results.checkpoint(key) for key in keys],
            [results.plans(key) for key in keys], [results.history(key) for key in keys],
            [results.result(key) for key in keys], [results.finished(key) for key in keys],
        ]  # fmt: skip


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.slow)])
def test_a_changed_bit_of_the_results_changes_no_number(tmp_path: Path, count: int) -> None:
    """One flipped bit, anywhere: the results are read as they were written, or refused.

    The errors are kept: what their tracebacks refer to must not lock the file.
    """
    content, generator = _stored(tmp_path), np.random.default_rng(3)
    expected, refused = _read(tmp_path / "mpsim.sqlite"), list[ResultsError]()
    used = np.flatnonzero(np.frombuffer(content, np.uint8))  # most of the file is empty
    for at in generator.choice(used, count):
        changed = bytearray(content)
        changed[at] ^= 1 << int(generator.integers(8))
        (tmp_path / "mpsim.sqlite").write_bytes(changed)
        try:
            assert _read(tmp_path / "mpsim.sqlite") == expected, at
        except ResultsError as error:
            refused.append(error)
    assert len(refused) > count / 2
    assert not any("locked" in str(error) for error in refused)


def test_a_damaged_row_is_not_taken_for_right_by_later_writes(tmp_path: Path) -> None:
    _stored(tmp_path)
    with Results.in_folder(tmp_path) as results:
        results._database.execute("UPDATE runs SET settings = '{\"seed\": 1}'")
        results._database.execute("UPDATE epochs SET metrics = '{}' WHERE epoch = 0")
        results.start("two", {"seed": 0}, plan="{}", environment={})
        results.add_epoch("two", 2, {"train_loss": 2.0}, b"last")
        with pytest.raises(ResultsError, match="damaged: its table runs"):
            results.finish("two", {"test_accuracy": 1.0}, final_plan="{}")
        with pytest.raises(ResultsError, match="damaged: its table epochs"):
            results.history("two")
        with pytest.raises(ResultsError, match="damaged: its table runs"):
            results.runs()
        results._database.execute("DELETE FROM checkpoints")
        with pytest.raises(ResultsError, match="damaged: its table checkpoints"):
            results.checkpoint("two")


def test_a_lack_of_memory_is_not_called_a_broken_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_npy(*_: object) -> None:
        raise MemoryError

    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    monkeypatch.setattr(npz, "read_npy", read_npy)
    with npz.opened(tmp_path / "a.npz") as archive, pytest.raises(MemoryError):
        archive["x"]


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "[1]", '{"a": ' + "9" * 5000 + "}", '{"a": 1, "a": 2}'])
def test_json_in_results_is_refused_behind_a_right_checksum(tmp_path: Path, text: str) -> None:
    """A stranger's file may have a checksum that fits. The text is in the file, so that SQLite cannot know."""
    _stored(tmp_path)
    with Results.in_folder(tmp_path) as results:
        database = results._database
        database.row_factory = sqlite3.Row
        database.execute("UPDATE runs SET settings = ?, result = ? WHERE key = 'one'", (text, text))
        database.execute("UPDATE epochs SET metrics = ?", (text,))
        for source in ("runs", "epochs"):
            for row in database.execute(_ROWS[source], (None,)):
                given = (_sha256(row), source, row["key"], row["epoch"])
                database.execute("UPDATE checks SET sha256 = ? WHERE source = ? AND key = ? AND epoch = ?", given)
        for read in (results.runs, lambda: results.result("one"), lambda: results.history("two")):
            with pytest.raises(ResultsError, match=r"mpsim\.sqlite has a JSON text that mpsim did not write: it "):
                read()


def test_results_of_version_1_are_read_and_checked_from_then_on(tmp_path: Path) -> None:
    _stored(tmp_path)
    expected = _read(tmp_path / "mpsim.sqlite")
    with Results.in_folder(tmp_path) as results:
        results._database.execute("DROP TABLE checks")
        results._database.execute("PRAGMA user_version = 1")
    assert _read(tmp_path / "mpsim.sqlite") == expected
    with Results.in_folder(tmp_path) as results:
        results._database.execute("UPDATE epochs SET metrics = '{}'")
        with pytest.raises(ResultsError, match="damaged"):
            results.history("one")


# -- output -----------------------------------------------------------------------------------------------------------
def test_links_stay_links_and_permissions_stay(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"before")
    file.chmod(0o600)
    link.symlink_to("file")
    write_whole(link, b"after")
    assert link.is_symlink() and file.read_bytes() == b"after" and file.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    write_whole(pipe, b"x" * 200_000)
    reader.join(10)
    assert got == [b"x" * 200_000] and pipe.is_fifo()


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"x")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_device_is_an_error_and_stays_a_device() -> None:
    with pytest.raises(OSError, match="No space left"):
        write_whole("/dev/full", b"x")
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="the system has no /dev/stdout")
def test_standard_output_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    code = (
        "import sys; from mpsim.files.whole import write_whole; print('before', flush=True); "
        "write_whole('/dev/stdout', b'inside\\n'); print('after')"
    )
    for name in ("file", None):
        output = open(tmp_path / name, "wb") if name else subprocess.PIPE  # noqa: SIM115
        found = subprocess.run([sys.executable, "-c", code], stdout=output, check=True)
        if name:
            output.close()  # type: ignore[union-attr]
        text = (tmp_path / name).read_bytes() if name else found.stdout
        assert text == b"before\ninside\nafter\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize("command", [["formats"], ["round", "0.3", "--format", "float8_e5m2"], ["--help"]])
def test_commands_whose_output_does_not_fit_fail(command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        found = subprocess.run(
            [sys.executable, "-c", "from mpsim.cli import main; main()", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert found.returncode == 1 and "No space left" in found.stderr and "Traceback" not in found.stderr


@pytest.mark.parametrize("wrong", [1.5, None, True, [1], 10**400])
def test_a_value_where_a_json_text_belongs_is_named(wrong: object) -> None:
    """As in the header of a checkpoint, whose plan is a text."""
    with pytest.raises(UsageError, match="it is not a JSON text"):
        json_text.decoded(wrong)  # type: ignore[arg-type]
