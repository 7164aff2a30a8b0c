"""Writes the Python functions of the kernels: functions.pxi, from the table in kernels.h and the structs in structs.h.

setup.py runs this before it builds. Of a kernel's parameters, a pointer to numbers becomes an array or None, a pointer
to a struct the bytes of its fields, and a number a number. Sizes are unchecked.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
_KERNEL = re.compile(r"X\(V, (\w+), (\w+),\s*\(([^()]*)\)\)")
_STRUCT = re.compile(r"typedef struct \{\n(.*?)\n\} (\w+);", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)

HEAD = """\
# Written by ext/common/wrappers.py from kernels.h and structs.h.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

cdef extern from "common/kernels.h":
"""
LAYOUTS = '''

def layouts():
    """Returns each struct's size, and each field's name, offset and size in bytes; and the order of the modes."""
'''


class Parameter(NamedTuple):
    """A parameter of a C function, e.g. "const float", "x", and whether it is a pointer."""

    type: str
    name: str
    pointer: bool

    @classmethod
    def of(cls, text: str) -> Parameter:
        """Parses a declaration in C."""
        type, name = re.fullmatch(r"(.*?)\s*(\*?\w+)", text.strip()).groups()
        return cls(type, name.lstrip("*"), name.startswith("*"))

    @property
    def is_struct(self) -> bool:
        """Whether it points to a struct of structs.h. Their names begin with a capital letter."""
        return self.type.removeprefix("const ")[0].isupper()

    @property
    def argument(self) -> str:
        """The argument of the Python function."""
        if not self.pointer:
            return f"{self.type} {self.name}"
        return f"{'const uint8_t' if self.is_struct else self.type}[::1] {self.name}"

    @property
    def address(self) -> list[str]:
        """The statements that create the pointer argument of the C function."""
        cast = f"<{self.type} *>" if self.is_struct else ""
        return [
            f"    cdef {self.type} *{self.name}_ = NULL",
            f"    if {self.name} is not None:",
            f"        {self.name}_ = {cast}&{self.name}[0]",
        ]


def structs(text: str) -> dict[str, list[tuple[str, str]]]:
    """Returns the fields of each struct, e.g. "int64_t" and "key[2]"."""
    found: dict[str, list[tuple[str, str]]] = {}
    for body, name in _STRUCT.findall(_COMMENT.sub("", text)):
        found[name] = []
        for statement in body.split(";")[:-1]:
            type, _, names = statement.strip().partition(" ")
            found[name] += [(type, each.strip()) for each in names.split(",")]
    return found


def modes(text: str) -> list[str]:
    """Returns the members of enum RoundingMode, without the count at the end."""
    members = re.split(r",\s*", re.search(r"enum RoundingMode \{\s*([^}]*?)\s*\}", text)[1])
    return members[:-1]


def kernels(text: str) -> list[tuple[str, str, list[Parameter]]]:
    """Returns the name, result and parameters of each kernel."""
    plain = _COMMENT.sub("", text.replace("\\\n", "\n"))
    return [
        (name, result, [Parameter.of(each) for each in parameters.split(",")])
        for name, result, parameters in _KERNEL.findall(plain)
    ]


def wrapper(name: str, result: str, parameters: list[Parameter]) -> str:
    """Returns the Python function of a kernel."""
    given = ", ".join(each.name + "_" * each.pointer for each in parameters)
    lines = [f"def {name}({', '.join(each.argument for each in parameters)}):"]
    lines += [line for each in parameters if each.pointer for line in each.address]
    call = f"mpsim_kernels().{name}({given})"
    if result == "void":
        lines += ["    with nogil:", f"        {call}"]
    else:
        lines += [f"    cdef {result} result", "    with nogil:", f"        result = {call}"]
    if result == "int":
        lines += ["    if result:", f'        raise MemoryError("not enough memory for the buffers of {name}")']
    elif result != "void":
        lines += ["    return result"]
    return "\n".join(lines) + "\n"


def layout(name: str, fields: list[tuple[str, str]]) -> str:
    """Returns a struct's entry in the result of layouts()."""
    one, entries = name.lower(), ""
    for _, declarator in fields:
        field = declarator.partition("[")[0]
        entries += f'("{field}", <char *>&{one}.{field} - <char *>&{one}, sizeof({one}.{field})), '
    return f'        "{name}": (sizeof({name}), ({entries})),\n'


def pxi() -> str:
    """Returns the text of functions.pxi."""
    table, shapes = kernels((FOLDER / "kernels.h").read_text()), structs((FOLDER / "structs.h").read_text())
    text = HEAD
    for name, fields in shapes.items():
        text += f"    ctypedef struct {name}:\n" + "".join(f"        {type} {field}\n" for type, field in fields)
    text += "    ctypedef struct Kernels:\n"
    for name, result, parameters in table:
        types = ", ".join(each.type + " *" * each.pointer for each in parameters)
        text += f"        {result} (*{name})({types}) noexcept nogil\n"
    text += "    const Kernels *mpsim_kernels() noexcept nogil\n" + LAYOUTS
    text += "".join(f"    cdef {name} {name.lower()}\n" for name in shapes)
    text += "    return {\n" + "".join(layout(name, fields) for name, fields in shapes.items())
    numbering = modes((FOLDER.parent / "rounding" / "rounding.h").read_text())
    text += f'        "RoundingMode": {tuple(numbering)},\n' + "    }\n"
    return text + "".join("\n\n" + wrapper(*row) for row in table)


def write(path: Path, text: str) -> None:
    """Writes the file unless it has this text already, so that nothing is recompiled without need."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
