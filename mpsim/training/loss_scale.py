"""Loss scaling multiplies the loss's gradient, so that small gradients do not become zero in narrow formats.

Source: Micikevicius et al. 2018 §3.2; paper §4.1 (dynamic, the factors below).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from mpsim import checks
from mpsim.files.records import Record

#: Powers of two within which 1 / scale is a normal float32 number, also in diverged runs.
SMALLEST, LARGEST = 2.0**-126, 2.0**126


@dataclass(frozen=True)
class LossScale:
    """Settings of the dynamic loss scale. ``LossScale.fixed(scale)`` is a constant one.

    If a step's parameter gradients contain an infinity or NaN, the update is skipped, the scale is multiplied by
    ``backoff``, and the count of good steps restarts. After ``growth_interval`` good steps in a row it is multiplied by
    ``growth``. It stays within 2**-126 .. 2**126.

    >>> LossScale(initial=1024).state().after_step(overflowed=True).scale
    512.0
    """

    initial: float = 65536.0
    growth_interval: int | None = 2000
    backoff: float = 0.5
    growth: float = 2.0

    def __post_init__(self) -> None:
        checked = {
            "initial": checks.real("initial", self.initial, least=SMALLEST, most=LARGEST, note=" (2**-126 to 2**126)"),
            "backoff": checks.real("backoff", self.backoff, above=0, most=1),
            "growth": checks.real("growth", self.growth, least=1),
        }
        if self.growth_interval is not None:
            note = ", or None for never"
            checked["growth_interval"] = checks.whole("growth_interval", self.growth_interval, least=1, note=note)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @classmethod
    def fixed(cls, scale: float = 1.0) -> LossScale:
        """Returns a constant scale.

        >>> LossScale.fixed(1024.0).state().after_step(overflowed=True).scale
        1024.0
        """
        return cls(scale, None, 1.0, 1.0)

    def state(self) -> LossScaleState:
        """Returns the state before the first step."""
        return LossScaleState(self, self.initial, 0)

    def to_dict(self) -> Record:
        """Returns the fields for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LossScaleState:
    """The scale of the next step and the number of good steps since it last changed."""

    settings: LossScale
    scale: float
    good_steps: int

    def after_step(self, overflowed: bool) -> LossScaleState:
        """Returns the state after a step. ``overflowed``: its parameter gradients contained an infinity or NaN.

        >>> state = LossScale(initial=8.0, growth_interval=2).state()
        >>> state = state.after_step(overflowed=True)
        >>> state.scale
        4.0
        >>> state.after_step(False).after_step(False).scale
        8.0
        """
        settings = self.settings
        if overflowed:
            return LossScaleState(settings, max(SMALLEST, self.scale * settings.backoff), 0)
        good_steps = self.good_steps + 1
        if settings.growth_interval is None or good_steps < settings.growth_interval:
            return LossScaleState(settings, self.scale, good_steps)
        return LossScaleState(settings, min(LARGEST, self.scale * settings.growth), 0)
