"""Checks arguments. All messages have the same form: the argument's name, what was expected, what was passed.

Every public function and every option of the command line checks its numbers and names here. Python and NumPy numbers
are accepted. A bool is not a number. NaN and infinities are outside every range.

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

#: The largest number of threads, worker threads or processes. It exceeds any number of cores and can still be started.
MOST_THREADS = 1024
#: The largest batch size.
MOST_BATCH = 1 << 24
#: The largest width of a network. Memory grows with its square.
MOST_WIDTH = 1024
#: The largest numbers of classes and of passes over the data (a random stream counts passes in 32 bits).
MOST_CLASSES, MOST_EPOCHS = 1 << 20, (1 << 32) - 1
#: A whole number in a name, as a pattern. Python refuses to read numbers of more than 4,300 digits.
DIGITS = "[0-9]{1,18}"
#: The longest time limit in seconds, a month.
MOST_SECONDS = 30 * 86400.0
#: The largest finite float32.
FLOAT32_LARGEST = (2 - 2.0**-23) * 2.0**127


# -- numbers ------------------------------------------------------------------------------------------------


def whole(name: str, value: object, *, least: int = 0, most: int | None = None, note: str = "") -> int:
    """Checks a whole number from ``least`` to ``most`` and returns it as an int. ``note`` is appended to the range.

    Raises:
        UsageTypeError: The value has another type, such as float.
        UsageError: The value is out of range.

    >>> whole("k", np.int64(3), most=4)
    3
    """
    error: type[UsageError | UsageTypeError] = UsageTypeError
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        value, error = int(value), UsageError
        if least <= value and (most is None or value <= most):
            return value
    raise error(f"{name} must be a whole number {_range(least, most)}{note}, got {shown(value)}", name)


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
    """Checks a finite number and returns it as a Python number.

    Args:
        name: The name of the argument, for messages.
        value: The value.
        least, most: The bounds of the range, included.
        above, below: The bounds of the range, excluded.
        note: Text after the range in the message.
        what: What the message says was expected.

    Raises:
        UsageTypeError: The value is not a number.
        UsageError: The value is out of range.

    >>> real("ratio", np.float32(0.5), least=0, most=1)
    0.5
    """
    error: type[UsageError | UsageTypeError] = UsageTypeError
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        value, error = value.item() if isinstance(value, np.generic) else value, UsageError
        inside = (
            (isinstance(value, int) or math.isfinite(value))
            and (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
        )
        if inside:
            return value
    expected = f"{what} {_range(least, most, above, below)}".rstrip() + note
    raise error(f"{name} must be {expected}, got {shown(value)}", name)


def sizes(name: str, value: object, *forms: str) -> tuple[int, ...]:
    """Checks a sequence of whole numbers of at least 1, one for each word of one of ``forms``, and returns a tuple.

    >>> sizes("input_shape", [1, 8, 8], "(channels, height, width)")
    (1, 8, 8)
    """
    if not isinstance(value, tuple | list) or len(value) not in [len(form.split()) for form in forms]:
        raise UsageError(f"{name} must be {' or '.join(forms)}, whole numbers of at least 1; got {shown(value)}", name)
    return tuple(whole(f"{name}[{place}]", size, least=1) for place, size in enumerate(value))


def share(name: str, value: object, *, zero: bool = True, note: str = "") -> float:
    """Checks and returns a share, i.e. a number from 0 to 1. With ``zero=False`` it must be above 0.

    >>> share("promotion", 0.0, zero=False)
    Traceback (most recent call last):
    ...
    mpsim.errors.UsageError: promotion must be a share above 0 and at most 1, got 0.0
    """
    return real(name, value, least=0 if zero else None, above=None if zero else 0, most=1, note=note, what="a share")


def shares(name: str, values: Iterable[object]) -> list[float]:
    """Checks a sequence of shares and returns them. An error names the wrong one, e.g. ``ratios[1]``."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise UsageTypeError(f"{name} must be a sequence of shares from 0 to 1, got {shown(values)}", name)
    return [share(f"{name}[{place}]", value) for place, value in enumerate(values)]


def seed(name: str, value: object) -> int:
    """Checks and returns a seed, i.e. a whole number of 64 bits."""
    return whole(name, value, most=(1 << 64) - 1)


def batch(name: str, value: object) -> int:
    """Checks and returns a batch size."""
    return whole(name, value, least=1, most=MOST_BATCH)


