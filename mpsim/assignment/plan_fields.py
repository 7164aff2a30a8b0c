"""Writes and reads the fields of a plan's JSON object (docs/plan.schema.json). Errors name the field."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TypeVar, overload

from mpsim import checks
from mpsim.assignment.levels import Levels
from mpsim.assignment.network import Network, PlannedOp
from mpsim.checks import shown
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.errors import UsageError
from mpsim.files import json_text
from mpsim.files.records import Record
from mpsim.formats import FORMATS, Format

#: The version of the JSON object. It is raised when a field changes its meaning.
VERSION = 1

#: The names of field types in messages.
_KINDS: dict[type, str] = {str: "a text", int: "an integer", float: "a number", list: "a list", dict: "an object"}


# -- writing ----------------------------------------------------------------------------------------------------
def levels_to_dict(levels: Levels) -> Record:
    """Returns the names of the formats of each level."""
    between = {"between": [_level_to_dict(level) for level in levels.between]} if levels.between else {}
    return {
        "name": levels.name,
        "high": _level_to_dict(levels.high),
        **between,
        "low": _level_to_dict(levels.low),
    }


def _level_to_dict(level: Mapping[str, Format]) -> dict[str, str]:
    return {role: level[role].name for role in ROLES}


def formats_to_dict(used: Iterable[Format], levels: Levels) -> Record:
    """Returns the definition of every format that the tensors or the levels name."""
    named = [format for level in levels.steps for format in level.values()]
    return {
        format.name: {key: value for key, value in asdict(format).items() if key != "name"} | {"bits": format.bits}
        for format in {format.name: format for format in [*used, *named]}.values()
    }


def one_row_a_line(record: Mapping[str, object]) -> str:
    """Returns JSON text with one op or tensor on each line, so that a line-based diff of two plans is readable."""
    lines = []
    for key, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


# -- reading ----------------------------------------------------------------------------------------------------
_REQUIRED = object()

Kind = TypeVar("Kind")
Default = TypeVar("Default")


@overload
def take(record: object, field: str, kind: type[Kind], place: str | None = None) -> Kind: ...
@overload
def take(record: object, field: str, kind: type[Kind], place: str | None, default: Default) -> Kind | Default: ...
def take(record: object, field: str, kind: type, place: str | None = None, default: object = _REQUIRED) -> object:
    """Returns ``record[field]`` after checking its type. If there is a default, it replaces None or a missing field."""
    name = f"{place}.{field}" if place else field
    if not isinstance(record, Mapping):
        raise UsageError(f"plan: {place or 'the plan'} should be an object, got {shown(record)}")
    value = record.get(field)
    if value is None and default is not _REQUIRED:
        return default
    if field not in record:
        raise UsageError(f"plan: field {name!r} is missing")
    fits = isinstance(value, int | float if kind is float else kind) and not isinstance(value, bool)
    if not fits:
        raise UsageError(f"plan: field {name!r} should be {_KINDS[kind]}, got {shown(value)}")
    return value


def decoded(text: str) -> Mapping[str, object]:
    """Returns the object of a JSON text."""
    try:
        record = json_text.decoded(text)
    except UsageError as error:
        raise UsageError(f"plan: {error}") from None
    if not isinstance(record, dict):
        raise UsageError(f"plan: the text should be a JSON object, got {shown(record)}")
    return record


def formats(record: Mapping[str, object]) -> dict[str, Format]:
    """Reads the formats that the plan defines."""
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
    """Returns a format by name, from the plan's definitions if it is there, otherwise from ``FORMATS``."""
    if name in table:
        return table[name]
    try:
        return FORMATS[name]
    except ValueError as error:
        raise UsageError(f"plan: field {place!r}: {error}") from None


def levels(plan: Mapping[str, object], formats: Mapping[str, Format]) -> Levels:
    """Reads the levels. ``formats`` are the plan's definitions."""
    record = take(plan, "levels", dict)

    def level(given: object, place: str) -> dict[str, Format]:
        return {role: _format(take(given, role, str, place), formats, f"{place}.{role}") for role in ROLES}

    between = [
        level(given, f"levels.between[{number}]")
        for number, given in enumerate(take(record, "between", list, "levels", []))
    ]
    high, low = (level(take(record, side, dict, "levels"), f"levels.{side}") for side in ("high", "low"))
    return Levels(high, low, take(record, "name", str, "levels", None), tuple(between))


