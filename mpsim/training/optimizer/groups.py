"""Groups of parameters with another learning rate or weight decay, or without training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.training.optimizer.base import Optimizer, factor

#: Stands for every parameter of one axis: biases, and scales and shifts of norms.
VECTORS = "@vectors"


@dataclass(frozen=True)
class Group:
    """Parameters that are updated otherwise than the rest.

    ``parameters``: a pattern of names, in which ``*`` stands for any text, or "@vectors" for every parameter of one
    axis (biases, and scales and shifts of norms). ``rate``: a factor of the learning rate; the factors of several
    groups are multiplied. ``weight_decay``: in place of the optimizer's, the last group's counts. ``frozen``: whether
    they keep their values.

    Raises:
        UsageError: A number is negative or not finite.

    >>> Group("@vectors", weight_decay=0)
    Group(parameters='@vectors', rate=1.0, weight_decay=0.0, frozen=False)
    """

    parameters: str
    rate: float = 1.0
    weight_decay: float | None = None
    frozen: bool = False

    def __post_init__(self) -> None:
        checks.instance("parameters", self.parameters, str, "a pattern of names, such as '*.bias', or '@vectors'")
        checks.instance("frozen", self.frozen, bool, "True or False")
        object.__setattr__(self, "rate", float(factor("rate", self.rate)))
        if self.weight_decay is not None:
            object.__setattr__(self, "weight_decay", float(factor("weight_decay", self.weight_decay)))

    def has(self, name: str, shape: tuple[int, ...]) -> bool:
        """Returns whether a parameter belongs to the group."""
        return len(shape) <= 1 if self.parameters == VECTORS else fnmatchcase(name, self.parameters)

    def __str__(self) -> str:
        words = [f"rate={self.rate!r}"] if self.rate != 1 else []
        words += [f"weight_decay={self.weight_decay!r}"] if self.weight_decay is not None else []
        return f"{self.parameters}:{','.join([*words, *(['frozen'] if self.frozen else [])])}"


class Rule(NamedTuple):
    """How a parameter is updated: the optimizer with its weight decay, and the factor of its learning rate."""

    optimizer: Optimizer
    rate: float


def groups_of(given: str | Iterable[Group]) -> tuple[Group, ...]:
    """Returns groups, also from a text such as ``*.bias:weight_decay=0;head.*:rate=0.1;body.*:frozen``.

    Raises:
        UsageError: The text is not of this form.

    >>> groups_of("@vectors:weight_decay=0;body.*:frozen") == (Group("@vectors", 1, 0), Group("body.*", frozen=True))
    True
    """
    if not isinstance(given, str):
        found = tuple(given) if isinstance(given, Iterable) else (given,)
        return tuple(checks.instance("groups", each, Group, "Groups or their text") for each in found)
    return tuple(_group(each) for each in given.split(";") if each.strip())


def _group(text: str) -> Group:
    pattern, _, words = text.strip().partition(":")
    settings: dict[str, object] = {}
    for word in words.split(","):
        name, _, value = word.strip().partition("=")
        if name == "frozen" and not value:
            settings[name] = True
        elif name in ("rate", "weight_decay") and value:
            settings[name] = _number(text, value)
        else:
            raise UsageError(
                f"group {text.strip()!r} is not of the form PATTERN:SETTING,... with rate=NUMBER, weight_decay=NUMBER "
                f"or frozen, such as '*.bias:weight_decay=0'",
                "groups",
            )
    return Group(pattern, **settings)  # type: ignore[arg-type]


def _number(text: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise UsageError(f"group {text.strip()!r}: {value!r} is not a number", "groups") from None


def text_of(groups: Iterable[Group]) -> str:
    """Inverts ``groups_of``.

    >>> text_of([Group("*.bias", weight_decay=0)])
    '*.bias:weight_decay=0.0'
    """
    return ";".join(map(str, groups))


def rules_of(groups: Iterable[Group], optimizer: Optimizer, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Rule]:
    """Returns the rule of every parameter that is trained, by name.

    Raises:
        UsageError: A group has no parameter, the network has none, or every parameter is frozen.
    """
    rules, frozen = {name: Rule(optimizer, 1.0) for name in shapes}, set[str]()
    for group in groups:
        members = [name for name, shape in shapes.items() if group.has(name, shape)]
        if not members:
            known = ", ".join(list(shapes)[:4])
            raise UsageError(
                f"group {str(group)!r} has no parameter of the network; its parameters are {known}, ...", "groups"
            )
        for name in members:
            old = rules[name]
            decay = old.optimizer.weight_decay if group.weight_decay is None else group.weight_decay
            rules[name] = Rule(old.optimizer.with_decay(decay), old.rate * group.rate)
        frozen = frozen | set(members) if group.frozen else frozen
    if not rules:
        raise UsageError("the network has no parameters, so that nothing is trained")
    if len(frozen) == len(rules):
        raise UsageError("every parameter is frozen, so that nothing is trained", "groups")
    return {name: rule for name, rule in rules.items() if name not in frozen}
