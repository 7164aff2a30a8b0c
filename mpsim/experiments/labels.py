"""What a result says of its run: every setting, and the words for them in titles, tables and files' names.

A row is a result, as ``run`` and ``sweep`` return it. Rows of older results files lack some settings; ``labels_of``
recovers them from the settings that are stored with each run.
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
from mpsim.files.records import Fields

Row = Mapping[str, Any]

#: The scheme of a row whose run had a plan from a file.
GIVEN = "given plan"
#: Settings that make the plan: ``given_plan`` says in words what a given plan is, ``plan_sha256`` which one.
PLAN = ("scheme", "ratio", "k", "plan_seed", "given_plan", "plan_sha256", "levels", "promotion")
#: Settings of the training under it, without the seed. ``own_settings``: those of a subclass of RunSettings, as JSON.
TRAINING = (
    "model", "model_sha256", "width", "data", "data_sha256", "train_images", "epochs", "batch", "lr", "schedule",
    "momentum", "weight_decay", "semantics", "rounding", "random_bit_count", "evaluate_every",
    "skipped_statistics", "accumulator", "own_settings",
)  # fmt: skip

#: How a setting is told to people.
_WORDS = {
    "model": "{}", "model_sha256": "file {:.8}", "width": "width {}", "data": "{}", "data_sha256": "data {:.8}",
    "train_images": "{} training images", "epochs": "{} epochs", "batch": "batch {}", "lr": "learning rate {}",
    "schedule": "{}", "momentum": "momentum {}", "weight_decay": "weight decay {}", "semantics": "{} semantics",
    "rounding": "{} rounding", "random_bit_count": "{} random bits", "evaluate_every": "a test every {} epochs",
    "skipped_statistics": "{} statistics after skipped steps", "accumulator": "sums by {}",
    "own_settings": "{}", "promotion": "promotion at {}",
    "levels": "levels {}",
}  # fmt: skip
_WORDS_FOR_NONE = {
    "train_images": "all training images", "data_sha256": "data not known", "random_bit_count": "no random bits",
    "model_sha256": "no file", "own_settings": "usual settings",
}  # fmt: skip
#: What is told only where it is not this. The digest of bundled data is not told either.
_UNTOLD = {"model_sha256": None, "rounding": "nearest", "random_bit_count": None, "own_settings": None} | {
    name: getattr(DEFAULTS, name) for name in ("train_images", "evaluate_every", "skipped_statistics", "accumulator")
}

#: What a picture's name tells only where it is not the default.
_MOSTLY_USUAL = ("schedule", "momentum", "weight_decay", "semantics")


def labels(settings: RunSettings, contents: Contents | None = None) -> Fields:
    """Returns what a result says of its settings; ``contents``: what ``settings.contents()`` gave, where at hand."""
    described = settings.to_dict(contents)
    return labels_of(settings_key(described), described)


def labels_of(key: str, stored: Row) -> Fields:
    """Returns the same from settings as they are stored (``RunSettings.to_dict``, of this version or an older one)."""
    plan = None if stored["plan"] is None else Plan.from_json(stored["plan"])
    known = {*(field.name for field in fields(RunSettings)), *Contents._fields, "formats", "definition"}
    own = {name: value for name, value in stored.items() if name not in known}
    if stored.get("data_path") is not None:  # once, the path stood for the data, whose digest is not known
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
    """The name of the level pair, with a digest of its formats where the name stands for others now, or for none."""
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
    """DEFINITION where the result is what a run gives today. Given plans came to have one of their own: before it,
    a run reported the share of the batch that its plan was made for."""
    if plan is None:
        return stored["definition"]
    same = stored["definition"] == GIVEN_PLAN_DEFINITION or plan.network.batch == stored["batch"]
    return DEFINITION if same else 0


def promotes(scheme: str) -> bool:
    """Whether a run under the scheme may promote tensors."""
    return scheme == GIVEN or (scheme in SCHEMES and SCHEMES[scheme].promotes)


# -- words ----------------------------------------------------------------------------------------------------------
def words(row: Row, names: Iterable[str] = TRAINING) -> list[str]:
    """Returns what people should know of a row's settings; what is as usual, or is not in the row, is left out."""
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
    """What runs that are drawn into one picture have in common: how they are trained, whatever the plan and seed."""
    return tuple(row.get(name) for name in TRAINING)


def differences(rows: Sequence[Row], names: Sequence[str] = TRAINING) -> list[str]:
    """Returns for each row in words those of the settings that are not the same in all rows.

    Levels are compared among the rows that round, promotion among those whose scheme has it.

    >>> differences([{"lr": 0.1, "batch": 8}, {"lr": 0.2, "batch": 8}], ["lr", "batch"])
    ['learning rate 0.1', 'learning rate 0.2']
    """
    told: list[list[str]] = [[] for _ in rows]
    for name in names:
        having = [place for place, row in enumerate(rows) if _has(row, name)]
        if len({rows[place].get(name) for place in having}) > 1:
            for place in having:
                told[place].append(_word(name, rows[place].get(name)))
    return [", ".join(words) for words in told]


def _has(row: Row, name: str) -> bool:
    if name == "promotion":
        return promotes(row["scheme"])
    return name != "levels" or row["scheme"] != "float32"


def recipe(rows: Sequence[Row]) -> str:
    """Returns in words how the runs of the rows were trained; what differs among them is not told."""
    known = [name for name in TRAINING if any(name in row for row in rows)]
    alike = {name: rows[0].get(name) for name in known if len({row.get(name) for row in rows}) == 1}
    seeds = sorted({row["seed"] for row in rows})
    told = words(alike, [name for name in TRAINING if name not in ("model", "width", "data")])
    return ", ".join([*told, f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"])


def picture_name(prefix: str, row: Row) -> str:
    """Returns a file's name, without its ending, for a picture of runs that are trained as the row's.

    It says what people look for, and ends with a digest of all settings of the training, so that no other kind of run
    has the same name.
    """
    usual = [name for name in _MOSTLY_USUAL if row.get(name) == getattr(DEFAULTS, name)]
    told = words(row, [name for name in TRAINING if name not in usual])
    return file_name([prefix, *told], {name: row.get(name) for name in TRAINING})


def file_name(told: Iterable[str], everything: Row) -> str:
    """Returns a file's name, without its ending, of words and a digest of all that the words may leave out.

    >>> file_name(["figure 4", "my_net.py:build"], {"width": 1.0})
    'figure-4_my_net.py-build_b107da5d'
    """
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", "_".join(told))
    return f"{text[:150]}_{settings_key(everything)[:8]}"
