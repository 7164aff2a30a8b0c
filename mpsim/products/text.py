"""Products as text and as JSON, both read and written."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from mpsim.errors import MpsimError, UsageError
from mpsim.products.stages import STAGES, Order, Product, Sums

#: Names that stand for a value.
NAMES = {"none": None, "true": True, "false": False}
EXAMPLE = "'groups(lanes(8), rising(), folding())' or 'product(order=rising(float16), output=float16)'"


def product_of(text: str) -> Product:
    """The product of a text: stages as calls by their names, in lower case, with their fields as arguments.

    A format's name stands for ``sums`` of that format, and an order alone for a product in that order. Raises
    UsageError for anything else.

    >>> product_of("groups(lanes(8), rising(), folding())").order.partition
    Lanes(number=8, take=1)
    >>> product_of("product(order=rising(float16), output=float16)").output == Sums("float16")
    True
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"product {text!r} is not written as calls of stages, such as {EXAMPLE} ({error})") from None
    found = _value(text, tree)
    if isinstance(found, Order):
        return Product(order=found)
    if not isinstance(found, Product):
        raise UsageError(f"{text!r} is neither a product nor an order of one; expected e.g. {EXAMPLE}")
    return found


def _value(text: str, node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, int | str)):
        return node.value
    if isinstance(node, ast.Name):
        return NAMES.get(node.id, node.id)
    if isinstance(node, ast.Tuple):
        return tuple(_value(text, each) for each in node.elts)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        number = _value(text, node.operand)
        if isinstance(number, int):
            return -number
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(text, node.func.id, node)
    raise UsageError(f"product {text!r}: {ast.unparse(node)!r} is not a stage, a number or a name; e.g. {EXAMPLE}")


def _call(text: str, name: str, node: ast.Call) -> Any:
    stage = STAGES.get(name)
    if stage is None:
        raise UsageError(f"product {text!r}: unknown stage {name!r}; expected one of {', '.join(STAGES)}")
    known = [each.name for each in fields(stage)]
    given = dict(zip(known, (_value(text, each) for each in node.args), strict=False))
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg in given:
            raise UsageError(f"product {text!r}: {name} is given {keyword.arg!r} twice")
        given[keyword.arg] = _value(text, keyword.value)
    unknown = [each for each in given if each not in known]
    if unknown or len(node.args) > len(known):
        what = repr(unknown[0]) if unknown else f"{len(node.args)} values"
        raise UsageError(f"product {text!r}: {name} takes {', '.join(known) or 'nothing'}, not {what}")
    return _made(text, name, stage, given)


def _made(where: str, name: str, stage: type, given: dict[str, Any]) -> Any:
    for each in fields(stage):
        wanted = _types(stage)[each.name]
        if each.name not in given:
            if each.default is MISSING:
                raise UsageError(f"product {where!r}: {name} needs {each.name}")
            continue
        value = given[each.name]
        if value is None and type(None) not in wanted and str in wanted:
            value = given[each.name] = "none"
        if isinstance(value, str) and Sums in wanted:
            value = given[each.name] = Sums(value)
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise UsageError(f"product {where!r}: {each.name} of {name} cannot be {value!r}")
    try:
        return stage(**given)
    except MpsimError as error:
        raise UsageError(f"product {where!r}: {error}") from None


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


def text_of(stage: object) -> str:
    """A stage as ``product_of`` reads it: fields that have their defaults are left out.

    >>> text_of(product_of("product(order=groups(blocks(size=64), rising(), pairwise()))"))
    'groups(blocks(64), rising(), pairwise())'
    """
    if isinstance(stage, tuple):
        return f"({', '.join(map(text_of, stage))}{',' * (len(stage) == 1)})"
    if isinstance(stage, Product) and {name for name, _ in _given(stage)} <= {"order"}:
        stage = stage.order
    if isinstance(stage, Sums) and stage == Sums(stage.format):
        return stage.format
    if not hasattr(stage, "__dataclass_fields__"):
        return str(stage).lower() if stage is None or isinstance(stage, bool) else str(stage)
    written: list[str] = []
    known = [field.name for field in fields(stage)]  # type: ignore[arg-type]
    for name, value in _given(stage):
        at_its_place = known[len(written)] == name
        written.append(text_of(value) if at_its_place else f"{name}={text_of(value)}")
    return f"{type(stage).__name__.lower()}({', '.join(written)})"


def to_json(stage: object) -> Any:
    """A stage as JSON values, its type under "stage"; fields that have their defaults are left out.

    >>> to_json(Sums("float16"))
    {'stage': 'sums', 'format': 'float16'}
    """
    if isinstance(stage, tuple):
        return [to_json(each) for each in stage]
    if not hasattr(stage, "__dataclass_fields__"):
        return stage
    return {"stage": type(stage).__name__.lower(), **{name: to_json(value) for name, value in _given(stage)}}


def _given(stage: Any) -> Iterator[tuple[str, object]]:
    """The fields of a stage that do not have their defaults."""
    for field in fields(stage):
        value = getattr(stage, field.name)
        if field.default is MISSING or value != field.default:
            yield field.name, value


def of_json(value: Any) -> Any:
    """The stage of ``to_json``. Raises UsageError for anything else.

    >>> of_json(to_json(Product())) == Product()
    True
    """
    try:
        return _of_json(value)
    except RecursionError:
        raise UsageError("a product in JSON has too many stages inside each other") from None


def _of_json(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_of_json(each) for each in value)
    if not isinstance(value, Mapping):
        return value
    given = {str(key): _of_json(each) for key, each in value.items()}
    name = given.pop("stage", None)
    stage = STAGES.get(name) if isinstance(name, str) else None
    if stage is None or set(given) - {field.name for field in fields(stage)}:
        raise UsageError(f"a stage of a product has the name and the fields of one, not {dict(value)!r}")
    return _made("in JSON", str(name), stage, given)
