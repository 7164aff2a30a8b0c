"""Runs the forward and backward pass of a training step, for the trainer, sensitivities and replays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from mpsim.engine.tape import Contribution, Tape
from mpsim.engine.tensor import Array, Parameter, Tensor, TensorId
from mpsim.kernels import Kernels
from mpsim.losses import CrossEntropy, Loss


class Passes(NamedTuple):
    """The results of both passes. Gradients are still multiplied by the loss scale."""

    logits: Tensor
    loss: Tensor
    gradients: dict[Parameter, Array]


@contextmanager
def stored_parameters(
    model: Any, ids: Mapping[str, TensorId], stored: Callable[[TensorId, Array], Array]
) -> Iterator[None]:
    """Sets the parameters' values to ``stored`` masters, and back to the masters at the end. ``ids`` are by name. No op
    reads a parameter without an id."""
    parameters: dict[str, Parameter] = model.parameters()
    try:
        for name, parameter in parameters.items():
            if name in ids:
                parameter.value = stored(ids[name], parameter.master)
        yield
    finally:
        for parameter in parameters.values():
            parameter.value = parameter.master


def both_passes(
    model: Any,
    images: np.ndarray,
    labels: np.ndarray,
    store: Any,
    ids: Mapping[str, TensorId],
    kernels: Kernels,
    loss_scale: float,
    *,
    criterion: Loss = CrossEntropy(),
    store_each_contribution: bool = False,
    parameter: Callable[[TensorId, Array], Array] | None = None,
    on_contribution: Callable[[Contribution, Array], Array] | None = None,
    seed: int = 0,
    step: int = 0,
) -> Passes:
    """Stores the parameters (by ``parameter``, or else ``store``), then runs the network, the criterion and the
    derivatives, and stores every tensor by ``store``. ``seed`` and ``step`` determine the draws of dropout. Only
    the running statistics of the model change."""
    with stored_parameters(model, ids, parameter or store):
        tape = Tape(
            kernels, store, store_each_contribution=store_each_contribution, on_contribution=on_contribution, seed=seed,
            step=step,
        )  # fmt: skip
        logits = model(tape.input(images))
        loss = criterion(logits, labels)
        return Passes(logits, loss, tape.backward(loss, loss_scale))
