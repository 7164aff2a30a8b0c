"""Plans as JSON that another program can read (docs/plan.schema.json), and back with errors that name the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mpsim import checks
from mpsim.assignment.levels import Levels
from mpsim.assignment.plan import Network, Plan, PlannedOp
from mpsim.checks import shown
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format

if TYPE_CHECKING:
    from mpsim.trace import Trace

#: Version of the JSON object; raised when a field changes its meaning.
VERSION = 1

#: How a field's kind is told to people.
_KINDS: dict[Any, str] = {str: "a text", int: "an integer", float: "a number", list: "a list", dict: "an object"}


def plan_report(trace: Trace, plan: Plan) -> dict[str, Any]:
    """What ``mpsim plan --json`` prints: the plan's JSON object, with the peak memory of a step (``peak``) and the
    lowest that recomputing activations reaches (``recomputation``). ValueError if it was made for another trace."""
    from mpsim.assignment.liveness import best_recomputation, peak_memory

    plan.check(trace)
    memory = {"peak": peak_memory(plan).to_dict(), "recomputation": best_recomputation(plan).to_dict()}
    return plan_to_dict(plan) | memory


def plan_to_dict(plan: Plan) -> dict[str, Any]:
    """The plan as JSON types; the order of ``tensors`` is the trace's."""
    network, levels = plan.network, plan.levels
    named = [format for level in levels.steps for format in level.values()]
    formats = {format.name: format for format in [*plan.formats.values(), *named]}
    in_steps = {} if plan.ratios is None else {"ratios": list(plan.ratios)}
    if plan.groups_per_step is not None:
        in_steps["groups_per_step"] = list(plan.groups_per_step)
    between = {"between": [_level_to_dict(level) for level in levels.between]} if levels.between else {}
    return {
        "mpsim_plan": VERSION,
        "model": network.model,
        "width": network.width,
        "classes": network.classes,
        "batch": network.batch,
        "scheme": plan.scheme,
        "ratio": plan.ratio,
        "seed": plan.seed,
        "k": plan.k,
        "semantics": network.semantics,
        "levels": {
            "name": levels.name,
            "high": _level_to_dict(levels.high),
            **between,
            "low": _level_to_dict(levels.low),
        },
        "formats": {
            name: {key: value for key, value in asdict(format).items() if key != "name"} | {"bits": format.bits}
            for name, format in formats.items()
        },
        "ops": [asdict(op) | {"producers": list(op.producers)} for op in network.ops],
        "groups": list(network.groups),
        "chosen_groups": None if plan.chosen_groups is None else list(plan.chosen_groups),
        **in_steps,
        "reached": plan.reached,
        "low_share": plan.low_share,
        "total_elements": plan.total_elements,
        "bits": plan.bits,
        "bits_all_high": plan.bits_all_high,
        "promoted": [_id_to_dict(tensor) for tensor in plan.promoted],
        "tensors": [
            _id_to_dict(tensor) | {"elements": count, "format": plan.formats[tensor].name}
            for tensor, count in plan.elements.items()
        ],
    }


