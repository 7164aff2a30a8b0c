"""Describes the network, batch and semantics that a plan was computed for."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim.trace import Trace


@dataclass(frozen=True)
class PlannedOp:
    """One op of a plan's network. ``producers`` has the index of the producing op for each input, -1 for labels."""

    index: int
    name: str
    kind: str
    group: int
    producers: tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """The part of a trace that the meaning of a plan depends on. ``groups`` has the elements of each group."""

    model: str
    width: float
    classes: int
    batch: int
    semantics: str
    ops: tuple[PlannedOp, ...]
    groups: tuple[int, ...]

    @classmethod
    def of(cls, trace: Trace) -> Network:
        ops = tuple(PlannedOp(op.index, op.name, op.kind, op.group, tuple(op.producers)) for op in trace.ops)
        return cls(trace.model, trace.width, trace.classes, trace.batch, trace.semantics, ops, tuple(trace.groups))
