"""Optimizers by name, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.training import schedule as schedules
from mpsim.training.optimizer.adam import Adam, AdamW
from mpsim.training.optimizer.base import Optimizer
from mpsim.training.optimizer.lion import Lion
from mpsim.training.optimizer.sgd import SGD
from mpsim.training.schedule import Schedule

OPTIMIZERS: dict[str, type[SGD] | type[Adam] | type[Lion]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW, "lion": Lion}

#: The name of every array that some optimizer keeps for a parameter.
STATES = tuple(dict.fromkeys(state for kind in OPTIMIZERS.values() for state in kind.states))

#: Settings that were added later. They are written only if they differ from their default.
LATER = ("dampening", "nesterov")


def name_of(optimizer: Optimizer) -> str:
    """Returns the name of an optimizer's kind.

    >>> name_of(AdamW())
    'adamw'
    """
    return next(name for name, kind in OPTIMIZERS.items() if kind is type(optimizer))


def settings_of(name: str) -> tuple[str, ...]:
    """Returns the settings of an optimizer, without its schedule.

    >>> settings_of("lion")
    ('lr', 'weight_decay', 'beta1', 'beta2')
    """
    return tuple(field.name for field in fields(OPTIMIZERS[name]) if field.name != "schedule")


def settings_of_kind(kind: object) -> tuple[str, ...]:
    """Returns the settings of the optimizer whose class has this name, without rate and schedule, or none.

    >>> settings_of_kind("Lion")
    ('weight_decay', 'beta1', 'beta2')
    """
    for name, found in OPTIMIZERS.items():
        if found.__name__ == kind:
            return tuple(setting for setting in settings_of(name) if setting != "lr")
    return ()


def make(name: str, settings: Mapping[str, Any], schedule: Schedule) -> Optimizer:
    """Returns the optimizer of a name. Settings that are None have its defaults.

    Raises:
        UsageError: The name is unknown, or the optimizer has no such setting.

    >>> make("adam", {"lr": 0.01, "beta1": None, "momentum": None}, schedules.Constant()).lr
    0.01
    """
    known = settings_of(checks.named("optimizer", name, OPTIMIZERS))
    given = {setting: value for setting, value in settings.items() if value is not None}
    for setting in given:
        if setting not in known:
            raise UsageError(f"{setting} is not a setting of optimizer {name!r}, which has {', '.join(known)}", setting)
    return OPTIMIZERS[name](schedule=schedule, **given)


def to_dict(optimizer: Optimizer) -> Record:
    """Returns the fields for JSON, with ``kind`` unless it is SGD.

    >>> to_dict(Lion())["kind"]
    'lion'
    """
    name = name_of(optimizer)
    found: Record = {} if name == "sgd" else {"kind": name}
    for field in fields(optimizer):
        value = getattr(optimizer, field.name)
        if field.name == "schedule":
            found["schedule"] = schedules.to_dict(value)
        elif field.name not in LATER or field.default is MISSING or value != field.default:
            found[field.name] = value
    return found


def from_dict(found: Mapping[str, Any]) -> Optimizer:
    """Inverts ``to_dict``. Raises ValueError or TypeError for anything else.

    >>> from_dict(to_dict(SGD(lr=0.05, nesterov=True))) == SGD(lr=0.05, nesterov=True)
    True
    """
    settings = {name: value for name, value in found.items() if name != "kind"}
    kind = OPTIMIZERS[checks.named("kind of the optimizer", found.get("kind", "sgd"), OPTIMIZERS)]
    return kind(**{**settings, "schedule": schedules.from_dict(settings["schedule"])})
