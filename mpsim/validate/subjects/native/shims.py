"""Writes the C text of shims, which call a function as its prototype says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mpsim.validate.subjects.native.roles import BLOCK_COUNTS, Kind, Roles, target
from mpsim.validate.subjects.prototypes import Prototype

#: ``mpsim_about`` has three numbers for each input and output: size in bytes, 1 for floats, 1 for signed integers.
#: Plain char is not signed, since codes are often declared as such. ``counts`` of arrays are elements, rows, columns
#: and blocks; those of products are rows, columns and the inner length, and ``arrays`` end with what they read beside.
_FRAME = """#include <string.h>
{before}
#if defined(__FLT16_MAX__)
#define HALF _Float16: 2,
#else
#define HALF
#endif
#define IS_FLOAT(T) _Generic(*(T *)0, float: 1, double: 1, HALF default: 0)
#define IS_SIGNED(T) _Generic(*(T *)0, signed char: 1, short: 1, int: 1, long: 1, long long: 1, default: 0)
#define ABOUT(T) sizeof(T), IS_FLOAT(T), IS_SIGNED(T)
{checks}typedef __typeof__({name}) FUNCTION;
{types}
const int mpsim_about[] = {{{about}}};
void mpsim_call(FUNCTION *function, void *const *arrays, const size_t *counts) {{
    {body}
}}
"""


def text_of(found: Prototype, role: Roles, kind: Kind) -> str:
    """Returns the shim of a function as C text."""
    inputs = [found.parameters[place].type for place in role.inputs]
    outputs = [found.parameters[place].type for place in role.outputs]
    types = [target(type) if type.endswith("*") else type for type in (*inputs, *outputs)] + [found.answer] * (
        not outputs
    )
    body = _product(found, role) if kind is Kind.PRODUCT else _arrays(found, role, kind)
    return _FRAME.format(
        before=found.before, checks=role.checks, name=found.name, body=body,
        types="\n".join(f"typedef {type} TYPE_{i};" for i, type in enumerate(types)),
        about=", ".join(f"ABOUT(TYPE_{i})" for i in range(len(types))),
    )  # fmt: skip


def _arrays(found: Prototype, role: Roles, kind: Kind) -> str:
    """A call with arrays, or for each element."""
    places = (*role.inputs, *role.outputs)
    if role.outputs:
        numbers = _numbers(found, role.counts, kind)
        return f"function({_in_order({**role.given, **_pointers(places), **numbers})});"
    elements = {place: f"((TYPE_{i} *)arrays[{i}])[i]" for i, place in enumerate(role.inputs)}
    last = len(role.inputs)
    return (
        f"for (size_t i = 0; i < counts[0]; i++)\n"
        f"        ((TYPE_{last} *)arrays[{last}])[i] = function({_in_order({**role.given, **elements})});"
    )


def _numbers(found: Prototype, counts: Sequence[int], kind: Kind) -> dict[int, str]:
    if len(counts) == 2:
        return {counts[0]: "counts[1]", counts[1]: "counts[2]"}
    blocks = kind is Kind.BLOCKS and found.parameters[counts[0]].name in BLOCK_COUNTS
    return {counts[0]: "counts[3]" if blocks else "counts[0]"}


def _product(found: Prototype, role: Roles) -> str:
    """A dot product for every row and column, or a product of row-major matrices."""
    values = {**role.given, **_pointers(role.inputs)}
    first = len(role.inputs) + 1  # the third array is the result
    for index, place in enumerate(role.beside, first):
        points = found.parameters[place].points
        values[place] = f"(const void *)arrays[{index}]" if points else f"*(const float *)arrays[{index}]"
    if role.outputs:
        values |= {role.outputs[0]: "arrays[2]", **{at: f"counts[{i}]" for i, at in enumerate(role.counts)}}
        size = "counts[0] * counts[1] * sizeof(TYPE_2)"
        copy = f"memcpy(arrays[2], arrays[{first + len(role.beside)}], {size});\n    " * role.in_place
        return f"{copy}function({_in_order(values)});"
    row, column = "(TYPE_0 *)arrays[0] + i * counts[2]", "(TYPE_1 *)arrays[1] + j * counts[2]"
    values |= {**dict(zip(role.inputs, (row, column), strict=True)), **dict.fromkeys(role.counts, "counts[2]")}
    return (
        "for (size_t i = 0; i < counts[0]; i++)\n        for (size_t j = 0; j < counts[1]; j++)\n"
        f"            ((TYPE_2 *)arrays[2])[i * counts[1] + j] = function({_in_order(values)});"
    )


def _pointers(places: Sequence[int]) -> dict[int, str]:
    return {place: f"arrays[{i}]" for i, place in enumerate(places)}


def _in_order(values: Mapping[int, str]) -> str:
    return ", ".join(values[place] for place in sorted(values))
