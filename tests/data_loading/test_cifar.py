"""CIFAR archives: tiny ones of the published layout, in the bytes that Python 2 and Python 3 pickle."""

import hashlib
import io
import os
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mpsim.data import cifar, cifar10, cifar100
from mpsim.data.cifar import COLLECTIONS, Version
from mpsim.data.restricted_pickle import UnsafePickle, load_arrays
from mpsim.errors import UsageError

PER_FILE = 3


def python2_text(text: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(text)) + text  # BINSTRING


def python2_pickle(pixels: np.ndarray, field: bytes, labels: list[int]) -> bytes:
    """A dict of an array and a list as Python 2's cPickle writes it, protocol 2, as in the published files."""
    rows, columns = pixels.shape
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\n" + b"K\x00\x85" + python2_text(b"b") + b"\x87R"  # (ndarray, (0,), 'b'), REDUCE
        b"(K\x01" + b"M" + struct.pack("<H", rows) + b"M" + struct.pack("<H", columns) + b"\x86"
        b"cnumpy\ndtype\n" + python2_text(b"u1") + b"K\x00K\x01\x87R"
        b"(K\x03" + python2_text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89" + python2_text(pixels.tobytes()) + b"tb"
    )
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    items = python2_text(b"data") + array + python2_text(field) + numbers
    return b"\x80\x02}(" + python2_text(b"batch_label") + python2_text(b"a batch") + items + b"u."


def python3_pickle(pixels: np.ndarray, field: bytes, labels: list[int]) -> bytes:
    return pickle.dumps({b"data": pixels, field: labels}, protocol=2)


def binary(pixels: np.ndarray, version: Version, labels: list[int]) -> bytes:
    assert version.label_bytes is not None
    prefix = b"\x07" * (version.label_bytes - 1)  # the coarse label
    return b"".join(prefix + bytes([label]) + row.tobytes() for row, label in zip(pixels, labels, strict=True))


def content_of(version: Version, number: int, classes: int, dump: Callable = python2_pickle) -> tuple:
    generator = np.random.default_rng(number)
    pixels = generator.integers(0, 256, (PER_FILE, 3072), dtype=np.uint8)
    labels = [int(label) for label in generator.integers(0, classes, PER_FILE)]
    if version.label_bytes is None:
        return dump(pixels, version.label_field, labels), pixels, labels
    return binary(pixels, version, labels), pixels, labels


def make(folder: Path, name: str, version: Version) -> tuple[Path, dict[str, tuple]]:
    """The unpacked folder with tiny files; (its path, per file: content, pixels, labels)."""
    files = {}
    (folder / version.folder).mkdir(parents=True)
    for number, file in enumerate([*version.train, *version.test]):
        files[file] = content_of(version, number, COLLECTIONS[name].classes)
        (folder / version.folder / file).write_bytes(files[file][0])
    return folder / version.folder, files


def pack(folder: Path, archive: Path) -> None:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)


VERSIONS = [(name, version) for name, row in COLLECTIONS.items() for version in row.versions]
IDS = [version.archive for _, version in VERSIONS]
READ = {"cifar10": cifar10, "cifar100": cifar100}


@pytest.mark.parametrize(("name", "version"), VERSIONS, ids=IDS)
@pytest.mark.parametrize("place", ["folder", "parent", "archive", "archive's folder", "renamed archive"])
def test_every_version_in_every_place(tmp_path: Path, name: str, version: Version, place: str) -> None:
    folder, files = make(tmp_path / "unpacked", name, version)
    archive = tmp_path / "packed" / ("mine.tgz" if place == "renamed archive" else version.archive)
    archive.parent.mkdir()
    pack(folder, archive)
    path = {
        "folder": folder,
        "parent": folder.parent,
        "archive": archive,
        "archive's folder": archive.parent,
        "renamed archive": archive,
    }[place]
    row = COLLECTIONS[name]
    for split, names in (("train", version.train), ("test", version.test)):
        dataset = READ[name](path, split, verify=False)
        pixels = np.concatenate([files[file][1] for file in names]).reshape(-1, 3, 32, 32)
        expected = (pixels / 255.0 - np.reshape(row.mean, (1, 3, 1, 1))) / np.reshape(row.deviation, (1, 3, 1, 1))
        np.testing.assert_allclose(dataset.images, expected, atol=1e-5)
        assert list(dataset.labels) == [label for file in names for label in files[file][2]]
        assert (dataset.classes, dataset.name) == (row.classes, name)
        np.testing.assert_allclose(dataset.black, -np.divide(row.mean, row.deviation), rtol=1e-6)


