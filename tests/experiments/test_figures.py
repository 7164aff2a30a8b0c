"""The curve: which points are on the front, what is gathered, and that both files are written and legible."""

import re

import pytest

from mpsim.experiments.figures import Point, memory_accuracy, pareto_front, points


def row(scheme, share, accuracy, ratio=None, levels="paper", diverged=False, seed=0):
    return {
        "scheme": scheme, "ratio": ratio, "levels": levels, "low_share": share, "test_accuracy": accuracy,
        "diverged": diverged, "seed": seed,
    }  # fmt: skip


def point(share, accuracy):
    return Point("s", None, "l", share, accuracy, accuracy, accuracy, False)


def test_the_front_is_what_no_other_point_beats():
    every = [point(share, accuracy) for share in (0.0, 0.3, 0.5, 0.9) for accuracy in (0.2, 0.6, 0.8)]
    every += [point(0.0, 0.95), point(0.95, 0.1), point(0.4, 0.9)]
    beaten = [
        p for p in every
        if any(q.low_share >= p.low_share and q.accuracy >= p.accuracy and q != p for q in every)
    ]  # fmt: skip
    assert pareto_front(every) == sorted(set(every) - set(beaten), key=lambda p: p.low_share)


def test_seeds_are_gathered():
    rows = [row("largest_first", 0.5, 0.9, 0.4, seed=0), row("largest_first", 0.6, 0.8, 0.4, seed=1, diverged=True)]
    (gathered,) = points([*rows])
    assert gathered.low_share == pytest.approx(0.55) and gathered.accuracy == pytest.approx(0.85)
    assert (gathered.lowest, gathered.highest, gathered.diverged) == (0.8, 0.9, True)


def test_both_files_are_written_with_their_words(tmp_path):
    rows = [row("float32", 0.0, 0.97, levels=None)]
    for pair, loss in (("paper", 0.01), ("five_bit", 0.1)):
        rows += [row("largest_first", r, 0.97 - loss * r, r, pair) for r in (0.0, 0.5, 1.0)]
        rows += [row("uniform_low", 1.0, 0.97 - 5 * loss, levels=pair, diverged=pair == "five_bit")]
    png, svg = memory_accuracy(rows, tmp_path / "deep" / "curve.png", title="a title")
    assert png.read_bytes().startswith(b"\x89PNG") and (png.name, svg.name) == ("curve.png", "curve.svg")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg.read_text())
    for word in (
        "test accuracy [%]",
        "paper",
        "five_bit",
        "Pareto front",
        "diverged",
        "float32: 97.0 %",
        "a title",
        "↓ 47 %",
    ):
        assert word in words
    assert any("low format [%" in word for word in words)
    assert memory_accuracy(rows, tmp_path / "again", title="a title")[1].read_bytes() == svg.read_bytes()


def test_nothing_to_draw(tmp_path):
    with pytest.raises(ValueError, match="no finished run"):
        memory_accuracy([], tmp_path / "curve")
