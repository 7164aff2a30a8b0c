"""Two recorded steps tensor by tensor, in order of computation: the first that differs is where to look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mpsim.engine.tensor import TensorId
from mpsim.files.records import Record
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array
from mpsim.recording.order import in_order_of_computation
from mpsim.recording.reading import read_step
from mpsim.validate.answers import Judged, Verdict
from mpsim.validate.step.tensor_compare import TensorComparison, compare_arrays, squeezed
from mpsim.validate.step.update import UpdateRule, compare_update, parts_of

#: Kinds of tensors that a step stores, which a comparison has to have seen to call two steps equal; a finished gradient
#: is either G, or GX of all that contribute to it.
STORED = ("P", "Y", "G", "GX", "GP")


@dataclass(frozen=True)
class StepComparison(Judged):
    """Another's step against ours. ``tensors``: those in both files, in order of computation; ``missing``: ours
    alone; ``extra``: the other's alone. ``not_compared``: tensors that the step stores and the other file does not have
    in either form. ``notes``: what the indexes say was set otherwise, and what was not looked at. ``names``: the
    other's own names of tensors -> ours."""

    other: str
    ours: str
    tensors: tuple[TensorComparison, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """DIFFERENT where a shared tensor is; else EQUAL if every tensor that the step stores was compared."""
        if self.first is not None:
            return Verdict.DIFFERENT
        return Verdict.UNDECIDED if self.not_compared else Verdict.EQUAL

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
                lines.append(f"and {len(different) - 4} more; --teacher-forced checks each of them by its own inputs")
        elif self.not_compared:
            stored = [tensor for tensor in self.tensors if tensor.name.split("/")[0] in STORED]
            lines.append(
                f"{'nothing' if not stored else 'too little'} compared: of the tensors that the step stores, "
                f"{len(self.not_compared)} are not in {self.other}, as {', '.join(self.not_compared[:3])}"
            )
        for names, what in ((self.missing, "not in the other file"), (self.extra, "in the other file only")):
            if names:
                lines.append(f"{what}: {len(names)} tensors, as {', '.join(names[:3])}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> Record:
        """The fields, for JSON; ``tensors`` lists those that differ."""
        return {
            "other": self.other,
            "ours": self.ours,
            "verdict": self.verdict.name.lower(),
            "equal": self.equal,
            "first": None if self.first is None else self.first.to_dict(),
            "compared": len(self.tensors),
            "differing": [tensor.to_dict() for tensor in self.tensors if not tensor.equal],
            "missing": list(self.missing),
            "extra": list(self.extra),
            "not_compared": list(self.not_compared),
            "names": dict(self.names),
            "notes": list(self.notes),
        }


def compare_steps(other: str | Path | TensorFile, against: str | Path | TensorFile) -> StepComparison:
    """Compares the tensors that two step files share, bit by bit, in order of computation.

    ``against``: a file of ``mpsim trace-step``, whose index names ops and formats. Raises TensorFileError if a file
    is broken, a shape differs, or the files share no tensor; OSError if one cannot be read.
    """
    theirs = other if isinstance(other, TensorFile) else read_step(other)
    ours = against if isinstance(against, TensorFile) else read_step(against)
    names = in_order_of_computation(ours.tensors)
    shared = [name for name in names if name in theirs.tensors]
    if not shared:
        raise TensorFileError(
            f"{theirs.source} and {ours.source} share no tensor of a step; names are P/<op>/<i>, Y/<op>/0, "
            f"GX/<op>/<i>, GP/<op>/<i> (docs/step_files.md)"
        )
    notes = list(_settings_that_differ(ours.index, theirs.index))
    if not any(name.startswith("next_master/") for name in shared):
        notes.append(f"the update was not looked at: {theirs.source} has no next_master")
    return StepComparison(
        theirs.source,
        ours.source,
        tuple(_compare(name, ours, theirs) for name in shared),
        tuple(name for name in names if name not in theirs.tensors),
        tuple(name for name in theirs.tensors if name not in ours.tensors),
        tuple(_not_compared(names, ours.index, set(shared))),
        tuple(notes),
    )


def _not_compared(names: Sequence[str], index: Mapping[str, Any], shared: set[str]) -> Iterator[str]:
    """Stored tensors that are not among the shared ones; a gradient may be there as G, or as the GX that make it."""
    producers = {op["index"]: op["producers"] for op in index.get("ops", [])}
    for name in names:
        kind, *place = name.split("/")
        if kind not in STORED or name in shared:
            continue
        op, number = int(place[0]), int(place[1])
        if kind == "GX" and any(f"G/{made}/0" in shared for made in producers.get(op, [])[number : number + 1]):
            continue
        if kind == "G" and any(other.startswith("GX/") for other in shared):
            parts = [f"GX/{reader}/{i}" for reader, made in producers.items() for i, p in enumerate(made) if p == op]
            if parts and all(part in shared or part not in names for part in parts):
                continue
        yield name


def _settings_that_differ(ours: Mapping[str, object], theirs: Mapping[str, object]) -> Iterator[str]:
    settings = (
        "model",
        "batch",
        "semantics",
        "rounding",
        "accumulator",
        "optimizer",
        "step",
        "micro_batch",
        "loss_scale",
        "skipped",
        "plan",
    )
    for what in settings:
        if what in ours and what in theirs and ours[what] != theirs[what]:
            told = "" if what == "plan" else f": {theirs[what]!r}, ours {ours[what]!r}"
            yield f"the files were recorded with different settings of {what}{told}"


def _compare(name: str, ours: TensorFile, theirs: TensorFile) -> TensorComparison:
    expected, got = ours.tensors[name], theirs.tensors[name]
    if expected.size != got.size or squeezed(expected.shape) != squeezed(got.shape):
        raise TensorFileError(
            f"{name} has shape {got.shape} in {theirs.source} and {expected.shape} in {ours.source}: "
            f"the files are of different networks or batches, or name their ops otherwise"
        )
    got = got.reshape(expected.shape)
    found = compare_arrays(name, expected, got, _format(name, ours.index), _op(name, ours.index))
    if name.startswith("next_master/") and not found.equal:
        return replace(found, causes=_update_causes(name, got, ours, theirs))
    return found


def _update_causes(name: str, got: Array, ours: TensorFile, theirs: TensorFile) -> tuple[str, ...]:
    """What would explain another update, from the other's own tensors, and ours where it has none."""
    rule = UpdateRule.of_index(theirs.index) or UpdateRule.of_index(ours.index)
    place = name.partition("/")[2]
    tensors = {**ours.tensors, **theirs.tensors}
    scale = ours.index.get("loss_scale")
    if (
        rule is None
        or rule.groups
        or rule.clip is not None
        or rule.stores_masters
        or scale is None
        or any(f"{kind}/{place}" not in tensors for kind in ("master", *rule.states, "GP", "P"))
    ):
        return ()
    op, index = map(int, place.split("/"))
    parts = parts_of(tensors, TensorId(op, "parameter", index), rule.states)
    finite = not ours.index.get("skipped", False)
    format = _format(f"P/{place}", ours.index)
    return compare_update(name, got, parts, rule, float(scale), finite, format, "").causes


def _format(name: str, index: Mapping[str, Any]) -> Format:
    described = index.get("tensors", {}).get(name, {})
    return FORMATS[described.get("format", "float32")]


def _op(name: str, index: Mapping[str, Any]) -> str:
    """Kind and name of the op of a tensor; "" where the index does not say."""
    parts, ops = name.removeprefix("unrounded/").split("/"), index.get("ops", [])
    if len(parts) < 2 or not parts[1].isdecimal() or int(parts[1]) >= len(ops):
        return ""
    op = ops[int(parts[1])]
    return f"{op['kind']} {op['name']}"
