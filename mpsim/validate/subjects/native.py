"""Calls C functions through a shim that is compiled for the function's prototype.

The C compiler therefore passes arguments correctly, whatever their types: halves and integers by value, typedefs, any
order of parameters. Only the subject's process loads the library.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mpsim.validate.answers import SubjectError
from mpsim.validate.subjects.prototypes import CASTS, Parameter, Prototype
from mpsim.validate.subjects.worker import BESIDE

PRODUCTS = (
    "float NAME(const float *a, const float *b, size_t n) or "
    "void NAME(const float *a, const float *b, float *c, size_t m, size_t n, size_t k)"
)
#: The names that identify the number of elements if there are several integer parameters.
COUNTS = ("n", "N", "size", "count", "len", "length", "num", "numel", "elements", "num_elements")


# -- roles of parameters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Roles:
    """The roles of a function's parameters, by their positions in the prototype.

    Args:
        inputs: The input arrays or elements.
        output: The output array, or None if the function returns its result by value.
        counts: The parameters with numbers of elements.
        given: The C text of every other parameter.
        checks: C text that refuses values which their parameters cannot hold.
        beside: The parameters that a product reads beside its operands: C, alpha, beta, a bias, scales.
        in_place: Whether the output holds C before the call, as in BLAS's gemm.
    """

    inputs: tuple[int, ...]
    output: int | None
    counts: tuple[int, ...]
    given: Mapping[int, str]
    checks: str = ""
    beside: tuple[int, ...] = ()
    in_place: bool = False

    def names(self, found: Prototype) -> tuple[str, ...]:
        """What is passed beside the operands, in its order."""
        return tuple(found.parameters[place].name for place in self.beside) + ("c",) * self.in_place


def roles(found: Prototype, arguments: Mapping[str, str], inputs: int, is_product: bool) -> Roles:
    """Assigns a role to each parameter. ``inputs`` is the number of input arrays or elements.

    A cast either writes an array and has one count, or maps elements to elements. A product either writes a matrix and
    has three counts, or returns the sum of two vectors and has one.

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
    beside = _beside(found, given, inputs) if is_product else ()
    free = [place for place in range(len(names)) if place not in given and place not in beside]
    pointers = [place for place in free if found.parameters[place].points]
    plain = [place for place in free if place not in pointers]
    if not pointers and not is_product:
        return replace(_by_value(found, plain, given, inputs), checks=checks)
    writes = len(pointers) == inputs + 1
    example = PRODUCTS if is_product else CASTS
    if not writes and not (is_product and len(pointers) == inputs and found.answer != "void"):
        raise SubjectError(
            f"{found} has {len(pointers)} arrays; expected {inputs + 1}: {example}. "
            f"Others take a number by --argument NAME=VALUE"
        )
    written = [place for place in pointers if not found.parameters[place].is_input]
    output = (written[0] if len(written) == 1 else pointers[-1]) if writes else None
    counts = 3 if is_product and writes else 1
    if len(plain) > counts == 1:
        named = [place for place in plain if names[place] in COUNTS][:1]
        _refuse_extra(found, [place for place in plain if place not in named] if named else plain[1:])
    if len(plain) != counts:
        raise SubjectError(f"{found} takes {len(plain)} numbers beside its arrays; expected {counts}: {example}")
    operands = tuple(place for place in pointers if place != output)
    in_place = output is not None and names[output] == "c" and "beta" in {names[place] for place in beside}
    arrays = (*beside, *((output,) if in_place and output is not None else ()))
    return Roles(operands, output, tuple(plain), given, checks + _float_checks(found, arrays), beside, in_place)


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
    types = [(each.name, _target(each.type)) for each in arrays]
    return "".join(
        f'_Static_assert(KIND({type}) && sizeof({type}) == 4, "an array of float cannot hold {name}");\n'
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
    return Roles(tuple(free), None, (), given)


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
    type = _target(parameter.type) if parameter.points else parameter.type
    is_kept = f"({type})({number}) == ({number}) && (({type})({number}) < 0) == (({number}) < 0)"
    message = f"{parameter.type.replace('*', ' ').strip()} cannot hold {argument}"
    return f'_Static_assert(KIND({type}) || ({is_kept}), "{message}");\n'


# -- the shim -------------------------------------------------------------------------------------------------

_FRAME = """#include <string.h>
{before}
#if defined(__FLT16_MAX__)
#define HALF _Float16: 2,
#else
#define HALF
#endif
#define KIND(T) _Generic(*(T *)0, float: 1, double: 1, HALF default: 0)
{checks}typedef __typeof__({name}) FUNCTION;
typedef {input} INPUT;
typedef {second} SECOND;
typedef {output} OUTPUT;
const int mpsim_about[6] = {{sizeof(INPUT), KIND(INPUT), sizeof(SECOND), KIND(SECOND), sizeof(OUTPUT), KIND(OUTPUT)}};
void mpsim_call(FUNCTION *function, void *first, void *second, void *out, size_t rows, size_t columns, size_t inner,
                void *const *beside) {{
    (void)second; (void)columns; (void)inner; (void)beside;
    {body}
}}
"""


def _target(type: str) -> str:
    """Returns the type that a pointer points to."""
    return f"__typeof__(*({type})0)"


def cast_shim(found: Prototype, role: Roles) -> str:
    """Returns the shim of a cast as C text. ``first`` is the input, ``second`` the random bits, ``rows`` the count."""
    types = [found.parameters[place].type for place in role.inputs]
    inputs = [_target(type) if type.endswith("*") else type for type in types]
    if role.output is not None:
        output = _target(found.parameters[role.output].type)
        values = {**role.given, role.output: "out", **dict(zip(role.inputs, ("first", "second"), strict=False))}
        values |= dict.fromkeys(role.counts, "rows")
        body = f"function({_in_order(values)});"
    else:
        output = found.answer
        elements = ("((INPUT *)first)[i]", "((SECOND *)second)[i]")
        values = {**role.given, **dict(zip(role.inputs, elements, strict=False))}
        body = f"for (size_t i = 0; i < rows; i++) ((OUTPUT *)out)[i] = function({_in_order(values)});"
    second = inputs[1] if len(inputs) > 1 else "uint32_t"
    return _FRAME.format(
        before=found.before, checks=role.checks, name=found.name, input=inputs[0], second=second, output=output,
        body=body,
    )  # fmt: skip


def product_shim(found: Prototype, role: Roles) -> str:
    """Returns the shim of a dot product (for every row and column) or of a product of row-major matrices as C text."""
    inputs = [_target(found.parameters[place].type) for place in role.inputs]
    values = {**role.given, **dict(zip(role.inputs, ("first", "second"), strict=True))}
    for index, place in enumerate(role.beside):
        points = found.parameters[place].points
        values[place] = f"(const void *)beside[{index}]" if points else f"*(const float *)beside[{index}]"
    if role.output is not None:
        output = _target(found.parameters[role.output].type)
        values |= {role.output: "out", **dict(zip(role.counts, ("rows", "columns", "inner"), strict=True))}
        copy = f"memcpy(out, beside[{len(role.beside)}], rows * columns * sizeof(OUTPUT));\n    " * role.in_place
        body = f"{copy}function({_in_order(values)});"
    else:
        output = found.answer
        row, column = "(INPUT *)first + i * inner", "(SECOND *)second + j * inner"
        values |= {**dict(zip(role.inputs, (row, column), strict=True)), **dict.fromkeys(role.counts, "inner")}
        body = (
            "for (size_t i = 0; i < rows; i++)\n        for (size_t j = 0; j < columns; j++)\n"
            f"            ((OUTPUT *)out)[i * columns + j] = function({_in_order(values)});"
        )
    return _FRAME.format(
        before=found.before, checks=role.checks, name=found.name, input=inputs[0], second=inputs[1], output=output,
        body=body,
    )  # fmt: skip


def _in_order(values: Mapping[int, str]) -> str:
    return ", ".join(values[place] for place in sorted(values))


@dataclass(frozen=True)
class Shim:
    """A compiled shim, with its file, the array types as (bits, name of the float type or ""), and its C text."""

    path: str
    first: tuple[int, str]
    second: tuple[int, str]
    output: tuple[int, str]
    call: str
    beside: tuple[str, ...] = ()  # names, in the order in which they are passed


def build(found: Prototype, text: str, folder: Path) -> Shim:
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
    about = (ctypes.c_int * 6).in_dll(ctypes.CDLL(str(library)), "mpsim_about")
    types = [(8 * about[i], _float_name(8 * about[i], about[i + 1])) for i in (0, 2, 4)]
    if "__bf16" in found.answer or any("__bf16" in str(each) for each in found.parameters):
        types = [(bits, name if name or bits != 16 else "bfloat16") for bits, name in types]
    return Shim(str(library), types[0], types[1], types[2], text)


def _float_name(bits: int, kind: int) -> str:
    return f"float{bits}" if kind else ""


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
