"""Teacher-forced validation of a training step: each op by itself, on the inputs that a file says it had.

The step is run through mpsim's own tape, kernels and store; wherever a tensor is stored it is compared with the
file's, and the file's goes on in its place. So a difference shows at the op that made it and hides no other.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mpsim import kernels as backends
from mpsim import ops
from mpsim.accumulators import Accumulator
from mpsim.assignment import Plan
from mpsim.engine.tape import Contribution, Tape
from mpsim.engine.tensor import ROLES, TensorId, retrace
from mpsim.formats import FORMATS, Format
from mpsim.kernels import reference
from mpsim.rounding import available_threads
from mpsim.trace import Trace, trace
from mpsim.training.semantics import Semantics, as_semantics
from mpsim.training.store import Identity, Rounder
from mpsim.validate.step import causes as step_causes
from mpsim.validate.step import order as step_order
from mpsim.validate.step.inputs import labels_of, loss_scale_of
from mpsim.validate.step.noise import EXACT_BACKWARD, EXACT_FORWARD, TOLERANCE, magnitude_kernels
from mpsim.validate.step.recording import tensor_name
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, explain
from mpsim.validate.step.tensor_files import TensorFile, TensorFileError, read_tensors

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TeacherReport:
    """Every tensor of a step, mpsim's from the file's inputs against the file's, in order of computation.

    ``loss_scale`` and ``labels``: as used. ``notes``: what was taken from where, and what was not compared.
    """

    source: str
    model: str
    semantics: str
    loss_scale: float
    labels: Array
    tensors: tuple[TensorComparison, ...]
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every tensor is equal in every bit."""
        return all(tensor.equal for tensor in self.tensors)

    def suspects(self) -> list[TensorComparison]:
        """Tensors that differ by more than float32 sums in another order explain (``TensorComparison.suspect``)."""
        return [tensor for tensor in self.tensors if tensor.suspect]

    def __str__(self) -> str:
        suspects = self.suspects()
        equal = sum(tensor.equal for tensor in self.tensors)
        lines = [
            f"{self.source}: {self.model}, semantics {self.semantics}, loss scale {self.loss_scale:g}",
            f"{len(self.tensors)} tensors, each from the file's inputs: {equal} equal, "
            f"{len(self.tensors) - equal - len(suspects)} as float32 sums in another order may give, "
            f"{len(suspects)} otherwise",
        ]
        for tensor in suspects[:10]:
            lines += [f"  {tensor}", *(f"    {line}" for line in tensor.details())]
        if len(suspects) > 10:
            lines.append(f"  and {len(suspects) - 10} more")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def as_json(self) -> dict[str, Any]:
        """The fields, for JSON."""
        return {
            "source": self.source,
            "model": self.model,
            "semantics": self.semantics,
            "loss_scale": self.loss_scale,
            "labels": [int(label) for label in self.labels],
            "equal": self.equal,
            "suspects": [tensor.name for tensor in self.suspects()],
            "notes": list(self.notes),
            "tensors": [tensor.as_json() for tensor in self.tensors],
        }


def teacher_forced(
    trace_file: str | Path | TensorFile,
    model: Any,
    plan: Plan | None,
    semantics: str | Semantics = "lee2023",
    *,
    labels: Array | None = None,
    loss_scale: float | None = None,
    accumulator: Accumulator = Accumulator(),
    backend: str = "compiled",
    threads: int | None = None,
) -> TeacherReport:
    """Checks a recorded step op by op: mpsim computes each output and gradient from the file's stored inputs.

    trace_file: safetensors or npz with ``P/<op>/<i>``, ``Y/<op>/0``, ``GX/<op>/<i>``, ``GP/<op>/<i>``
    (docs/step_files.md), gradients still multiplied by the loss scale. ``model``: the same network (its numbers
    play no part and do not change); ``plan``: the formats, None where nothing was rounded. ``labels`` (N,) and
    ``loss_scale`` are taken from the file, or inferred from the gradient of the log-probabilities, if not given.

    The gradient that enters an op is the sum of its consumers' GX in float32, in reverse order of execution; in
    ``lee2023`` GX are the rounded contributions. In ``standard`` semantics GX are float32, before rounding, and
    ``G/<op>/0`` is their sum, rounded; a file may have either or both.

    Raises TensorFileError (a ValueError) for a file that is broken, lacks tensors, has others' shapes, or was made
    from another network; ValueError for a plan that does not fit; OSError if the file cannot be read.
    """
    file = trace_file if isinstance(trace_file, TensorFile) else read_tensors(trace_file)
    semantics = as_semantics(semantics)
    traced = _traced(file, model, plan)
    threads = available_threads() if threads is None else threads
    kernels = backends.bind(backend, threads, accumulator)
    model = copy.deepcopy(model)
    model.move(kernels)
    teacher = _Teacher(file, traced, plan, semantics, kernels)
    labels = labels_of(file, traced, labels, teacher.notes)
    scale = loss_scale_of(file, traced, loss_scale, labels, teacher.notes)
    parameters = {
        p: traced.parameter_ids[name] for name, p in model.parameters().items() if name in traced.parameter_ids
    }
    for parameter, id in parameters.items():
        parameter.value = teacher(id, teacher.master(id, parameter.shape))

    def step(kernels: Any, teacher: Any) -> None:
        tape = Tape(
            kernels,
            teacher,
            store_each_contribution=semantics.store_each_contribution,
            on_contribution=teacher.contribution,
        )
        tape.backward(ops.cross_entropy(model(tape.input(teacher.images())), labels), scale)

    step(kernels, teacher)
    teacher.refuse_problems()
    magnitudes = _Magnitudes(teacher)
    if any(pair.comparison.differing for pair in teacher.pairs.values()):
        step(magnitude_kernels(kernels), magnitudes)
    return TeacherReport(
        file.source, repr(traced), semantics.name, scale, labels, teacher.report(magnitudes.found), tuple(teacher.notes)
    )


