"""Checks of arguments, with one wording for all of them: the argument's name, what was expected, what came.

Every public function and every option of the command line checks its numbers and names here. Numbers may be Python's
or NumPy's; a bool is not a number, and NaN and the infinities are in no range.

>>> whole("batch", 0, least=1)
Traceback (most recent call last):
...
mpsim.errors.UsageError: batch must be a whole number of at least 1, got 0
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable
from types import UnionType
from typing import TypeVar

import numpy as np

from mpsim.errors import UsageError, UsageTypeError

Kept = TypeVar("Kept")

#: The most threads, worker threads or processes: far more than a machine has cores, and few enough to be started.
MOST_THREADS = 1024
#: The most images of a batch.
MOST_BATCH = 1 << 24
#: The largest width of a network: its memory grows with the square.
MOST_WIDTH = 1024
#: The most classes, and the most passes over the data (a random stream counts them in 32 bits).
MOST_CLASSES, MOST_EPOCHS = 1 << 20, (1 << 32) - 1
#: The largest finite float32.
FLOAT32_LARGEST = (2 - 2.0**-23) * 2.0**127


# -- numbers ------------------------------------------------------------------------------------------------


def whole(name: str, value: object, *, least: int = 0, most: int | None = None, note: str = "") -> int:
    """``value`` as an int, if it is a whole number from ``least`` to ``most``; ``note`` ends what was expected.

    Raises UsageTypeError for another type (a float too), UsageError outside the range.

    >>> whole("k", np.int64(3), most=4)
    3
    """
    expected = f"a whole number {_range(least, most)}{note}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UsageTypeError(f"{name} must be {expected}, got {shown(value)}", name)
    number = int(value)
    if number < least or (most is not None and number > most):
        raise UsageError(f"{name} must be {expected}, got {shown(number)}", name)
    return number


def real(
    name: str,
    value: object,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
    note: str = "",
    what: str = "a finite number",
) -> float:
    """``value`` as a Python number, if it is finite, at least ``least`` or above ``above``, and at most ``most`` or
    below ``below``; ``note`` ends what was expected.

    Raises UsageTypeError for what is not a number, UsageError outside the range.

    >>> real("ratio", np.float32(0.5), least=0, most=1)
    0.5
    """
    expected = f"{what} {_range(least, most, above, below)}".rstrip() + note
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise UsageTypeError(f"{name} must be {expected}, got {shown(value)}", name)
    number = value.item() if isinstance(value, np.generic) else value
    outside = (
        (isinstance(number, float) and not math.isfinite(number))
        or (least is not None and number < least)
        or (above is not None and number <= above)
        or (most is not None and number > most)
        or (below is not None and number >= below)
    )
    if outside:
        raise UsageError(f"{name} must be {expected}, got {shown(number)}", name)
    return number


def sizes(name: str, value: object, form: str) -> tuple[int, ...]:
    """``value`` as a tuple, if it is a sequence of whole numbers of at least 1, as many as ``form`` has words.

    >>> sizes("input_shape", [1, 8, 8], "(channels, height, width)")
    (1, 8, 8)
    """
    if not isinstance(value, tuple | list) or len(value) != len(form.split()):
        raise UsageError(f"{name} must be {form}, whole numbers of at least 1; got {shown(value)}", name)
    return tuple(whole(f"{name}[{place}]", size, least=1) for place, size in enumerate(value))


def share(name: str, value: object, *, zero: bool = True, note: str = "") -> float:
    """``value``, if it is a share: from 0 to 1, or with ``zero=False`` above 0.

    >>> share("promotion", 0.0, zero=False)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: promotion must be a share above 0 and at most 1, got 0.0
    """
    return real(name, value, least=0 if zero else None, above=None if zero else 0, most=1, note=note, what="a share")


def shares(name: str, values: Iterable[object]) -> list[float]:
    """The shares in a sequence; an error names the one that is wrong, as ``ratios[1]``."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageTypeError(f"{name} must be a sequence of shares from 0 to 1, got {shown(values)}", name)
    return [share(f"{name}[{place}]", value) for place, value in enumerate(values)]


def seed(name: str, value: object) -> int:
    """``value``, if it is a seed: a whole number of 64 bits."""
    return whole(name, value, most=(1 << 64) - 1)


def batch(name: str, value: object) -> int:
    """``value``, if it is a number of images that a step can have."""
    return whole(name, value, least=1, most=MOST_BATCH)


