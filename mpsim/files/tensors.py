"""Files of named arrays with a JSON index: safetensors (Hugging Face, format 0.8) and NumPy's npz."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.errors import UsageError
from mpsim.files import archive
from mpsim.files.whole import write_whole

#: The key of a safetensors file's metadata, and (with .json) the member of an npz archive, that holds the index.
INDEX = "mpsim_index"
SUFFIXES = (".safetensors", ".npz")

Array = np.ndarray


class TensorFileError(UsageError):
    """A file is none of the two kinds, broken, or holds what cannot be used; the message says which."""


@dataclass(frozen=True)
class TensorFile:
    """Arrays by name and, where the file has one, its JSON index (else {}); ``source`` names it in messages."""

    tensors: Mapping[str, Array]
    index: Mapping[str, Any] = field(default_factory=dict)
    source: str = "the file"


def write_tensors(
    path: str | Path, tensors: Mapping[str, Array], index: Mapping[str, Any], *, index_beside: bool = True
) -> None:
    """Writes arrays and index to ``path`` (.safetensors or .npz), the index also beside it as .json if so asked.

    Equal arrays and indexes give equal bytes. ValueError for another suffix; OSError if it cannot be written.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "step.npz")
    >>> write_tensors(path, {"Y/0/0": np.float32([1, 2])}, {"batch": 1})
    >>> read_tensors(path).tensors["Y/0/0"], read_tensors(path).index
    (array([1., 2.], dtype=float32), {'batch': 1})
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise UsageError(f"the suffix says how tensors are written: {' or '.join(SUFFIXES)}, got {path.name!r}")
    text = json.dumps(index, indent=1, allow_nan=False)
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    content = (
        _safetensors(arrays, text) if path.suffix == ".safetensors" else archive.pack(arrays, {f"{INDEX}.json": text})
    )
    write_whole(path, content)
    if index_beside:
        write_whole(path.with_suffix(".json"), (text + "\n").encode())


def read_tensors(path: str | Path) -> TensorFile:
    """The arrays and index of a file, told apart by its content. Float16 and exact float64 widen to float32.

    TensorFileError for a file that is neither or broken, or an array that float32 does not hold; OSError if it
    cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        start = file.read(2)
    tensors, text = (_read_npz if start == b"PK" else _read_safetensors)(path)
    try:
        index = json.loads(text) if text else {}
    except ValueError as error:
        raise TensorFileError(f"{path}: its index is no JSON ({error})") from error
    return TensorFile({name: _usable(path, name, array) for name, array in tensors.items()}, index, str(path))


def _usable(path: Path, name: str, array: Array) -> Array:
    """Float arrays as float32; integers as they are."""
    if array.dtype.kind in "iub" or array.dtype == np.float32:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = np.asarray(array.astype(np.float32))
    if not np.array_equal(narrow.astype(np.float64), array.astype(np.float64), equal_nan=True):
        raise TensorFileError(f"{path}: {name} has values of {array.dtype} that float32 does not hold; write float32")
    return narrow


def _safetensors(arrays: Mapping[str, Array], text: str) -> bytes:
    from safetensors.numpy import save

    return save(dict(arrays), metadata={INDEX: text})


def _read_safetensors(path: Path) -> tuple[dict[str, Array], str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            return {name: np.array(file.get_tensor(name)) for name in file.keys()}, metadata.get(INDEX, "")  # noqa: SIM118
    except SafetensorError as error:
        raise TensorFileError(f"{path} is neither a whole safetensors file nor an npz archive ({error})") from error
    except (TypeError, AttributeError, KeyError) as error:  # a type that NumPy lacks
        raise TensorFileError(f"{path} has a tensor of a type that NumPy lacks ({error}); write float32") from error


def _read_npz(path: Path) -> tuple[dict[str, Array], str]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            members = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise TensorFileError(f"{path} is no whole npz archive of plain arrays ({error})") from error
    text = members.pop(f"{INDEX}.json", b"")
    if isinstance(text, np.ndarray):  # np.savez(**np.load(...)) makes an array of the text
        text = text.astype(np.bytes_).tobytes()
    return members, text.decode(errors="replace")
