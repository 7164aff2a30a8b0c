"""Reads files of vectors, i.e. patterns of inputs and codes of results, as hex text, JSON lines or npz."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.files import columns
from mpsim.formats import Format, as_format
from mpsim.integers import is_integer_name
from mpsim.kernels.contract import Array

SUFFIXES = (".txt", ".hex", ".mem", ".jsonl", ".json", ".npz")


class Vectors(NamedTuple):
    """Vectors: inputs as unsigned patterns, results as uint64 codes or floats, the declared format and random words,
    uint32, if any."""

    inputs: Array
    results: Array
    format: Format | None
    words: Array | None = None


def read(path: Path) -> Vectors:
    """Reads the vectors of a file, whose suffix selects the form.

    Hex text has lines ``INPUT EXPECTED [RANDOM_BITS]``, comments after ``//`` or ``#``, and underscores that act as
    spaces. JSON lines are objects with ``input``, ``expected`` and perhaps ``random_bits`` as hex text or integers. An
    npz has arrays of these names. Floats in ``input`` represent their patterns, and floats in ``expected`` are numbers.

    Raises:
        ValueError: The content is something else.
        OSError: The file cannot be read.
    """
    if path.suffix == ".npz":
        return _npz(path)
    if path.suffix in (".json", ".jsonl"):
        return _json(path)
    lines = columns.text(path).splitlines()
    rows = [line.split("//")[0].split("#")[0].replace("_", " ").split() for line in lines]
    kept = [row for row in rows if row and not row[0].startswith("@")]
    if not kept or any(len(row) < 2 for row in kept):
        raise UsageError("expected lines of hex digits 'INPUT EXPECTED'")
    found = _vectors([row[0] for row in kept], [row[1] for row in kept])
    return found._replace(words=_random([row[2] for row in kept] if all(len(row) > 2 for row in kept) else None))


def _json(path: Path) -> Vectors:
    objects = columns.objects(path)
    rows = [item for item in objects if "input" in item]
    if not rows or any("expected" not in row for row in rows):
        raise UsageError("expected objects with 'input' and 'expected'")
    named = next((item["format"] for item in objects if isinstance(item.get("format"), str)), None)
    found = _vectors([_hex(row["input"]) for row in rows], [_hex(row["expected"]) for row in rows])
    words = [_hex(row["random_bits"]) for row in rows] if all("random_bits" in row for row in rows) else None
    return found._replace(format=_format(named), words=_random(words))


def _format(name: str | None) -> Format | None:
    """The declared format, if it is not an integer type."""
    return as_format(name) if name and not is_integer_name(name) else None


def _random(words: list[str] | None) -> Array | None:
    """Random words, or None for others, such as the flags of a simulator."""
    try:
        return None if words is None else np.array([int(word, 16) for word in words], np.uint32)
    except (ValueError, OverflowError):
        return None


def _hex(value: object) -> str:
    return value if isinstance(value, str) else f"{columns.word(value):x}"


def _vectors(inputs: list[str], codes: list[str]) -> Vectors:
    patterns, results = ([columns.word(word) for word in words] for words in (inputs, codes))
    digits = max(len(word.lower().removeprefix("0x")) for word in inputs)
    width = next((bits for bits in (8, 16, 32, 64) if digits * 4 <= bits), 0)
    if not width:
        raise UsageError(f"inputs of {digits} hex digits; expected at most 16")
    return Vectors(np.array(patterns, f"uint{width}"), np.array(results, np.uint64), None)


def _npz(path: Path) -> Vectors:
    arrays = columns.npz(path, ("input", "expected", "random_bits", "format"))
    if not {"input", "expected"} <= set(arrays):
        raise UsageError("expected arrays 'input' and 'expected'")
    inputs, codes = arrays["input"], arrays["expected"]
    words = _npz_words(arrays["random_bits"], inputs.size) if "random_bits" in arrays else None
    if inputs.shape != codes.shape:
        raise UsageError(f"'input' has shape {inputs.shape} and 'expected' {codes.shape}: they are pairs")
    if not inputs.size:
        raise UsageError("'input' is empty; expected at least one vector")
    inputs, codes = np.ascontiguousarray(inputs).reshape(-1), codes.reshape(-1)
    if inputs.dtype.kind in "fi":
        inputs = inputs.view(f"uint{8 * inputs.dtype.itemsize}")
    if inputs.dtype.kind not in "u" or codes.dtype.kind not in "uif":
        raise UsageError(f"'input' {inputs.dtype} and 'expected' {codes.dtype} are not patterns")
    results = codes if codes.dtype.kind == "f" else codes.astype(np.uint64)
    return Vectors(inputs, results, _format(str(arrays["format"]) if "format" in arrays else None), words)


def _npz_words(array: Array, size: int) -> Array:
    """Random words as uint32. Signed integers of 32 bits are their patterns, as where a library has no others."""
    if array.dtype == np.int32:
        array = np.ascontiguousarray(array).view(np.uint32)
    if array.dtype.kind not in "iu" or array.size != size or array.size and not 0 <= array.min() <= array.max() < 2**32:
        raise UsageError(
            f"'random_bits' is {array.dtype} of shape {array.shape}; expected a uint32 word for each of {size} inputs"
        )
    return array.reshape(-1).astype(np.uint32)