def test_checksums_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = COLLECTIONS["cifar100"].versions[1]
    folder, files = make(tmp_path, "cifar100", version)
    with pytest.raises(ValueError, match="test.bin: MD5 .* published is 4499cfba6c016c1be1438163640a0898; the file is"):
        cifar100(folder, "test")
    monkeypatch.setitem(version.test, "test.bin", hashlib.md5(files["test.bin"][0]).hexdigest())
    assert len(cifar100(folder, "test")) == PER_FILE


def test_the_published_checksums_are_md5_sums() -> None:
    sums = [md5 for _, version in VERSIONS for md5 in {**version.train, **version.test}.values()]
    assert len(sums) == len(set(sums)) == 16
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f4"])
def test_pickles_of_python_3_too(protocol: int, dtype: str) -> None:
    """In every protocol. Protocol 5 is the default from Python 3.14 on, and has another function for arrays."""
    pixels = np.arange(3072 * 2).astype(dtype).reshape(2, 3072)
    named = {b"data": pixels, b"by column": np.asfortranarray(pixels), b"part": pixels[:, ::3], b"labels": [1, 2]}
    record = load_arrays(pickle.dumps(named, protocol))
    assert list(record) == list(named)
    for name, value in named.items():
        assert np.array_equal(record[name], value)


def test_pickles_of_python_2() -> None:
    pixels = np.arange(3072 * 2).astype(np.uint8).reshape(2, 3072)
    record = load_arrays(python2_pickle(pixels, b"labels", [1, 2]))
    assert np.array_equal(record[b"data"], pixels) and record[b"labels"] == [1, 2]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ((b"abcd", "u1", (5,), "C"), "4 bytes for an array uint8"),
        ((b"abcd", "u1", (1 << 60,), "C"), "an array of shape"),
        ((b"abcd", "u1", (-4,), "C"), "an array of shape"),
        ((b"abcd", "O", (4,), "C"), "only numbers are read"),
        (("abcd", "u1", (4,), "C"), "not of numbers"),
        ((b"abcd", None, (4,), "C"), "not of numbers"),
        ((b"abcd", "u1", (4,), "K"), "the order 'K'"),
        ((b"abcd", "u1", (2, 2), "C", (1, 0)), "the order 'C'"),
    ],
)
def test_a_wrong_array_of_protocol_5_is_refused(function: tuple, said: str) -> None:
    buffer, kind, *rest = function
    type_ = np.dtype("O") if kind == "O" else kind and np.dtype(kind)
    content = pickle.dumps({b"data": Calls(np._core.numeric._frombuffer, (buffer, type_, *rest))})
    with pytest.raises(UsageError, match=said):
        load_arrays(content)


class Calls:
    """Pickled, a call of a function."""

    def __init__(self, function: Callable, arguments: tuple) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class Attack:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Attack()),
        pickle.dumps({b"data": Attack()}, protocol=2),
        pickle.dumps(np.array([Attack()], dtype=object)),
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n.",
        b"cnumpy\nndarray\n((K\x01tS'O'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(K\x00tS'b'\ntR.",
    ],
)
def test_a_pickle_that_names_anything_else_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafePickle, match="the pickle"):
        load_arrays(content)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a readable pickle"),
        (b"\x80\x02}q", "not a readable pickle"),
        (pickle.dumps([1]), "must contain a dictionary, got list"),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8)}), "does not contain 'data' and 'fine_labels'"),
        (python3_pickle(np.zeros((2, 3071), np.uint8), b"fine_labels", [1, 2]), r"uint8 \(2, 3072\)"),
        (python3_pickle(np.zeros((3, 3072), np.uint8), b"fine_labels", [1, 2]), r"uint8 \(2, 3072\)"),
        (python3_pickle(np.zeros((2, 3072), np.int64), b"fine_labels", [1, 2]), r"uint8 \(2, 3072\)"),
        (python3_pickle(np.zeros((2, 3072), np.uint8), b"fine_labels", [1, 100]), r"labels 1 .. 100, not 0 .. 99"),
        (python3_pickle(np.zeros((2, 3072), np.uint8), b"fine_labels", [-1, 9]), r"labels -1 .. 9, not 0 .. 99"),
        (python3_pickle(np.zeros((2, 3072), np.uint8), b"fine_labels", []), "does not contain labels in 'fine_labels'"),
        (python3_pickle(np.zeros((2, 3072), np.uint8), b"fine_labels", 3), "does not contain labels in 'fine_labels'"),
        (pickle.dumps(Attack()), "the pickle names posix.mkdir"),
    ],
)
def test_broken_python_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    folder, _ = make(tmp_path, "cifar100", COLLECTIONS["cifar100"].versions[0])
    (folder / "train").write_bytes(content)
    with pytest.raises(ValueError, match=f"cifar-100-python/train: .*{said}.*Get cifar-100-python.tar.gz again"):
        cifar100(folder, "train", verify=False)


