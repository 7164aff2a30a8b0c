"""What a figure's runs say in numbers, from rows made by hand."""

import csv

import pytest

from mpsim.experiments.paper_figures import draw
from mpsim.experiments.study_tables import COLUMNS, against_operator_based, means, summary, write_csv


def row(scheme, share, accuracy, ratio=None, seed=0, promotion=0.01, diverged=False):
    return {
        "scheme": scheme, "ratio": ratio, "low_share": share, "test_accuracy": accuracy, "seed": seed,
        "promotion": promotion if scheme == "largest_first" else None, "diverged": diverged,
    }  # fmt: skip


#: The operator-based plan at 80 % with 0.2 low; the paper's plans beat it up to 0.5 low, and 0.9 is a point worse.
ROWS = [
    row("float32", 0.0, 0.85),
    row("operator_based", 0.2, 0.78), row("operator_based", 0.2, 0.82, seed=1),
    row("largest_first", 0.5, 0.79, 0.5), row("largest_first", 0.5, 0.81, 0.5, seed=1),
    row("largest_first", 0.9, 0.795, 0.9), row("largest_first", 0.9, 0.787, 0.9, seed=1),
    row("largest_first", 0.95, 0.9, 1.0, promotion=None),
    row("uniform_low", 1.0, 0.1, diverged=True), row("uniform_low", 1.0, 0.6, seed=1),
]  # fmt: skip


def test_means_are_over_seeds_and_keep_promotion_apart():
    every = {(mean.scheme, mean.ratio, mean.promotes): mean for mean in means(ROWS)}
    assert len(every) == 6
    op = every["operator_based", None, False]
    assert (op.seeds, op.lowest, op.highest, op.diverged) == (2, 0.78, 0.82, 0)
    assert op.accuracy == pytest.approx(0.8) and op.low_share == pytest.approx(0.2)
    assert every["uniform_low", None, False].diverged == 1
    assert ("largest_first", 1.0, False) in every and ("largest_first", 1.0, True) not in every


def test_the_headline_takes_the_paper_plans_only():
    """Not the plan without promotion, although it is both more accurate and lower."""
    equal = against_operator_based(means(ROWS))
    assert equal.best.ratio == 0.5 and equal.reduction == pytest.approx(0.5 / 0.2)
    within = against_operator_based(means(ROWS), 0.01)
    assert within.best.ratio == 0.9 and within.reduction == pytest.approx(0.9 / 0.2)
    assert against_operator_based(means(ROWS), -0.1).best is None
    assert against_operator_based(means(ROWS[:1])) is None


def test_the_table_says_so_in_words():
    text = summary([("net", ROWS)])
    assert "| uniform_low | no | 100.0 % | 35.0 % | 10.0 to 60.0 % | 1 of 2 |" in text
    assert "largest_first r=0.5 reaches operator_based's accuracy (80.0 %, 20.0 % held low): 80.0 %" in text
    assert "less 1 point: 79.1 % with 90.0 % held low, 4.50 times the memory reduction." in text
    worse = [row("operator_based", 0.2, 0.8), row("largest_first", 0.5, 0.1, 0.5)]
    assert "No plan of the paper's reaches operator_based's accuracy" in summary([("net", worse)])


def test_runs_are_exported_one_a_line(tmp_path):
    path = write_csv(ROWS, tmp_path / "runs.csv")
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(ROWS) and tuple(lines[0]) == COLUMNS
    assert [float(line["test_accuracy"]) for line in lines] == [row["test_accuracy"] for row in ROWS]
    assert lines[-1]["ratio"] == "" and lines[-2]["diverged"] == "True"


@pytest.mark.parametrize("compares", ["plans", "orders", "promotion"])
def test_figures_are_drawn(tmp_path, compares):
    """A panel each, the lines named, a mark where a run diverged, the same bytes again."""
    titled = [("one net", ROWS), ("another", ROWS[:5]), ("a third", ROWS)]
    png, svg = draw(compares, titled, tmp_path / "figure", "a title")
    assert png.read_bytes().startswith(b"\x89PNG")
    words = svg.read_text()
    for word in ("one net", "another", "a third", "a title", "a run diverged", "float32", "elements held low"):
        assert f"{word}" in words
    own = {"plans": "operator-based", "orders": "largest first", "promotion": "without promotion"}[compares]
    assert own in words
    assert draw(compares, titled, tmp_path / "again", "a title")[1].read_bytes() == svg.read_bytes()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        draw("plans", [("net", [])], tmp_path / "figure")
