"""The store that rounds: ratios by definition, the streams of random bits, and who asks it how often."""

from collections import Counter

import numpy as np
import pytest
from networks import Branching, batch

from mpsim import kernels
from mpsim.assignment import uniform
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.formats import FORMATS
from mpsim.kernels.philox import Stream
from mpsim.rounding import round_to
from mpsim.trace import trace
from mpsim.training.semantics import SEMANTICS
from mpsim.training.store import Identity, Rounder
from mpsim.training.trainer import Trainer

IDS = [TensorId(op, role) for op in range(2) for role in ("activation", "activation_gradient")]


def rounder(backend, rounding="nearest", bits=None, **options):
    policies = {role: SEMANTICS["standard"].policy(role, rounding, bits) for role in ROLES}
    return Rounder(dict.fromkeys(IDS, FORMATS["fp_4_3_4"]), kernels.bind(backend), policies, **options)


def test_ratios_count_what_lies_beyond_the_range(backend):
    """fp_4_3_4: largest 30, overflow from 31; smallest 2**-13, underflow up to 2**-14."""
    store = rounder(backend)
    values = np.float32([31, -1e9, 30.9, np.inf, np.nan, 2.0**-14, -(2.0**-20), 0, -0.0, 1])
    for role in ("activation", "activation_gradient"):
        stored = np.asarray(store(TensorId(0, role), values.copy()))
        assert np.isinf(stored[:2]).all() == (role == "activation_gradient")
        assert stored[2] == 30 and np.isnan(stored[4])
    assert store.overflow() == {TensorId(0, "activation"): 0.4, TensorId(0, "activation_gradient"): 0.4}
    assert store.underflow() == {TensorId(0, "activation"): 0.2, TensorId(0, "activation_gradient"): 0.2}


def test_ratios_of_several_contributions_are_over_all_of_them(backend):
    store = rounder(backend)
    store(IDS[1], np.float32([100, 100]))
    store(IDS[1], np.float32([1, 1, 1, 100, 1, 1]))
    assert store.overflow() == {IDS[1]: 3 / 8}


def test_a_master_is_not_rounded_in_place(backend):
    store = Rounder({TensorId(0, "parameter"): FORMATS["fp_4_3_4"]}, kernels.bind(backend), rounder(backend).policies)
    master = np.float32([0.3, 100])
    stored = store(TensorId(0, "parameter"), master)
    assert np.array_equal(stored, np.float32([0.3125, 30])) and np.array_equal(master, np.float32([0.3, 100]))


def test_every_store_of_a_step_has_random_bits_of_its_own(backend):
    """Those of its place among the plan's tensors, of how often it was stored, and of the step."""
    store = rounder(backend, "stochastic", 16, seed=7, step=3, first_stream=100)
    values = np.random.default_rng(0).uniform(-4, 4, 500).astype(np.float32)
    places = sorted(IDS)
    results = set()
    for time in range(2):
        for id in IDS:
            stream = Stream(7, "rounding", places.index(id) + time * len(IDS) + 100, 3)
            options = {"random_bits": stream, "random_bit_count": 16, "backend": "reference"}
            expected = round_to(values, FORMATS["fp_4_3_4"], "stochastic", "saturate", **options)
            stored = np.asarray(store(id, values.copy()))
            assert stored.tobytes() == expected.tobytes()
            results.add(stored.tobytes())
    assert len(results) == 2 * len(IDS)


def test_identity_makes_nan_canonical_and_nothing_else(backend):
    values = np.array([0x7FC12345, 0xFFFFFFFF, 0x80000000, 0x7F800000, 0x3DCCCCCD], np.uint32).view(np.float32)
    stored = np.asarray(Identity(kernels.bind(backend))(IDS[0], values))
    assert [hex(bits) for bits in stored.view(np.uint32)] == [
        "0x7fc00000", "0xffc00000", "0x80000000", "0x7f800000", "0x3dcccccd",
    ]  # fmt: skip


@pytest.mark.parametrize("semantics,times", [("standard", {1}), ("lee2023", {1, 3})])
def test_contributions_are_stored_one_by_one_in_lee2023_only(semantics, times, monkeypatch):
    """Branching has a tensor that three ops read; every other one has one reader."""
    model = Branching()
    trainer = Trainer(model, uniform(trace(model, 4, semantics), "low"), semantics=semantics, backend="reference")
    asked: Counter = Counter()
    original = Rounder.__call__
    monkeypatch.setattr(Rounder, "__call__", lambda self, id, value: asked.update([id]) or original(self, id, value))
    trainer.step(*batch(4))
    gradients = {id: count for id, count in asked.items() if id.role == "activation_gradient"}
    assert set(gradients.values()) == times
    assert all(count == 1 for id, count in asked.items() if id not in gradients)


def test_evaluation_draws_other_bits_after_every_step(make, batches):
    trainer = make("uniform_low", rounding="stochastic", random_bit_count=8)
    first, again = trainer.evaluate(batches[:1]), trainer.evaluate(batches[:1])
    trainer.steps += 1
    assert first == again and trainer.evaluate(batches[:1]).loss != first.loss
