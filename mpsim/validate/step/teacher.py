"""The stores of a replayed step: one compares what mpsim makes with a file's tensors and gives back the file's, the
other collects how far sums in another order may move each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpsim.assignment import Plan
from mpsim.engine.tape import Contribution
from mpsim.engine.tensor import ROLES, TensorId, retrace
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.formats import FORMATS, Format
from mpsim.kernels import Kernels
from mpsim.kernels.contract import Array
from mpsim.recording import order
from mpsim.recording.recorder import tensor_name
from mpsim.trace import Trace
from mpsim.training.semantics import Semantics
from mpsim.training.store import Identity, Rounder
from mpsim.validate.step import causes
from mpsim.validate.step.noise import Bound, bound_of, bounded, of_sums
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, explain, squeezed


class Teacher:
    """The store that compares what mpsim makes with the file's, and gives back the file's."""

    def __init__(
        self,
        file: TensorFile,
        traced: Trace,
        plan: Plan | None,
        semantics: Semantics,
        kernels: Kernels,
        frozen: Collection[TensorId] = (),
    ) -> None:
        self.file, self.traced, self.plan, self.semantics, self.kernels = file, traced, plan, semantics, kernels
        self.policies = {role: semantics.policy(role) for role in ROLES}
        self.rounder = Identity(kernels) if plan is None else Rounder(plan.formats, kernels, self.policies)
        self.notes: list[str] = []
        self.pairs: dict[str, Pair] = {}
        self.actual: dict[str, Array] = {}  # what went on: the file's tensor, or ours where the file has none
        self._frozen = frozen  # parameters whose gradients the file need not have
        self._missing: list[str] = []
        self._misshapen: list[str] = []
        self._unrounded: Array | None = None

    # -- what the step starts from ----------------------------------------------------------------------------
    def images(self) -> Array:
        """The images, or else the stored ones, which rounding should leave as they are; or the tokens."""
        images = self.file.tensors.get("images")
        return images if images is not None and images.dtype.kind in "iu" else self._source("images", "Y/0/0")

    def parameter(self, id: TensorId, shape: tuple[int, ...]) -> Array:
        """The parameter that the step uses: the file's, compared with its rounded master."""
        name = tensor_name(id)
        if name not in self.file.tensors or squeezed(self.file.tensors[name].shape) != squeezed(shape):
            return self(id, self.kernels.zeros(shape))  # refused at the end
        given = self._source(f"master/{id.op}/{id.index}", name)
        return self(id, self.kernels.from_numpy(given.reshape(shape).copy()))

    def _source(self, name: str, stored: str) -> Array:
        if name in self.file.tensors and self.file.tensors[name].shape == self.file.tensors[stored].shape:
            return self.file.tensors[name]
        kind = name.partition("/")[0]
        note = f"the file has no {kind}: {stored.partition('/')[0]}/... is only checked to hold numbers of its format"
        if note not in self.notes:
            self.notes.append(note)
        return self.file.tensors[stored]

    # -- the store --------------------------------------------------------------------------------------------
    def __call__(self, id: TensorId, value: Array) -> Array:
        is_contribution = id.role == "activation_gradient" and self.semantics.store_each_contribution
        unrounded = np.array(self.kernels.to_numpy(value))
        stored = self.rounder(id, value)
        if is_contribution:
            self._unrounded = unrounded
            return stored
        optional = id.role == "activation_gradient"
        if id.role == "parameter_gradient" and id._replace(role="parameter") in self._frozen:
            optional = True
        return self._replace(tensor_name(id), id, stored, unrounded, optional=optional)

    def contribution(self, contribution: Contribution, value: Array) -> Array:
        """Compares a contribution as GX and gives back the file's."""
        id = TensorId(contribution.producer, "activation_gradient", 0)
        name = f"GX/{contribution.op}/{contribution.index}"
        rounded = self.semantics.store_each_contribution
        unrounded = self._unrounded if rounded else None
        optional = not rounded and tensor_name(id) in self.file.tensors
        views = contribution.to_producer
        return self._replace(name, id, value, unrounded, optional=optional, views=views, rounded=rounded)

    def _replace(
        self,
        name: str,
        id: TensorId,
        value: Array,
        unrounded: Array | None,
        *,
        optional: bool = False,
        views: Sequence[Callable[[Array], Array]] = (),
        rounded: bool = True,
    ) -> Array:
        if name not in self.file.tensors:
            if not optional:
                self._missing.append(name)
            self.actual[name] = np.array(self.kernels.to_numpy(value))
            return value
        format = self.format(id) if rounded else FORMATS["float32"]
        ours = np.array(self.kernels.to_numpy(value))
        found = []
        for array in self._layouts(self.file.tensors[name], ours.shape, views):
            found.append((compare_arrays(name, ours, array, format, self._made_by(name)), array))
        if not found:
            self._misshapen.append(f"{name} is {self.file.tensors[name].shape}, not {ours.shape}")
            return value
        comparison, theirs = min(found, key=lambda pair: pair[0].differing)
        unrounded = ours if unrounded is None else unrounded
        if comparison.equal:  # nothing to explain: let the memory go
            ours = unrounded = np.empty(0, np.float32)
        self.pairs[name] = Pair(comparison, id, ours, theirs, unrounded, rounded)
        self.actual[name] = theirs
        return self.kernels.from_numpy(np.array(theirs))

    def _made_by(self, name: str) -> str:
        """Kind and name of the op that computes a tensor; a finished gradient comes from the op's readers."""
        prefix, op = name.split("/")[0], self.traced.ops[int(name.split("/")[1])]
        if prefix != "G":
            return f"{op.kind} {op.name}"
        readers = [f"{self.traced.ops[reader].kind} {self.traced.ops[reader].name}" for reader in op.consumers]
        return f"of {op.name}, by {' and '.join(readers)}"

    def _layouts(self, array: Array, shape: tuple[int, ...], views: Sequence[Callable[[Array], Array]]) -> list[Array]:
        """The file's array in our shape: as it is, without axes of one element, or as the op read it through views."""
        found = []
        if array.shape == shape or squeezed(array.shape) == squeezed(shape):
            found.append(np.ascontiguousarray(array.reshape(shape)))
        if views:
            try:
                brought = np.array(self.kernels.to_numpy(retrace(tuple(views), self.kernels.from_numpy(array))))
            except (ValueError, IndexError):  # the array has other axes
                return found
            if brought.shape == shape:
                found.append(np.ascontiguousarray(brought))
        return found

    def format(self, id: TensorId) -> Format:
        return FORMATS["float32"] if self.plan is None else self.plan.formats[id]

    # -- the end ----------------------------------------------------------------------------------------------
    def refuse_problems(self) -> None:
        """TensorFileError naming what the file lacks or has in another shape."""
        problems = [("it lacks", self._missing), ("other shapes:", self._misshapen)]
        told = [
            f"{what} {', '.join(names[:4])}{f' and {len(names) - 4} more' if len(names) > 4 else ''}"
            for what, names in problems
            if names
        ]
        if told:
            raise TensorFileError(
                f"{self.file.source} does not have the tensors of {self.traced!r}: {'; '.join(told)} "
                f"(docs/step_files.md has the layout)"
            )

    def report(self, bounds: Mapping[str, Array]) -> tuple[TensorComparison, ...]:
        """The comparisons in order of computation, differences explained where they can be."""
        names = order.in_order_of_computation(self.pairs)
        return tuple(self._explained(name, self.pairs[name], bounds.get(name)) for name in names)

    def _explained(self, name: str, pair: Pair, bound: Array | None) -> TensorComparison:
        """bound: how far the float32 result may be moved by sums in another order; None where nothing is summed."""
        found = pair.comparison
        if found.equal:
            return found
        rounding = causes.Rounding(pair.unrounded, bound, found.format, self.policies[pair.id.role], pair.rounded)
        found = explain(found, pair.ours, pair.theirs, *rounding.ends(pair.ours))
        return replace(found, causes=tuple(causes.of_rounding(found, pair.ours, pair.theirs, rounding)))


