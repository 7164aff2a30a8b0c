"""Damages files in ways that disks, networks and strangers do: of their bytes, of a zip's members, of JSON values."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable, Iterator

import numpy as np

#: Numbers of one, two, four and eight bytes at which sizes and indexes turn.
_EDGES = [
    b"\x00", b"\xff", b"\xff\xff\xff\x7f", b"\xff" * 4, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"\0\0\0\0\0\4\0\0",
    b"\x7f\xff\xff\xff", b"\0\x10\0\0",  # big-endian
]  # fmt: skip
#: What stands where a number or a text belongs.
_TOKENS = [
    b"", b"-1", b"1e999", b"1" + b"0" * 20, b"1" + b"0" * 5000, b"NaN", b"null", b"true", b"[]", b"{}", b'"x"', b"0x",
    b'"\\ud800"', b"[" * 3000, b"\xff\xfe", b"\0", b"9" * 19, b"1.5", b'"' + b"a" * 300 + b'"',
]  # fmt: skip
_VALUES = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**20, 1.5, 1e308, -0.0, "", "x", "float8_e4m3fn", [], {}, [[]], [1, 2],
    {"a": 1}, "\ud800", "x" * 300, 10**400,
]  # fmt: skip


def of_bytes(content: bytes, generator: np.random.Generator) -> bytes:
    """Returns the content with one to three damages."""
    for _ in range(generator.integers(1, 4)):
        content = _BYTES[generator.integers(len(_BYTES))](content, generator)
    return content


def one_bit(content: bytes, generator: np.random.Generator) -> bytes:
    """Returns the content with one flipped bit in a byte that is not 0, of which most files of SQLite consist."""
    used = np.flatnonzero(np.frombuffer(content, np.uint8))
    at = int(used[generator.integers(len(used))])
    return content[:at] + bytes([content[at] ^ 1 << int(generator.integers(8))]) + content[at + 1 :]


def _place(content: bytes, generator: np.random.Generator) -> int:
    """A place in the content, often near its ends, where headers are."""
    size = max(len(content), 1)
    near = int(generator.integers(min(size, 64)))
    return [int(generator.integers(size)), near, size - 1 - near][generator.integers(3)]


def _flip(content: bytes, generator: np.random.Generator) -> bytes:
    at = _place(content, generator)
    return content[:at] + bytes([content[at] ^ 1 << int(generator.integers(8))]) + content[at + 1 :] if content else b""


def _edge(content: bytes, generator: np.random.Generator) -> bytes:
    at, edge = _place(content, generator), _EDGES[generator.integers(len(_EDGES))]
    return content[:at] + edge + content[at + len(edge) :]


def _cut(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: _place(content, generator)]


def _remove(content: bytes, generator: np.random.Generator) -> bytes:
    at = _place(content, generator)
    return content[:at] + content[at + int(generator.integers(1, 40)) :]


def _repeat(content: bytes, generator: np.random.Generator) -> bytes:
    at = _place(content, generator)
    return content[: at + int(generator.integers(1, 200))] + content[at:]


def _noise(content: bytes, generator: np.random.Generator) -> bytes:
    at = _place(content, generator)
    return content[:at] + generator.bytes(int(generator.integers(1, 16))) + content[at:]


def _token(content: bytes, generator: np.random.Generator) -> bytes:
    """Replaces a run of letters and digits."""
    at = _place(content, generator)
    first, last = at, at
    while first > 0 and content[first - 1 : first].isalnum():
        first -= 1
    while content[last : last + 1].isalnum():
        last += 1
    return content[:first] + _TOKENS[generator.integers(len(_TOKENS))] + content[last:]


_BYTES: list[Callable[[bytes, np.random.Generator], bytes]] = [_flip, _edge, _cut, _remove, _repeat, _noise, _token]


def of_json(content: bytes, generator: np.random.Generator) -> bytes:
    """Returns JSON text in which one to three values are replaced, removed or added."""
    value = copy.deepcopy(json.loads(content))
    for _ in range(generator.integers(1, 4)):
        nodes = list(_nodes(value))
        if not nodes:
            break
        parent, key = nodes[generator.integers(len(nodes))]
        action, other = generator.integers(4), copy.deepcopy(_VALUES[generator.integers(len(_VALUES))])
        if action == 0:
            del parent[key]  # type: ignore[attr-defined]
        elif action == 1 and isinstance(parent, dict):
            parent[str(other)] = parent[key]
        else:
            parent[key] = other  # type: ignore[index]
    return json.dumps(value).encode()


def _nodes(value: object) -> Iterator[tuple[object, object]]:
    """Yields the (container, key or index) of every value inside ``value``."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield value, key
            yield from _nodes(inner)


def _of_shape(content: bytes, generator: np.random.Generator) -> bytes:
    """Returns NumPy's file with another shape in a header of the same length."""
    size = [b"0", b"1", b"3", b"4294967296", b"%d" % (1 << 30), b"%d" % (1 << 28), b"7, 9"][generator.integers(7)]
    header, newline, data = content.partition(b"\n")
    start, shape, end = header.partition(b"'shape': (")
    changed = start + shape + size + b"," + end[end.find(b")") :]
    return changed.rstrip(b" ").ljust(len(header)) + newline + data


def of_zip(content: bytes, generator: np.random.Generator) -> bytes:
    """Returns the archive with a damaged member, or itself damaged."""
    if generator.integers(3) == 0:
        return of_bytes(content, generator)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = list(members)
    name = names[generator.integers(len(names))]
    action = generator.integers(8)
    if action == 0:
        del members[name]
    elif action == 1:
        members[name] = members[names[generator.integers(len(names))]]
    elif name.endswith(".json") and action < 6:
        members[name] = of_json(members[name], generator)
    elif name.endswith(".npy") and action < 4:
        members[name] = _of_shape(members[name], generator)
    else:
        members[name] = of_bytes(members[name], generator)
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if generator.integers(4) == 0 else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, inner in members.items():
            archive.writestr(name, inner)
    return buffer.getvalue()


#: Names that a pickle must not reach, and ones beside those that it may.
_GLOBALS = [
    ("builtins", "eval"), ("builtins", "getattr"), ("builtins", "print"), ("builtins", "bytearray"),
    ("posix", "getcwd"), ("os", "getpid"), ("numpy", "load"), ("numpy", "zeros"), ("numpy", "frombuffer"),
    ("_codecs", "decode"), ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "_reconstruct"),
    ("copyreg", "_reconstructor"), ("collections", "OrderedDict"), ("numpy", "dtype"), ("numpy", "ndarray"),
]  # fmt: skip
_ARGUMENTS = [(), (1,), ("1+1",), (b"x", "latin1"), ("x", "latin1"), ((2,),), (1 << 40,)]


def of_pickle(content: bytes, generator: np.random.Generator) -> bytes:
    """Returns the pickle with one to three damages, or one that calls a function by name."""
    if generator.integers(3):
        return of_bytes(content, generator)
    module, name = _GLOBALS[generator.integers(len(_GLOBALS))]
    arguments = pickle.dumps(_ARGUMENTS[generator.integers(len(_ARGUMENTS))], 2)[2:-1]  # without its head and end
    called = f"c{module}\n{name}\n".encode() + (arguments + b"R" if generator.integers(4) else b"")
    return b"\x80\x02}U\x04data" + called + b"s."
