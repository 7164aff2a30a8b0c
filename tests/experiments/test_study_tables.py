"""What a figure's runs say in numbers, and that they are drawn where they are, from rows made by hand."""

import csv
from statistics import fmean

import pytest
from rows import given
from rows import row as full_row

from mpsim.experiments.drawing.paper_figures import CURVES, draw, figure_of
from mpsim.experiments.study_tables import (
    COLUMNS,
    SEEDS_AND_ORDERS,
    against_operator_based,
    over_seeds,
    summary,
    write_csv,
)


def row(scheme, share, accuracy, ratio=None, **settings):
    return full_row(scheme, share, accuracy, ratio=ratio, **settings)


#: The operator-based plan at 80 % with 0.2 low; the paper's plans beat it up to 0.5 low, and 0.9 is a point worse.
ROWS = [
    row("float32", 0.0, 0.85),
    row("operator_based", 0.2, 0.78), row("operator_based", 0.2, 0.82, seed=1),
    row("largest_first", 0.5, 0.79, 0.5), row("largest_first", 0.5, 0.81, 0.5, seed=1),
    row("largest_first", 0.9, 0.795, 0.9), row("largest_first", 0.9, 0.787, 0.9, seed=1),
    row("largest_first", 0.95, 0.9, 1.0, promotion=None),
    row("uniform_low", 1.0, 0.1, diverged=True), row("uniform_low", 1.0, 0.6, seed=1),
]  # fmt: skip


def means(rows):
    return over_seeds(rows, SEEDS_AND_ORDERS)


def test_means_are_over_seeds_and_keep_promotion_apart():
    every = {(mean.scheme, mean.ratio, mean.promotes): mean for mean in means(ROWS)}
    assert len(every) == 6
    op = every["operator_based", None, False]
    assert (op.seeds, op.lowest, op.highest, op.diverged) == (2, 0.78, 0.82, 0)
    assert op.accuracy == pytest.approx(0.8) and op.low_share == pytest.approx(0.2)
    assert every["uniform_low", None, False].diverged == 1
    assert ("largest_first", 1.0, False) in every and ("largest_first", 1.0, True) not in every


def test_a_studys_means_are_over_random_orders_too():
    """Each seed with an order of its own, as in figure 5, or several orders with each seed."""
    own = [row("random", 0.4, 0.5 + 0.1 * seed, 0.4, seed=seed, plan_seed=seed) for seed in range(3)]
    several = [row("random", 0.4, 0.5, 0.4, seed=seed, plan_seed=order) for seed in range(2) for order in range(3)]
    assert [(mean.seeds, mean.accuracy) for mean in means(own)] == [(3, pytest.approx(0.6))]
    assert [mean.seeds for mean in means(several)] == [6]
    assert [mean.seeds for mean in over_seeds(several)] == [2, 2, 2]  # one order is another plan than another


def test_the_headline_takes_the_paper_plans_only():
    """Not the plan without promotion, although it is both more accurate and lower."""
    equal = against_operator_based(means(ROWS))
    assert equal.best.ratio == 0.5 and equal.reduction == pytest.approx(0.5 / 0.2)
    within = against_operator_based(means(ROWS), 0.01)
    assert within.best.ratio == 0.9 and within.reduction == pytest.approx(0.9 / 0.2)
    assert against_operator_based(means(ROWS), -0.1).best is None
    assert against_operator_based(means(ROWS[:1])) is None
    slower = [one | {"lr": 0.01, "test_accuracy": 0.99} for one in ROWS if one["scheme"] == "largest_first"]
    assert against_operator_based(means([*ROWS, *slower])) == equal


def test_the_table_says_so_in_words():
    text = summary([("net", ROWS)])
    assert "| uniform_low | no | 100.0 % | 35.0 % | 10.0 to 60.0 % | 1 of 2 |" in text
    assert "largest_first r=0.5 reaches operator_based's accuracy (80.0 %, 20.0 % held low): 80.0 %" in text
    assert "less 1 point: 79.1 % with 90.0 % held low, 4.50 times the memory reduction." in text
    assert "| largest_first r=0.5 | 0.01 | 50.0 % | 80.0 % | 79.0 to 81.0 % | 0 of 2 |" in text
    assert "| largest_first r=1 | no | 95.0 % | 90.0 % | 90.0 to 90.0 % | 0 of 1 |" in text
    assert (
        "\n15 epochs, batch 128, learning rate 0.1, cosine, momentum 0.9, weight decay 0.0005, standard semantics, "
        "2 seeds.\n" in text
    )
    worse = [row("operator_based", 0.2, 0.8), row("largest_first", 0.5, 0.1, 0.5)]
    assert "No plan of the paper's reaches operator_based's accuracy" in summary([("net", worse)])