def _traced(file: TensorFile, model: Any, plan: Plan | None) -> Trace:
    """The trace of the model at the file's batch, after checking that plan and file were made for it."""
    if "Y/0/0" not in file.tensors:
        known = ", ".join(list(file.tensors)[:4]) or "nothing"
        raise TensorFileError(f"{file.source}: no tensor Y/0/0, the stored images (docs/step_files.md); it has {known}")
    shape = file.tensors["Y/0/0"].shape
    wanted = tuple(getattr(model, "input_shape", shape[1:]))
    if len(shape) != 4 or shape[1:] != wanted:
        raise TensorFileError(
            f"{file.source}: Y/0/0, the stored images, has shape {shape}; {type(model).__name__} takes (N, "
            f"{', '.join(map(str, wanted))}): the file was made from another network"
        )
    semantics = "standard" if plan is None else plan.network.semantics
    traced = trace(model, shape[0], semantics, shape[1:])
    if plan is not None:
        if plan.network.batch != shape[0]:
            raise ValueError(f"the plan is for a batch of {plan.network.batch}, {file.source} has {shape[0]} images")
        plan.check(traced)
    numbers = [int(name.split("/")[1]) for name in file.tensors if name.startswith("Y/")]
    if max(numbers) >= len(traced.ops):
        raise TensorFileError(
            f"{file.source} has outputs of {max(numbers) + 1} ops, {traced!r} has {len(traced.ops)}: "
            f"it was made from another network"
        )
    return traced


