"""The curve: marks, bars and lines stand where the rows' values are, and nothing is averaged but seeds."""

import re
from collections import Counter
from dataclasses import fields
from statistics import fmean

import pytest
from matplotlib.container import ErrorbarContainer
from rows import given, row

from mpsim.assignment import SCHEMES
from mpsim.experiments.drawing import accuracy_axis
from mpsim.experiments.drawing.figures import STYLES, memory_accuracy, memory_accuracy_figure, pareto_front, save
from mpsim.experiments.labels import GIVEN, differences, kind, labels_of, picture_name, recipe
from mpsim.experiments.settings import RunSettings
from mpsim.experiments.study_tables import Mean, over_seeds


def demoted(lr, seed, ratios=(0.0, 0.5, 1.0), **settings):
    """A curve whose accuracies are those of no other learning rate, scheme or seed."""
    return [
        row("largest_first", 0.9 * r, 0.98 - lr * (1 + r) - 0.01 * seed, ratio=r, lr=lr, seed=seed, **settings)
        for r in ratios
    ]


#: Two learning rates, two seeds of each; accuracies from 7 to 98 %; every scheme that can be trained.
ROWS = [
    *(row("float32", 0.0, 0.97 - 0.3 * lr + 0.002 * seed, lr=lr, seed=seed) for lr in (0.1, 0.2) for seed in (0, 1)),
    *(one for lr in (0.1, 0.2) for seed in (0, 1) for one in demoted(lr, seed)),
    *(one for seed in (0, 1) for one in demoted(0.1, seed, levels="five_bit")),
    row("uniform_high", 0.0, 0.98), row("uniform_high", 0.0, 0.979, seed=1),
    row("uniform_low", 0.99, 0.07, diverged=True), row("uniform_low", 0.99, 0.756, seed=1),
    row("operator_based", 0.15, 0.756), row("operator_based", 0.15, 0.864, seed=1),
    row("operator_based_extended", 0.28, 0.864),
    row("smallest_first", 0.41, 0.61, ratio=0.4), row("smallest_first", 0.81, 0.33, ratio=0.8),
    *(row("random", 0.4 + 0.01 * order, 0.5 + 0.1 * order, ratio=0.4, plan_seed=order) for order in (3, 4)),
    row("random", 0.7, 0.45, ratio=0.7, plan_seed=3, seed=3),
    row("largest_k", 0.35, 0.91, k=1), row("largest_k", 0.62, 0.88, k=2), row("largest_k", 0.62, 0.9, k=2, seed=1),
    given(0.55, 0.955, "optimal ratio=0.5", "ab" * 32), given(0.58, 0.945, "optimal ratio=0.5", "cd" * 32),
    given(0.58, 0.965, "optimal ratio=0.5", "cd" * 32, seed=1),
]  # fmt: skip


def expected(rows):
    """What should be drawn, computed from the rows alone: (scheme, share, mean, lowest, highest) of each plan, in %."""
    gathered = {}
    for one in rows:
        name = tuple((key, value) for key, value in one.items() if key not in ("seed", "low_share", "test_accuracy",
                                                                               "diverged"))  # fmt: skip
        gathered.setdefault(name, []).append((one["scheme"], 100 * one["low_share"], 100 * one["test_accuracy"]))
    for same in gathered.values():
        accuracies = [accuracy for *_, accuracy in same]
        yield same[0][0], fmean(share for _, share, _ in same), fmean(accuracies), min(accuracies), max(accuracies)


def drawn(axes):
    """(scheme, share, accuracy, lower end, upper end) of each mark, read from the artists in data coordinates."""
    for container in axes.containers:
        assert isinstance(container, ErrorbarContainer)
        line, _, bars = container.lines
        assert line.get_transform() == axes.transData and line.get_visible() and line.get_marker() != "None"
        marks = line.get_xydata()
        segments = bars[0].get_segments() if bars else [[mark, mark] for mark in marks]
        for (x, y), ((x_low, low), (x_high, high)) in zip(marks, segments, strict=True):
            assert x_low == x_high == x
            yield container.get_label(), x, y, low, high


def close(points):
    return Counter((scheme, *(round(number, 6) for number in numbers)) for scheme, *numbers in points)


def test_marks_and_bars_stand_where_the_values_are():
    (axes,) = memory_accuracy_figure(ROWS).axes
    wanted = list(expected(ROWS))
    assert close(drawn(axes)) == close(wanted)
    assert len(wanted) == 2 + 2 * 3 + 3 + 4 + 2 + 3 + 2 + 2
    low, high = axes.get_ylim()
    assert low < 7 < 98 < high
    for _, x, y, *bar in drawn(axes):  # and on the paper, inside the axes
        for value in (y, *bar):
            place = axes.transData.transform((x, value))
            assert axes.bbox.contains(*place), (x, value)


