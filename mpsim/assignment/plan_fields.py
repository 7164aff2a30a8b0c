"""Writes and reads the fields of a plan's JSON object (docs/plan.schema.json); an error names the field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from mpsim import checks
from mpsim.assignment.levels import Levels
from mpsim.assignment.network import Network, PlannedOp
from mpsim.checks import shown
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format

#: Version of the JSON object; raised when a field changes its meaning.
VERSION = 1

#: How a field's kind is told to people.
_KINDS: dict[type, str] = {str: "a text", int: "an integer", float: "a number", list: "a list", dict: "an object"}


# -- written ----------------------------------------------------------------------------------------------------
def levels_to_dict(levels: Levels) -> dict[str, Any]:
    """The formats of each level by name."""
    between = {"between": [_level_to_dict(level) for level in levels.between]} if levels.between else {}
    return {
        "name": levels.name,
        "high": _level_to_dict(levels.high),
        **between,
        "low": _level_to_dict(levels.low),
    }


def _level_to_dict(level: Mapping[str, Format]) -> dict[str, str]:
    return {role: level[role].name for role in ROLES}


def formats_to_dict(used: Iterable[Format], levels: Levels) -> dict[str, Any]:
    """The definition of every format that the tensors or the levels name."""
    named = [format for level in levels.steps for format in level.values()]
    return {
        format.name: {key: value for key, value in asdict(format).items() if key != "name"} | {"bits": format.bits}
        for format in {format.name: format for format in [*used, *named]}.values()
    }


def one_row_a_line(record: Mapping[str, Any]) -> str:
    """JSON text with one op or tensor a line, so that plans compare well line by line."""
    lines = []
    for key, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


# -- read -------------------------------------------------------------------------------------------------------
_REQUIRED = object()


def take(record: Any, field: str, kind: type, place: str | None = None, default: Any = _REQUIRED) -> Any:
    """``record[field]``, checked to be of a kind; None or a missing field gives the default if there is one."""
    name = f"{place}.{field}" if place else field
    if not isinstance(record, Mapping):
        raise UsageError(f"plan: {place or 'the whole'} should be an object, got {shown(record)}")
    value = record.get(field)
    if value is None and default is not _REQUIRED:
        return default
    if field not in record:
        raise UsageError(f"plan: field {name!r} is missing")
    fits = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
    if not fits:
        raise UsageError(f"plan: field {name!r} should be {_KINDS[kind]}, got {shown(value)}")
    return value


def decoded(text: str) -> Mapping[str, Any]:
    """The object of a JSON text."""
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"plan: not JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    if not isinstance(record, dict):
        raise UsageError(f"plan: should be a JSON object, got {shown(record)}")
    return record


def formats(record: Mapping[str, Any]) -> dict[str, Format]:
    """The plan's own table of formats."""
    table = take(record, "formats", dict)
    found = {}
    for name in table:
        row = take(table, name, dict, "formats")
        place = f"formats.{name}"
        found[name] = Format(
            name,
            take(row, "exponent_bits", int, place),
            take(row, "mantissa_bits", int, place),
            take(row, "bias", int, place),
            take(row, "specials", str, place),
            bool(row.get("subnormals", True)),
            bool(row.get("signed", True)),
        )
    return found


def _format(name: str, table: Mapping[str, Format], place: str) -> Format:
    """A format of the plan's own table, else of FORMATS."""
    if name in table:
        return table[name]
    try:
        return FORMATS[name]
    except ValueError as error:
        raise UsageError(f"plan: field {place!r}: {error}") from None


def levels(plan: Mapping[str, Any], formats: Mapping[str, Format]) -> Levels:
    """The levels, their formats from the plan's table."""
    record = take(plan, "levels", dict)

    def level(given: Any, place: str) -> dict[str, Format]:
        return {role: _format(take(given, role, str, place), formats, f"{place}.{role}") for role in ROLES}

    between = [
        level(given, f"levels.between[{number}]")
        for number, given in enumerate(take(record, "between", list, "levels", []))
    ]
    high, low = (level(take(record, side, dict, "levels"), f"levels.{side}") for side in ("high", "low"))
    return Levels(high, low, take(record, "name", str, "levels", None), tuple(between))


