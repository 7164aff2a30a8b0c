"""A user's .npz and IDX files: read as they are, and refused with the file's name, whatever they contain."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from own_files import idx, npz, pictures, write_idx_folder

from mpsim import data
from mpsim.data.own import arrays_digest, as_parts, read_arrays, remembered, source
from mpsim.data.own.idx import files_of, read_idx
from mpsim.data.own.npz import read_npz
from mpsim.errors import MpsimError
from tests import mutations

IMAGES, LABELS = pictures()
#: Bytes that reading a file of a few kilobytes may need.
MOST = 1 << 22


@pytest.fixture(autouse=True)
def nothing_remembered() -> None:
    remembered.forget()


# -- equal data in another file -------------------------------------------------------------------------------------
def places(folder: Path) -> Iterator[Path | str]:
    """The same images and labels, of which the first 30 are for training, in every kind of file."""
    arrays = {"x_train": IMAGES[:30], "y_train": LABELS[:30], "x_test": IMAGES[30:], "y_test": LABELS[30:]}
    for compressed in (False, True):
        path = folder / f"{compressed}.npz"
        path.write_bytes(npz(compressed=compressed, **arrays))
        yield path
        yield write_idx_folder(folder / f"idx {compressed}", IMAGES, LABELS, 30, compressed=compressed)
    (folder / "my_data.py").write_text(
        f"import numpy as np\ndef load():\n    return dict(np.load({str(folder / 'True.npz')!r}))\n"
    )
    yield f"{folder}/my_data.py:load"


def test_equal_data_have_equal_digests_in_every_kind_of_file(tmp_path: Path) -> None:
    expected = [part.digest() for part in as_parts(((IMAGES[:30], LABELS[:30]), (IMAGES[30:], LABELS[30:])))]
    found = list(places(tmp_path))
    for place in found:
        assert [read_arrays(place, split).digest() for split in data.SPLITS] == expected, place
    assert len({arrays_digest(place) for place in found}) == 1
    assert data.load("arrays", "test", found[0], normalisation="none").digest() != expected[1]
    assert data.located(str(found[0])) == ("arrays", str(found[0]))


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "i4", "f4", "f8"])
def test_idx_of_every_type(kind: str, tmp_path: Path) -> None:
    array = (np.random.default_rng(0).random((3, 2, 4)) * 100).astype(kind)
    for compressed in (False, True):
        (tmp_path / "file").write_bytes(idx(array, compressed=compressed))
        found = read_idx(tmp_path / "file")
        assert found.dtype == array.dtype and np.array_equal(found, array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["u1", ">i2", "<f4", ">f8", "?"])
def test_npz_in_every_order_of_bytes_and_axes(kind: str, order: Any, tmp_path: Path) -> None:
    array = np.asarray(np.random.default_rng(0).random((3, 2, 4)) * 100, kind, order=order)
    (tmp_path / "a.npz").write_bytes(npz(images=array, labels=np.arange(3), other=np.array([None])))
    found = read_npz(tmp_path / "a.npz")
    assert found["images"].dtype.isnative and np.array_equal(found["images"], array)
    assert list(found) == ["images", "labels", "other"] and not found["other"].size


def test_names_of_the_classes_in_an_npz_file_are_not_their_number(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(npz(images=IMAGES, labels=LABELS, classes=np.array(["a", "b", "c", "d", "e"])))
    (tmp_path / "b.npz").write_bytes(npz(images=IMAGES, labels=LABELS, classes=np.int64(5)))
    assert [read_arrays(tmp_path / name).classes for name in ("a.npz", "b.npz")] == [4, 5]


def test_names_of_the_mnist_family(tmp_path: Path) -> None:
    names = ["emnist-letters-train-images-idx3-ubyte.gz", "emnist-letters-test-labels-idx1-ubyte.gz", "notes.txt"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert {what: path.name for what, path in files_of(tmp_path).items()} == {
        "train images": names[0], "test labels": names[1],
    }  # fmt: skip
    unpacked = tmp_path / names[0].removesuffix(".gz")
    unpacked.write_bytes(b"")
    assert files_of(tmp_path)["train images"] == unpacked
    (tmp_path / "emnist-digits-train-labels-idx1-ubyte.gz").write_bytes(b"")
    with pytest.raises(MpsimError, match="several datasets: emnist-digits-, emnist-letters-"):
        files_of(tmp_path)
    kaggle = tmp_path / "kaggle"
    kaggle.mkdir()
    for name in ("train-images.idx3-ubyte", "train-images-idx3-ubyte"):
        (kaggle / name).write_bytes(b"")
    with pytest.raises(MpsimError, match="two files of train images"):
        files_of(kaggle)


# -- what is refused ------------------------------------------------------------------------------------------------
def member(header: bytes, content: bytes = b"", *, size: int | None = None) -> bytes:
    """An archive with one member images.npy, perhaps with a false size in its table."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", header + content)
        if size is not None:
            archive.getinfo("images.npy").file_size = size
    return packed.getvalue()