class Pair(NamedTuple):
    """A tensor of mpsim's, before and after rounding, and the file's; ``rounded``: whether it is one that rounds."""

    comparison: TensorComparison
    id: TensorId
    ours: Array
    theirs: Array
    unrounded: Array
    rounded: bool


class Bounds:
    """A store for ``noise.bound_kernels``: it keeps the bounds that it is given, and gives back what went on in the
    teacher's step."""

    def __init__(self, teacher: Teacher) -> None:
        self.found: dict[str, Array] = {}
        self.images = teacher.images
        self._teacher = teacher
        self._into: defaultdict[int, list[tuple[Array | None, Array]]] = defaultdict(list)

    def parameter(self, id: TensorId, shape: tuple[int, ...]) -> Array:
        """The parameter that the step used."""
        return np.array(self._teacher.actual[tensor_name(id)])

    def __call__(self, id: TensorId, value: Array) -> Array:
        if id.role != "activation_gradient":
            return self._kept(tensor_name(id), value)
        if self._teacher.semantics.store_each_contribution:
            return value
        return self._kept(tensor_name(id), self._of_gradient(id.op, value))

    def contribution(self, contribution: Contribution, value: Array) -> Array:
        """Keeps the bound of a contribution; one that the file does not have moves the sum that it enters as well."""
        name = f"GX/{contribution.op}/{contribution.index}"
        actual = self._kept(name, value)
        bound = None if name in self._teacher.file.tensors or not isinstance(value, Bound) else bound_of(value)
        self._into[contribution.producer].append((bound, np.abs(actual)))
        return actual

    def _of_gradient(self, op: int, value: Array) -> Array:
        """The bound of a finished gradient: of two exact contributions 0, because one rounding gives their sum.

        A contribution that may be off moves the sum before it is rounded: each program rounds another one. Its terms
        may also be added one by one, as PyTorch adds the two of RMSNorm's derivative, so that partial sums are rounded.
        The bound of a sum has room for both roundings and for two such partial sums.
        """
        parts = self._into.pop(op)
        bounds = [bound for bound, _ in parts if bound is not None]
        if len(parts) < 3 and not bounds:
            return value
        error = np.sum(bounds, axis=0) if bounds else np.zeros(value.shape)
        if len(parts) > 1:
            sums = of_sums(np.sum([size for _, size in parts], axis=0), len(parts))
            error = np.where((error > 0) | (len(parts) > 2), error + sums, 0.0)
        return bounded(error, lambda: value)

    def _kept(self, name: str, value: Array) -> Array:
        pair = self._teacher.pairs.get(name)
        if pair is not None and not pair.comparison.equal and isinstance(value, Bound):
            self.found[name] = bound_of(value).reshape(pair.ours.shape)
        return np.array(self._teacher.actual[name])
