"""The runs behind the paper's figures: what each compares, what the scales give, what a caller changes."""

from collections import Counter

import pytest

from mpsim.experiments.settings import RunSettings
from mpsim.experiments.studies import FIGURES, NETWORKS, SCALES, estimate_seconds, panels


def plans(panel):
    return Counter((job.scheme, job.ratio, job.plan_seed, job.promotion is not None) for job in panel.jobs)


def test_figure_4_at_the_papers_scale_is_its_recipe():
    every = panels(4, "paper")
    assert [(panel.model, panel.width, panel.data) for panel in every] == [(name, 1.0, "cifar100") for name in NETWORKS]
    for panel in every:
        assert len(panel.jobs) == 4 * (1 + 3 + 11)
        for job in panel.jobs:
            recipe = (job.epochs, job.batch, job.lr, job.momentum, job.weight_decay, job.schedule, job.promotion)
            assert recipe == (200, 128, 0.1, 0.9, 5e-4, "cosine", 0.01)  # PAPER section 5.1
            assert job.train_images is None and job.levels == "paper" and job.semantics == "standard"


@pytest.mark.parametrize("number", FIGURES)
@pytest.mark.parametrize("scale", SCALES)
def test_every_figure_compares_what_it_says(number, scale):
    for panel in panels(number, scale):
        seen = plans(panel)
        seeds = {job.seed for job in panel.jobs}
        assert len(seeds) == SCALES[scale].seeds and len(set(panel.jobs)) == len(panel.jobs)
        assert seen["float32", None, None, True] == len(seeds)
        schemes = {scheme for scheme, *_ in seen}
        if FIGURES[number].compares == "plans":
            assert schemes == {"float32", "uniform_low", "operator_based", "operator_based_extended", "largest_first"}
        elif FIGURES[number].compares == "orders":
            assert schemes == {"float32", "largest_first", "smallest_first", "random"}
            ratios = {ratio for scheme, ratio, *_ in seen if scheme == "random"}
            assert {ratio for scheme, ratio, *_ in seen if scheme == "smallest_first"} == ratios
            orders = {order for scheme, _, order, _ in seen if scheme == "random"}
            assert len(orders) == 3
        else:
            demoted = {(ratio, promotes) for scheme, ratio, _, promotes in seen if scheme == "largest_first"}
            ratios = {ratio for ratio, _ in demoted}
            assert demoted == {(ratio, promotes) for ratio in ratios for promotes in (True, False)}


def test_figures_10_to_12_are_the_other_data_and_widths():
    assert {panel.data for panel in panels(10, "paper")} == {"cifar10"}
    for number, data in ((11, "cifar100"), (12, "cifar10")):
        every = {(panel.model, panel.width, panel.data) for panel in panels(number, "paper")}
        assert every == {(name, width, data) for name in NETWORKS for width in (0.5, 0.25, 0.1)}


def test_what_a_caller_gives_takes_its_place():
    (panel,) = panels(
        4, data=["digits"], models=["small_cnn"], widths=[0.5], levels=["six_bit"], ratios=[0.5], epochs=7, seeds=2,
        semantics="lee2023",
    )  # fmt: skip
    assert (panel.title, len(panel.jobs)) == ("small_cnn, width 0.5, digits, levels six_bit", 2 * (4 + 1))
    assert {job.levels for job in panel.jobs if job.scheme != "float32"} == {"six_bit"}
    for job in panel.jobs:
        assert (job.model, job.width, job.data, job.epochs, job.semantics) == ("small_cnn", 0.5, "digits", 7, "lee2023")


def test_the_small_scale_is_narrow_networks_on_rendered_images():
    assert {(panel.model, panel.width, panel.data, panel.levels) for panel in panels(4)} == {
        (model, 0.25, "synthetic10", levels)
        for model in ("squeezenet", "shufflenet_v2")
        for levels in ("paper", "five_bit")
    }
    assert {panel.levels for number in (5, 17) for panel in panels(number)} == {"five_bit"}
    float32 = {job for panel in panels(4) for job in panel.jobs if job.scheme == "float32"}
    assert len(float32) == 2 * 3  # shared between the level pairs
    ratios = {job.ratio for panel in panels(4) for job in panel.jobs if job.ratio is not None}
    assert ratios == {tenth / 10 for tenth in range(1, 11)}


@pytest.mark.parametrize(
    "number,options,message",
    [
        (3, {}, "figure 3 is not a comparison of training runs. Known: 4, 5, 10"),
        (4, {"scale": "huge"}, "unknown scale 'huge'. Known: paper, small"),
        (4, {"ratios": [2.0]}, r"ratios\[0\] must be a share"),
        (4, {"seeds": 0}, "seeds"),
        (4, {"epochs": 0}, "epochs"),
    ],
)
def test_what_is_not_there_is_refused(number, options, message):
    with pytest.raises(ValueError, match=message):
        panels(number, **options)


def test_the_estimate_counts_images():
    """Twice the epochs take about twice the time of training, and evaluations count."""
    one = RunSettings(width=0.0625, epochs=10, batch=479, evaluate_every=1000)
    seconds = estimate_seconds([one])
    assert 0 < seconds < 600
    images, test = 10 * 1437, 360
    per_image = seconds / (images + test * 2 / 3)
    assert 1e-7 < per_image < 0.05
