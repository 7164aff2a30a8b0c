"""What holding each group low costs: measured group by group, and foretold from one backward pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpsim import kernels as backends
from mpsim import ops
from mpsim.assignment import PAPER_LEVELS, Levels, Plan, demoted, uniform
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import ROLES, TensorId
from mpsim.rounding import available_threads
from mpsim.trace import trace
from mpsim.training import batches
from mpsim.training.semantics import Semantics, as_semantics
from mpsim.training.store import Rounder

#: Kinds of op whose output's elements are elements of their inputs, or 0.
CHOOSE = ("ReLU", "MaxPool2d", "Cat", "SplitHalf")

Gradients = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sensitivity:
    """Per group id, averaged over the batches.

    ``loss``: |loss with the group low - loss with all high|, losses as stored (in their format).
    ``gradient``: |g - h| / |h|, g and h all parameters' gradients as one vector, with the group low and with all high
    (infinity if a gradient overflows).
    ``loss_first_order``: |sum over the group's activations and parameters of gradient * (low value - high value)|,
    everything taken from the all-high step. Where the group rounds one tensor after the other it tells the size of
    ``loss`` only: the later one is rounded at other values than these. Ops that only choose among values which the
    group already rounded (ReLU, pooling by maximum, halves, concatenation) add nothing; nor does the input, whose
    gradient is not computed.
    """

    loss: tuple[float, ...]
    gradient: tuple[float, ...]
    loss_first_order: tuple[float, ...]


def measure_sensitivity(
    model: Any,
    data: Iterable[batches.Batch],
    levels: Levels | str = PAPER_LEVELS,
    *,
    semantics: str | Semantics = "standard",
    loss_scale: float = 1024.0,
    backend: str = "compiled",
    threads: int | None = None,
) -> Sensitivity:
    """Tries each group low, all else high, on the batches (images, labels) of ``data``: groups + 1 steps a batch.

    ``model``'s weights and statistics are as before at the end; it moves to ``backend``. Nearest rounding.
    ``Sensitivity.gradient`` is what ``assignment.optimal`` takes as ``sensitivity``. Raises ValueError for data
    that do not fit or no batch, BackendUnavailable.

    >>> import reference_models
    >>> model = reference_models.build("small_cnn", width=0.25)
    >>> images, labels = np.ones((4, 1, 8, 8), np.float32), np.arange(4)
    >>> len(measure_sensitivity(model, [(images, labels)], backend="reference", threads=1).gradient)
    5
    """
    rules = as_semantics(semantics)
    model.move(backends.bind(backend, available_threads() if threads is None else threads))
    before = model.state()
    rows = []
    try:
        for images, labels in data:
            images, labels = batches.checked(model, images, labels)
            rows.append(_one_batch(_Step(model, images, labels, rules, loss_scale), levels))
            model.load_state(before)
    finally:
        model.load_state(before)
    if not rows:
        raise ValueError("measuring needs at least one batch, got none")
    means = np.mean(np.array(rows), axis=0)  # (batches, 3, groups) -> (3, groups)
    return Sensitivity(*(tuple(map(float, row)) for row in means))


def _one_batch(step: _Step, levels: Levels | str) -> list[list[float]]:
    """Loss, gradient and first-order errors by group."""
    traced = step.traced
    high = uniform(traced, "high", levels)
    kept: dict[TensorId, np.ndarray] = {}
    loss, gradients = step.take(high, kept)
    if not all(np.isfinite(array).all() for array in gradients.values()):
        raise ValueError(f"a gradient overflows with all tensors high: lower loss_scale, which is {step.loss_scale:g}")
    table: list[list[float]] = [[], [], []]
    for group in range(len(traced.groups)):
        low = demoted(traced, [group], "one_group", levels)
        found, theirs = step.take(low, None)
        table[0].append(abs(found - loss))
        table[1].append(_distance(theirs, gradients))
        table[2].append(abs(step.first_order(low, high, kept, gradients)))
    return table


class _Step:
    """A forward and backward pass on one batch under any plan."""

    def __init__(
        self, model: Any, images: np.ndarray, labels: np.ndarray, semantics: Semantics, loss_scale: float
    ) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.semantics, self.loss_scale = semantics, loss_scale
        self.kernels = model._kernels
        self.policies = {role: semantics.policy(role) for role in ROLES}
        self.traced = trace(model, len(images), semantics.name, tuple(images.shape[1:]))

    def take(self, plan: Plan, kept: dict[TensorId, np.ndarray] | None) -> tuple[float, Gradients]:
        """(loss, gradients by parameter, unscaled); every stored tensor goes to ``kept`` if given."""
        rounder = Rounder(plan.formats, self.kernels, self.policies)

        def store(id: TensorId, value: Any) -> Any:
            stored = rounder(id, value)
            if kept is not None:
                kept[id] = np.array(self.kernels.to_numpy(stored), np.float64)
            return stored

        parameters = self.model.parameters()
        try:
            for name, id in self.traced.parameter_ids.items():
                parameters[name].value = store(id, parameters[name].master)
            tape = Tape(self.kernels, store, store_each_contribution=self.semantics.store_each_contribution)
            loss = ops.cross_entropy(self.model(tape.input(self.images)), self.labels)
            found = tape.backward(loss, self.loss_scale)
        finally:
            for parameter in parameters.values():
                parameter.value = parameter.master
        gradients = {p.name: np.array(self.kernels.to_numpy(g), np.float64) / self.loss_scale for p, g in found.items()}
        return float(self.kernels.to_numpy(loss.value).reshape(())), gradients

    def first_order(self, low: Plan, high: Plan, kept: Mapping[TensorId, np.ndarray], gradients: Gradients) -> float:
        """Sum of gradient * change over the activations and parameters that ``low`` holds otherwise than ``high``."""
        names = {id: name for name, id in self.traced.parameter_ids.items()}
        rounder = Rounder(low.formats, self.kernels, self.policies)
        terms = []
        for id, format in low.formats.items():
            if format == high.formats[id] or id.role.endswith("gradient") or self._only_chooses(id, low):
                continue
            value = kept[id]
            stored = self.kernels.to_numpy(rounder(id, self.kernels.from_numpy(value.astype(np.float32))))
            if id.role == "parameter":
                slope = gradients[names[id]] if names[id] in gradients else np.zeros_like(value)
            else:
                scaled = kept.get(id._replace(role="activation_gradient"))  # none: the input's and the loss's
                slope = np.zeros_like(value) if scaled is None else scaled / self.loss_scale
                slope = np.ones_like(value) if id.op == self.traced.ops[-1].index else slope
            terms.append(float(np.sum(slope * (np.asarray(stored, np.float64) - value))))
        return math.fsum(terms)

    def _only_chooses(self, id: TensorId, low: Plan) -> bool:
        """Whether the tensor's values are numbers of its format already, as its inputs' were."""
        op = self.traced.ops[id.op]
        inputs = [low.formats[TensorId(producer, "activation")] for producer in op.producers if producer >= 0]
        return id.role == "activation" and op.kind in CHOOSE and all(given == low.formats[id] for given in inputs)


def _distance(found: Gradients, expected: Gradients) -> float:
    if not all(np.isfinite(array).all() for array in found.values()):
        return math.inf
    difference = sum(float(np.sum((found[name] - expected[name]) ** 2)) for name in expected)
    size = sum(float(np.sum(expected[name] ** 2)) for name in expected)
    return math.sqrt(difference / size) if size else math.sqrt(difference)