def width(name: str, value: object) -> float:
    """Checks and returns the width of a network."""
    return real(name, value, above=0, most=MOST_WIDTH)


def classes(name: str, value: object) -> int:
    """Checks and returns a number of classes."""
    return whole(name, value, least=1, most=MOST_CLASSES)


def epochs(name: str, value: object) -> int:
    """Checks and returns a number of passes over the data."""
    return whole(name, value, least=1, most=MOST_EPOCHS)


def timeout(value: object) -> float:
    """Checks a time limit in seconds."""
    return real("timeout", value, above=0, most=MOST_SECONDS, what="a number of seconds")


def time_limit(value: object) -> float | None:
    """Checks a time limit in seconds, or None for no limit."""
    return None if value is None else timeout(value)


def threads(value: object) -> int:
    """Checks the argument ``threads`` and returns a number of threads. None means one per core of this process."""
    return _per_core("threads", value)


def processes(value: object) -> int:
    """Checks the argument ``processes`` and returns a number of processes. None means one per core."""
    return _per_core("processes", value)


def _per_core(name: str, value: object) -> int:
    if value is None:
        return available_threads()
    return whole(name, value, least=1, most=MOST_THREADS, note=", or None for one per core")


def available_threads() -> int:
    """Returns the number of processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


def fits_memory(what: str, needed: int, advice: str) -> None:
    """Raises UsageError if ``needed`` bytes exceed this machine's memory. ``what`` is e.g. "the array needs"."""
    if needed > (memory := machine_memory()):
        raise UsageError(f"{what} {needed:,} bytes and this machine has {memory:,}; {advice}")


def machine_memory() -> float:
    """Returns this machine's memory in bytes, or infinity if the system does not report it."""
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
    """Returns a bound as text. Large powers of two are written as powers."""
    for number, end in ((value, ""), (value + 1, " - 1")):
        if isinstance(number, int) and number >= 1 << 20 and number & (number - 1) == 0:
            return f"2**{number.bit_length() - 1}{end}"
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- types and names ----------------------------------------------------------------------------------------


def instance(name: str, value: Kept, kind: type | UnionType, expected: str) -> Kept:
    """Returns ``value`` if it has the given type, otherwise raises UsageTypeError. ``expected`` describes the type."""
    if not isinstance(value, kind):
        raise UsageTypeError(f"{name} must be {expected}, got {shown(value)}", name)
    return value


def named(what: str, name: object, known: Iterable[str]) -> str:
    """Returns ``name`` if it is one of ``known``, otherwise raises the error of ``unknown``.

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
    """Returns the error for an unknown name. Its message lists similar names first and then all names.

    Args:
        what: What the name should name.
        name: The name. If it is not a string, the result is a UsageTypeError.
        known: All known names.
        hint: Replaces the similar names.
        also: Further known names, as text.
    """
    known = list(known)
    listed = ", ".join([*known, *([also] if also else [])])
    if not isinstance(name, str):
        return UsageTypeError(f"{what} must be a name, got {shown(name)}. Known: {listed}")
    hint = did_you_mean(near(name, known)) if hint is None else hint
    return UsageError(f"unknown {what} {shown(name)}{hint or '.'} Known: {listed}")


def near(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Returns the names that contain ``name``, or, if none does, those with a similar spelling.

    >>> near("nearest", ["nearest_even", "up"]), near("bfloat17", ["bfloat16", "tf32"])
    (['nearest_even'], ['bfloat16'])
    """
    known = list(known)
    wanted = name.strip().lower().replace("-", "_")
    within = [each for each in known if len(wanted) > 1 and wanted in each.lower()]
    return within or difflib.get_close_matches(wanted, known, n=count, cutoff=0.5)


def did_you_mean(names: list[str]) -> str:
    """Returns the end of a message that suggests names: "; did you mean a, b or c?". It is empty without names."""
    if not names:
        return ""
    *others, last = names
    return f"; did you mean {', '.join(others)}{' or ' if others else ''}{last}?"


def shown(value: object) -> str:
    """Returns a value as messages show it, on one line and shortened."""
    if isinstance(value, int) and value.bit_length() > 4096:  # repr raises an error for such a number
        return f"a number of {value.bit_length()} bits"
    text = value.__name__ if isinstance(value, type) else " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
