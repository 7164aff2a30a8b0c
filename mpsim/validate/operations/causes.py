"""Changes of a rule that may explain an operation's answers; one is named only if it gives every one of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from mpsim.arithmetic import operate
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array
from mpsim.policies import PLAIN_MODES, Mode, Overflow
from mpsim.validate.operations.classes import Codes
from mpsim.validate.readings import alike, meaning

#: Formats in which an implementation may round first.
BETWEEN = ("float32", "float16", "bfloat16")


class Rule(NamedTuple):
    """How results are rounded."""

    mode: Mode = Mode.NEAREST_EVEN
    overflow: Overflow = Overflow.INFINITY

    @property
    def words(self) -> str:
        return f"{self.mode.value}, overflow {self.overflow.value}"


#: Overflow policies of codes, and the rules that are compared where none is declared.
POLICIES = (Overflow.INFINITY, Overflow.SATURATE, Overflow.SATURATE_PROPAGATE)
RULES = tuple(Rule(mode, overflow) for mode, overflow in product(PLAIN_MODES, POLICIES))


def causes(
    operation: str,
    codes: list[Array],
    formats: tuple[Format, ...],
    result: Format,
    rule: Rule,
    compared: Sequence[Rule],
) -> Iterator[tuple[str, Array]]:
    """What may be different, in words, and the codes of the results then. compared: rules that do not explain them."""

    def results(operands: list[Array], by: Rule = rule) -> Array:
        return operate(operation, *operands, formats=formats, result=result, mode=by.mode, overflow=by.overflow)

    for other in RULES:
        if other not in compared:
            yield f"results are rounded {other.words}", results(codes, other)
    flushed = [without_subnormals(array, format) for array, format in zip(codes, formats, strict=True)]
    yield "subnormal operands are read as zero", results(flushed)
    yield "subnormal results are zero", without_subnormals(results(codes), result)
    yield (
        "subnormal operands are read as zero, and subnormal results are zero",
        without_subnormals(results(flushed), result),
    )
    for name in BETWEEN:
        if name != result.name:
            try:
                first = operate(operation, *codes, formats=formats, result=name)
                yield (
                    f"results are rounded to {name} first",
                    operate("convert", first, formats=name, result=result, mode=rule.mode, overflow=rule.overflow),
                )
            except UsageError:  # a result has no code in one of the formats
                continue
    yield from _other_formats(operation, codes, formats, result, rule)
    yield from _other_operation(operation, codes, formats, result, rule)


def _other_formats(
    operation: str, codes: list[Array], formats: tuple[Format, ...], result: Format, rule: Rule
) -> Iterator[tuple[str, Array]]:
    """What codes mean: another format of the same width, or one whose special codes are numbers."""
    for format in set(formats):
        for other in alike(format):
            read = tuple(other if each == format else each for each in formats)
            try:
                found = operate(operation, *codes, formats=read, result=result, mode=rule.mode, overflow=rule.overflow)
            except UsageError:  # a NaN that the result's format does not have
                continue
            yield f"codes of {format} are read as {meaning(other)}", found
    for other in alike(result):
        try:
            found = operate(operation, *codes, formats=formats, result=other, mode=rule.mode, overflow=rule.overflow)
        except UsageError:
            continue
        yield f"results are encoded as {meaning(other)}", found


def _other_operation(
    operation: str, codes: list[Array], formats: tuple[Format, ...], result: Format, rule: Rule
) -> Iterator[tuple[str, Array]]:
    """What is computed instead."""
    options: dict[str, Any] = {"result": result, "mode": rule.mode, "overflow": rule.overflow}
    if operation in ("fma", "faa"):
        first = "multiply" if operation == "fma" else "add"
        for between in (result, FORMATS["float32"]):
            part = operate(first, *codes[:2], formats=formats[:2], result=between)
            total = operate("add", part, codes[2], formats=[between, formats[2]], **options)
            yield (
                f"two roundings: the {'product' if first == 'multiply' else 'first sum'} is rounded to {between}",
                total,
            )
    if operation == "divide":
        for between in {result.name: result, "float32": FORMATS["float32"]}.values():
            part = operate("reciprocal", codes[1], formats=formats[1], result=between)
            total = operate("multiply", codes[0], part, formats=[formats[0], between], **options)
            yield f"the quotient is a product with the reciprocal, which is rounded to {between}", total
    if operation == "subtract":
        yield "the operands are exchanged", operate(operation, *codes[::-1], formats=formats[::-1], **options)
    if operation.startswith(("minimum", "maximum")):
        stem = operation.split("_")[0]
        for other in (stem, f"{stem}_number", f"{stem}_finite", f"{stem}_magnitude", f"{stem}_magnitude_number"):
            if other != operation:
                yield f"{other} is computed", operate(other, *codes, formats=formats, **options)


def without_subnormals(codes: Array, format: Format) -> Array:
    """Codes with every subnormal number replaced by a zero of its sign, or by the only zero."""
    found = Codes(codes.astype(np.uint64), format)
    sign = format.sign_mask if format.has_negative_zero else 0
    return np.where(found.subnormal, codes & codes.dtype.type(sign), codes)
