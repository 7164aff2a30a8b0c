"""Reads the declarations of C functions from a signature, a header or a source file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from mpsim.validate.answers import SubjectError

CASTS = "void NAME(const float *in, uint8_t *out, size_t n) or uint8_t NAME(float x)"
_TYPE_WORDS = {
    "char", "short", "int", "long", "float", "double", "signed", "unsigned", "bool", "_Bool", "_Float16", "__bf16",
    "void", "size_t",
}  # fmt: skip
_QUALIFIERS = re.compile(r"\b(const|restrict|__restrict__|__restrict|volatile)\b")
#: Finds typedefs of one line, typedefs of enums, and enums in a source file.
_TYPEDEFS = re.compile(r"^\s*(?:typedef\s[^;{]*;|(?:typedef\s+)?enum\b[^;{}()]*\{[^}]*\}[^;{}()]*;)", re.MULTILINE)


@dataclass(frozen=True)
class Parameter:
    """A parameter, with its name ("" if the prototype has none) and its type as C text."""

    name: str
    type: str

    @property
    def points(self) -> bool:
        return self.type.endswith("*")

    @property
    def is_input(self) -> bool:
        """Whether it is a pointer to data that the function does not write."""
        return self.points and re.search(r"\bconst\b", self.type.rsplit("*", 1)[0]) is not None

    def __str__(self) -> str:
        return f"{self.type} {self.name}".strip()


@dataclass(frozen=True)
class Prototype:
    """The declaration of a function. ``before`` is C text that declares it and the types that it uses."""

    name: str
    answer: str
    parameters: tuple[Parameter, ...]
    before: str

    def __str__(self) -> str:
        return f"{self.name}({', '.join(map(str, self.parameters))})"


def prototype(library: Path, name: str, signature: str | None, header: Path | None) -> Prototype:
    """Finds the prototype of a function in ``signature``, in ``header``, or in a .h or .c file next to the library.

    Raises:
        SubjectError: There is no prototype, or it cannot be read.
    """
    standard = "#include <stddef.h>\n#include <stdint.h>\n#include <stdbool.h>\n"
    if signature is not None:
        found = _declaration(signature, name)
        if found is None:
            raise SubjectError(f"cannot read the prototype {signature!r} of {name}; expected e.g. {CASTS}")
        return _parsed(name, *found, standard + f"{found[0]} {name}({found[1]});\n")
    files = [header] if header else [library.with_suffix(suffix) for suffix in (".h", ".hpp", ".c", ".cpp", ".cc")]
    for file in files:
        if not file.exists():
            continue
        text = _without_comments(file.read_text(encoding="utf-8", errors="replace"))
        found = _declaration(text, name)
        if found is not None and file.suffix == ".h":
            return _parsed(name, *found, standard + f'#include "{file.resolve()}"\n')
        if found is not None:
            typedefs = "\n".join(_TYPEDEFS.findall(text))
            return _parsed(name, *found, f"{standard}{typedefs}\n{found[0]} {name}({found[1]});\n")
    raise SubjectError(
        f"no prototype of {name!r} in {', '.join(map(str, files))}; pass --signature {CASTS!r} or --header FILE"
    )


def _without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)


def _declaration(text: str, name: str) -> tuple[str, str] | None:
    """Returns the result type and parameters of the first declaration of ``name``. It skips preprocessor lines."""
    text = re.sub(r"^\s*#(?:.*\\\n)*.*$", ";", text, flags=re.MULTILINE)
    for found in re.finditer(rf"\b{re.escape(name)}\s*\(", text):
        start = max(text.rfind(mark, 0, found.start()) for mark in ";{}") + 1
        answer = re.sub(
            r"__(attribute__|declspec)\s*\(.*\)|\b(extern|static|inline)\b|\"C\"", " ", text[start : found.start()]
        )
        words = [word for word in answer.replace("*", " * ").split() if not re.fullmatch(r"[A-Z][A-Z0-9_]+", word)]
        end = text.find(")", found.end())
        if words and end > 0 and words[0] != "return" and re.fullmatch(r"[\w\s*]+", " ".join(words)):
            return " ".join(words), " ".join(text[found.end() : end].split())
    return None


def _parsed(name: str, answer: str, parameters: str, before: str) -> Prototype:
    parts = [part.strip() for part in parameters.split(",") if part.strip() and part.strip() != "void"]
    return Prototype(name, answer, tuple(map(_parameter, parts)), before)


def _parameter(text: str) -> Parameter:
    """Parses the declaration of a parameter."""
    text = re.sub(r"\[[^]]*\]", "*", text) if "[" in text else text
    match = re.fullmatch(r"(.*?)(\w+)(\**)", re.sub(r"\s*\*\s*", "*", text).strip())
    if match is None:  # it ends in a pointer, so it has no name
        return Parameter("", _spaced(text))
    head, last, stars = match.groups()
    others = _QUALIFIERS.sub(" ", head).replace("*", " ").split()
    if not others or last in _TYPE_WORDS:
        return Parameter("", _spaced(text))
    return Parameter(last, _spaced(head + stars))


def _spaced(text: str) -> str:
    kept = re.sub(r"\b(restrict|__restrict__|__restrict|volatile)\b", " ", text)
    return " ".join(kept.replace("*", " * ").split())
