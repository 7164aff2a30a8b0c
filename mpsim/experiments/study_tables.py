"""Computes the tables of a figure: accuracy of each plan, memory reduction at equal accuracy, and diverged plans."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from mpsim.experiments.labels import GIVEN, PLAN, TRAINING, Row, differences, kind, recipe
from mpsim.files.whole import write_whole

#: A percentage point of accuracy.
POINT = 0.01

#: The columns of the exported file, with the settings first.
COLUMNS = (
    "model", "width", "data", "scheme", "ratio", "plan_seed", "levels", "promotion", "seed", "epochs", "steps",
    "low_share_planned", "low_share", "bytes", "test_accuracy", "test_accuracy_float32", "train_accuracy", "train_loss",
    "diverged", "promotions", "skipped_steps", "seconds", "digest", "key", "trained_as", "k", "given_plan",
    "plan_sha256", "batch", "lr", "schedule", "momentum", "weight_decay", "semantics", "rounding", "random_bit_count",
    "train_images", "evaluate_every", "skipped_statistics", "accumulator", "data_sha256", "model_sha256",
    "own_settings", "definition",
)  # fmt: skip

#: What the means of a study are over: the seeds, and for scheme random also the orders, because each seed may have a
#: different order (``plan_seed`` = ``seed``).
SEEDS_AND_ORDERS = ("seed", "plan_seed")


def write_csv(rows: Iterable[Row], path: str | Path) -> Path:
    """Writes the results of ``sweep`` as CSV, one run on each line. Raises OSError if the file cannot be written."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode())
    return Path(path)


class Mean(NamedTuple):
    """The mean over runs that differ only in the seed. Shares and accuracies are from 0 to 1.

    ``settings`` are the common settings, and ``diverged`` is the number of diverged runs.
    """

    settings: Row
    seeds: int
    low_share: float
    accuracy: float
    lowest: float
    highest: float
    diverged: int

    @property
    def scheme(self) -> str:
        return self.settings["scheme"]

    @property
    def ratio(self) -> float | None:
        return self.settings["ratio"]

    @property
    def levels(self) -> str | None:
        return self.settings["levels"]

    @property
    def promotes(self) -> bool:
        return self.settings["promotion"] is not None

    @property
    def label(self) -> str:
        """A short text for the plan."""
        given = self.settings["given_plan"] or ""
        name = f"{GIVEN} {given} ({self.settings['plan_sha256'][:8]})" if given else self.scheme
        options = (("r", "ratio"), ("k", "k"), ("order", "plan_seed"))
        shown = [f"{short}={value:g}" for short, long in options if (value := self.settings[long]) is not None]
        return " ".join([name, *shown])


def over_seeds(rows: Iterable[Row], varies: Sequence[str] = ("seed",)) -> list[Mean]:
    """Averages the rows that differ only in ``varies``, in order of first appearance.

    A run that occurs several times, e.g. because several panels show it, counts once.
    """
    names = [name for name in (*PLAN, *TRAINING, "definition") if name not in varies]
    gathered: dict[tuple, dict[tuple, Row]] = {}
    for row in rows:
        same = gathered.setdefault(tuple(row.get(name) for name in names), {})
        same.setdefault((row["seed"], *(row.get(name) for name in varies)), row)
    settings = [dict.fromkeys(PLAN) | dict(zip(names, values, strict=True)) for values in gathered]
    return [_mean(alike, [*same.values()]) for alike, same in zip(settings, gathered.values(), strict=True)]


def _mean(settings: Row, rows: Sequence[Row]) -> Mean:
    accuracies, share = [row["test_accuracy"] for row in rows], fmean(row["low_share"] for row in rows)
    lost = sum(row["diverged"] for row in rows)
    return Mean(settings, len(rows), share, fmean(accuracies), min(accuracies), max(accuracies), lost)