def test_the_table_says_what_differs():
    """Two learning rates are two plans' rows, and given plans are distinguished."""
    rows = [
        row("uniform_low", 1.0, 0.7),
        row("uniform_low", 1.0, 0.5, lr=0.2),
        given(0.4, 0.6, "optimal k=3", "f" * 64),
    ]
    text = summary([("net", rows)])
    assert "| uniform_low, learning rate 0.1 | no | 100.0 % | 70.0 % | 70.0 to 70.0 % | 0 of 1 |" in text
    assert "| uniform_low, learning rate 0.2 | no | 100.0 % | 50.0 % | 50.0 to 50.0 % | 0 of 1 |" in text
    assert "| given plan optimal k=3 (ffffffff), learning rate 0.1 | 0.01 | 40.0 %" in text
    assert "learning rate" not in text.splitlines()[2]  # the recipe has what all runs have in common


def test_runs_are_exported_one_a_line(tmp_path):
    path = write_csv(ROWS, tmp_path / "runs.csv")
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(ROWS) and tuple(lines[0]) == COLUMNS
    assert [float(line["test_accuracy"]) for line in lines] == [row["test_accuracy"] for row in ROWS]
    assert lines[-1]["ratio"] == "" and lines[-2]["diverged"] == "True"
    assert {name for one in ROWS for name in one} <= set(COLUMNS)


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


def found(axes):
    """(label, share, accuracy, lower end, upper end) of each mark, read from the artists in data coordinates."""
    for container in axes.containers:
        line, _, bars = container.lines
        assert line.get_transform() == axes.transData
        marks = line.get_xydata()
        segments = bars[0].get_segments() if bars else [[mark, mark] for mark in marks]
        for (x, y), ((_, low), (_, high)) in zip(marks, segments, strict=True):
            yield container.get_label(), *(round(float(value), 6) for value in (x, y, low, high))


def wanted(label, rows):
    accuracies = [100 * one["test_accuracy"] for one in rows]
    numbers = (fmean(100 * one["low_share"] for one in rows), fmean(accuracies), min(accuracies), max(accuracies))
    return label, *(round(number, 6) for number in numbers)


def test_marks_and_bars_stand_where_the_values_are():
    rows = [
        row("float32", 0.0, 0.98),
        row("largest_first", 0.3, 0.864, 0.3), row("largest_first", 0.3, 0.756, 0.3, seed=1),
        row("largest_first", 0.9, 0.07, 0.9), row("largest_first", 0.9, 0.2, 0.9, lr=0.2),
        row("random", 0.31, 0.6, 0.3, plan_seed=0), row("random", 0.35, 0.5, 0.3, plan_seed=1, seed=1),
        row("smallest_first", 0.4, 0.3, 0.4), row("uniform_low", 1.0, 0.1), row("largest_k", 0.6, 0.71, k=2),
        given(0.55, 0.955, "optimal ratio=0.5", "ab" * 32),
    ]  # fmt: skip
    (axes,) = (place for place in figure_of("orders", [("net", rows)]).axes if place.get_visible())
    curves = {curve.scheme: curve.label for curve in CURVES["orders"]}
    usual, other = ", learning rate 0.1", ", learning rate 0.2"
    assert sorted(found(axes)) == sorted([
        wanted(curves["largest_first"] + usual, rows[1:3]), wanted(curves["largest_first"] + usual, rows[3:4]),
        wanted(curves["largest_first"] + other, rows[4:5]), wanted(curves["random"] + usual, rows[5:7]),
        wanted(curves["smallest_first"] + usual, rows[7:8]), wanted("uniform low" + usual, rows[8:9]),
        wanted("the k largest groups" + usual, rows[9:10]), wanted("given plan" + usual, rows[10:]),
    ])  # fmt: skip
    assert [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]] == [pytest.approx(98)]
    low, high = axes.get_ylim()
    assert low < 7 and high > 98
    colours = [container[0].get_color() for container in axes.containers]
    assert len(set(colours)) == len(colours) == 7  # a line, or marks, for each label


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        draw("plans", [("net", [])], tmp_path / "figure")