def network(record: Mapping[str, object]) -> Network:
    """Reads the network that the plan is for."""
    ops = []
    for number, row in enumerate(take(record, "ops", list)):
        place = f"ops[{number}]"
        producers = _integers(take(row, "producers", list, place), f"{place}.producers")
        index = take(row, "index", int, place)
        if index != number:
            raise UsageError(f"plan: field '{place}.index' should be {number} (ops are in order), got {index}")
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


def _id(row: object, place: str, network: Network) -> TensorId:
    op, role = take(row, "op", int, place), take(row, "role", str, place)
    if not 0 <= op < len(network.ops):
        raise UsageError(f"plan: field '{place}.op' is {op}, but there are {len(network.ops)} ops")
    if role not in ROLES:
        raise UsageError(f"plan: field '{place}.role' is {role!r}. Known: {', '.join(ROLES)}")
    return TensorId(op, role, take(row, "index", int, place))


def ratio(record: Mapping[str, object]) -> float | None:
    """Reads the ratio, None if the scheme has none."""
    ratio = take(record, "ratio", float, None, None)
    if ratio is not None and not 0 <= ratio <= 1:
        raise UsageError(f"plan: field 'ratio' should be in [0, 1], got {ratio}")
    return ratio


def ratios(record: Mapping[str, object]) -> tuple[float, ...] | None:
    """Reads the ratios of a scheme with several levels."""
    values = take(record, "ratios", list, None, None)
    if values is None:
        return None
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or numbers != sorted(numbers) or not all(0 <= number <= 1 for number in numbers):
        raise UsageError(f"plan: field 'ratios' should be rising numbers in [0, 1], got {shown(values)}")
    return tuple(float(number) for number in numbers)


def groups_per_step(record: Mapping[str, object]) -> tuple[int, ...] | None:
    """Reads the number of groups that were chosen for each level."""
    values = take(record, "groups_per_step", list, None, None)
    if values is None:
        return None
    counts, chosen = _integers(values, "groups_per_step"), take(record, "chosen_groups", list, None, [])
    if any(count < 0 for count in counts) or sum(counts) != len(chosen):
        raise UsageError(
            f"plan: field 'groups_per_step' should add up to the {len(chosen)} chosen_groups, got {list(counts)}"
        )
    return counts


def chosen_groups(record: Mapping[str, object], network: Network) -> tuple[int, ...] | None:
    """Reads the ids of the chosen groups, in order."""
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


def check_version(record: Mapping[str, object]) -> None:
    """Raises UsageError if this mpsim does not read the plan's version."""
    version = take(record, "mpsim_plan", int)
    if version != VERSION:
        raise UsageError(f"plan: field 'mpsim_plan' (version) is {version}; this mpsim reads {VERSION}")


def tensors(
    record: Mapping[str, object], formats: Mapping[str, Format], network: Network
) -> tuple[dict[TensorId, Format], dict[TensorId, int]]:
    """Reads the format and the number of elements of each tensor."""
    by_tensor: dict[TensorId, Format] = {}
    elements: dict[TensorId, int] = {}
    for number, row in enumerate(take(record, "tensors", list)):
        place = f"tensors[{number}]"
        tensor = _id(row, place, network)
        if tensor in elements:
            raise UsageError(f"plan: {place} repeats {tensor}")
        elements[tensor] = take(row, "elements", int, place)
        by_tensor[tensor] = _format(take(row, "format", str, place), formats, f"{place}.format")
    if sum(network.groups) != sum(elements.values()):
        raise UsageError(
            f"plan: field 'groups' adds up to {sum(network.groups)} elements, 'tensors' to {sum(elements.values())}; "
            f"tensors are missing or their 'elements' were changed"
        )
    return by_tensor, elements


def promoted(record: Mapping[str, object], network: Network) -> tuple[TensorId, ...]:
    """Reads the tensors that were raised, in order."""
    rows = take(record, "promoted", list, None, [])
    return tuple(_id(row, f"promoted[{number}]", network) for number, row in enumerate(rows))
