"""Assigns a role to each parameter of a C function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects.prototypes import CASTS, Parameter, Prototype
from mpsim.validate.subjects.worker import BESIDE

PRODUCTS = (
    "float NAME(const float *a, const float *b, size_t n) or "
    "void NAME(const float *a, const float *b, float *c, size_t m, size_t n, size_t k)"
)
BLOCKS = (
    "void NAME(const float *in, float *values, size_t n) or "
    "void NAME(const float *in, uint8_t *codes, uint8_t *scales, size_t rows, size_t columns)"
)
#: The names that identify the number of elements, and the number of blocks.
COUNTS = ("n", "N", "size", "count", "len", "length", "num", "numel", "elements", "num_elements")
BLOCK_COUNTS = ("blocks", "num_blocks", "n_blocks", "nblocks", "groups", "num_groups", "tiles", "num_tiles")
SIDES = ("rows", "columns", "cols", "m", "k", "M", "K", "height", "width")
#: How many arrays a quantiser writes: values, or codes, scales and zero points.
MOST_OUTPUTS = 3


class Kind(Enum):
    """What a C function computes, with an example."""

    #: Each element of the result from those of the inputs, by value or in arrays: a cast, or an operation.
    ELEMENTS = CASTS
    #: The sum of the products of two vectors, or a product of two matrices.
    PRODUCT = PRODUCTS
    #: Arrays from an array whose elements are not independent of each other: a block quantiser.
    BLOCKS = BLOCKS


@dataclass(frozen=True)
class Roles:
    """The roles of a function's parameters, by their positions in the prototype.

    Args:
        inputs: The input arrays or elements.
        outputs: The output arrays, () if the function returns its result by value.
        counts: The parameters with numbers of elements, rows and columns, or blocks.
        given: The C text of every other parameter.
        checks: C text that refuses values which their parameters cannot hold.
        beside: The parameters that a product reads beside its operands: C, alpha, beta, a bias, scales.
        in_place: Whether the output holds C before the call, as in BLAS's gemm.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    counts: tuple[int, ...]
    given: Mapping[int, str]
    checks: str = ""
    beside: tuple[int, ...] = ()
    in_place: bool = False

    def names(self, found: Prototype) -> tuple[str, ...]:
        """What is passed beside the operands, in its order."""
        return tuple(found.parameters[place].name for place in self.beside) + ("c",) * self.in_place


def roles(found: Prototype, arguments: Mapping[str, str], inputs: int, kind: Kind) -> Roles:
    """Assigns a role to each parameter. ``inputs`` is the number of input arrays or elements.

    A cast or an operation either writes an array and has one count, or maps elements to elements. A product either
    writes a matrix and has three counts, or returns the sum of two vectors and has one. A block quantiser writes up to
    three arrays and has one or two counts.

    Raises:
        SubjectError: A role is not clear. The message names the parameters that need a value.
    """
    names = [parameter.name for parameter in found.parameters]
    for name in arguments:
        if name not in names:
            raise SubjectError(f"--argument {name}: {found} has no parameter of that name")
    of = {name: found.parameters[names.index(name)] for name in arguments}
    numbers = {name: _number(name, text) for name, text in arguments.items()}
    checks = "".join(_check(of[name], numbers[name], f"{name}={text}") for name, text in arguments.items())
    given = {names.index(name): _literal(of[name], numbers[name]) for name in arguments}
    beside = _beside(found, given, inputs) if kind is Kind.PRODUCT else ()
    free = [place for place in range(len(names)) if place not in given and place not in beside]
    pointers = [place for place in free if found.parameters[place].points]
    plain = [place for place in free if place not in pointers]
    if not pointers and kind is Kind.ELEMENTS:
        return replace(_by_value(found, plain, given, inputs), checks=checks)
    outputs = _outputs(found, pointers, inputs, kind)
    counts = _counts(found, plain, kind, bool(outputs))
    operands = tuple(place for place in pointers if place not in outputs)
    in_place = bool(beside) and outputs != () and names[outputs[0]] == "c" and "beta" in {names[at] for at in beside}
    arrays = (*beside, *(outputs if in_place else ()))
    return Roles(operands, outputs, counts, given, checks + _float_checks(found, arrays), beside, in_place)


