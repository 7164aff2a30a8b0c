"""Compiles shims, and reads the types of a function's arrays from them."""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects.prototypes import Prototype


class CType(NamedTuple):
    """A type of C: its width in bits, and its name, as "float16", "uint8" or "int32"."""

    bits: int
    name: str

    @property
    def is_float(self) -> bool:
        return not self.name.startswith(("int", "uint"))

    def holds(self, bits: int, name: str) -> bool:
        """Whether words of this many bits can be passed that are numbers of a type, or codes in an integer type."""
        return self.bits == bits and (self.name == name or not self.is_float)


@dataclass(frozen=True)
class Shim:
    """A compiled shim, with its file, the types of inputs and outputs, and its C text."""

    path: str
    inputs: tuple[CType, ...]
    outputs: tuple[CType, ...]
    call: str
    beside: tuple[str, ...] = ()  # names, in the order in which they are passed


def build(found: Prototype, text: str, folder: Path, inputs: int) -> Shim:
    """Compiles a shim. Raises SubjectError if there is no C compiler, or with the compiler's first error."""
    compiler = _compiler()
    source, library = folder / "shim.c", folder / "shim.so"
    source.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [*compiler, "-shared", "-fPIC", "-O1", "-w", "-o", str(library), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        errors = [line.partition("error: ")[2] for line in done.stderr.splitlines() if "error: " in line]
        why = errors[0] if errors else done.stderr.strip()[-300:]
        if unheld := re.search(r'"(.* cannot hold .*)"', why):
            raise SubjectError(f"{found}: {unheld[1]}")
        raise SubjectError(
            f"the C compiler cannot call {found}: {why}. Pass --signature with types of stdint.h and _Float16, or "
            f"--header"
        )
    count = text.count("ABOUT(TYPE_")
    about = (ctypes.c_int * (3 * count)).in_dll(ctypes.CDLL(str(library)), "mpsim_about")
    brain = "__bf16" in found.answer or any("__bf16" in str(each) for each in found.parameters)
    types = [_type(8 * about[i], about[i + 1], about[i + 2], brain) for i in range(0, 3 * count, 3)]
    return Shim(str(library), tuple(types[:inputs]), tuple(types[inputs:]), text)


def _type(bits: int, is_float: int, is_signed: int, brain: bool) -> CType:
    """brain: integers of 16 bits without a sign are __bf16, which C's generic selection does not name."""
    if brain and bits == 16 and not (is_float or is_signed):
        return CType(bits, "bfloat16")
    return CType(bits, f"float{bits}" if is_float else f"{'' if is_signed else 'u'}int{bits}")


def _compiler() -> list[str]:
    words = [os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"]
    for text in filter(None, words):
        command = shlex.split(str(text))
        if shutil.which(command[0]):
            return command
    raise SubjectError(
        "C functions are called through a compiled shim, and there is no C compiler: install one, or set CC"
    )


def exported(library: Path, name: str) -> None:
    """Raises SubjectError if the library does not contain the name, with a hint if it has a C++ name for it."""
    content = library.read_bytes()
    if name.encode() + b"\0" in content:
        return
    mangled = re.search(rb"_Z\w*?%d%s\w*" % (len(name), name.encode()), content)
    hint = f'; it has {mangled[0].decode()}: declare it extern "C"' if mangled else ""
    raise SubjectError(f"{library} exports no {name!r}{hint}")
