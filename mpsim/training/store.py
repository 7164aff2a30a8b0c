"""The stores of training, which convert a value to a stored tensor.

The tape calls ``store(id, value)`` for every activation and finished gradient, the trainer for every parameter.
``Identity`` keeps float32. ``Rounder`` rounds each tensor to its format in the plan, and counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Protocol

import numpy as np

from mpsim.engine.tape import Contribution
from mpsim.engine.tensor import Array, Parameter, TensorId
from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels import Kernels
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy
from mpsim.rounding import Counts
from mpsim.training.batches import MicroBatch


class Store(Protocol):
    """The methods of a store that the tape and the trainer use."""

    def __call__(self, id: TensorId, value: Array) -> Array: ...

    def overflow(self) -> dict[TensorId, float]: ...

    def underflow(self) -> dict[TensorId, float]: ...

    def counts(self) -> dict[TensorId, Counts]: ...


class Observer(Protocol):
    """Observes a training step (``Trainer.step``). Parameters are stored before the first micro-batch begins."""

    def watch(self, store: Store) -> Store:
        """Returns a store with the same results as ``store``."""

    def begin(self, part: MicroBatch, images: np.ndarray, labels: np.ndarray) -> None:
        """Observes that the passes of a micro-batch begin. A step has one, if the batch is not divided."""

    def contribution(self, contribution: Contribution, value: Array) -> Array:
        """Observes a contribution to an activation gradient (``Tape``), and returns it."""

    def added(self, parameter: Parameter, total: Array) -> None:
        """Observes the stored sum of a parameter's gradients of the micro-batches so far."""


class Identity:
    """Rounds nothing. It makes NaNs canonical, so that bits do not depend on the processor."""

    def __init__(self, kernels: Kernels) -> None:
        self.kernels = kernels

    def __call__(self, id: TensorId, value: Array) -> Array:
        return self.kernels.canonical_nan(value)

    def overflow(self) -> dict[TensorId, float]:
        return {}

    def underflow(self) -> dict[TensorId, float]:
        return {}

    def counts(self) -> dict[TensorId, Counts]:
        return {}


class Rounder:
    """Rounds each tensor to its format, by the policy of its role, and counts over- and underflow by tensor.

    ``formats``: a plan's format of every tensor of the model. ``policies``: role -> Policy. Tensors with format float32
    are not rounded and not counted. In stochastic rounding ``seed`` and ``step`` determine the random bits. The stream
    of a tensor is ``first_stream`` plus its index in the plan, plus the plan's length for every earlier store of the
    same tensor in this step.
    """

    def __init__(
        self,
        formats: Mapping[TensorId, Format],
        kernels: Kernels,
        policies: Mapping[str, Policy],
        *,
        seed: int = 0,
        step: int = 0,
        first_stream: int = 0,
    ) -> None:
        self.formats = formats
        self.kernels = kernels
        self.policies = policies
        self.seed, self.step, self.first_stream = seed, step, first_stream
        self._places = {id: place for place, id in enumerate(sorted(formats))} if self._is_random else {}
        self._found: list[tuple[TensorId, Array]] = []  # counts in the order of stores, on the device if there is one
        self._counts: dict[TensorId, np.ndarray] = {}
        self._elements: dict[TensorId, int] = {}
        self._stored: dict[TensorId, int] = {}

    @property
    def _is_random(self) -> bool:
        return any(policy.mode.needs_random_bits for policy in self.policies.values())

    def __call__(self, id: TensorId, value: Array) -> Array:
        format = self._format(id)
        if format.name == "float32":
            return self.kernels.canonical_nan(value)
        # The store owns the values from the tape and may overwrite them, but not a master.
        out = None if id.role == "parameter" else value
        stored, counts = self.kernels.round_array(value, format, self.policies[id.role], self._random_bits(id), out=out)
        self._found.append((id, counts))
        self._elements[id] = self._elements.get(id, 0) + prod(value.shape)
        return stored

    def _format(self, id: TensorId) -> Format:
        format = self.formats.get(id)
        if format is None:
            raise UsageError(f"the plan has no format for {id}: it was made for another model")
        return format

    def _random_bits(self, id: TensorId) -> Stream | None:
        if not self._places:
            return None
        earlier = self._stored.get(id, 0)
        self._stored[id] = earlier + 1
        place = self._places[id] + earlier * len(self._places) + self.first_stream
        return Stream(self.seed, "rounding", place, self.step)

    def overflow(self) -> dict[TensorId, float]:
        """Returns, by tensor, the share of elements at or beyond the overflow threshold before rounding."""
        return {id: int(counts[0]) / self._elements[id] for id, counts in self._totals().items()}

    def underflow(self) -> dict[TensorId, float]:
        """Returns, by tensor, the share of nonzero elements of at most half the smallest positive number."""
        return {id: int(counts[1]) / self._elements[id] for id, counts in self._totals().items()}

    def counts(self) -> dict[TensorId, Counts]:
        """Returns the counts by tensor. Contributions to one gradient are added."""
        return {id: Counts(*map(int, counts)) for id, counts in self._totals().items()}

    def _totals(self) -> dict[TensorId, np.ndarray]:
        """Returns the counts by tensor, after copying all of them to the host at once."""
        if self._found:
            rows = self.kernels.stack_counts([counts for _, counts in self._found])
            for (id, _), row in zip(self._found, rows, strict=True):
                self._counts[id] = self._counts[id] + row if id in self._counts else row
            self._found.clear()
        return self._counts
