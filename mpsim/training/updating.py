"""Updates all parameters of a step: groups, clipping, the optimizer's kernels, and averages of the parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mpsim.engine.tensor import Array, Parameter
from mpsim.kernels import Kernels
from mpsim.kernels.philox import Stream
from mpsim.nn import Module
from mpsim.training.optimizer.base import Update
from mpsim.training.optimizer.groups import groups_of, rules_of
from mpsim.training.optimizer.storage import GRADIENTS, MASTERS, Storage, overflow_of, storage_of, stream_of
from mpsim.training.recipe import Recipe

#: Added to the norm before the limit is divided by it, as in torch.nn.utils.clip_grad_norm_.
CLIP_EPSILON = 1e-6


class Updater:
    """Holds what an optimizer keeps for the parameters of a network, and updates them.

    ``parameters`` are by name, in the order in which a step reads them. ``states`` has arrays by state and parameter,
    and ``averages`` by parameter. ``count`` is the number of updates.
    """

    def __init__(self, recipe: Recipe, parameters: Mapping[str, Parameter], kernels: Kernels) -> None:
        self.recipe, self.parameters, self.kernels = recipe, parameters, kernels
        shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.rules = rules_of(groups_of(recipe.groups), recipe.optimizer, shapes)
        self.frozen = frozenset(parameter for name, parameter in parameters.items() if name not in self.rules)
        self.states: dict[str, dict[str, Array]] = {
            state: {name: kernels.zeros(shapes[name]) for name in self.rules} for state in recipe.optimizer.states
        }
        self.storage = storage_of(recipe.storage)
        self._places = {name: place for place, name in enumerate(parameters)}
        self.compensation: dict[str, Array] = {}
        if MASTERS in self.storage:
            for name in parameters:
                self._store_master(name, self._copy(parameters[name].master), None)
        self.averages: dict[str, Array] = {}
        if recipe.ema is not None:
            self.averages = {name: self._copy(parameters[name].master) for name in self.rules}
        self.count = 0

    def __call__(self, gradients: Mapping[str, Array], rate: float, loss_scale: float, step: int) -> float | None:
        """Updates every parameter that has a gradient. Returns the norm of the gradients if they are clipped.

        ``gradients`` are still multiplied by the loss scale. ``step`` determines the random bits of storage.
        """
        self.count += 1
        inverse, norm = 1 / loss_scale, None
        if self.recipe.clip is not None:
            gradients, norm = clipped(self.kernels, gradients, inverse, self.recipe.clip)
            inverse = 1.0
        for name, gradient in gradients.items():
            rule, parameter = self.rules[name], self.parameters[name]
            states = {state: found[name] for state, found in self.states.items()}
            update = Update(rate * rule.rate, self.count, inverse)
            master = parameter.master
            if name in self.compensation:
                master = self.kernels.add(master, self.compensation[name])
            rule.optimizer.update(self.kernels, master, gradient, states, update)
            self.kernels.canonical_nan(master)
            for state, array in states.items():
                self.states[state][name] = self._stored(state, name, array, step)
            if MASTERS in self.storage:
                self._store_master(name, master, step)
        self._average()
        return norm

    def _stored(self, kind: str, name: str, array: Array, step: int | None, part: int = 0) -> Array:
        """Returns an array in the format of its kind, in place. Without ``step`` it is rounded to nearest."""
        storage = self.storage.get(kind)
        if storage is None or storage.format.name == "float32":
            return array
        random = None
        if storage.rounding == "stochastic" and step is not None:
            stream = stream_of(kind, self.recipe.optimizer.states, self._places[name], len(self._places), part)
            random = Stream(self.recipe.seed, "storage", stream, step)
        rounding = storage if random is not None else Storage(storage.format)
        policy = rounding.policy(overflow_of(kind))
        return self.kernels.round_array(array, storage.format, policy, random, out=array)[0]

    def _store_master(self, name: str, exact: Array, step: int | None) -> None:
        """Sets a master to the stored form of ``exact``, which may be the master itself and is overwritten."""
        parameter = self.parameters[name]
        if self.storage[MASTERS].rounding != "kahan":
            parameter.replace(self._stored(MASTERS, name, exact, step))
            return
        parameter.replace(self._stored(MASTERS, name, self._copy(exact), step))
        lost = self.kernels.subtract(exact, parameter.master, out=exact)
        self.compensation[name] = self._stored(MASTERS, name, lost, step)

    def add(self, parameter: Parameter, total: Array | None, gradient: Array, part: int, *, step: int) -> Array:
        """Returns the stored sum of a parameter's gradients of earlier micro-batches, None for the first, and the
        next."""
        added = gradient if total is None else self.kernels.add(total, gradient, out=total)
        return self._stored(GRADIENTS, parameter.name, added, step, part)

    def trained(self, gradients: Mapping[Parameter, Array]) -> dict[str, Array]:
        """Returns the gradients of the parameters that are trained, by name, in the order of the network."""
        return {name: gradients[self.parameters[name]] for name in self.rules if self.parameters[name] in gradients}

    def _average(self) -> None:
        for name, average in self.averages.items():
            master = self.parameters[name].master
            if self.count == 1:
                self.averages[name] = self._copy(master)
            else:
                assert self.recipe.ema is not None
                share = 1 - self.recipe.ema
                self.kernels.update_running(average.reshape(-1), master.reshape(-1), share, 1.0)

    def _copy(self, array: Array) -> Array:
        return self.kernels.scale(array, 1.0)

    def arrays(self) -> dict[str, dict[str, Array]]:
        """Returns every array that is kept, by kind and parameter, for a checkpoint."""
        further = {"average": self.averages, "compensation": self.compensation}
        return {**self.states, **{kind: found for kind, found in further.items() if found}}

    def held_bytes(self, model: Module) -> int:
        """Returns the bytes of masters, running statistics of the network, and what is kept for the parameters."""
        kept = [*(parameter.master for parameter in self.parameters.values()), *model.buffers().values()]
        kept += [array for found in self.arrays().values() for array in found.values()]
        return sum(array.size * array.dtype.itemsize for array in kept)

    def to_numpy(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns ``arrays`` on the host."""
        return {
            kind: {name: np.asarray(self.kernels.to_numpy(array)) for name, array in found.items()}
            for kind, found in self.arrays().items()
        }

    def restore(self, saved: Callable[[str, str, tuple[int, ...]], np.ndarray], count: int) -> None:
        """Replaces every array by ``saved(kind, parameter, shape)``, and the number of updates."""
        for kind, found in self.arrays().items():
            for name, array in found.items():
                found[name] = self.kernels.from_numpy(saved(kind, name, tuple(array.shape)))
        self.count = count


def clipped(
    kernels: Kernels, gradients: Mapping[str, Array], inverse_scale: float, limit: float
) -> tuple[dict[str, Array], float]:
    """Returns unscaled gradients whose norm is at most ``limit``, and their norm before that.

    The norm is the root of the float32 sum, in the order in which a step reads the parameters, of the REDUCTION of each
    gradient's squares.
    """
    plain = {name: kernels.scale(gradient, inverse_scale) for name, gradient in gradients.items()}
    total = np.float32(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for gradient in plain.values():
            total = total + np.float32(kernels.total_sum(kernels.multiply(gradient, gradient)))
        norm = np.sqrt(total)
        factor = np.float32(limit) / (norm + np.float32(CLIP_EPSILON))
    if factor < 1:
        plain = {name: kernels.scale(gradient, float(factor), out=gradient) for name, gradient in plain.items()}
    return plain, float(norm)
