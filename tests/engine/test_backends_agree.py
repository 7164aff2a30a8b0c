"""A forward and a backward pass give the same bits on every backend, for one thread and two."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
import pytest
from networks import Branching, batch, loss_of

from mpsim import kernels
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import TensorId


def coarse(bound: Any) -> Any:
    """A store that rounds to seven bits of significand by integer arithmetic, with no kernel of a backend."""

    def store(id: TensorId, value: Any) -> Any:
        bits = bound.to_numpy(value).view(np.uint32)
        return bound.from_numpy(((bits + np.uint32(0x8000)) & np.uint32(0xFFFF0000)).view(np.float32))

    return store


@cache
def digest(backend: str, threads: int, each: bool, rounded: bool) -> str:
    """SHA-256 over the loss, the parameter gradients in order of definition, and the running statistics."""
    bound = kernels.bind(backend, threads=threads)
    model, (images, labels) = Branching(), batch(8)
    model.move(bound)
    options = {"store": coarse(bound)} if rounded else {}
    tape = Tape(bound, store_each_contribution=each, **options)
    loss = loss_of(tape, model, images, labels)
    gradients = tape.backward(loss, 1024.0)
    arrays = [loss.value, *(gradients[p] for p in model.parameters().values()), *model.buffers().values()]
    total = hashlib.sha256()
    for array in arrays:
        host = array if isinstance(array, np.ndarray) else bound.to_numpy(array)
        total.update(host.astype(host.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_have_one_digest(backend: str, threads: int, each: bool, rounded: bool) -> None:
    assert digest(backend, threads, each, rounded) == digest("reference", 1, each, rounded)


def test_the_digest_notices_the_semantics() -> None:
    assert digest("reference", 1, False, True) != digest("reference", 1, True, True)
