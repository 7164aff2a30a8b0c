"""Peak memory of a plan: which tensors of a step are alive at the same time, and what recomputing some would save.

The aggregate of the paper (``Plan.bytes``) counts every tensor once, as if all were alive together. Here each tensor
lives from the op that makes it to the last that reads it, in the order in which a step runs:

- parameters: the whole step; a parameter's gradient: from the backward pass of its op to the end;
- an activation: from its op to the last op that reads it; where one reads it that needs its input again (Conv2d,
  Linear, BatchNorm2d), to that op's backward pass, and what saves its output (LogSoftmax) keeps it so;
- what else an op keeps to its backward pass: ReLU one bit per element of its output, MaxPool2d a byte (the place in the
  window);
- an activation gradient: from the backward pass of the last op that reads the activation, to that of its own op. The
  gradients of the network's input and of the loss do not exist.

Masters, momentum, running statistics and a kernel's own workspace are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from mpsim import checks
from mpsim.assignment.plan import Plan
from mpsim.engine.tape import INPUT
from mpsim.engine.tensor import TensorId
from mpsim.files.records import Record
from mpsim.ops import primitive_of
from mpsim.trace import Trace


class Life(NamedTuple):
    """A tensor (or what an op keeps, role "kept") is alive at the moments first .. last."""

    tensor: TensorId
    bits: int
    first: int
    last: int


class Moment(NamedTuple):
    """One moment of a step: a pass ("forward", "recompute", "backward") over one op."""

    phase: str
    op: int


@dataclass(frozen=True)
class Peak:
    """The most memory that is alive at one moment; ``bytes_by_role`` at that moment, with "kept" for masks and places.

    ``segments``: into how many stretches of groups the network is cut, whose inner activations are recomputed in the
    backward pass; 1: nothing is. ``recomputed_share``: elements made a second time / elements of all activations.
    """

    bytes: int
    phase: str
    op: int
    op_name: str
    bytes_by_role: dict[str, int]
    segments: int
    recomputed_share: float

    def to_dict(self) -> Record:
        """JSON types."""
        return dict(vars(self))


def peak_memory(plan: Plan, segments: int = 1) -> Peak:
    """The peak of a step under a plan, with the network in ``segments`` stretches of about equally many groups.

    With more than one, a forward pass drops every activation that no other stretch reads; before a stretch's backward
    pass its forward pass runs again (all but the last stretch's). ValueError unless 1 <= segments <= groups.

    >>> import reference_models
    >>> from mpsim.assignment import uniform
    >>> from mpsim.trace import trace
    >>> plan = uniform(trace(reference_models.build("small_cnn"), batch=16), "low")
    >>> peak_memory(plan).bytes < plan.bytes
    True
    """
    groups = len(plan.network.groups)
    checks.whole("segments", segments, least=1, most=groups, note=", the number of groups")
    step = _Step(plan, segments)
    lives = list(step.lives())
    change = np.zeros(len(step.moments) + 1, np.int64)
    for life in lives:
        change[life.first] += life.bits
        change[life.last + 1] -= life.bits
    alive = np.cumsum(change)
    moment = int(np.argmax(alive))
    by_role: dict[str, int] = {}
    for life in lives:
        if life.first <= moment <= life.last:
            by_role[life.tensor.role] = by_role.get(life.tensor.role, 0) + life.bits
    phase, op = step.moments[moment]
    activations = sum(count for id, count in plan.elements.items() if id.role == "activation")
    again = sum(plan.elements[TensorId(op, "activation")] for op in step.recomputed)
    return Peak(
        bytes=-(-int(alive[moment]) // 8),
        phase=phase,
        op=op,
        op_name=plan.network.ops[op].name,
        bytes_by_role={role: -(-bits // 8) for role, bits in by_role.items()},
        segments=segments,
        recomputed_share=again / activations,
    )


def best_recomputation(plan: Plan) -> Peak:
    """The number of segments with the lowest peak (the fewest, where several have it).

    >>> import reference_models
    >>> from mpsim.assignment import uniform
    >>> from mpsim.trace import trace
    >>> plan = uniform(trace(reference_models.build("resnet18", 0.1, seed=None)), "low")
    >>> best_recomputation(plan).bytes < peak_memory(plan).bytes
    True
    """
    peaks = [peak_memory(plan, segments) for segments in range(1, len(plan.network.groups) + 1)]
    return min(peaks, key=lambda peak: (peak.bytes, peak.segments))


class _Step:
    """The moments of a step and the lives of what it stores."""

    def __init__(self, plan: Plan, segments: int) -> None:
        self.plan, self.ops = plan, plan.network.ops
        groups = len(plan.network.groups)
        self.segment = [op.group * segments // groups for op in self.ops]
        self.readers: list[list[int]] = [[] for _ in self.ops]
        for op in self.ops:
            for producer in op.producers:
                if producer >= 0:
                    self.readers[producer].append(op.index)
        own = {id.op for id in plan.elements if id.role == "parameter"}
        self.needs: list[bool] = []  # whether a gradient by the op's output is computed
        for op in self.ops:
            self.needs.append(op.index in own or any(p >= 0 and self.needs[p] for p in op.producers))
        last = self.segment[-1]
        self.recomputed = [
            op.index
            for op in self.ops
            if self.segment[op.index] < last
            and op.kind != INPUT.kind
            and all(self.segment[reader] == self.segment[op.index] for reader in self.readers[op.index])
        ]
        self.moments = self._moments()
        self.at = {moment: number for number, moment in enumerate(self.moments)}

    def _moments(self) -> list[Moment]:
        moments = [Moment("forward", op.index) for op in self.ops]
        for segment in range(self.segment[-1], -1, -1):
            inside = [op.index for op in self.ops if self.segment[op.index] == segment]
            moments += [Moment("recompute", op) for op in inside if op in self._again]
            moments += [Moment("backward", op) for op in reversed(inside)]
        return moments

    @cached_property
    def _again(self) -> set[int]:
        return set(self.recomputed)

    def lives(self) -> Iterator[Life]:
        end = len(self.moments) - 1
        for id, count in self.plan.elements.items():
            bits = count * self.plan.formats[id].bits
            backward = self.at[Moment("backward", id.op)]
            if id.role == "parameter":
                yield Life(id, bits, 0, end)
            elif id.role == "parameter_gradient":
                yield Life(id, bits, backward, end)
            elif id.role == "activation":
                yield from self._activation(id, bits)
                yield from self._kept(id, count, backward)
            elif self.needs[id.op] and self.readers[id.op]:
                yield Life(id, bits, self.at[Moment("backward", max(self.readers[id.op]))], backward)

    def _activation(self, id: TensorId, bits: int) -> Iterator[Life]:
        op, readers = id.op, self.readers[id.op]
        forward = self.at[Moment("forward", op)]
        first_pass = max([forward, *(self.at[Moment("forward", reader)] for reader in readers)])
        again = [self.at[Moment("recompute", reader)] for reader in readers if reader in self._again]
        again += [
            self.at[Moment("backward", reader)]
            for reader in readers
            if primitive_of(self.ops[reader].kind).reads_input_again
        ]
        if primitive_of(self.ops[op].kind).saves_output:
            again.append(self.at[Moment("backward", op)])
        if op not in self._again:
            yield Life(id, bits, forward, max([first_pass, *again]))
            return
        yield Life(id, bits, forward, first_pass)
        second = self.at[Moment("recompute", op)]
        yield Life(id, bits, second, max([second, *again]))

    def _kept(self, id: TensorId, count: int, backward: int) -> Iterator[Life]:
        bits = primitive_of(self.ops[id.op].kind).kept_bits * count
        if bits and self.needs[id.op]:
            made = Moment("recompute" if id.op in self._again else "forward", id.op)
            yield Life(TensorId(id.op, "kept"), bits, self.at[made], backward)


def plan_report(trace: Trace, plan: Plan) -> dict[str, Any]:
    """What ``mpsim plan --json`` prints: the plan's JSON object, with the peak memory of a step (``peak``) and the
    lowest that recomputing activations reaches (``recomputation``). ValueError if it was made for another trace."""
    plan.check(trace)
    return plan.to_dict() | {"peak": peak_memory(plan).to_dict(), "recomputation": best_recomputation(plan).to_dict()}
