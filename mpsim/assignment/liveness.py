"""Computes the peak memory of a plan: which tensors of a step are live together, and what recomputation would save.

The paper's total (``Plan.bytes``) counts every tensor once, as if all were live at the same time. Here each tensor is
live from the op that computes it to the last op that reads it, in the order in which a step runs:

- A parameter is live for the entire step, its gradient from the backward pass of its op to the end.
- An activation is live from its op to the last op that reads it. If a reader needs its input again in the backward pass
  (Conv2d, Linear, BatchNorm2d), the activation is live until then. An op that saves its output (LogSoftmax) keeps it
  live until its own backward pass.
- Some ops keep further data until their backward pass: an elementwise op with a mask one bit for each output element,
  MaxPool2d one byte (the position in the window).
- An activation gradient is live from the backward pass of the last op that reads the activation to the backward pass of
  the op that produced it. The gradients of the network's input and of the loss do not exist.

Masters, momentum, running statistics and the workspace of kernels are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mpsim import checks
from mpsim.assignment.plan import Plan
from mpsim.engine.tape import INPUT
from mpsim.engine.tensor import TensorId
from mpsim.files.records import Record
from mpsim.ops import primitive_of
from mpsim.process import in_default_environment
from mpsim.trace import Trace


class Life(NamedTuple):
    """The moments ``first`` to ``last`` at which a tensor is live. Data that an op keeps has the role "kept"."""

    tensor: TensorId
    bits: int
    first: int
    last: int


class Moment(NamedTuple):
    """One moment of a step, i.e. a pass ("forward", "recompute" or "backward") over one op."""

    phase: str
    op: int


@dataclass(frozen=True)
class Peak:
    """The largest live memory of a step.

    ``bytes_by_role`` is the memory at that moment, with "kept" for masks and window positions. ``segments`` is the
    number of segments of consecutive groups whose inner activations are recomputed in the backward pass (1: none).
    ``recomputed_share`` is the number of recomputed elements divided by the elements of all activations.
    """

    bytes: int
    phase: str
    op: int
    op_name: str
    bytes_by_role: dict[str, int]
    segments: int
    recomputed_share: float

    def to_dict(self) -> Record:
        """Returns the fields as JSON types."""
        return dict(vars(self))


def peak_memory(plan: Plan, segments: int = 1) -> Peak:
    """Computes the peak memory of a step with a plan.

    Args:
        plan: The plan.
        segments: The number of segments that the network is divided into, each of about equally many groups. With more
            than one, the forward pass drops every activation that no other segment reads, and each segment except the
            last repeats its forward pass before its backward pass.

    Raises:
        ValueError: ``segments`` is not in 1 to the number of groups.

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
    """Returns the lowest peak over all numbers of segments. Among equal peaks it is the one with the fewest segments.

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
    """The moments of a step and the lifetimes of what it stores."""

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
        self.needs: list[bool] = []  # whether the gradient with respect to the op's output is computed
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


@in_default_environment
def plan_report(trace: Trace, plan: Plan) -> Record:
    """Returns the object that ``mpsim plan --json`` prints.

    It is the plan's JSON object plus ``peak``, the peak memory of a step, and ``recomputation``, the lowest peak with
    recomputed activations.

    Raises:
        ValueError: The plan is for a different trace.

    >>> import reference_models
    >>> from mpsim.assignment import assign
    >>> from mpsim.trace import trace
    >>> traced = trace(reference_models.build("small_cnn", width=0.25), batch=8)
    >>> plan_report(traced, assign(traced, "uniform_low"))["peak"]["bytes"]
    15898
    """
    plan.check(trace)
    return plan.to_dict() | {"peak": peak_memory(plan).to_dict(), "recomputation": best_recomputation(plan).to_dict()}