def dump(plan: Plan) -> str:
    """JSON text with one op or tensor a line, so that plans compare well line by line."""
    lines = []
    for key, value in plan_to_dict(plan).items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join("  " + json.dumps(row) for row in value)
            lines.append(f" {json.dumps(key)}: [\n{rows}\n ]")
        else:
            lines.append(f" {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def parse(text: str | Mapping[str, Any]) -> Plan:
    """The plan of a JSON text or decoded object; ValueError naming the field that is wrong."""
    record = text if isinstance(text, Mapping) else _decoded(text)
    version = _take(record, "mpsim_plan", int)
    if version != VERSION:
        raise UsageError(f"plan: field 'mpsim_plan' (version) is {version}; this mpsim reads {VERSION}")
    formats = _formats(_take(record, "formats", dict))
    network = _network(record)
    by_tensor: dict[TensorId, Format] = {}
    elements: dict[TensorId, int] = {}
    for number, row in enumerate(_take(record, "tensors", list)):
        place = f"tensors[{number}]"
        tensor = _id(row, place, network)
        if tensor in elements:
            raise UsageError(f"plan: {place} is {tensor} a second time")
        elements[tensor] = _take(row, "elements", int, place)
        by_tensor[tensor] = _format(_take(row, "format", str, place), formats, f"{place}.format")
    if sum(network.groups) != sum(elements.values()):
        raise UsageError(
            f"plan: field 'groups' adds up to {sum(network.groups)} elements, 'tensors' to {sum(elements.values())}; "
            f"tensors are missing or their 'elements' were changed"
        )
    promoted = tuple(
        _id(row, f"promoted[{number}]", network) for number, row in enumerate(_take(record, "promoted", list, None, []))
    )
    return Plan(
        network,
        _take(record, "scheme", str),
        _levels(_take(record, "levels", dict), formats),
        by_tensor,
        elements,
        ratio=_ratio(record),
        seed=_take(record, "seed", int, None, None),
        k=_take(record, "k", int, None, None),
        chosen_groups=_chosen(record, network),
        promoted=promoted,
        ratios=_ratios(record),
        groups_per_step=_groups_per_step(record),
    )


# -- fields -----------------------------------------------------------------------------------------------------
_REQUIRED = object()


def _take(record: Any, field: str, kind: type, place: str | None = None, default: Any = _REQUIRED) -> Any:
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


def _decoded(text: str) -> Mapping[str, Any]:
    try:
        record = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"plan: not JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    if not isinstance(record, dict):
        raise UsageError(f"plan: should be a JSON object, got {shown(record)}")
    return record


def _formats(record: Mapping[str, Any]) -> dict[str, Format]:
    formats = {}
    for name in record:
        row = _take(record, name, dict, "formats")
        place = f"formats.{name}"
        formats[name] = Format(
            name,
            _take(row, "exponent_bits", int, place),
            _take(row, "mantissa_bits", int, place),
            _take(row, "bias", int, place),
            _take(row, "specials", str, place),
            bool(row.get("subnormals", True)),
            bool(row.get("signed", True)),
        )
    return formats


def _format(name: str, formats: Mapping[str, Format], place: str) -> Format:
    """A format of the plan's own table, else of FORMATS."""
    if name in formats:
        return formats[name]
    try:
        return FORMATS[name]
    except ValueError as error:
        raise UsageError(f"plan: field {place!r}: {error}") from None


def _levels(record: Mapping[str, Any], formats: Mapping[str, Format]) -> Levels:
    def level(given: Any, place: str) -> dict[str, Format]:
        return {role: _format(_take(given, role, str, place), formats, f"{place}.{role}") for role in ROLES}

    between = [
        level(given, f"levels.between[{number}]")
        for number, given in enumerate(_take(record, "between", list, "levels", []))
    ]
    high, low = (level(_take(record, side, dict, "levels"), f"levels.{side}") for side in ("high", "low"))
    return Levels(high, low, _take(record, "name", str, "levels", None), tuple(between))


def _level_to_dict(level: Mapping[str, Format]) -> dict[str, str]:
    return {role: level[role].name for role in ROLES}


def _network(record: Mapping[str, Any]) -> Network:
    ops = []
    for number, row in enumerate(_take(record, "ops", list)):
        place = f"ops[{number}]"
        producers = _integers(_take(row, "producers", list, place), f"{place}.producers")
        index = _take(row, "index", int, place)
        if index != number:
            raise UsageError(f"plan: field '{place}.index' should be {number} (ops stand in order), got {index}")
        name, kind = _take(row, "name", str, place), _take(row, "kind", str, place)
        ops.append(PlannedOp(index, name, kind, _take(row, "group", int, place), producers))
    return Network(
        _take(record, "model", str),
        float(checks.width("plan: field 'width'", _take(record, "width", float))),
        checks.classes("plan: field 'classes'", _take(record, "classes", int)),
        checks.batch("plan: field 'batch'", _take(record, "batch", int)),
        _take(record, "semantics", str),
        tuple(ops),
        _integers(_take(record, "groups", list), "groups"),
    )


def _integers(values: list, place: str) -> tuple[int, ...]:
    for number, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, int):
            raise UsageError(f"plan: field '{place}[{number}]' should be an integer, got {shown(value)}")
    return tuple(values)


def _id_to_dict(tensor: TensorId) -> dict[str, Any]:
    return {"op": tensor.op, "role": tensor.role, "index": tensor.index}


def _id(row: Any, place: str, network: Network) -> TensorId:
    op, role = _take(row, "op", int, place), _take(row, "role", str, place)
    if not 0 <= op < len(network.ops):
        raise UsageError(f"plan: field '{place}.op' is {op}, but there are {len(network.ops)} ops")
    if role not in ROLES:
        raise UsageError(f"plan: field '{place}.role' is {role!r}. Known: {', '.join(ROLES)}")
    return TensorId(op, role, _take(row, "index", int, place))


def _ratio(record: Mapping[str, Any]) -> float | None:
    ratio = _take(record, "ratio", float, None, None)
    if ratio is not None and not 0 <= ratio <= 1:
        raise UsageError(f"plan: field 'ratio' should be in [0, 1], got {ratio}")
    return ratio


def _ratios(record: Mapping[str, Any]) -> tuple[float, ...] | None:
    values = _take(record, "ratios", list, None, None)
    if values is None:
        return None
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values) or numbers != sorted(numbers) or not all(0 <= number <= 1 for number in numbers):
        raise UsageError(f"plan: field 'ratios' should be rising numbers in [0, 1], got {shown(values)}")
    return tuple(float(number) for number in numbers)


def _groups_per_step(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    values = _take(record, "groups_per_step", list, None, None)
    if values is None:
        return None
    counts, chosen = _integers(values, "groups_per_step"), _take(record, "chosen_groups", list, None, [])
    if any(count < 0 for count in counts) or sum(counts) != len(chosen):
        raise UsageError(
            f"plan: field 'groups_per_step' should add up to the {len(chosen)} chosen_groups, got {list(counts)}"
        )
    return counts


def _chosen(record: Mapping[str, Any], network: Network) -> tuple[int, ...] | None:
    values = _take(record, "chosen_groups", list, None, None)
    if values is None:
        return None
    chosen = _integers(values, "chosen_groups")
    unknown = [group for group in chosen if not 0 <= group < len(network.groups)]
    if unknown or len(set(chosen)) < len(chosen):
        raise UsageError(
            f"plan: field 'chosen_groups' should have different ids below {len(network.groups)}, got {list(chosen)}"
        )
    return chosen
