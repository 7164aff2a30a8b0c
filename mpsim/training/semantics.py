"""Defines the two semantics of a training step as data (docs/semantics.md §5).

Every difference between ``standard`` and ``lee2023`` is a field. The trainer, the store and the tape read the fields,
not the name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.policies import Mode, Overflow, Policy
from mpsim.trace import LOSS_COUNTS_BATCH

#: "nearest" is the usual rounding mode of the semantics, and "stochastic" the random one.
ROUNDINGS = ("nearest", "stochastic")


@dataclass(frozen=True)
class Semantics:
    """Describes how a step stores its tensors. Custom semantics have the name of an entry of SEMANTICS.

    ``name`` determines how a trace counts the elements of the loss, and must be the one that the plan was made for.
    ``nearest``, ``stochastic``: the modes of the two ROUNDINGS. ``forward_overflow`` is for activations and parameters,
    ``backward_overflow`` for gradients. ``store_each_contribution``: whether every contribution to the gradient of a
    tensor with several consumers is rounded, but not their float32 sum; otherwise only the finished sum is rounded.
    ``evaluation_rounds_parameters``: whether evaluation "as trained" also rounds parameters.
    """

    name: str
    nearest: Mode
    stochastic: Mode
    forward_overflow: Overflow = Overflow.SATURATE
    backward_overflow: Overflow = Overflow.MARK
    store_each_contribution: bool = False
    evaluation_rounds_parameters: bool = True

    def __post_init__(self) -> None:
        if self.name not in list(LOSS_COUNTS_BATCH):
            known = " or ".join(LOSS_COUNTS_BATCH)
            raise UsageError(
                f"name must be {known}, got {checks.shown(self.name)}: a trace counts the elements of the loss by it; "
                f"the other fields may differ from those of the semantics of that name",
                "name",
            )
        kinds = {"nearest": Mode, "stochastic": Mode, "forward_overflow": Overflow, "backward_overflow": Overflow}
        for field, kind in kinds.items():
            object.__setattr__(self, field, kind(checks.named(field, getattr(self, field), list(kind))))

    def policy(self, role: str, rounding: str = "nearest", random_bit_count: int | None = None) -> Policy:
        """Returns the policy for a role. Raises ValueError for an unknown rounding or a wrong number of bits.

        >>> SEMANTICS["standard"].policy("activation_gradient").overflow.value
        'mark'
        """
        mode = self.nearest if checks.named("rounding", rounding, ROUNDINGS) == "nearest" else self.stochastic
        gradient = role in ("activation_gradient", "parameter_gradient")
        return Policy(mode, self.backward_overflow if gradient else self.forward_overflow, random_bit_count)


_ROWS = (
    Semantics("standard", Mode.NEAREST_EVEN, Mode.STOCHASTIC),
    Semantics(
        "lee2023",
        Mode.QPYTORCH_NEAREST,
        Mode.QPYTORCH_STOCHASTIC,
        store_each_contribution=True,
        evaluation_rounds_parameters=False,
    ),
)

SEMANTICS = {row.name: row for row in _ROWS}


def stored(semantics: Semantics) -> str | dict[str, object]:
    """Returns the semantics as JSON values: the name of an entry, or all fields."""
    return semantics.name if SEMANTICS.get(semantics.name) == semantics else asdict(semantics)


def of_stored(found: str | dict[str, Any]) -> Semantics:
    """Inverts ``stored``. Raises UsageError or UsageTypeError for anything else.

    >>> of_stored(stored(SEMANTICS["lee2023"])).name
    'lee2023'
    """
    if isinstance(found, dict) and set(found) != {field.name for field in fields(Semantics)}:
        raise UsageError(
            f"semantics must have the fields of mpsim.training.semantics.Semantics, got {', '.join(found)}"
        )
    return Semantics(**found) if isinstance(found, dict) else as_semantics(found)


def as_semantics(semantics: str | Semantics) -> Semantics:
    """Returns Semantics unchanged, or the entry of a name. Raises UsageError with similar names for an unknown name.

    >>> as_semantics("lee2023").store_each_contribution
    True
    """
    if isinstance(semantics, Semantics):
        return semantics
    return SEMANTICS[checks.named("semantics", semantics, SEMANTICS)]