def test_lines_join_the_plans_of_one_scheme_trained_alike():
    (axes,) = memory_accuracy_figure(ROWS).axes
    found = {}
    for container in axes.containers:
        found.setdefault(container.get_label(), []).append([round(float(x), 6) for x in container[0].get_xdata()])
    assert found["largest_first"] == [[0.0, 45.0, 90.0]] * 3  # two learning rates, two level pairs
    assert sorted(found["random"]) == [[43.0, 70.0], [44.0]]  # an order each
    assert found["largest_k"] == [[35.0, 62.0]] and found["smallest_first"] == [[41.0, 81.0]]
    assert set(found) == {one["scheme"] for one in ROWS}
    colours = {container[0].get_color() for container in axes.containers if container.get_label() == "largest_first"}
    assert len(colours) == 3


def test_levels_of_float32_and_crosses_over_diverged_runs():
    (axes,) = memory_accuracy_figure(ROWS).axes
    levels = [line.get_ydata() for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    means = [100 * fmean([0.97 - 0.3 * lr, 0.97 - 0.3 * lr + 0.002]) for lr in (0.1, 0.2)]
    assert sorted(round(level[0], 6) for level in levels) == sorted(round(mean, 6) for mean in means)
    assert all(level[0] == level[1] for level in levels)
    crosses = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "x"]
    assert crosses == [[[99.0, pytest.approx((7 + 75.6) / 2)]]]


def test_every_scheme_has_a_mark_and_a_legend_entry_of_its_own(tmp_path):
    assert set(STYLES) == {name for name in SCHEMES if not name.endswith("_in_steps")} | {GIVEN}
    assert len({style.marker for style in STYLES.values()}) == len(STYLES)
    rows = [*ROWS, row("my_scheme", 0.3, 0.6), row("another", 0.2, 0.5)]
    figure = memory_accuracy_figure(rows)
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    for scheme in {one["scheme"] for one in rows}:
        label = STYLES[scheme].label if scheme in STYLES else scheme
        assert words.count(label) == 1, scheme
    markers = {text: handle.get_marker() for text, handle in zip(words, legend.legend_handles, strict=True)}
    assert markers["my_scheme"] != markers["another"]
    for word in ("paper, learning rate 0.1", "paper, learning rate 0.2", "five_bit, learning rate 0.1"):
        assert word in [text.replace("\n", " ") for text in words]
    notes = [text.get_text() for text in figure.axes[0].texts]
    assert "optimal ratio=0.5 abab" in notes and "optimal ratio=0.5 cdcd" in notes and "k=1" in notes


def test_a_difference_in_any_setting_is_another_point():
    one = row("largest_first", 0.5, 0.9, ratio=0.5)
    other = {
        "scheme": "smallest_first", "ratio": 0.6, "k": 1, "plan_seed": 1, "given_plan": "x", "plan_sha256": "y",
        "levels": "five_bit", "promotion": None, "model": "resnet18", "model_sha256": "z", "width": 0.5,
        "data": "synthetic10", "data_sha256": "d", "train_images": 99, "epochs": 3, "batch": 32, "lr": 0.2,
        "schedule": "constant", "momentum": 0.5, "weight_decay": 0.0, "semantics": "lee2023", "rounding": "stochastic",
        "random_bit_count": 4, "evaluate_every": 2, "skipped_statistics": "kept", "accumulator": "exact",
        "own_settings": "{}", "definition": 2,
    }  # fmt: skip
    assert set(other) | {"seed"} == set(one) - {"low_share", "test_accuracy", "diverged"}
    points = over_seeds([one, *(one | {name: value} for name, value in other.items())])
    assert len(points) == 1 + len(other)
    (gathered,) = over_seeds([one, one | {"seed": 1, "test_accuracy": 0.7, "low_share": 0.7}])
    assert (gathered.seeds, gathered.lowest, gathered.highest) == (2, 0.7, 0.9)
    assert gathered.accuracy == pytest.approx(0.8) and gathered.low_share == pytest.approx(0.6)


def test_every_setting_is_told():
    """What a run is found by stands in its result too; data and a plan are told by digest."""
    of_data = {"data_path", "normalisation", "test_share", "context"}
    settings = {field.name for field in fields(RunSettings)} - of_data - {"plan"}
    assert settings <= labels_of("k", RunSettings("uniform_low").to_dict()).keys()
    kept, updated = row("uniform_low", 1.0, 0.9, skipped_statistics="kept"), row("uniform_low", 1.0, 0.9)
    assert picture_name("sweep", kept) != picture_name("sweep", updated) and kind(kept) != kind(updated)