class _Teacher:
    """The store that compares what mpsim makes with the file's, and gives back the file's."""

    def __init__(self, file: TensorFile, traced: Trace, plan: Plan | None, semantics: Semantics, kernels: Any) -> None:
        self.file, self.traced, self.plan, self.semantics, self.kernels = file, traced, plan, semantics, kernels
        self.policies = {role: semantics.policy(role) for role in ROLES}
        self.rounder = Identity(kernels) if plan is None else Rounder(plan.formats, kernels, self.policies)
        self.notes: list[str] = []
        self.pairs: dict[str, _Pair] = {}
        self._missing: list[str] = []
        self._misshapen: list[str] = []
        self._unrounded: Array | None = None

    # -- what the step starts from ----------------------------------------------------------------------------
    def images(self) -> Array:
        """The images, or else the stored ones, which rounding should leave as they are."""
        return self._source("images", "Y/0/0")

    def master(self, id: TensorId, shape: tuple[int, ...]) -> Any:
        name = tensor_name(id)
        if name not in self.file.tensors:
            return self.kernels.zeros(shape)  # refused at the end
        return self.kernels.from_numpy(self._source(f"master/{id.op}/{id.index}", name).copy())

    def _source(self, name: str, stored: str) -> Array:
        if name in self.file.tensors and self.file.tensors[name].shape == self.file.tensors[stored].shape:
            return self.file.tensors[name]
        kind = name.partition("/")[0]
        note = f"the file has no {kind}: {stored.partition('/')[0]}/... is only checked to hold numbers of its format"
        if note not in self.notes:
            self.notes.append(note)
        return self.file.tensors[stored]

    # -- the store --------------------------------------------------------------------------------------------
    def __call__(self, id: TensorId, value: Any) -> Any:
        is_contribution = id.role == "activation_gradient" and self.semantics.store_each_contribution
        unrounded = np.array(self.kernels.to_numpy(value))
        stored = self.rounder(id, value)
        if is_contribution:
            self._unrounded = unrounded
            return stored
        optional = id.role == "activation_gradient"
        return self._replace(tensor_name(id), id, stored, unrounded, optional=optional)

    def contribution(self, contribution: Contribution, value: Any) -> Any:
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
        value: Any,
        unrounded: Array | None,
        *,
        optional: bool = False,
        views: Sequence[Any] = (),
        rounded: bool = True,
    ) -> Any:
        if name not in self.file.tensors:
            if not optional:
                self._missing.append(name)
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
        if not comparison.differing:  # nothing to explain: let the memory go
            ours = unrounded = np.empty(0, np.float32)
        self.pairs[name] = _Pair(comparison, id, ours, theirs, unrounded, rounded)
        return self.kernels.from_numpy(np.array(theirs))

    def _made_by(self, name: str) -> str:
        """Kind and name of the op that computes a tensor; a finished gradient comes from the op's readers."""
        prefix, op = name.split("/")[0], self.traced.ops[int(name.split("/")[1])]
        if prefix != "G":
            return f"{op.kind} {op.name}"
        readers = [f"{self.traced.ops[reader].kind} {self.traced.ops[reader].name}" for reader in op.consumers]
        return f"of {op.name}, by {' and '.join(readers)}"

    def _layouts(self, array: Array, shape: tuple[int, ...], views: Sequence[Any]) -> list[Array]:
        """The file's array in our shape: as it is, without axes of one element, or as the op read it through views."""
        found = []
        if array.shape == shape or _squeezed(array.shape) == _squeezed(shape):
            found.append(np.ascontiguousarray(array.reshape(shape)))
        if views:
            try:
                brought = np.array(self.kernels.to_numpy(retrace(tuple(views), self.kernels.from_numpy(array))))
            except ValueError:
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

    def report(self, magnitudes: Mapping[str, Array]) -> tuple[TensorComparison, ...]:
        """The comparisons in order of computation, differences explained where they can be."""
        names = step_order.in_order_of_computation(self.pairs)
        return tuple(self._explained(name, self.pairs[name], magnitudes.get(name)) for name in names)

    def _explained(self, name: str, pair: _Pair, magnitude: Array | None) -> TensorComparison:
        found = pair.comparison
        if not found.differing:
            return found
        if magnitude is not None and not self._is_exact(name):
            low, high = (self._stored(pair, sign * TOLERANCE * magnitude) for sign in (-1, 1))
            found = explain(found, pair.ours, pair.theirs, low, high)
        if found.suspect and pair.rounded:
            policy = self.policies[pair.id.role]
            found = replace(found, causes=tuple(step_causes.of_rounding(found, pair.unrounded, pair.theirs, policy)))
        return found

    def _is_exact(self, name: str) -> bool:
        """Whether the tensor does not depend on the order of sums."""
        prefix, op = name.split("/")[0], self.traced.ops[int(name.split("/")[1])]
        if prefix == "G":
            return all(self.traced.ops[reader].kind in EXACT_BACKWARD for reader in op.consumers)
        return prefix == "P" or op.kind in (EXACT_FORWARD if prefix == "Y" else EXACT_BACKWARD)

    def _stored(self, pair: _Pair, change: Array) -> Array:
        """What is stored of the float32 result moved by ``change``; where that is no number, as it was."""
        with np.errstate(over="ignore", invalid="ignore"):
            moved = (pair.unrounded.astype(np.float64) + change).astype(np.float32)
        if pair.rounded and pair.comparison.format.name != "float32":
            moved, _ = reference.round_array(moved, pair.comparison.format, self.policies[pair.id.role])
        return np.where(np.isfinite(pair.unrounded) & ~np.isnan(moved), moved, pair.ours)


class _Pair(NamedTuple):
    """A tensor of mpsim's, before and after rounding, and the file's; ``rounded``: whether it is one that rounds."""

    comparison: TensorComparison
    id: TensorId
    ours: Array
    theirs: Array
    unrounded: Array
    rounded: bool


class _Magnitudes:
    """A store that keeps what it is given (on magnitude kernels: magnitudes), and gives back the file's."""

    def __init__(self, teacher: _Teacher) -> None:
        self.found: dict[str, Array] = {}
        self.images = teacher.images
        self._teacher, self._kernels = teacher, teacher.kernels

    def __call__(self, id: TensorId, value: Any) -> Any:
        if id.role == "activation_gradient" and self._teacher.semantics.store_each_contribution:
            return value
        return self._replace(tensor_name(id), value)

    def contribution(self, contribution: Contribution, value: Any) -> Any:
        return self._replace(f"GX/{contribution.op}/{contribution.index}", value)

    def _replace(self, name: str, value: Any) -> Any:
        pair = self._teacher.pairs.get(name)
        if pair is not None and pair.comparison.differing:
            self.found[name] = np.abs(self._kernels.to_numpy(value))
        return value if pair is None else self._kernels.from_numpy(np.array(pair.theirs))


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
