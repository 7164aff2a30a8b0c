"""The formats in which masters, an optimizer's states and sums of gradients are stored between steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Overflow, Policy

MASTERS, GRADIENTS = "masters", "gradients"
ROUNDINGS = ("nearest", "stochastic", "kahan")
#: The number of random bits of stochastic rounding: enough for every format.
RANDOM_BITS = 32


@dataclass(frozen=True)
class Storage:
    """A format and how numbers are rounded to it.

    "nearest" rounds ties to even. "stochastic" uses 32 random bits. "kahan" is for masters: what nearest rounding
    discards is kept in a second array of the format, and added before the next update.

    >>> str(Storage(FORMATS["bfloat16"], "kahan"))
    'bfloat16/kahan'
    """

    format: Format
    rounding: str = "nearest"

    def __str__(self) -> str:
        return self.format.name if self.rounding == "nearest" else f"{self.format.name}/{self.rounding}"

    def policy(self, overflow: Overflow) -> Policy:
        """Returns the policy of a conversion."""
        if self.rounding == "stochastic":
            return Policy(Mode.STOCHASTIC, overflow, RANDOM_BITS)
        return Policy(Mode.NEAREST_EVEN, overflow)


def overflow_of(kind: str) -> Overflow:
    """Returns what becomes of numbers beyond the format: a sum of gradients becomes infinite, so that the step is
    skipped; the others saturate."""
    return Overflow.MARK if kind == GRADIENTS else Overflow.SATURATE


def stream_of(kind: str, states: Sequence[str], place: int, places: int, part: int = 0) -> int:
    """Returns the number of the stream of random bits with which an array is stored.

    ``kind``: MASTERS, GRADIENTS or one of the optimizer's ``states``. ``place``: that of the parameter among all
    ``places`` parameters. ``part``: the number of the micro-batch, for GRADIENTS.

    >>> stream_of("gradients", ("velocity",), place=3, places=10, part=1)
    43
    """
    kinds = (MASTERS, GRADIENTS, *states)
    return place + places * (kinds.index(kind) + len(kinds) * part)


def storage_of(text: str) -> dict[str, Storage]:
    """Returns what a text says, e.g. ``masters=bfloat16/kahan;velocity=bfloat16/stochastic;gradients=bfloat16``.

    Raises:
        UsageError: The text is not of this form, or a format or rounding is unknown.

    >>> storage_of("velocity=bfloat16")["velocity"].rounding
    'nearest'
    """
    checks.instance("storage", text, str, "a text such as 'masters=bfloat16/kahan;velocity=bfloat16/stochastic'")
    found: dict[str, Storage] = {}
    for entry in (each.strip() for each in text.split(";") if each.strip()):
        name, _, value = entry.partition("=")
        format, _, rounding = value.partition("/")
        if not name or not format or name in found:
            raise UsageError(
                f"storage {entry!r} is not of the form NAME=FORMAT or NAME=FORMAT/ROUNDING, with each name once, "
                f"such as 'masters=bfloat16/kahan'",
                "storage",
            )
        rounding = checks.named("rounding of storage", rounding or "nearest", ROUNDINGS)
        if rounding == "kahan" and name != MASTERS:
            raise UsageError(f"storage {entry!r}: kahan is for masters; use nearest or stochastic", "storage")
        made = FORMATS[format.strip()]
        if not made.fits_float32:
            raise UsageError(f"storage {entry!r}: {made} has values that float32 cannot hold", "storage")
        found[name] = Storage(made, rounding)
    return found


def text_of(storage: Mapping[str, Storage]) -> str:
    """Inverts ``storage_of``.

    >>> text_of(storage_of("velocity=bfloat16/nearest; masters=float16"))
    'velocity=bfloat16;masters=float16'
    """
    return ";".join(f"{name}={each}" for name, each in storage.items())


def checked(text: str, states: Sequence[str], micro_batches: int) -> str:
    """Returns the text in its usual form. Raises UsageError for names that the recipe does not have."""
    found, known = storage_of(text), (MASTERS, GRADIENTS, *states)
    for name in found:
        checks.named("name in storage", name, known)
    if GRADIENTS in found and micro_batches == 1:
        raise UsageError(
            "storage of gradients is that of their sum over micro-batches; use micro_batches above 1", "storage"
        )
    return text_of(found)
