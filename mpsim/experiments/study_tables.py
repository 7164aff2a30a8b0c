"""What a figure's runs say in numbers: accuracy by plan, memory reduction at equal accuracy, which plans diverged."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, TypeVar

Row = Mapping[str, Any]
Key = TypeVar("Key")

#: A percentage point of accuracy.
POINT = 0.01

#: Columns of the exported file: what a result says, of its settings first.
COLUMNS = (
    "model", "width", "data", "scheme", "ratio", "plan_seed", "levels", "promotion", "seed", "epochs", "steps",
    "low_share_planned", "low_share", "bytes", "test_accuracy", "test_accuracy_float32", "train_accuracy", "train_loss",
    "diverged", "promotions", "skipped_steps", "seconds", "digest", "key", "trained_as",
)  # fmt: skip


def write_csv(rows: Iterable[Row], path: str | Path) -> Path:
    """Writes the results (as ``sweep`` returns them) as CSV, one run a line; OSError if that cannot be."""
    path = Path(path)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


class Spread(NamedTuple):
    """Runs that differ in the seed only; shares and accuracies in 0..1."""

    seeds: int
    low_share: float
    accuracy: float
    lowest: float
    highest: float
    diverged: int  # runs that did


def over_seeds(rows: Iterable[Row], key: Callable[[Row], Key]) -> dict[Key, Spread]:
    """The rows gathered by what ``key`` says of them, in order of first appearance."""
    gathered: dict[Key, list[Row]] = {}
    for row in rows:
        gathered.setdefault(key(row), []).append(row)
    result = {}
    for name, same in gathered.items():
        accuracies, share = [row["test_accuracy"] for row in same], fmean(row["low_share"] for row in same)
        lost = sum(row["diverged"] for row in same)
        result[name] = Spread(len(same), share, fmean(accuracies), min(accuracies), max(accuracies), lost)
    return result


class Mean(NamedTuple):
    """The runs of one plan over its seeds; the numbers are a Spread's."""

    scheme: str
    ratio: float | None
    promotes: bool
    seeds: int
    low_share: float
    accuracy: float
    lowest: float
    highest: float
    diverged: int

    @property
    def label(self) -> str:
        words = [self.scheme] if self.ratio is None else [self.scheme, f"r={self.ratio:g}"]
        return " ".join(words)


def means(rows: Iterable[Row]) -> list[Mean]:
    """Rows gathered over seeds and random orders, in order of first appearance."""
    plans = over_seeds(rows, lambda row: (row["scheme"], row["ratio"], row["promotion"] is not None))
    return [Mean(scheme, ratio, promotes, *spread) for (scheme, ratio, promotes), spread in plans.items()]


class Comparison(NamedTuple):
    """The paper's plans against the operator-based one on one network: its headline."""

    share: float  # held low by the operator-based plan
    accuracy: float
    best: Mean | None  # of the paper's plans at least as accurate (less ``allowance``), the one that holds most low
    reduction: float | None  # share of ``best`` / share: memory saved against all high, as a multiple


def against_operator_based(every: Sequence[Mean], allowance: float = 0.0) -> Comparison | None:
    """The memory reduction at equal accuracy; ``allowance``: accuracy that may be lost (0.01 is a point).

    With 16 and 8 bits the memory saved against all high is half the share held low, so the multiple of the shares is
    the multiple of the savings. None without an operator-based run.

    >>> def mean(scheme, ratio, share, accuracy):
    ...     return Mean(scheme, ratio, True, 1, share, accuracy, accuracy, accuracy, 0)
    >>> plans = [mean("operator_based", None, 0.3, 0.9), mean("largest_first", 0.6, 0.62, 0.91)]
    >>> round(against_operator_based(plans).reduction, 2)
    2.07
    """
    base = next((mean for mean in every if mean.scheme == "operator_based"), None)
    if base is None:
        return None
    equal = [
        mean
        for mean in every
        if mean.scheme == "largest_first" and mean.promotes and mean.accuracy >= base.accuracy - allowance
    ]
    best = max(equal, key=lambda mean: mean.low_share, default=None)
    reduction = None if best is None or not base.low_share else best.low_share / base.low_share
    return Comparison(base.low_share, base.accuracy, best, reduction)


def summary(titled: Iterable[tuple[str, Sequence[Row]]]) -> str:
    """A Markdown table per panel (title, rows): every plan's mean, and the comparison in a line below."""
    return "\n".join(_panel(title, means(rows)) for title, rows in titled)


def _panel(title: str, every: Sequence[Mean]) -> str:
    lines = [f"**{title}**", "", "| plan | promotion | share low | test accuracy | lowest to highest | diverged |"]
    lines.append("|---|---|---|---|---|---|")
    for mean in every:
        spread = f"{100 * mean.lowest:.1f} to {100 * mean.highest:.1f} %"
        lines.append(
            f"| {mean.label} | {'yes' if mean.promotes else 'no'} | {100 * mean.low_share:.1f} % | "
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
