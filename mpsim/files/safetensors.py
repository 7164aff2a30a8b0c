"""Reads safetensors files (Hugging Face, format 0.8) of strangers: every check comes before the memory is used.

A file is 8 bytes with the length of the header, the header (a JSON object: for each name its type, shape and place in
the data), and the data. Types that NumPy lacks are widened to float32, which holds each of their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpsim.checks import shown
from mpsim.errors import UsageError
from mpsim.files import json_text

Array = np.ndarray

#: The longest header that the format allows, in bytes.
MOST_HEADER = 100_000_000
#: The most axes that NumPy's arrays have.
MOST_AXES = 64


class TensorFileError(UsageError):
    """A file is neither safetensors nor npz, is broken, or has unusable content. The message says which.

    >>> import tempfile
    >>> from mpsim import nn
    >>> from mpsim.validate import TensorFileError
    >>> from mpsim.weights import load_weights
    >>> path = Path(tempfile.mkdtemp(), "weights.safetensors")
    >>> _ = path.write_text("no weights")
    >>> try:
    ...     load_weights(nn.ReLU(), path)
    ... except TensorFileError as error:
    ...     print(str(error).removeprefix(f"{path} ").partition(":")[0])
    is neither a complete safetensors file nor an npz archive
    """


class Narrow(NamedTuple):
    """A type that NumPy lacks: its name in mpsim, its words, and how float32 numbers come of them."""

    format: str
    words: np.dtype
    widened: Callable[[Array], Array]


class Contents(NamedTuple):
    """A file's arrays, the name of each one's type in the file, and the texts of its metadata."""

    tensors: dict[str, Array]
    types: dict[str, str]
    metadata: dict[str, str]


def _bfloat16(words: Array) -> Array:
    return (words.astype(np.uint32) << 16).view(np.float32)


def _float8(mantissa: int, bias: int, *, nan: Sequence[int], infinity: int | None = None) -> Callable[[Array], Array]:
    """Returns the function from codes of a sign, an exponent and ``mantissa`` bits to their values."""
    codes = np.arange(256)
    exponent, fraction = codes >> mantissa & (0x7F >> mantissa), codes & ((1 << mantissa) - 1)
    whole = (fraction + ((exponent > 0) << mantissa)).astype(np.float32)
    values = np.ldexp(whole, np.maximum(exponent, 1) - bias - mantissa)
    values = np.where(codes > 127, -values, values)
    values[list(nan)] = np.nan
    if infinity is not None:
        values[[infinity, infinity | 128]] = np.inf, -np.inf
    return lambda words: values[words]


def _powers_of_two(codes: Array) -> Array:
    words = codes.astype(np.uint32) << 23
    words[codes == 0] = 1 << 22  # 2**-127, a subnormal number
    words[codes == 255] = 0x7FC00000
    return words.view(np.float32)


_WORD, _BYTE = np.dtype("<u2"), np.dtype("u1")
_E5M2_NANS = [sign | code for sign in (0, 128) for code in (0x7D, 0x7E, 0x7F)]
NARROW: Mapping[str, Narrow] = {
    "BF16": Narrow("bfloat16", _WORD, _bfloat16),
    "F8_E4M3": Narrow("float8_e4m3fn", _BYTE, _float8(3, 7, nan=[0x7F, 0xFF])),
    "F8_E5M2": Narrow("float8_e5m2", _BYTE, _float8(2, 15, nan=_E5M2_NANS, infinity=0x7C)),
    "F8_E4M3FNUZ": Narrow("float8_e4m3fnuz", _BYTE, _float8(3, 8, nan=[0x80])),
    "F8_E5M2FNUZ": Narrow("float8_e5m2fnuz", _BYTE, _float8(2, 16, nan=[0x80])),
    "F8_E8M0": Narrow("float8_e8m0fnu", _BYTE, _powers_of_two),
}
PLAIN: Mapping[str, np.dtype] = {
    "BOOL": np.dtype("?"), "U8": np.dtype("u1"), "I8": np.dtype("i1"), "U16": np.dtype("<u2"), "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"), "I32": np.dtype("<i4"), "U64": np.dtype("<u8"), "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "F64": np.dtype("<f8"),
}  # fmt: skip


def read_safetensors(path: Path) -> Contents:
    """Reads every tensor of a file. Of a type that NumPy lacks, the values are returned as float32.

    Raises:
        TensorFileError: It is not such a file, is incomplete, or its header does not describe its data exactly.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MOST_HEADER):
            raise TensorFileError(
                f"{path} is neither a complete safetensors file nor an npz archive: a header of {length:,} bytes "
                f"cannot be in its {size:,} bytes"
            )
        header = _header(path, file.read(length))
        metadata = _metadata(path, header.pop("__metadata__", {}))
        places = {name: _place(path, name, described) for name, described in header.items()}
        _check_places(path, places, size - 8 - length)
        tensors, types = {}, {}
        for name, (kind, shape, begin, end) in places.items():
            file.seek(8 + length + begin)
            narrow = NARROW.get(kind)
            dtype = PLAIN[kind] if narrow is None else narrow.words
            content = file.read(end - begin)
            if len(content) != end - begin:
                raise TensorFileError(f"{path}: {name!r} is incomplete")
            array = np.frombuffer(content, dtype).reshape(shape)
            tensors[name] = np.array(array) if narrow is None else np.asarray(narrow.widened(array))
            types[name] = PLAIN[kind].name if narrow is None else narrow.format
    return Contents(tensors, types, metadata)