def _outputs(found: Prototype, pointers: Sequence[int], inputs: int, kind: Kind) -> tuple[int, ...]:
    """The arrays that a function writes. Those without ``const`` are, or else the last ones."""
    most = MOST_OUTPUTS if kind is Kind.BLOCKS else 1
    number = len(pointers) - inputs
    if not 1 <= number <= most and not (kind is Kind.PRODUCT and number == 0 and found.answer != "void"):
        arrays = str(inputs + 1) if most == 1 else f"{inputs + 1} to {inputs + most}"
        raise SubjectError(
            f"{found} has {len(pointers)} arrays; expected {arrays}: {kind.value}. "
            f"Others take a number by --argument NAME=VALUE"
        )
    written = tuple(place for place in pointers if not found.parameters[place].is_input)
    return written if len(written) == number else tuple(pointers[len(pointers) - number :])


def _counts(found: Prototype, plain: Sequence[int], kind: Kind, writes: bool) -> tuple[int, ...]:
    """The parameters that are counts."""
    wanted = {Kind.PRODUCT: (3,) if writes else (1,), Kind.ELEMENTS: (1,), Kind.BLOCKS: (1, 2)}[kind]
    most = wanted[-1]
    if len(plain) > most and most < 3:
        known = COUNTS if kind is not Kind.BLOCKS else (*COUNTS, *BLOCK_COUNTS, *SIDES)
        named = [place for place in plain if found.parameters[place].name in known][:most]
        _refuse_extra(found, [place for place in plain if place not in named] if named else plain[most:])
    if len(plain) not in wanted:
        numbers = " or ".join(map(str, wanted))
        raise SubjectError(f"{found} takes {len(plain)} numbers beside its arrays; expected {numbers}: {kind.value}")
    return tuple(plain)


def _beside(found: Prototype, given: Mapping[int, str], inputs: int) -> tuple[int, ...]:
    """Numbers named alpha or beta, and arrays named as in worker.BESIDE where there are more than a product needs."""
    free = {place: each for place, each in enumerate(found.parameters) if place not in given}
    more = sum(each.points for each in free.values()) > inputs + 1
    return tuple(
        place
        for place, each in free.items()
        if each.name in BESIDE and (each.is_input and more if each.points else each.name in ("alpha", "beta"))
    )


def _float_checks(found: Prototype, beside: tuple[int, ...]) -> str:
    arrays = [found.parameters[place] for place in beside if found.parameters[place].points]
    types = [(each.name, target(each.type)) for each in arrays]
    return "".join(
        f'_Static_assert(IS_FLOAT({type}) && sizeof({type}) == 4, "an array of float cannot hold {name}");\n'
        for name, type in types
    )


def _refuse_extra(found: Prototype, extra: Sequence[int]) -> None:
    parameters = [found.parameters[place] for place in extra]
    raise SubjectError(
        f"{found} takes {', '.join(map(str, parameters))} as well: say what to pass, as "
        + " ".join(f"--argument {parameter.name or '?'}=1.0" for parameter in parameters)
    )


def _by_value(found: Prototype, free: list[int], given: Mapping[int, str], inputs: int) -> Roles:
    if len(free) > inputs:
        _refuse_extra(found, free[inputs:])
    if len(free) < inputs or found.answer == "void":
        raise SubjectError(f"{found} takes {len(free)} numbers and gives {found.answer}; expected {inputs}: {CASTS}")
    return Roles(tuple(free), (), (), given)


def _number(name: str, text: str) -> str:
    """Returns a number as C text."""
    try:
        value = int(text, 0) if re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|\d+)", text) else float(text)
    except ValueError:
        raise SubjectError(f"--argument {name}={text}: {text!r} is not a number; expected e.g. {name}=1.0") from None
    number = value.hex() if isinstance(value, float) and value == value and abs(value) != float("inf") else str(value)
    if number in ("inf", "-inf", "nan"):
        return {"inf": "(1.0/0.0)", "-inf": "(-1.0/0.0)", "nan": "(0.0/0.0)"}[number]
    return number


def _literal(parameter: Parameter, number: str) -> str:
    """Returns a number as an argument. For a pointer it is an array with this number."""
    return f"(__typeof__(*({parameter.type})0)[]){{{number}}}" if parameter.points else number


def _check(parameter: Parameter, number: str, argument: str) -> str:
    """Returns C text that does not compile if an integer parameter cannot hold the number."""
    type = target(parameter.type) if parameter.points else parameter.type
    is_kept = f"({type})({number}) == ({number}) && (({type})({number}) < 0) == (({number}) < 0)"
    message = f"{parameter.type.replace('*', ' ').strip()} cannot hold {argument}"
    return f'_Static_assert(IS_FLOAT({type}) || ({is_kept}), "{message}");\n'


def target(type: str) -> str:
    """Returns the type that a pointer points to."""
    return f"__typeof__(*({type})0)"
