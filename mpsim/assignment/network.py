"""What a plan was made for: the network, batch and semantics whose tensors it gives formats to."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim.trace import Trace


@dataclass(frozen=True)
class PlannedOp:
    """One op of the network a plan was made for; ``producers``: op index per input, -1 for labels."""

    index: int
    name: str
    kind: str
    group: int
    producers: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """What a plan was made for: everything of a trace that a plan's meaning depends on."""

    model: str
    width: float
    classes: int
    batch: int
    semantics: str
    ops: tuple[PlannedOp, ...]
    groups: tuple[int, ...]  # elements, by group id

    @classmethod
    def of(cls, trace: Trace) -> Network:
        ops = tuple(PlannedOp(op.index, op.name, op.kind, op.group, tuple(op.producers)) for op in trace.ops)
        return cls(trace.model, trace.width, trace.classes, trace.batch, trace.semantics, ops, tuple(trace.groups))