def _header(path: Path, text: bytes) -> dict[str, object]:
    try:
        header = json_text.decoded(text)
    except UsageError as error:
        raise TensorFileError(
            f"{path} is neither a complete safetensors file nor an npz archive: its header: {error}"
        ) from error
    if not isinstance(header, dict):
        raise TensorFileError(f"{path}: the header of a safetensors file is a JSON object, got {shown(header)}")
    return header


def _metadata(path: Path, metadata: object) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise TensorFileError(f"{path}: __metadata__ has to map names to texts, got {shown(metadata)}")
    return metadata


def _place(path: Path, name: str, described: object) -> tuple[str, tuple[int, ...], int, int]:
    """Returns type, shape, and the bytes from the first to that after the last, as the header describes a tensor."""
    if not isinstance(described, dict) or set(described) != {"dtype", "shape", "data_offsets"}:
        raise TensorFileError(f"{path}: {name!r} is described by dtype, shape and data_offsets, got {shown(described)}")
    kind, shape, offsets = described["dtype"], described["shape"], described["data_offsets"]
    if not isinstance(kind, str) or kind not in {**PLAIN, **NARROW}:
        known = ", ".join({**PLAIN, **NARROW})
        raise TensorFileError(f"{path}: {name!r} has type {shown(kind)}, which is not one of {known}; write F32")
    if not _whole_numbers(shape) or len(shape) > MOST_AXES or prod(size for size in shape if size) >= 2**63:
        raise TensorFileError(f"{path}: {name!r} has shape {shown(shape)}; expected sizes of an array")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise TensorFileError(f"{path}: {name!r} has data_offsets {shown(offsets)}; expected two bytes' places")
    begin, end = offsets
    width = (PLAIN[kind] if kind in PLAIN else NARROW[kind].words).itemsize
    if end - begin != prod(shape) * width:
        raise TensorFileError(
            f"{path}: {name!r} has {end - begin:,} bytes, but {kind} of shape {shown(tuple(shape))} has "
            f"{prod(shape) * width:,}"
        )
    return kind, tuple(shape), begin, end


def _check_places(path: Path, places: Mapping[str, tuple[str, tuple[int, ...], int, int]], size: int) -> None:
    """Raises TensorFileError unless the tensors fill the data without a gap, and none lies on another."""
    at = 0
    for name, (_, _, begin, end) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != at:
            what = "lies on the tensor before it" if begin < at else f"leaves {begin - at:,} bytes before it unused"
            raise TensorFileError(f"{path}: {name!r} {what}")
        at = end
    if at != size:
        raise TensorFileError(f"{path} has {size:,} bytes of data, but its header describes {at:,}: it is incomplete")


def _whole_numbers(values: object) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
