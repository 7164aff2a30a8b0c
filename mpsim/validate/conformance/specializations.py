"""Operation specializations: an operation with its formats and projection, and the list that P3109 requires."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from mpsim.arithmetic import ARITHMETIC, COMPARISONS, compare, neighbour, operate
from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array
from mpsim.validate.conformance.names import OPERATIONS, SATURATIONS, Projection, format_name

DEFAULT = Projection()
#: §4.5: the formats that every implementation has, and the one of scale factors.
F8, F4 = (FORMATS["p3109_k8p4"], FORMATS["p3109_k8p3"]), (FORMATS["p3109_k4p2_finite"],)
SCALE = FORMATS["p3109_k8p1u_finite"]
EXTREMA = tuple(name for name in ARITHMETIC if name.startswith(("minimum", "maximum")))
NEIGHBOURS = {"next_greater": "greater", "next_less": "less"}
#: §4.5: what has constants of a format as its result. mpsim does not ask for these.
OF_FORMATS = (
    "BitwidthOf", "PrecisionOf", "SignednessOf", "DomainOf", "ExponentBitwidthOf", "TrailingSignificandBitwidthOf",
    "ExponentBiasOf", "MaxFiniteOf", "MinFiniteOf", "MinPositiveOf", "MaxSubnormalOf", "MinNormalOf",
)  # fmt: skip
#: Operations of the report that mpsim does not define: their exact results are not rational, or they act on blocks.
NOT_DEFINED = (
    "Exp, Exp2, ExpMinusOne, Log, Log2, LogOnePlus, Softplus, Hypot, trigonometric and hyperbolic functions, "
    "and operations on blocks of more than one element (§5.2 to §5.4)"
)


@dataclass(frozen=True)
class Specialization:
    """An operation, by mpsim's name, with the formats of its operands and its result.

    ``result`` is None for a truth value. ``projection`` is None where nothing is rounded.
    """

    operation: str
    formats: tuple[Format, ...]
    result: Format | None
    projection: Projection | None = DEFAULT

    def __str__(self) -> str:
        names = [format_name(format) for format in self.formats]
        if self.operation.startswith("scaled_"):
            names = [f"({scale}, {x})" for scale, x in zip(names[::2], names[1::2], strict=True)]
        if self.result is not None and self.operation not in NEIGHBOURS:
            names.append(format_name(self.result))
        projection = [] if self.projection is None else [str(self.projection)]
        return f"{OPERATIONS[self.operation]}<{', '.join([*names, *projection])}>"

    @property
    def random_bit_count(self) -> int | None:
        return None if self.projection is None else self.projection.bits

    def expected(self, codes: Sequence[Array]) -> Array:
        """The results by mpsim's definition, uint64: codes, or 0 and 1 for truth values.

        ``codes``: those of the operands, and for stochastic modes uint32 words.
        """
        if self.operation in COMPARISONS:
            found = compare(self.operation, *codes, formats=self.formats)
        elif self.operation in NEIGHBOURS:
            found = neighbour(codes[0], self.formats[0], NEIGHBOURS[self.operation])
        else:
            assert self.projection is not None
            mode, overflow, bits = self.projection
            words = None if bits is None else codes[-1].astype(np.uint32)
            operands = codes if bits is None else codes[:-1]
            found = operate(
                self.operation, *operands, formats=self.formats, result=self.result, mode=mode, overflow=overflow,
                random_bits=words, random_bit_count=bits, rules="p3109",
            )  # fmt: skip
        return found.astype(np.uint64)

    @property
    def parameters(self) -> dict[str, object]:
        """The names of P3109 by which a subject is asked for the operation."""
        projection = self.projection
        return {
            "operation": OPERATIONS[self.operation],
            "formats": [format_name(format) for format in self.formats],
            "result": None if self.result is None else format_name(self.result),
            "mode": None if projection is None else projection.mode_name,
            "saturation": None if projection is None else SATURATIONS[projection.overflow],
        }

    def named(self, pattern: str) -> str:
        """A pattern with its placeholders replaced: those with a capital by P3109's names, the others by mpsim's."""
        projection = self.projection or DEFAULT
        ours = list(dict.fromkeys(format.name for format in self.formats))
        names = {
            "operation": self.operation,
            "formats": "_".join(ours),
            "result": "bool" if self.result is None else self.result.name,
            "mode": projection.mode.value + str(projection.bits or ""),
            "saturation": projection.overflow.value,
            "Operation": OPERATIONS[self.operation],
            "Formats": "_".join(dict.fromkeys(map(format_name, self.formats))),
            "Result": "bool" if self.result is None else format_name(self.result),
            "Mode": projection.mode_name,
            "Saturation": SATURATIONS[projection.overflow],
        }
        for name, text in names.items():
            pattern = pattern.replace(f"{{{name}}}", text)
        return pattern


def arity(operation: str) -> int:
    """The number of operands, scale factors included."""
    return 1 if operation in NEIGHBOURS else (ARITHMETIC.get(operation) or (COMPARISONS[operation],))[0]


def required(external: Sequence[Format]) -> Iterator[Specialization]:
    """§4.5: what every implementation has, with the external formats that it chooses."""
    ours, fx = (*F4, *F8), tuple(external)
    for f, result in product((*ours, *fx), repeat=2):
        yield Specialization("convert", (f,), result)
    for f in ours:
        yield from (Specialization(name, (f,), f) for name in ("negate", "abs"))
    for f, result in product((*ours, *fx), repeat=2):
        yield Specialization("reciprocal", (f,), result)
    for name, x, y, result in product(("add", "subtract", "multiply"), ours, ours, (*F8, *fx)):
        yield Specialization(name, (x, y), result)
    for name, x, y, result in product(("fma", "faa"), ours, ours, fx):
        yield Specialization(name, (x, y, result), result)
    for f in ours:
        yield from (Specialization(name, (f, f), f) for name in EXTREMA)
        yield from (Specialization(name, (f,) * count, None, None) for name, count in COMPARISONS.items()
                    if name != "total_order")  # fmt: skip
        yield from (Specialization(name, (f,), f, None) for name in NEIGHBOURS)
    for name, x, y, result in product(("scaled_add", "scaled_subtract", "scaled_multiply"), ours, ours, (*F8, *fx)):
        yield Specialization(name, (SCALE, x, SCALE, y), result)


def chosen(
    operations: Sequence[str], formats: Sequence[Format], results: Sequence[Format], projections: Sequence[Projection]
) -> Iterator[Specialization]:
    """Operations whose operands all have one of the formats, with each of the results: without any, that format."""
    for name, f in product(operations, formats):
        operands = (SCALE, f) * (arity(name) // 2) if name.startswith("scaled_") else (f,) * arity(name)
        if name in COMPARISONS:
            yield Specialization(name, operands, None, None)
        elif name in NEIGHBOURS:
            if f.is_p3109:
                yield Specialization(name, operands, f, None)
        else:
            targets = results or (formats if name == "convert" else (f,))
            for target, projection in product(targets, projections):
                yield Specialization(name, operands, target, projection)