def npy(shape: str, kind: str = "'|u1'", version: tuple[int, int] = (1, 0)) -> bytes:
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(text)) + text


TERABYTES = "(1048576, 1024, 1024)"
NPZ = {
    "empty": (b"", "is not a complete npz archive"),
    "text": (b"images and labels", "is not a complete npz archive"),
    "cut": (npz(images=IMAGES, labels=LABELS)[:-40], "is not a complete npz archive"),
    "objects": (
        npz(images=np.array([{}] * 40), labels=LABELS),
        "array .images.: its header does not describe",
    ),
    "texts": (npz(images=IMAGES, labels=np.array(["a"] * 40)), "array 'labels': must be numbers"),
    "fields": (npz(images=np.zeros(40, "u1,u1"), labels=LABELS), "array .images.: its header does not describe"),
    "terabytes": (member(npy(TERABYTES), b"\0"), "needs 1099511627776 bytes, but 1 follow"),
    "terabytes in the table": (
        member(npy(TERABYTES), b"\0", size=1 << 40),
        "compressed bytes of 'images.npy' cannot hold",
    ),
    "negative": (member(npy("(-1, 4, 4)"), bytes(16)), "its header does not describe an array of numbers"),
    "other version": (member(npy("(1, 4, 4)", version=(9, 9)), bytes(16)), r"version \(9, 9\)|not a complete"),
    "deep": (member(npy("(" * 3000), bytes(16)), "is not a complete npz archive"),
    "code": (member(npy("(1, 4, 4)", "__import__('os').mkdir('ran')"), bytes(16)), "is not a complete npz archive"),
    "many axes": (member(npy(f"({'1,' * 100})"), bytes(1)), "is not a complete npz archive"),
    "lone images": (npz(images=IMAGES), "there are no labels"),
    "nan": (npz(images=np.full((9, 2, 2), np.nan), labels=LABELS[:9]), "image 0 has a value that is NaN"),
    "mismatch": (npz(images=IMAGES, labels=LABELS[:9]), "40 images need as many labels, got 9"),
    "unnamed": (npz(arr_0=IMAGES, arr_1=LABELS), "names should be images and labels .* got arr_0, arr_1"),
}


@pytest.mark.parametrize("name", NPZ)
def test_a_broken_npz_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    content, said = NPZ[name]
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with bounded(), pytest.raises(MpsimError, match=said) as caught:
        read_arrays(path)
    assert str(path) in str(caught.value) and not (Path.cwd() / "ran").exists()


HEADER = bytes([0, 0, 8, 3])
IDX = {
    "empty": (b"", "begins with nothing"),
    "text": (b"images", "begins with 69 6d 61 67"),
    "type": (bytes([0, 0, 10, 3]) + bytes(12), "is not an IDX file"),
    "axes": (bytes([0, 0, 8, 0]), "is not an IDX file"),
    "lengths": (HEADER + bytes(5), "ends within the lengths of its 3 axes"),
    "terabytes": (HEADER + struct.pack(">3I", 1 << 20, 1 << 10, 1 << 10) + b"\0", "1099511627776 bytes, but 1 follow"),
    "terabytes, packed": (
        gzip.compress(HEADER + struct.pack(">3I", 1 << 20, 1 << 10, 1 << 10) + bytes(99)), "but at most",
    ),
    "longest": (HEADER + b"\xff" * 12, "bytes, but 0 follow"),
    "short": (idx(IMAGES)[:-1], "1200 bytes, but 1199 follow"),
    "long": (idx(IMAGES) + b"\0", "1200 bytes, but 1201 follow"),
    "long, packed": (gzip.compress(idx(IMAGES) + b"\0"), "has more than the 1200 bytes"),
    "short, packed": (gzip.compress(idx(IMAGES)[:-1]), "ends after 1199 of the 1200 bytes"),
    "cut": (idx(IMAGES, compressed=True)[:-20], "is not a complete IDX file"),
    "checksum": (idx(IMAGES, compressed=True)[:-8] + bytes(8), "is not a complete IDX file"),
    "no images": (idx(IMAGES[:0]), "0 training images need as many labels, got 30"),
    "one axis": (idx(IMAGES[:, 0, 0]), "images must be"),
}  # fmt: skip


@pytest.mark.parametrize("name", IDX)
def test_a_broken_idx_file_is_refused_with_its_name(name: str, tmp_path: Path) -> None:
    content, said = IDX[name]
    folder = write_idx_folder(tmp_path / "mine", IMAGES, LABELS, 30, compressed=False)
    (folder / "train-images-idx3-ubyte").write_bytes(content)
    with bounded(), pytest.raises(MpsimError, match=said) as caught:
        read_arrays(folder)
    assert str(folder) in str(caught.value)