class Comparison(NamedTuple):
    """Compares the paper's plans with the operator-based one on one network.

    ``share`` and ``accuracy`` are those of the operator-based plan. ``best`` is the plan of the paper with the largest
    share among those that are at least as accurate, less an allowance. ``reduction`` is the share of ``best`` divided
    by ``share``, i.e. how many times as much memory is saved compared with all tensors high.
    """

    share: float
    accuracy: float
    best: Mean | None
    reduction: float | None


def against_operator_based(every: Sequence[Mean], allowance: float = 0.0) -> Comparison | None:
    """Computes the memory reduction at equal accuracy.

    With 16 and 8 bits, the memory saved compared with all tensors high is half the low share. The ratio of the shares
    is therefore the ratio of the savings.

    Args:
        every: The means of all plans.
        allowance: How much accuracy may be lost (0.01 is a percentage point).

    Returns:
        The comparison, or None without an operator-based run.

    >>> def row(scheme, ratio, share, accuracy):
    ...     return {"scheme": scheme, "ratio": ratio, "promotion": 0.01, "low_share": share, "test_accuracy": accuracy,
    ...             "diverged": False, "seed": 0}
    >>> rows = [row("operator_based", None, 0.3, 0.9), row("largest_first", 0.6, 0.62, 0.91)]
    >>> round(against_operator_based(over_seeds(rows)).reduction, 2)
    2.07
    """
    base = next((mean for mean in every if mean.scheme == "operator_based"), None)
    if base is None:
        return None
    equal = [
        mean
        for mean in every
        if mean.scheme == "largest_first" and mean.promotes and mean.accuracy >= base.accuracy - allowance
        if mean.levels == base.levels and kind(mean.settings) == kind(base.settings)
    ]
    best = max(equal, key=lambda mean: mean.low_share, default=None)
    reduction = None if best is None or not base.low_share else best.low_share / base.low_share
    return Comparison(base.low_share, base.accuracy, best, reduction)


def summary(titled: Iterable[tuple[str, Sequence[Row]]]) -> str:
    """Returns a Markdown table for each panel (title, rows).

    It has the recipe of the runs, the mean of every plan over seeds and random orders, and the comparison below.
    """
    return "\n".join(_panel(title, rows) for title, rows in titled)


def _panel(title: str, rows: Sequence[Row]) -> str:
    every = over_seeds(rows, SEEDS_AND_ORDERS)
    lines = [f"**{title}**", "", f"{recipe(rows)}.", ""]
    lines.append("| plan | promotion | share low | test accuracy | lowest to highest | diverged |")
    lines.append("|---|---|---|---|---|---|")
    trained = differences([mean.settings for mean in every], (*TRAINING, "levels"))
    for mean, differs in zip(every, trained, strict=True):
        name = ", ".join(filter(None, [mean.label, differs]))
        spread = f"{100 * mean.lowest:.1f} to {100 * mean.highest:.1f} %"
        lines.append(
            f"| {name} | {mean.settings['promotion'] or 'no'} | {100 * mean.low_share:.1f} % | "
            f"{100 * mean.accuracy:.1f} % | {spread} | {mean.diverged} of {mean.seeds} |"
        )
    equal, within = (against_operator_based(every, allowance) for allowance in (0.0, POINT))
    if equal is not None and within is not None:
        lines += ["", _sentence(equal, "")]
        if within.best != equal.best:
            lines += ["", _sentence(within, " less 1 point")]
    return "\n".join(lines) + "\n"


def _sentence(compared: Comparison, loss: str) -> str:
    base = f"operator_based's accuracy ({100 * compared.accuracy:.1f} %, {100 * compared.share:.1f} % held low){loss}"
    if compared.best is None or compared.reduction is None:
        return f"No plan of the paper's reaches {base}."
    best = compared.best
    return (
        f"{best.label} reaches {base}: {100 * best.accuracy:.1f} % with {100 * best.low_share:.1f} % held low, "
        f"{compared.reduction:.2f} times the memory reduction."
    )
