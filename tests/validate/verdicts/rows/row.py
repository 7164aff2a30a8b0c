"""What a row of the verdict matrix is."""

from __future__ import annotations

from typing import NamedTuple

from mpsim.validate import Verdict

EQUAL, DIFFERENT, UNDECIDED = Verdict.EQUAL, Verdict.DIFFERENT, Verdict.UNDECIDED
#: In place of a cause: no definition known to mpsim explains this, and it has to say so.
UNEXPLAINED = "unexplained"


class Row(NamedTuple):
    """A command and its answer.

    command: the words after ``mpsim validate``; ``{here}`` is this folder, ``{built}`` that of the compiled libraries,
    ``{steps}`` that of the step files, ``{python}`` the interpreter. causes: those that must be named, and no other;
    UNEXPLAINED where something stays without one. prints: words that must be there. never: words that would be false.
    """

    name: str
    command: str
    verdict: Verdict
    causes: tuple[str, ...] = ()
    prints: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def fails(kind: str, name: str, options: str, *prints: str, file: str = "misbehaving.py") -> Row:
    return Row(f"{kind}-{name}", f"{kind} {{here}}/{file}:{name} {options}", UNDECIDED, (), prints)


#: Options of several rows.
E5M2 = "--format float8_e5m2 --mode nearest_even"
HALF = "--format float8_e5m2 --source float16 --mode nearest_even"
FLOAT16 = "--format float16 --mode nearest_even"
BFLOAT16 = "--format bfloat16 --mode nearest_even"
