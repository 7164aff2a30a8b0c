"""Describes the settings of results, in the results themselves and in titles, tables and file names.

A row is a result that ``run`` or ``sweep`` returns. Rows of older results files lack some settings, which ``labels_of``
recovers from the settings stored with each run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from mpsim.assignment import SCHEMES, Plan, parse_levels
from mpsim.experiments.results import settings_key
from mpsim.experiments.settings import (
    DATA_OF_OLD_KEYS,
    DEFAULTS,
    DEFINITION,
    GIVEN_PLAN_DEFINITION,
    Contents,
    RunSettings,
    formats_of,
    later_settings,
)
from mpsim.experiments.training_settings import LATER
from mpsim.files.records import Fields

Row = Mapping[str, Any]

#: The scheme of a row whose plan came from a file.
GIVEN = "given plan"
#: Settings that determine the plan. ``given_plan`` describes a plan from a file, and ``plan_sha256`` identifies it.
PLAN = ("scheme", "ratio", "k", "plan_seed", "given_plan", "plan_sha256", "levels", "promotion")
#: Settings of the training, except the seed. ``own_settings`` has those of a subclass of RunSettings as JSON.
TRAINING = (
    "model", "model_sha256", "width", "data", "data_sha256", "train_images", "epochs", "batch", "optimizer", "lr",
    "schedule", "momentum", "dampening", "nesterov", "beta1", "beta2", "epsilon", "warmup", "groups", "clip", "ema",
    "micro_batches", "storage", "weight_decay", "loss", "loss_sha256", "semantics",
    "rounding", "random_bit_count", "evaluate_every",
    "skipped_statistics", "accumulator", "own_settings",
)  # fmt: skip

#: The text of each setting.
_WORDS = {
    "model": "{}", "model_sha256": "file {:.8}", "width": "width {}", "data": "{}", "data_sha256": "data {:.8}",
    "train_images": "{} training examples", "epochs": "{} epochs", "batch": "batch {}", "lr": "learning rate {}",
    "optimizer": "{}", "dampening": "dampening {}", "nesterov": "Nesterov's momentum", "beta1": "beta1 {}",
    "beta2": "beta2 {}", "epsilon": "epsilon {}", "warmup": "{} steps of warm-up",
    "groups": "groups {}", "clip": "norm at most {}", "ema": "averages by {}", "micro_batches": "{} micro-batches",
    "storage": "stored as {}",
    "schedule": "{}", "momentum": "momentum {}",
    "weight_decay": "weight decay {}", "loss": "loss {}", "loss_sha256": "file of the loss {:.8}",
    "semantics": "{} semantics",
    "rounding": "{} rounding", "random_bit_count": "{} random bits", "evaluate_every": "a test every {} epochs",
    "skipped_statistics": "{} statistics after skipped steps", "accumulator": "sums by {}",
    "own_settings": "{}", "promotion": "promotion at {}",
    "levels": "levels {}",
}  # fmt: skip
_WORDS_FOR_NONE = {
    "train_images": "all training examples", "data_sha256": "data not known", "random_bit_count": "no random bits",
    "model_sha256": "no file", "loss_sha256": "no file of the loss", "own_settings": "usual settings",
}  # fmt: skip
#: Values that are omitted from texts. The digest of bundled data is omitted as well.
_UNTOLD = {
    "model_sha256": None,
    "loss_sha256": None,
    "rounding": "nearest",
    "random_bit_count": None,
    "own_settings": None,
    **LATER,
} | {name: getattr(DEFAULTS, name) for name in ("train_images", "evaluate_every")}

#: Settings that the name of a picture omits if they have their default.
_MOSTLY_USUAL = ("schedule", "momentum", "weight_decay", "semantics")


def labels(settings: RunSettings, contents: Contents | None = None) -> Fields:
    """Returns the labels of settings. ``contents`` is the result of ``settings.contents()``, if it is already known."""
    described = settings.to_dict(contents)
    return labels_of(settings_key(described), described)


def labels_of(key: str, stored: Row) -> Fields:
    """Returns the labels of stored settings (``RunSettings.to_dict`` of this or an older version)."""
    plan = None if stored["plan"] is None else Plan.from_json(stored["plan"])
    known = {*(field.name for field in fields(RunSettings)), *Contents._fields, "formats", "definition"}
    own = {name: value for name, value in stored.items() if name not in known}
    if stored.get("data_path") is not None:  # older versions stored the path in place of the data's digest
        own["data_path"] = stored["data_path"]
    full = {**later_settings(stored["data"]), **stored}
    return {
        "key": key,
        **(_scheme(stored) if plan is None else _given(plan, stored["plan"])),
        "promotion": stored["promotion"] if promotes(stored["scheme"] if plan is None else GIVEN) else None,
        "seed": stored["seed"],
        **{name: full.get(name) for name in TRAINING},
        "own_settings": json.dumps(own, sort_keys=True) if own else None,
        "definition": _definition(plan, stored),
    }


def _scheme(stored: Row) -> Fields:
    levels = None if stored["scheme"] == "float32" else _levels(stored["levels"], stored["formats"])
    of_plan = {name: stored[name] for name in ("scheme", "ratio", "k", "plan_seed")}
    return of_plan | {"given_plan": None, "plan_sha256": None, "levels": levels}


def _levels(name: str, formats: Row) -> str:
    """Returns the name of the levels, with a digest of their formats if the name no longer means these formats."""
    try:
        if formats_of(name) == formats:
            return str(parse_levels(name))
    except ValueError:
        pass
    return f"{name} {settings_key(formats)[:8]}"


def _given(plan: Plan, text: str) -> Fields:
    options = [f"{name}={value}" for name in ("ratio", "k", "seed") if (value := getattr(plan, name)) is not None]
    if plan.ratios is not None:
        options.append(f"ratios={','.join(map(str, plan.ratios))}")
    return {
        "scheme": GIVEN, "ratio": None, "k": None, "plan_seed": None,
        "given_plan": " ".join([plan.scheme, *options]),
        "plan_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "levels": str(plan.levels),
    }  # fmt: skip


def _definition(plan: Plan | None, stored: Row) -> int:
    """Returns DEFINITION if a run would give the same result today.

    Plans from files have a separate version. Before it, a run reported the share for the batch of its plan's trace.
    """
    if plan is None:
        return stored["definition"]
    same = stored["definition"] == GIVEN_PLAN_DEFINITION or plan.network.batch == stored["batch"]
    return DEFINITION if same else 0


def promotes(scheme: str) -> bool:
    """Returns whether runs with this scheme may promote tensors."""
    return scheme == GIVEN or (scheme in SCHEMES and SCHEMES[scheme].promotes)


# -- words ----------------------------------------------------------------------------------------------------------
def words(row: Row, names: Iterable[str] = TRAINING) -> list[str]:
    """Returns texts of a row's settings. It omits usual values and settings that the row lacks."""
    return [
        _word(name, row[name])
        for name in names
        if name in row and (name not in _UNTOLD or row[name] != _UNTOLD[name]) and not _is_bundled(name, row)
    ]


