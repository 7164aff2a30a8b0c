"""Descriptions in stages as text and as JSON, both read and written.

A ``Language`` has the stages (frozen dataclasses) of one kind of description. Products (mpsim/products/text.py) and
quantisers (mpsim/blocks/text.py) each have one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mpsim.errors import MpsimError, UsageError

#: Names that stand for a value.
MOST_SHOWN = 240  # characters of a text in messages
NAMES = {"none": None, "true": True, "false": False}


@dataclass(frozen=True)
class Language:
    """How descriptions of one kind are written.

    Args:
        what: What is described, such as "product", for messages.
        stages: The name of each stage, in lower case, and its class.
        example: A description, for messages.
        short: The class of the stages of which a format's name alone may be written, or None.
        plain: Returns what is written in place of a stage.
    """

    what: str
    stages: Mapping[str, type]
    example: str
    short: type | None = None
    plain: Callable[[object], object] = lambda stage: stage

    # -- text ---------------------------------------------------------------------------------------------------
    def read(self, text: str) -> object:
        """Returns what a text describes: a stage, a number, a name or a tuple of these.

        Raises:
            UsageError: The text is not written as calls of stages, or a stage refuses its fields.
        """
        try:
            tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UsageError(
                f"{self.what} {_shown(text)} is not written as calls of stages, such as {self.example} ({error})"
            ) from None
        return self._value(text, tree)

    def _value(self, text: str, node: ast.expr) -> object:
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, int | str | float)):
            return node.value
        if isinstance(node, ast.Name):
            return NAMES.get(node.id, node.id)
        if isinstance(node, ast.Tuple):
            return tuple(self._value(text, each) for each in node.elts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self._value(text, node.operand)
            if isinstance(number, int | float):
                return -number
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(text, node.func.id, node)
        found = _shown(ast.unparse(node))
        raise UsageError(f"{self.what} {_shown(text)}: {found} is not a stage, a number or a name; e.g. {self.example}")

    def _call(self, text: str, name: str, node: ast.Call) -> object:
        stage = self.stages.get(name)
        if stage is None:
            raise UsageError(
                f"{self.what} {_shown(text)}: unknown stage {name!r}; expected one of {', '.join(self.stages)}"
            )
        known = [each.name for each in fields(stage)]
        given = dict(zip(known, (self._value(text, each) for each in node.args), strict=False))
        for keyword in node.keywords:
            if keyword.arg is None or keyword.arg in given:
                raise UsageError(f"{self.what} {_shown(text)}: {name} is given {keyword.arg!r} twice")
            given[keyword.arg] = self._value(text, keyword.value)
        unknown = [each for each in given if each not in known]
        if unknown or len(node.args) > len(known):
            what = repr(unknown[0]) if unknown else f"{len(node.args)} values"
            raise UsageError(f"{self.what} {_shown(text)}: {name} takes {', '.join(known) or 'nothing'}, not {what}")
        return self._made(text, name, stage, given)

    def _made(self, where: str, name: str, stage: type, given: dict[str, object]) -> object:
        for each in fields(stage):
            wanted = _types(stage)[each.name]
            if each.name not in given:
                if each.default is MISSING:
                    raise UsageError(f"{self.what} {_shown(where)}: {name} needs {each.name}")
                continue
            value = given[each.name]
            if value is None and type(None) not in wanted and str in wanted:
                value = given[each.name] = "none"
            if isinstance(value, str) and self.short in wanted:
                value = given[each.name] = self.short(value)
            if isinstance(value, int) and not isinstance(value, bool) and float in wanted and int not in wanted:
                value = given[each.name] = float(value)
            if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
                said = f"{self._words(value)}{self._hint(value, wanted)}"
                raise UsageError(f"{self.what} {_shown(where)}: {each.name} of {name} cannot be {said}")
        try:
            return stage(**given)
        except MpsimError as error:
            raise UsageError(f"{self.what} {_shown(where)}: {error}") from None

    def _words(self, value: object) -> str:
        return self.write(value) if hasattr(value, "__dataclass_fields__") else _shown(value)

    def _hint(self, value: object, wanted: tuple[type, ...]) -> str:
        """What was meant where one stage stands in place of a tuple, and otherwise which stages may stand there."""
        if tuple in wanted and hasattr(value, "__dataclass_fields__"):
            return f"; a tuple of one has a comma: ({self.write(value)},)"
        fitting = [name for name, stage in self.stages.items() if issubclass(stage, wanted)]
        return f"; expected one of {', '.join(fitting)}" if fitting else ""

    def write(self, stage: object) -> str:
        """Returns a stage as ``read`` reads it. Fields that have their defaults are left out."""
        stage = self.plain(stage)
        if isinstance(stage, tuple):
            return f"({', '.join(map(self.write, stage))}{',' * (len(stage) == 1)})"
        if self.short is not None and isinstance(stage, self.short) and stage == self.short(stage.format):  # type: ignore[attr-defined]
            return str(stage.format)  # type: ignore[attr-defined]
        if not hasattr(stage, "__dataclass_fields__"):
            return str(stage).lower() if stage is None or isinstance(stage, bool) else str(stage)
        written: list[str] = []
        known = [field.name for field in fields(stage)]  # type: ignore[arg-type]
        for name, value in given_fields(stage):
            at_its_place = known[len(written)] == name
            written.append(self.write(value) if at_its_place else f"{name}={self.write(value)}")
        return f"{self._name(stage)}({', '.join(written)})"

    def _name(self, stage: object) -> str:
        return next(name for name, kind in self.stages.items() if kind is type(stage))

    # -- JSON ---------------------------------------------------------------------------------------------------
    def to_json(self, stage: object) -> object:
        """Returns a stage as JSON values, with its name under "stage". Fields that have their defaults are left out."""
        if isinstance(stage, tuple):
            return [self.to_json(each) for each in stage]
        if not hasattr(stage, "__dataclass_fields__"):
            return stage
        return {
            "stage": self._name(stage),
            **{name: self.to_json(value) for name, value in given_fields(stage)},
        }

    def of_json(self, value: object) -> object:
        """Returns the stage of ``to_json``. Raises UsageError for anything else."""
        try:
            return self._of_json(value)
        except RecursionError:
            raise UsageError(f"a {self.what} in JSON has too many stages inside each other") from None

    def _of_json(self, value: object) -> object:
        if isinstance(value, list):
            return tuple(self._of_json(each) for each in value)
        if not isinstance(value, Mapping):
            return value
        given = {str(key): self._of_json(each) for key, each in value.items()}
        name = given.pop("stage", None)
        stage = self.stages.get(name) if isinstance(name, str) else None
        if stage is None or set(given) - {field.name for field in fields(stage)}:
            raise UsageError(f"a stage of a {self.what} has the name and the fields of one, not {dict(value)!r}")
        return self._made("in JSON", str(name), stage, given)


def _shown(value: object) -> str:
    """A value as messages show it: long texts are cut in the middle."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]}...{text[-MOST_SHOWN // 2 :]}"


@cache
def _types(stage: type) -> dict[str, tuple[type, ...]]:
    """Field -> the types that its annotation names."""
    return {name: tuple(_plain(hint)) for name, hint in get_type_hints(stage).items()}


def _plain(hint: Any) -> Iterator[type]:
    if isinstance(hint, UnionType):
        for each in get_args(hint):
            yield from _plain(each)
    else:
        yield get_origin(hint) or hint


def given_fields(stage: Any) -> Iterator[tuple[str, object]]:
    """The fields of a stage that do not have their defaults."""
    for field in fields(stage):
        value = getattr(stage, field.name)
        if field.default is MISSING or value != field.default:
            yield field.name, value
