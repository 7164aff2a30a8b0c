"""Safetensors files of strangers: every value as its format has it, and every broken header refused with its file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from mpsim.files.safetensors import NARROW
from mpsim.files.tensors import TensorFileError, read_tensors
from mpsim.formats import FORMATS
from mpsim.rounding import decode
from tests import mutations


def packed(header: dict[str, Any] | str, data: bytes = b"") -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + data


def described(dtype: str = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("kind", NARROW)
def test_every_code_has_the_value_of_its_format(kind: str, tmp_path: Path) -> None:
    narrow = NARROW[kind]
    assert FORMATS[narrow.format].bits == 8 * narrow.words.itemsize
    codes = np.arange(1 << FORMATS[narrow.format].bits).astype(narrow.words)
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed({"x": described(kind, [codes.size], [0, codes.nbytes])}, codes.tobytes()))
    file = read_tensors(path)
    found, expected = file.tensors["x"], np.asarray(decode(codes, narrow.format, np.float32))
    nan = np.isnan(expected)
    assert found.dtype == np.float32 and np.array_equal(np.isnan(found), nan)
    assert np.array_equal(found[~nan].view(np.uint32), expected[~nan].view(np.uint32))
    assert dict(file.types) == {"x": narrow.format}
    theirs = codes.view(getattr(ml_dtypes, narrow.format)).astype(np.float32)
    assert np.array_equal(found, theirs, equal_nan=True)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    types = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4"]
    arrays = {kind: random.integers(0, 2, (3, 0 if kind == "i1" else 2)).astype(kind) for kind in types}
    arrays["half"] = random.standard_normal(5).astype(np.float16)
    arrays["scalar"] = np.array(-0.0, np.float32)
    arrays["bfloat16"] = random.standard_normal((2, 3)).astype(ml_dtypes.bfloat16)
    path = tmp_path / "x.safetensors"
    path.write_bytes(save(arrays, metadata={"a": "b"}))
    file = read_tensors(path)
    assert set(file.tensors) == set(arrays)
    for name, array in arrays.items():
        found = file.tensors[name]
        assert found.shape == array.shape and np.array_equal(found, array.astype(found.dtype)), name
        assert np.array_equal(np.signbit(found.astype(np.float64)), np.signbit(array.astype(np.float64)))
        assert found.dtype == (array.dtype if array.dtype.kind in "biu" else np.float32)
    assert read_tensors(path).types["bfloat16"] == "bfloat16" and file.types["half"] == "float16"
    path.write_bytes(save({}))
    assert not read_tensors(path).tensors


def test_a_header_as_long_as_the_letters_of_a_zip_archive_is_none(tmp_path: Path) -> None:
    header = {"x": described(), "__metadata__": {"note": ""}}
    length = int.from_bytes(b"PK", "little")
    header["__metadata__"]["note"] = "n" * (length - len(json.dumps(header)))
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(header, bytes(8)))
    assert path.read_bytes()[:2] == b"PK" and read_tensors(path).tensors["x"].tolist() == [0, 0]


TWICE = '{"x": %s, "x": %s}' % ((json.dumps(described()),) * 2)
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "neither a complete safetensors file"),
    "header beyond the file": (b"\xff" * 8, "a header of 18,446,744,073,709,551,615 bytes cannot be in its 8 bytes"),
    "4 TiB": ((1 << 42).to_bytes(8, "little") + b"{}", "cannot be in its 10 bytes"),
    "not UTF-8": (packed("{}")[:8] + b"\xff\xfe", "its header: it is not JSON"),
    "not JSON": (packed("{oops}"), "its header: it is not JSON"),
    "a list": (packed("[1]"), "is a JSON object, got"),
    "nested": (packed("[" * 100_000), "it is nested too deeply|not JSON"),
    "a number of 5,000 digits": (packed('{"x": ' + "9" * 5000 + "}"), "not JSON"),
    "a name twice": (packed(TWICE, bytes(8)), "has 'x' twice"),
    "a field twice": (packed('{"x": {"dtype": "F32", "dtype": "F16"}}'), "has 'dtype' twice"),
    "metadata of numbers": (packed({"__metadata__": {"a": 1}}), "__metadata__ has to map names to texts"),
    "a tensor that is text": (packed({"x": "F32"}), "'x' is described by dtype, shape and data_offsets"),
    "without offsets": (packed({"x": {"dtype": "F32", "shape": [2]}}), "'x' is described by"),
    "an unknown type": (packed({"x": described("F7")}, bytes(8)), "'x' has type 'F7', which is not one of BOOL"),
    "a type that is a list": (packed({"x": described(["F32"])}, bytes(8)), r"'x' has type \['F32'\]"),
    "a negative size": (packed({"x": described(shape=[-2])}, bytes(8)), r"'x' has shape \[-2\]"),
    "a size that is a fraction": (packed({"x": described(shape=[2.0])}, bytes(8)), r"'x' has shape \[2.0\]"),
    "a size that is true": (packed({"x": described(shape=[True, 2])}, bytes(8)), "'x' has shape"),
    "sizes of 2^80": (packed({"x": described(shape=[1 << 40, 1 << 40])}, bytes(8)), "'x' has shape"),
    "2^80 and none": (packed({"x": described(shape=[0, 1 << 40, 1 << 40], offsets=[0, 0])}), "'x' has shape"),
    "100 axes": (packed({"x": described(shape=[1] * 100, offsets=[0, 4])}, bytes(4)), "'x' has shape"),
    "a negative offset": (packed({"x": described(offsets=[-8, 0])}, bytes(8)), "data_offsets"),
    "backwards": (packed({"x": described(offsets=[8, 0])}, bytes(8)), "'x' has -8 bytes, but F32 of shape"),
    "three offsets": (packed({"x": described(offsets=[0, 8, 9])}, bytes(8)), "data_offsets"),
    "too few bytes for the shape": (packed({"x": described(offsets=[0, 4])}, bytes(4)), "'x' has 4 bytes, but F32"),
    "overlapping": (
        packed({"x": described(), "y": described(offsets=[4, 12])}, bytes(12)), "'y' lies on the tensor before it",
    ),
    "the same place": (packed({"x": described(), "y": described()}, bytes(8)), "'y' lies on the tensor before it"),
    "a gap": (packed({"x": described(offsets=[4, 12])}, bytes(12)), "'x' leaves 4 bytes before it unused"),
    "incomplete": (packed({"x": described()}, bytes(7)), "7 bytes of data, but its header describes 8"),
    "more data than described": (packed({"x": described()}, bytes(9)), "9 bytes of data"),
    "data of 2^62 bytes": (
        packed({"x": described("U8", [1 << 62], [0, 1 << 62])}, bytes(9)), "9 bytes of data, but its header describes",
    ),
    "an index that is not JSON": (packed({"__metadata__": {"mpsim_index": "{oops"}}), "its index: it is not JSON"),
    "an index that is nested": (
        packed({"__metadata__": {"mpsim_index": "[" * 100_000}}),
        "its index: it is nested too deeply",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    content, message = BROKEN[case]
    path = tmp_path / "strange.safetensors"
    path.write_bytes(content)
    with pytest.raises(TensorFileError, match=message) as caught:
        read_tensors(path)
    assert "strange.safetensors" in str(caught.value) and len(str(caught.value)) < 600


def test_a_file_with_changed_bytes_is_read_or_refused(tmp_path: Path) -> None:
    """Any value may come of changed data, but nothing except TensorFileError of a changed header."""
    arrays = {"a": np.float32([[1, 2], [3, 4]]), "b": np.arange(3), "c": np.float16([0.5])}
    right = save(arrays, metadata={"mpsim_index": '{"batch": 1}'})
    random, path, refused = np.random.default_rng(1), tmp_path / "strange.safetensors", 0
    for _ in range(1000):
        path.write_bytes(mutations.of_bytes(right, random))
        try:
            read_tensors(path)
        except TensorFileError as error:
            refused += 1
            assert "strange.safetensors" in str(error)
    assert 500 < refused < 1000


def test_arrays_of_types_that_npz_does_not_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.ones(2, ml_dtypes.bfloat16))  # read back as two bytes of nothing
    with pytest.raises(
        TensorFileError, match=r"x\.npz .*array 'x': it has elements of type V2; write float32, or safetensors"
    ):
        read_tensors(path)
    np.savez(path, x=np.complex64([1j]))
    with pytest.raises(TensorFileError, match="elements of type c8"):
        read_tensors(path)
