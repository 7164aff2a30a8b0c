"""Two recorded steps tensor by tensor, in order of computation: the first that differs is where to look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.formats import FORMATS, Format
from mpsim.validate.step.order import in_order_of_computation
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays
from mpsim.validate.step.tensor_files import TensorFile, TensorFileError, read_tensors


@dataclass(frozen=True)
class StepComparison:
    """Another's step against ours. ``tensors``: those in both files, in order of computation; ``missing``: ours
    alone; ``extra``: the other's alone. ``notes``: what the indexes say was set otherwise."""

    other: str
    ours: str
    tensors: tuple[TensorComparison, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether every tensor that both files have is equal in every bit."""
        return self.first is None

    @property
    def first(self) -> TensorComparison | None:
        """The first tensor, in order of computation, that differs in a bit."""
        return next((tensor for tensor in self.tensors if not tensor.equal), None)

    def __str__(self) -> str:
        different = [tensor for tensor in self.tensors if not tensor.equal]
        lines = [f"{self.other} against {self.ours}: {len(self.tensors)} tensors, {len(different)} differ"]
        if different:
            lines += [f"first to differ: {different[0]}", *(f"  {line}" for line in different[0].details())]
            lines += [f"then: {tensor}" for tensor in different[1:4]]
            if len(different) > 4:
                lines.append(
                    f"and {len(different) - 4} more; --teacher-forced tells which of them are wrong by themselves"
                )
        for names, what in ((self.missing, "not in the other file"), (self.extra, "in the other file only")):
            if names:
                lines.append(f"{what}: {len(names)} tensors, as {', '.join(names[:3])}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def as_json(self) -> dict[str, Any]:
        """The fields, for JSON; ``tensors`` lists those that differ."""
        return {
            "other": self.other,
            "ours": self.ours,
            "equal": self.equal,
            "first": None if self.first is None else self.first.as_json(),
            "compared": len(self.tensors),
            "differing": [tensor.as_json() for tensor in self.tensors if not tensor.equal],
            "missing": list(self.missing),
            "extra": list(self.extra),
            "notes": list(self.notes),
        }


def compare_steps(other: str | Path | TensorFile, against: str | Path | TensorFile) -> StepComparison:
    """Compares the tensors that two step files share, bit by bit, in order of computation.

    ``against``: a file of ``mpsim trace-step``, whose index names ops and formats. Raises TensorFileError if a file
    is broken, a shape differs, or the files share no output, gradient or parameter; OSError if one cannot be read.
    """
    theirs = other if isinstance(other, TensorFile) else read_tensors(other)
    ours = against if isinstance(against, TensorFile) else read_tensors(against)
    names = in_order_of_computation(ours.tensors)
    shared = [name for name in names if name in theirs.tensors]
    if not any("/" in name for name in shared):
        raise TensorFileError(
            f"{theirs.source} and {ours.source} share no tensor of a step; names are P/<op>/<i>, Y/<op>/0, "
            f"GX/<op>/<i>, GP/<op>/<i> (docs/step_files.md)"
        )
    return StepComparison(
        theirs.source,
        ours.source,
        tuple(_compare(name, ours, theirs) for name in shared),
        tuple(name for name in names if name not in theirs.tensors),
        tuple(name for name in theirs.tensors if name not in ours.tensors),
        tuple(_settings_that_differ(ours.index, theirs.index)),
    )


def _settings_that_differ(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    for what in ("model", "batch", "semantics", "rounding", "accumulator", "step", "loss_scale", "skipped", "plan"):
        if what in ours and what in theirs and ours[what] != theirs[what]:
            told = "" if what == "plan" else f": {theirs[what]!r}, ours {ours[what]!r}"
            yield f"the files were recorded with different settings of {what}{told}"


def _compare(name: str, ours: TensorFile, theirs: TensorFile) -> TensorComparison:
    expected, got = ours.tensors[name], theirs.tensors[name]
    if expected.size != got.size or _squeezed(expected.shape) != _squeezed(got.shape):
        raise TensorFileError(
            f"{name} has shape {got.shape} in {theirs.source} and {expected.shape} in {ours.source}: "
            f"the files are of different networks or batches, or name their ops otherwise"
        )
    return compare_arrays(name, expected, got.reshape(expected.shape), _format(name, ours.index), _op(name, ours.index))


def _format(name: str, index: Mapping[str, Any]) -> Format:
    described = index.get("tensors", {}).get(name, {})
    return FORMATS[described.get("format", "float32")]


def _op(name: str, index: Mapping[str, Any]) -> str:
    """Kind and name of the op of a tensor; "" where the index does not say."""
    parts, ops = name.removeprefix("unrounded/").split("/"), index.get("ops", [])
    if len(parts) < 2 or int(parts[1]) >= len(ops):
        return ""
    op = ops[int(parts[1])]
    return f"{op['kind']} {op['name']}"


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(size) for size in np.array(shape, int) if size != 1)
