"""A few digits and the small network that the tests of training use."""

import pytest
from training_samples import BATCH

import reference_models
from mpsim.assignment import assign
from mpsim.data import digits
from mpsim.trace import trace
from mpsim.training.trainer import Trainer


@pytest.fixture(scope="session")
def batches():
    """Batches of 12 digits."""
    data = digits("train")
    cuts = range(0, 120, BATCH)
    return [(data.images[cut : cut + BATCH], data.labels[cut : cut + BATCH]) for cut in cuts]


@pytest.fixture
def make():
    """make(scheme or None, semantics, ...) -> Trainer of a small network, all else as given to Trainer."""

    def make_trainer(scheme=None, semantics="standard", levels="paper", ratio=None, **settings):
        model = reference_models.build("small_cnn", width=0.25, seed=3)
        plan = None
        if scheme is not None:
            plan = assign(trace(model, batch=BATCH, semantics=semantics), scheme, ratio=ratio, levels=levels)
        settings = {"backend": "reference", "threads": 1} | settings
        return Trainer(model, plan, semantics=semantics, **settings)

    return make_trainer
