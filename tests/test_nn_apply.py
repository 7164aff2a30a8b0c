"""nn.apply: what it accepts, what it refuses, and that it leaves no trace in evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from mpsim import nn


@pytest.mark.parametrize("backend", ["reference", "numba", "compiled"])
def test_arrays_of_any_kind(backend: str) -> None:
    layer = nn.ReLU()
    for given in ([-1, 2.0], np.float64([-1, 2]), np.float16([-1, 2]), (-1.0, 2.0)):
        found = nn.apply(layer, given, backend=backend)
        assert found.dtype == np.float32 and found.tolist() == [0, 2]


def test_whole_numbers_are_tokens() -> None:
    layer = nn.Embedding(3, 2)
    layer.weight.replace(np.arange(6, dtype=np.float32).reshape(3, 2))
    assert nn.apply(layer, [2, 0]).tolist() == [[4, 5], [0, 1]]


def test_training_changes_running_statistics_and_evaluation_does_not() -> None:
    layer = nn.BatchNorm1d(1)
    before = layer.state()
    nn.apply(layer, [[1.0], [3.0]])
    assert {name: array.tobytes() for name, array in layer.state().items()} == {
        name: array.tobytes() for name, array in before.items()
    }
    nn.apply(layer, [[1.0], [3.0]], training=True)
    assert layer.running_mean.tolist() == [np.float32(0.1) * np.float32(2)] and layer.num_batches_tracked == 1


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match="layer must be a layer or a function of tensors, not its class; got"):
        nn.apply(nn.ReLU, [1.0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"inputs\[1\] must be an array of numbers, got one of <U1"):
        nn.apply(nn.Add(), [1.0], ["x"])
    with pytest.raises(TypeError, match=r"inputs\[0\] must be an array of numbers, got one of complex128"):
        nn.apply(nn.ReLU(), [1j])
    with pytest.raises(ValueError, match="seed"):
        nn.apply(nn.ReLU(), [1.0], seed=-1)