def test_levels_of_one_name_and_other_formats_are_other_levels():
    """As of a results file from a program that had another pair, or one that this has not, under that name."""
    stored = RunSettings("uniform_low").to_dict()
    assert labels_of("k", stored)["levels"] == "paper"
    other = stored | {"formats": RunSettings("uniform_low", levels="six_bit").to_dict()["formats"]}
    unknown = stored | {"levels": "of the past"}
    names = [labels_of("k", settings)["levels"] for settings in (other, unknown)]
    assert re.fullmatch("paper [0-9a-f]{8}", names[0]) and re.fullmatch("of the past [0-9a-f]{8}", names[1])


def test_what_differs_is_told_in_words():
    rows = [
        row("uniform_low", 1.0, 0.9),
        row("uniform_low", 1.0, 0.9, train_images=99, batch=32, data_sha256="ab" * 32),
    ]
    assert differences(rows) == [
        "data not known, all training examples, batch 128", "data abababab, 99 training examples, batch 32",
    ]  # fmt: skip
    assert recipe(rows).startswith("15 epochs, learning rate 0.1, cosine") and "batch" not in recipe(rows)


def test_a_run_that_stands_in_the_rows_twice_counts_once():
    one = row("float32", 0.0, 0.9)
    assert [point.seeds for point in over_seeds([one, one, one | {"seed": 1}])] == [2]


def point(share, accuracy):
    return Mean({}, 1, share, accuracy, accuracy, accuracy, 0)


def test_the_front_is_what_no_other_point_beats():
    every = [point(share, accuracy) for share in (0.0, 0.3, 0.5, 0.9) for accuracy in (0.2, 0.6, 0.8)]
    every += [point(0.0, 0.95), point(0.95, 0.1), point(0.4, 0.9)]
    kept = [
        p for p in every
        if not any(q.low_share >= p.low_share and q.accuracy >= p.accuracy and q != p for q in every)
    ]  # fmt: skip
    assert pareto_front(every) == sorted(kept, key=lambda p: p.low_share)


@pytest.mark.parametrize("low,high", [(7, 98), (10, 97), (96.4, 98.1), (60, 86), (0, 100), (50, 50), (97.22, 97.23)])
def test_the_axis_keeps_apart_what_is_apart(low, high):
    """Room for everything, ticks inside in rising order, and a percentage point is seen at both ends."""
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    accuracy_axis.use(axes, [low, high])
    bottom, top = axes.get_ylim()
    assert bottom < low and high < top
    ticks = axes.get_yticks()
    assert list(ticks) == sorted(set(ticks)) and len(ticks) >= 2
    assert all(bottom <= tick <= min(top, 100) for tick in ticks)
    assert [label.get_text() for label in axes.get_yticklabels()] == [f"{tick:g}" for tick in ticks]
    if (low, high) == (10, 97):
        places = [float(accuracy_axis.forward(value)) for value in (9, 10, 11, 96, 97)]
        whole = float(accuracy_axis.forward(top) - accuracy_axis.forward(bottom))
        assert (places[4] - places[3]) / whole > 0.05  # a twentieth of the height between 96 and 97 %
        assert (places[2] - places[0]) / whole > 0.005
        assert 10 in ticks and max(ticks) >= 95


def test_both_files_are_written_with_their_words(tmp_path):
    png, svg = memory_accuracy(ROWS, tmp_path / "deep" / "curve.png", title="a title")
    assert png.read_bytes().startswith(b"\x89PNG") and (png.name, svg.name) == ("curve.png", "curve.svg")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())
    for word in (
        "test accuracy [%], linear in the logarithm of the error",
        "Pareto front",
        "a run diverged",
        "a title",
    ):
        assert word in words
    assert any("low format [%" in word for word in words)
    again = memory_accuracy(ROWS, tmp_path / "again", title="a title")
    assert [file.read_bytes() for file in again] == [png.read_bytes(), svg.read_bytes()]
    _, svg = memory_accuracy(ROWS[:2], tmp_path / "one")
    assert "float32: 94.1 %" in svg.read_text()


def test_a_number_in_a_name_is_not_its_ending(tmp_path):
    figure = memory_accuracy_figure(ROWS[:1])
    names = [file.name for stem in ("width_0.25", "width_0.125.svg") for file in save(figure, tmp_path / stem)]
    assert names == ["width_0.25.png", "width_0.25.svg", "width_0.125.png", "width_0.125.svg"]


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        memory_accuracy([], tmp_path / "curve")
