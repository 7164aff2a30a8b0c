"""Opens subjects by name and decides in which process they run."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mpsim import checks
from mpsim.files.records import Fields
from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects import worker
from mpsim.validate.subjects.calling import TIMEOUT, Callee, Child, InProcess
from mpsim.validate.subjects.native.building import Shim, build, exported
from mpsim.validate.subjects.native.roles import Kind, roles
from mpsim.validate.subjects.native.shims import text_of
from mpsim.validate.subjects.prototypes import prototype

LIBRARIES = (".so", ".dylib", ".dll")


@dataclass(frozen=True)
class Calling:
    """Describes how a subject is called.

    Args:
        arguments: The arrays that a Python function receives, "numpy" or "torch".
        signature, header: The prototype of a C function, or the file that declares it.
        given: Numbers, as text, for C parameters that are neither arrays nor counts.
        timeout: The time limit of one answer, in seconds.
        in_process: Whether the subject runs in this process, where a crash or an endless loop also affects mpsim.

    >>> Calling(signature="void cast(const float *x, unsigned char *y, size_t n)").timeout
    120.0
    """

    arguments: str = "numpy"
    signature: str | None = None
    header: Path | None = None
    given: Mapping[str, str] = field(default_factory=dict)
    timeout: float = TIMEOUT
    in_process: bool = False

    def __post_init__(self) -> None:
        checks.named("arguments", self.arguments, ("numpy", "torch"))
        checks.timeout(self.timeout)


def is_library(text: str) -> bool:
    """Returns whether the text names a function of a library.

    >>> is_library("kernels.so:cast"), is_library("kernels.py:cast")
    (True, False)
    """
    place, colon, _ = text.rpartition(":")
    return bool(colon) and Path(place).suffix in LIBRARIES


def open_python(text: str, calling: Calling, form: str = "") -> tuple[Callee, str | None]:
    """Opens ``package.module:function``, ``file.py:function`` or ``package.name``.

    Returns:
        The callee, and the name of the dtype if it is one.

    Raises:
        SubjectError: There is no such subject.
    """
    place, colon, name = text.rpartition(":")
    if not colon:
        place, _, name = text.rpartition(".")
    if name == "py" and not colon:
        raise SubjectError(f"{text} names no function; expected {text}:function")
    if not place or not name:
        raise SubjectError(f"{text!r} names no subject; expected package.module:function or file.py:function")
    if calling.given:
        raise SubjectError("--argument is for C functions; write a Python function of the arrays alone")
    kind = "function" if colon else "dotted"
    spec = {"kind": kind, "place": place, "name": name, "arguments": calling.arguments, "form": form}
    callee = open_spec(text, spec, calling)
    return callee, callee.about.get("dtype")


def open_native(
    text: str, calling: Calling, inputs: int, kind: Kind = Kind.ELEMENTS, group: tuple[int | None, int | None] = (1, 1)
) -> tuple[Callee, Shim]:
    """Opens a C function. Returns the callee and the shim, which has the types of the arrays.

    Args:
        text: "library.so:name".
        calling: The prototype, or where it is, and values of further parameters.
        inputs: The number of arrays or elements that the function reads.
        kind: What it computes.
        group: The rows and columns of a block, None for all, where a parameter is the number of blocks.

    Raises:
        SubjectError: The function cannot be called.
    """
    place, _, name = text.rpartition(":")
    library = Path(place)
    if not library.exists():
        raise SubjectError(f"there is no library {library}")
    exported(library, name)
    found = prototype(library, name, calling.signature, calling.header)
    role = roles(found, calling.given, inputs, kind)
    with tempfile.TemporaryDirectory(prefix="mpsim-shim-") as folder:  # needed until the shim is loaded
        shim = replace(build(found, text_of(found, role, kind), Path(folder), inputs), beside=role.names(found))
        form = {Kind.ELEMENTS: "elements", Kind.BLOCKS: "blocks", Kind.PRODUCT: "product" if role.outputs else "dots"}
        spec = {
            "kind": "native", "library": str(library.resolve()), "name": name, "shim": shim.path, "form": form[kind],
            "inputs": inputs, "outputs": [tuple(each) for each in shim.outputs], "group": list(group),
        }  # fmt: skip
        return open_spec(text, spec, calling), shim


def open_spec(name: str, spec: Fields, calling: Calling) -> Child | InProcess:
    """Opens the function that a worker's spec describes, in a separate process if possible."""
    if calling.in_process or not sys.executable or sys.platform == "win32":
        return InProcess(name, lambda: worker.load(spec))
    return Child(name, spec, calling.timeout)
