"""The flags of exceptions in a file of answers, against IEEE 754's, for tininess found after and before rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mpsim.arithmetic import Flag, exceptions
from mpsim.arithmetic.flags import TININESS, is_ieee
from mpsim.files.records import Record
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.validate.operations.causes import Rule


@dataclass(frozen=True)
class Flags:
    """How flags compare.

    Attributes:
        tininess: The choices that give every flag; where there is none, the one that differs least.
        wrong: How many answers have other flags; operands, expected, got: those of the first.
    """

    tininess: tuple[str, ...]
    wrong: int = 0
    operands: tuple[int, ...] = ()
    expected: Flag = Flag(0)
    got: Flag = Flag(0)

    @property
    def words(self) -> str:
        """One sentence."""
        when = " or ".join(self.tininess)
        if not self.wrong:
            return f"flags: equal, with tininess found {when} rounding"
        operands = ", ".join(f"{code:#x}" for code in self.operands)
        sides = f"expected {words_of(self.expected)}, got {words_of(self.got)}"
        return f"flags: {self.wrong:,} answers differ (tininess {when} rounding): of {operands} {sides}"

    def to_dict(self) -> Record:
        return {
            "tininess": list(self.tininess),
            "differing_answers": self.wrong,
            "operands": list(self.operands),
            "expected": int(self.expected),
            "got": int(self.got),
        }


def words_of(flags: Flag) -> str:
    """The names of flags.

    >>> words_of(Flag(5)), words_of(Flag(0))
    ('inexact and overflow', 'none')
    """
    names = [str(flag.name).lower().replace("_", " ") for flag in Flag if flag in flags]
    return " and ".join(names) or "none"


def compare_flags(
    operation: str, codes: Sequence[Array], given: Array, formats: Sequence[Format], result: Format, rule: Rule
) -> Flags | None:
    """Compare flags with those of a rule. None where the formats have no exceptions, or the mode is not one of five."""
    if not all(map(is_ieee, (*formats, result))):
        return None
    found = []
    for tininess in TININESS:
        expected = exceptions(
            operation, *codes, formats=formats, result=result, mode=rule.mode, overflow=rule.overflow, tininess=tininess
        )
        wrong = np.flatnonzero(expected != given)
        if wrong.size:
            first = int(wrong[0])
            operands = tuple(int(array[first]) for array in codes)
            sides = Flag(int(expected[first])), Flag(int(given[first]) & 31)
            found.append(Flags((tininess,), wrong.size, operands, *sides))
        else:
            found.append(Flags((tininess,)))
    right = tuple(each.tininess[0] for each in found if not each.wrong)
    return Flags(right) if right else min(found, key=lambda each: each.wrong)
