"""Reads and writes named arrays with a JSON index, as safetensors (Hugging Face, format 0.8) or NumPy's npz."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files import archive, json_text, npz
from mpsim.files.records import Fields
from mpsim.files.safetensors import TensorFileError, read_safetensors
from mpsim.files.whole import write_whole

#: Where the index is stored: a key in the metadata of a safetensors file, and (with .json) a member of an npz archive.
INDEX = "mpsim_index"
_INDEX = f"{INDEX}.json"
SUFFIXES = (".safetensors", ".npz")

Array = np.ndarray


#: How zip archives begin, also empty ones.
_ZIP = (b"PK\3\4", b"PK\5\6")


@dataclass(frozen=True)
class TensorFile:
    """Arrays by name, and the JSON index of the file ({} if it has none). ``source`` names the file in messages.

    ``types``: the type of each array in the file, e.g. "bfloat16", where it is known.
    """

    tensors: Mapping[str, Array]
    index: Fields = field(default_factory=dict)
    source: str = "the file"
    types: Mapping[str, str] = field(default_factory=dict)


def write_tensors(
    path: str | Path, tensors: Mapping[str, Array], index: Mapping[str, object], *, index_beside: bool = True
) -> None:
    """Writes arrays and an index. Equal arrays and indexes give equal bytes.

    Args:
        path: The file. Its suffix, .safetensors or .npz, selects the form.
        tensors: Arrays by name.
        index: A JSON object.
        index_beside: Whether the index is also written to a .json file next to it.

    Raises:
        ValueError: The suffix is unknown.
        OSError: The file cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "step.npz")
    >>> write_tensors(path, {"Y/0/0": np.float32([1, 2])}, {"batch": 1})
    >>> read_tensors(path).tensors["Y/0/0"], read_tensors(path).index
    (array([1., 2.], dtype=float32), {'batch': 1})
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"the suffix of a file of tensors must be {' or '.join(SUFFIXES)}, got {path.name!r}")
    text = json.dumps(index, indent=1, allow_nan=False)
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    content = (
        _safetensors(arrays, text) if path.suffix == ".safetensors" else archive.pack(arrays, {f"{INDEX}.json": text})
    )
    write_whole(path, content)
    if index_beside:
        write_whole(path.with_suffix(".json"), (text + "\n").encode())


def read_tensors(path: str | Path) -> TensorFile:
    """Reads the arrays and the index of a file, whose form is recognised by its content.

    Float arrays are converted to float32, which must be exact. A safetensors file may also have tensors of bfloat16 and
    of the float8 types.

    Raises:
        TensorFileError: The file is neither safetensors nor npz, is broken, or has an array that float32 does not hold.
        OSError: The file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start in _ZIP:
        tensors, text = _read_npz(path)
        types = {name: array.dtype.name for name, array in tensors.items()}
    else:
        tensors, types, metadata = read_safetensors(path)
        text = metadata.get(INDEX, "")
    try:
        index = json_text.decoded(text) if text else {}
    except UsageError as error:
        raise TensorFileError(f"{path}: its index: {error}") from error
    if not isinstance(index, dict):
        raise TensorFileError(f"{path}: its index should be a JSON object, got {checks.shown(index)}")
    return TensorFile({name: _usable(path, name, array) for name, array in tensors.items()}, index, str(path), types)


def _usable(path: Path, name: str, array: Array) -> Array:
    """Converts float arrays to float32 and returns integers unchanged."""
    if array.dtype.kind in "iub" or array.dtype == np.float32:
        return array
    if array.dtype.kind != "f":
        raise TensorFileError(f"{path}: {name} has elements of {array.dtype}; write float32, or safetensors")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = np.asarray(array.astype(np.float32))
    if not np.array_equal(narrow.astype(np.float64), array.astype(np.float64), equal_nan=True):
        raise TensorFileError(f"{path}: {name} has values of {array.dtype} that float32 does not hold; write float32")
    return narrow


def _safetensors(arrays: Mapping[str, Array], text: str) -> bytes:
    from safetensors.numpy import save

    return save(dict(arrays), metadata={INDEX: text})


def _read_npz(path: Path) -> tuple[dict[str, Array], str]:
    try:
        with npz.opened(path) as file:
            tensors = dict(file)
            text = file.text(_INDEX) if _INDEX in file.texts else b""
    except UsageError as error:
        raise TensorFileError(str(error)) from error
    if (array := tensors.pop(_INDEX, None)) is not None:  # np.savez(**np.load(...)) turns the text into an array
        if array.dtype.kind != "S":
            raise TensorFileError(f"{path}: its index is an array of {array.dtype}; expected a text")
        text = array.tobytes()
    return tensors, text.decode(errors="replace")