def test_broken_binary_file(tmp_path: Path) -> None:
    folder, _ = make(tmp_path, "cifar10", COLLECTIONS["cifar10"].versions[1])
    (folder / "data_batch_3.bin").write_bytes(b"123")
    with pytest.raises(ValueError, match="data_batch_3.bin: has 3 bytes, which is not a multiple of 3073"):
        cifar10(folder, verify=False)
    (folder / "data_batch_3.bin").write_bytes(b"\x0a" + bytes(3072))
    with pytest.raises(ValueError, match="data_batch_3.bin: has labels 10 .. 10, not 0 .. 9. Get cifar-10-binary"):
        cifar10(folder, verify=False)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    version = COLLECTIONS["cifar10"].versions[0]
    with pytest.raises(FileNotFoundError, match="nowhere does not exist. Get cifar-10-python.tar.gz or .*https://"):
        cifar10(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="does not contain its files"):
        cifar10(tmp_path)
    folder, _ = make(tmp_path, "cifar10", version)
    (folder / "data_batch_4").unlink()
    with pytest.raises(FileNotFoundError, match="data_batch_4 is missing. Get cifar-10-python.tar.gz"):
        cifar10(folder, verify=False)
    pack(folder, tmp_path / version.archive)
    with pytest.raises(FileNotFoundError, match="tar.gz: cifar-10-batches-py/data_batch_4 is missing"):
        cifar10(tmp_path / version.archive, verify=False)


def test_broken_archives(tmp_path: Path) -> None:
    version = COLLECTIONS["cifar10"].versions[0]
    folder, _ = make(tmp_path / "unpacked", "cifar10", version)
    archive = tmp_path / version.archive
    pack(folder, archive)
    whole = archive.read_bytes()
    for broken in (whole[:2000], b"", bytes(20) + whole[20:]):
        for name in (archive, tmp_path / "mine.tgz"):
            name.write_bytes(broken)
            with pytest.raises(ValueError, match="(?s)not a readable .tar.gz .*Get it again from https://"):
                cifar10(name, verify=False)
    archive.write_bytes(whole[:2000] + bytes(500) + whole[2500:])  # at times taken for an early end of the archive
    with pytest.raises((ValueError, FileNotFoundError), match="(?s)cifar-10-python.tar.gz: .*Get .* from https://"):
        cifar10(archive, verify=False)
    # A stream with a block of no known type in the middle of a file: the error is zlib's own.
    (folder / "data_batch_1").write_bytes(bytes(200_000))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        tar.add(folder, folder.name)
    stored = zlib.compressobj(0, wbits=-15)
    begin = stored.compress(packed.getvalue()[:150_000]) + stored.flush(zlib.Z_FULL_FLUSH)
    archive.write_bytes(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + begin + b"\x07" + bytes(100))
    with pytest.raises(ValueError, match="not a readable .tar.gz .error: Error -3 while decompressing"):
        cifar10(archive, verify=False)
    other = tmp_path / "other.tar.gz"
    with tarfile.open(other, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("readme"), io.BytesIO())
    with pytest.raises(ValueError, match="contains none of cifar10's files"):
        cifar10(other)
    with pytest.raises(ValueError, match="Known: train, test"):
        cifar.cifar10(archive, "valid")