def width(name: str, value: object) -> float:
    """``value``, if it is the width of a network."""
    return real(name, value, above=0, most=MOST_WIDTH)


def classes(name: str, value: object) -> int:
    """``value``, if it is a number of classes."""
    return whole(name, value, least=1, most=MOST_CLASSES)


def epochs(name: str, value: object) -> int:
    """``value``, if it is a number of passes over the data."""
    return whole(name, value, least=1, most=MOST_EPOCHS)


def threads(value: object) -> int:
    """The number of threads that the argument ``threads`` asks for; None asks for one per core of this process."""
    if value is None:
        return available_threads()
    return whole("threads", value, least=1, most=MOST_THREADS, note=", or None for one per core")


def processes(value: object) -> int:
    """The number of processes that the argument ``processes`` asks for; None asks for one per core."""
    if value is None:
        return available_threads()
    return whole("processes", value, least=1, most=MOST_THREADS, note=", or None for one per core")


def available_threads() -> int:
    """The number of processor cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def fits_memory(what: str, needed: int, advice: str) -> None:
    """UsageError, which begins with ``what`` ("the array takes"), for more bytes than this machine has memory."""
    if needed > (memory := machine_memory()):
        raise UsageError(f"{what} {needed:,} bytes and this machine has {memory:,}; {advice}")


def machine_memory() -> float:
    """Bytes of memory of this machine; infinity where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def _range(least: float | None, most: float | None, above: float | None = None, below: float | None = None) -> str:
    if least is not None and most is not None:
        return f"from {_bound(least)} to {_bound(most)}"
    words = [
        f"{word} {_bound(bound)}"
        for word, bound in (("of at least", least), ("above", above), ("at most", most), ("below", below))
        if bound is not None
    ]
    return " and ".join(words)


def _bound(value: float) -> str:
    """A bound as text, large powers of two as such."""
    for number, end in ((value, ""), (value + 1, " - 1")):
        if isinstance(number, int) and number >= 1 << 20 and number & (number - 1) == 0:
            return f"2**{number.bit_length() - 1}{end}"
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- types and names ----------------------------------------------------------------------------------------


def instance(name: str, value: Kept, kind: type | UnionType, expected: str) -> Kept:
    """``value``; UsageTypeError if it is not of that kind. ``expected`` says in words what was."""
    if not isinstance(value, kind):
        raise UsageTypeError(f"{name} must be {expected}, got {shown(value)}", name)
    return value


def named(what: str, name: object, known: Iterable[str]) -> str:
    """``name``, if it is one of ``known``; else the error of ``unknown``.

    >>> named("scheme", "largest_frist", ["largest_first", "random"])
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: unknown scheme 'largest_frist'; did you mean largest_first? Known: largest_first, random
    """
    known = list(known)
    if isinstance(name, str) and name in known:
        return str(name)
    raise unknown(what, name, known)


def unknown(
    what: str, name: object, known: Iterable[str], *, hint: str | None = None, also: str = ""
) -> UsageError | UsageTypeError:
    """The error for a name that nothing has: near names first, then all; another error for what is not a text.

    ``what``: the kind of thing that has the name. ``hint``: what to say in place of near names. ``also``: further names
    that are known, as text.
    """
    known = list(known)
    listed = ", ".join([*known, *([also] if also else [])])
    if not isinstance(name, str):
        return UsageTypeError(f"{what} must be a name, got {shown(name)}. Known: {listed}")
    hint = did_you_mean(near(name, known)) if hint is None else hint
    return UsageError(f"unknown {what} {shown(name)}{hint or '.'} Known: {listed}")


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """The names that ``name`` is a part of, or else those spelled nearly so.

    >>> near("nearest", ["nearest_even", "up"]), near("bfloat17", ["bfloat16", "tf32"])
    (['nearest_even'], ['bfloat16'])
    """
    known = list(known)
    wanted = name.strip().lower().replace("-", "_")
    within = [each for each in known if len(wanted) > 1 and wanted in each.lower()]
    return within or difflib.get_close_matches(wanted, known, n=count, cutoff=0.5)


def did_you_mean(names: list[str]) -> str:
    """The end of a message that offers names: "; did you mean a, b or c?", empty without names."""
    if not names:
        return ""
    *others, last = names
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def shown(value: object) -> str:
    """An argument as messages show it, on one line and not too long."""
    if isinstance(value, int) and value.bit_length() > 4096:  # repr refuses to write it
        return f"a number of {value.bit_length()} bits"
    text = value.__name__ if isinstance(value, type) else " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