def _is_bundled(name: str, row: Row) -> bool:
    return name == "data_sha256" and row[name] in (None, DATA_OF_OLD_KEYS.get(row.get("data", "")))


def _word(name: str, value: object) -> str:
    if value is None:
        return _WORDS_FOR_NONE.get(name, f"no {name}")
    return _WORDS[name].format(value).removesuffix("s" if value == 1 and name in ("epochs", "train_images") else "")


def kind(row: Row) -> tuple:
    """Returns what runs in one picture must have in common: all settings except plan and seed."""
    return tuple(row.get(name) for name in TRAINING)


def differences(rows: Sequence[Row], names: Sequence[str] = TRAINING) -> list[str]:
    """Returns a text for each row, with the settings that differ between rows.

    Levels are compared only for rows that round, and promotion only for rows whose scheme may promote.

    >>> differences([{"lr": 0.1, "batch": 8}, {"lr": 0.2, "batch": 8}], ["lr", "batch"])
    ['learning rate 0.1', 'learning rate 0.2']
    """
    texts: list[list[str]] = [[] for _ in rows]
    for name in names:
        having = [place for place, row in enumerate(rows) if _has(row, name)]
        if len({rows[place].get(name) for place in having}) > 1:
            for place in having:
                texts[place].append(_word(name, rows[place].get(name)))
    return [", ".join(words) for words in texts]


def _has(row: Row, name: str) -> bool:
    if name == "promotion":
        return promotes(row["scheme"])
    return name != "levels" or row["scheme"] != "float32"


def recipe(rows: Sequence[Row]) -> str:
    """Returns a text on how the runs were trained. It omits settings that differ between rows."""
    known = [name for name in TRAINING if any(name in row for row in rows)]
    alike = {name: rows[0].get(name) for name in known if len({row.get(name) for row in rows}) == 1}
    seeds = sorted({row["seed"] for row in rows})
    texts = words(alike, [name for name in TRAINING if name not in ("model", "width", "data")])
    return ", ".join([*texts, f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"])


def picture_name(prefix: str, row: Row) -> str:
    """Returns the name, without suffix, of a file with a picture of runs that are trained like the row's.

    It contains the most important settings and ends with a digest of all settings of the training, so that different
    kinds of runs have different names.
    """
    usual = [name for name in _MOSTLY_USUAL if row.get(name) == getattr(DEFAULTS, name)]
    texts = words(row, [name for name in TRAINING if name not in usual])
    return file_name([prefix, *texts], {name: row.get(name) for name in TRAINING})


def file_name(texts: Iterable[str], everything: Row) -> str:
    """Returns the name of a file, without suffix, from texts and a digest of everything that they may omit.

    >>> file_name(["figure 4", "my_net.py:build"], {"width": 1.0})
    'figure-4_my_net.py-build_b107da5d'
    """
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(texts))
    return f"{text[:150]}_{settings_key(everything)[:8]}"
