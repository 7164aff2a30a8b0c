"""Sums that are not products, in an order that is said by layer: windows of pooling, gradients of biases, losses."""

from __future__ import annotations

import numpy as np
import pytest

import reference_models
from mpsim import Accumulator, Trainer
from mpsim.errors import UsageError
from mpsim.kernels import bind
from mpsim.products.passes import accumulators_of, described, from_dict, to_dict

DEFAULT, EXACT, CHUNKS = Accumulator(), Accumulator(kind="exact"), Accumulator(chunk=64)
WINDOWS = np.random.default_rng(3).standard_normal((4, 3, 6, 6)).astype(np.float32)
LANES = "groups(lanes(4), rising(), rising(start=first))"


def in_lanes(terms: np.ndarray) -> np.ndarray:
    """The last axis in four lanes from +0, whose results are added in rising order."""
    lanes = np.zeros((4, *terms.shape[:-1]), np.float32)
    for k in range(terms.shape[-1]):
        lanes[k % 4] = lanes[k % 4] + terms[..., k]
    return ((lanes[0] + lanes[1]) + lanes[2]) + lanes[3]


@pytest.mark.parametrize("backend", ["reference", "numba", "compiled"])
def test_sums_of_a_layer_are_added_in_its_order(backend):
    kernels = bind(backend, 1, accumulators_of(f"fc:sums={LANES};pool:sums={LANES};conv*:forward=exact"))
    forward, derivative = kernels.of_layer("fc")
    assert np.array_equal(derivative.sums.channel_sum(WINDOWS), in_lanes(WINDOWS.transpose(1, 0, 2, 3).reshape(3, -1)))
    assert np.array_equal(derivative.sums.channel_sum(WINDOWS[:, :, 0, 0].copy()), in_lanes(WINDOWS[:, :, 0, 0].T))
    assert derivative.sums.channel_sum(WINDOWS[:0]).tolist() == [0, 0, 0] and forward.accumulator == DEFAULT
    padded = np.pad(WINDOWS, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2].reshape(4, 3, 3, 3, 9)
    found = kernels.of_layer("pool")[0].sums.avg_pool2d(WINDOWS, (3, 3), (2, 2), (1, 1))
    assert np.array_equal(found, in_lanes(windows) / np.float32(9))
    chosen, labels = np.abs(WINDOWS.reshape(54, 8)), np.arange(54) % 8
    loss = kernels.of_layer("pool")[0].sums.nll_loss(-chosen, labels)
    assert loss == in_lanes(chosen[np.arange(54), labels]) / np.float32(54) and loss.shape == (1,)
    assert loss != bind(backend, 1).nll_loss(-chosen, labels)
    own = bind(backend, 1)
    assert not np.array_equal(found, own.avg_pool2d(WINDOWS, (3, 3), (2, 2), (1, 1)))
    others = kernels.of_layer("conv1")[1]  # of which nothing is said
    assert np.array_equal(others.sums.channel_sum(WINDOWS), own.channel_sum(WINDOWS))
    assert not np.array_equal(others.sums.channel_sum(WINDOWS), derivative.sums.channel_sum(WINDOWS))
    assert np.array_equal(derivative.channel_sum(WINDOWS), own.channel_sum(WINDOWS))  # as in norms and losses


def test_the_elements_are_the_left_operand_of_sums():
    """Which is truncated to bfloat16 here; the ones would not change."""
    text = "product(operand(bfloat16, truncate), operand(), order=rising())"
    kernels = bind("reference", 1, accumulators_of(f"fc:sums={text}")).of_layer("fc")[1]
    x = np.float32([[1 + 2.0**-8], [1.0]])
    assert kernels.sums.channel_sum(x).tolist() == [2.0] and x.sum() != 2
    assert kernels.sums.avg_pool2d(x.reshape(1, 1, 2, 1), (2, 1), (1, 1), (0, 0)).tolist() == [[[[1.0]]]]


@pytest.mark.parametrize("text", ["fc:sums=exact", "exact;fc:sums=exact", "sums=chunk=64", "fc:chunk=64;fc:sums=exact"])
def test_sums_are_written_and_read(text):
    found = accumulators_of(text)
    assert accumulators_of(described(found)) == found and from_dict(to_dict(found)) == found
    assert found.sums_of_layer("fc") == (CHUNKS if text.startswith("sums") else EXACT)
    assert found.of_layer("conv1") == ((EXACT if text.startswith("exact") else DEFAULT),) * 3
    assert not accumulators_of("exact;fc:sums=blas").promises_bits and found.promises_bits


def test_sums_are_of_layers_that_have_them():
    model = reference_models.build("small_cnn", width=0.25)
    for wrong, message in (
        ("relu1:sums=exact", "has a bias, averages windows or is a loss of classes is named 'relu1'"),
        ("avg_pool:exact", "multiplies"),
    ):
        with pytest.raises(UsageError, match=message):
            Trainer(model, accumulator=wrong, backend="reference")
    images, labels = np.random.default_rng(0).random((8, 1, 8, 8), np.float32), np.arange(8)
    digests = []
    for text in ("", "linear:sums=exact", "avg_pool:sums=rising()", "criterion.nllloss:sums=rising()"):
        trainer = Trainer(
            reference_models.build("small_cnn", width=0.25), accumulator=text or Accumulator(), backend="compiled"
        )
        trainer.step(images, labels)
        digests.append(trainer.digest())
    assert len(set(digests[:3])) == 3 and digests[3] == digests[0]  # the loss itself changes no weight