class bounded:  # noqa: N801
    """Asserts that the statements inside allocate at most ``MOST`` bytes."""

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *exception: object) -> None:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < MOST, peak


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_damaged_files(kind: str, compressed: bool, tmp_path: Path) -> None:
    """Of 150 damaged files each is refused with its name, or read. An archive that is read has the same arrays, by its
    checksums; its table may say another date. (2000 of each kind were tried once.)
    """
    generator = np.random.default_rng([kind == "npz", compressed])
    packed = npz(compressed=compressed, images=IMAGES, labels=LABELS)
    place = tmp_path / "mine.npz"
    if kind == "idx":
        place, packed = tmp_path / "mine", idx(IMAGES[:30], compressed=compressed)
        write_idx_folder(place, IMAGES, LABELS, 30, compressed=compressed)
    file = place / f"train-images-idx3-ubyte{'.gz' * compressed}" if kind == "idx" else place
    file.write_bytes(packed)
    expected = read_arrays(place).digest()
    refused = 0
    with bounded():
        for _ in range(150):
            file.write_bytes(mutations.of_bytes(packed, generator))
            remembered.forget()
            try:
                found = read_arrays(place)
            except MpsimError as error:
                refused += 1
                assert str(file) in str(error) or f"{place}: " in str(error)
            else:
                assert found.digest() == expected or (
                    kind == "idx" and np.isfinite(found.load(np.arange(len(found)))).all()
                )
    assert refused > 50


def test_places_that_are_not_data(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("1,2")
    (tmp_path / "empty").mkdir()
    for place, kind, said in [
        (tmp_path / "none.npz", FileNotFoundError, "does not exist; expected an .npz file, a folder of IDX files"),
        (tmp_path / "x.csv", ValueError, "of an unknown kind"),
        (tmp_path / "empty", ValueError, "has no IDX files; expected train-images-idx3-ubyte"),
        (f"{tmp_path}/x.py", ValueError, r"needs the function that returns the data, e\.g\. .*x\.py:load"),
        (f"{tmp_path}/x.py:load", FileNotFoundError, "does not exist"),
    ]:
        with pytest.raises(kind, match=said):  # type: ignore[arg-type]
            read_arrays(place)
    for name, options in [("digits", {"normalisation": "none"}), ("digits", {"test_share": 0.5})]:
        with pytest.raises(ValueError, match="has no meaning for dataset 'digits'"):
            data.load(name, "train", None, **options)  # type: ignore[arg-type]


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(npz(images=IMAGES, labels=LABELS))

    def read_and_replace(given: Path) -> dict[str, np.ndarray]:
        found = read_npz(given)
        path.write_bytes(npz(images=IMAGES[::-1], labels=LABELS))
        return found

    monkeypatch.setattr(source, "read_npz", read_and_replace)
    with pytest.raises(MpsimError, match="changed while it was read"):
        read_arrays(path)


# -- functions ------------------------------------------------------------------------------------------------------
FUNCTIONS = {
    "failing": ("def load():\n    x = 1\n    raise KeyError('gone')", r"my_data.py:load failed at line 3 \(KeyError"),
    "arguments": ("def load(path):\n    pass", "needs the arguments path; mpsim calls it without any"),
    "nothing": ("def load():\n    pass", "my_data.py:load: expected .* got None"),
    "exit": ("def load():\n    raise SystemExit(3)", "failed at line 2"),
    "syntax": ("def load(:", "cannot be imported: it failed at line 1"),
    "missing": ("def laod(): pass", "has no function 'load'. Its functions and classes: laod"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_returns_no_data(name: str, tmp_path: Path) -> None:
    code, said = FUNCTIONS[name]
    (tmp_path / "my_data.py").write_text(code)
    with pytest.raises(MpsimError, match=said):
        read_arrays(f"{tmp_path}/my_data.py:load")


def test_a_function_is_called_once_while_its_file_stays_the_same(tmp_path: Path) -> None:
    code = """
from pathlib import Path
import numpy as np
def load(more=0):
    with open(Path(__file__).parent / "calls", "a") as file:
        file.write("called\\n")
    return np.random.randint(0, 256, (20, 4, 4)) + more, np.arange(20) % 3
"""
    file = tmp_path / "my_data.py"
    file.write_text(code)
    place = f"{file}:load"
    first = [arrays_digest(place), read_arrays(place).digest(), read_arrays(place, "test").digest()]
    assert (tmp_path / "calls").read_text() == "called\n"
    remembered.forget()
    assert [arrays_digest(place), read_arrays(place).digest(), read_arrays(place, "test").digest()] == first
    for old, new in (("more=0", "more=1"), ("% 3", "% 4")):
        file.write_text(code.replace(old, new))
        os.utime(file, ns=(0, 0))
        assert arrays_digest(place) != first[0]