def network(record: Mapping[str, Any]) -> Network:
    """What the plan was made for."""
    ops = []
    for number, row in enumerate(take(record, "ops", list)):
        place = f"ops[{number}]"
        producers = _integers(take(row, "producers", list, place), f"{place}.producers")
        index = take(row, "index", int, place)
        if index != number:
            raise UsageError(f"plan: field '{place}.index' should be {number} (ops stand in order), got {index}")
        name, kind = take(row, "name", str, place), take(row, "kind", str, place)
        ops.append(PlannedOp(index, name, kind, take(row, "group", int, place), producers))
    return Network(
        take(record, "model", str),
        float(checks.width("plan: field 'width'", take(record, "width", float))),
        checks.classes("plan: field 'classes'", take(record, "classes", int)),
        checks.batch("plan: field 'batch'", take(record, "batch", int)),
        take(record, "semantics", str),
        tuple(ops),
        _integers(take(record, "groups", list), "groups"),
    )


def _integers(values: list, place: str) -> tuple[int, ...]:
    for number, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"plan: field '{place}[{number}]' should be an integer, got {shown(value)}")
    return tuple(values)


def _id(row: Any, place: str, network: Network) -> TensorId:
    op, role = take(row, "op", int, place), take(row, "role", str, place)
    if not 0 <= op < len(network.ops):
        raise UsageError(f"plan: field '{place}.op' is {op}, but there are {len(network.ops)} ops")
    if role not in ROLES:
        raise UsageError(f"plan: field '{place}.role' is {role!r}. Known: {', '.join(ROLES)}")
    return TensorId(op, role, take(row, "index", int, place))


def ratio(record: Mapping[str, Any]) -> float | None:
    """The ratio of a scheme that has one."""
    ratio = take(record, "ratio", float, None, None)
    if ratio is not None and not 0 <= ratio <= 1:
        raise UsageError(f"plan: field 'ratio' should be in [0, 1], got {ratio}")
    return ratio


def ratios(record: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The ratios of a scheme in steps."""
    values = take(record, "ratios", list, None, None)
    if values is None:
        return None
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or numbers != sorted(numbers) or not all(0 <= number <= 1 for number in numbers):
        raise UsageError(f"plan: field 'ratios' should be rising numbers in [0, 1], got {shown(values)}")
    return tuple(float(number) for number in numbers)


def groups_per_step(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """How many groups were taken for each level."""
    values = take(record, "groups_per_step", list, None, None)
    if values is None:
        return None
    counts, chosen = _integers(values, "groups_per_step"), take(record, "chosen_groups", list, None, [])
    if any(count < 0 for count in counts) or sum(counts) != len(chosen):
        raise UsageError(
            f"plan: field 'groups_per_step' should add up to the {len(chosen)} chosen_groups, got {list(counts)}"
        )
    return counts


def chosen_groups(record: Mapping[str, Any], network: Network) -> tuple[int, ...] | None:
    """The ids of the groups taken, in order."""
    values = take(record, "chosen_groups", list, None, None)
    if values is None:
        return None
    chosen = _integers(values, "chosen_groups")
    unknown = [group for group in chosen if not 0 <= group < len(network.groups)]
    if unknown or len(set(chosen)) < len(chosen):
        raise UsageError(
            f"plan: field 'chosen_groups' should have different ids below {len(network.groups)}, got {list(chosen)}"
        )
    return chosen


def check_version(record: Mapping[str, Any]) -> None:
    """UsageError for a plan of another version than this mpsim reads."""
    version = take(record, "mpsim_plan", int)
    if version != VERSION:
        raise UsageError(f"plan: field 'mpsim_plan' (version) is {version}; this mpsim reads {VERSION}")


def tensors(
    record: Mapping[str, Any], formats: Mapping[str, Format], network: Network
) -> tuple[dict[TensorId, Format], dict[TensorId, int]]:
    """(formats, elements) by tensor."""
    by_tensor: dict[TensorId, Format] = {}
    elements: dict[TensorId, int] = {}
    for number, row in enumerate(take(record, "tensors", list)):
        place = f"tensors[{number}]"
        tensor = _id(row, place, network)
        if tensor in elements:
            raise UsageError(f"plan: {place} is {tensor} a second time")
        elements[tensor] = take(row, "elements", int, place)
        by_tensor[tensor] = _format(take(row, "format", str, place), formats, f"{place}.format")
    if sum(network.groups) != sum(elements.values()):
        raise UsageError(
            f"plan: field 'groups' adds up to {sum(network.groups)} elements, 'tensors' to {sum(elements.values())}; "
            f"tensors are missing or their 'elements' were changed"
        )
    return by_tensor, elements


def promoted(record: Mapping[str, Any], network: Network) -> tuple[TensorId, ...]:
    """The tensors that were raised, in order."""
    rows = take(record, "promoted", list, None, [])
    return tuple(_id(row, f"promoted[{number}]", network) for number, row in enumerate(rows))
