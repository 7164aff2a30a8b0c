"""Writes tables of vectors as npz, JSON lines, hex text, memory images or C headers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mpsim.files import archive
from mpsim.files.records import Json
from mpsim.kernels.contract import Array

FORMS = ("npz", "jsonl", "txt", "mem", "h")
#: The forms of operations.
OP_FORMS = (*FORMS, "testfloat")


class Table(NamedTuple):
    """One set of vectors, with its name, its description, and columns of unsigned words with their widths in bits.

    The last column is the expected result, or the flags after it. A column of shape (n, K) has K words for each vector.
    """

    name: str
    about: Mapping[str, Json]
    columns: dict[str, tuple[Array, int]]

    @property
    def size(self) -> int:
        return len(next(iter(self.columns.values()))[0])


# -- casts --------------------------------------------------------------------------------------------------


def table_files(table: Table, forms: Sequence[str] = FORMS, *, deflate: bool = False) -> dict[str, bytes]:
    """Returns the content of each file of a table. ``deflate`` compresses an npz."""
    found: dict[str, bytes] = {}
    if "npz" in forms:
        found[f"{table.name}.npz"] = archive.pack(_arrays(table), deflate=deflate)
    if "jsonl" in forms:
        found[f"{table.name}.jsonl"] = _json_lines(table)
    if "txt" in forms:
        order = sorted(table.columns, key=lambda name: name == "random_bits")
        rows = zip(*(_words(*table.columns[name]) for name in order), strict=True)
        lines = [f"// {' '.join(order)}; {json.dumps(table.about)}", *(" ".join(row) for row in rows)]
        found[f"{table.name}.txt"] = text_bytes(lines)
    if "testfloat" in forms:
        rows = zip(*(_words(*column) for column in table.columns.values()), strict=True)
        found[f"{table.name}.tv"] = text_bytes([" ".join(row).upper() for row in rows])
    if "mem" in forms:
        for name, (words, bits) in table.columns.items():
            found[f"{table.name}.{name}.mem"] = text_bytes(hex_words(words.reshape(-1), bits))
    if "h" in forms:
        found[f"{table.name}.h"] = _header(table)
    return found


def _arrays(table: Table) -> dict[str, Array]:
    arrays = {name: words for name, (words, _) in table.columns.items()}
    texts = {key: table.about[key] for key in ("format", "source", "inputs") if key in table.about}
    return arrays | {key: np.array(text) for key, text in texts.items()}


def hex_words(words: Array, bits: int) -> list[str]:
    """Returns words of the given width as hex digits."""
    return [f"{int(word):0{-(-bits // 4)}x}" for word in words]


def _words(words: Array, bits: int) -> list[str]:
    """Returns one text for each vector, with its words in hex."""
    if words.ndim == 1:
        return hex_words(words, bits)
    return [" ".join(hex_words(row, bits)) for row in words]


def _json_lines(table: Table) -> bytes:
    columns = {name: [hex_words(row, bits) if row.ndim else hex_words(row[None], bits)[0] for row in words]
               for name, (words, bits) in table.columns.items()}  # fmt: skip
    lines = [json.dumps({"name": table.name, "vectors": table.size, **table.about})]
    for row in zip(*columns.values(), strict=True):
        lines.append(json.dumps(dict(zip(columns, row, strict=True))))
    return text_bytes(lines)


def _header(table: Table) -> bytes:
    """Returns C arrays of the narrowest unsigned types, with NAME_COUNT vectors each."""
    guard = f"MPSIM_{table.name}".upper()
    lines = [f"/* {json.dumps(table.about)} */", f"#ifndef {guard}_H", f"#define {guard}_H",
             "#include <stdint.h>", f"#define {guard}_COUNT {table.size}"]  # fmt: skip
    for name, (words, bits) in table.columns.items():
        width = next(width for width in (8, 16, 32, 64) if bits <= width)
        per_vector = f"[{words.shape[1]}]" if words.ndim == 2 else ""
        lines.append(f"static const uint{width}_t {table.name}_{name}[{max(table.size, 1)}]{per_vector} = {{")
        for row in words if words.ndim == 2 else words.reshape(-1, 1):
            literals = ", ".join(f"0x{word}{'ull' if width == 64 else 'u'}" for word in hex_words(row, bits))
            lines.append(f"{{{literals}}}," if words.ndim == 2 else f"{literals},")
        lines.append("};")
    return text_bytes([*lines, "#endif"])


def text_bytes(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode("ascii")
