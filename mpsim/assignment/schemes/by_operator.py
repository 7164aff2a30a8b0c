"""Assigns formats by operator: the inputs of matrix products are low, the rest is high (HFP8, torch.amp)."""

from __future__ import annotations

from mpsim.assignment.levels import PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.engine.tape import INPUT
from mpsim.ops import primitive_of
from mpsim.process import in_default_environment
from mpsim.trace import Trace


@in_default_environment
def operator_based(trace: Trace, levels: Levels | str = PAPER_LEVELS) -> Plan:
    """Makes the inputs of Conv2d and Linear low.

    Low are the parameters and activation gradients of Conv2d and Linear, and every activation that one of them reads.
    High again are all tensors of Input, of the ops that read only Input, and of the ops in the last group, and the
    activation and its gradient of every op that the last group reads.

    Source: pi_op of paper §3.2, after HFP8 (Sun et al. 2019).

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> plan = operator_based(trace(reference_models.build("small_cnn")))
    >>> 0 < plan.low_share < 0.5
    True
    """
    return _by_operator(trace, levels, "operator_based", outputs_too=False)


@in_default_environment
def operator_based_extended(trace: Trace, levels: Levels | str = PAPER_LEVELS) -> Plan:
    """Makes the inputs and outputs of Conv2d and Linear low.

    The published artifact does not contain this assignment, so it follows our reading of the paper: pi_op, plus the
    activations of Conv2d and Linear and the gradients of the activations they read, with the same exceptions for the
    first and last layers.

    Source: pi_op' of paper §5.1, like torch.amp.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> small = trace(reference_models.build("small_cnn"))
    >>> operator_based_extended(small).low_share > operator_based(small).low_share
    True
    """
    return _by_operator(trace, levels, "operator_based_extended", outputs_too=True)


def _by_operator(trace: Trace, levels: Levels | str, scheme: str, outputs_too: bool) -> Plan:
    levels = parse_levels(levels)
    products = {op.index for op in trace.ops if primitive_of(op.kind).is_product}
    read_by_products = {producer for op in trace.ops if op.index in products for producer in op.producers}
    low = {
        "activation": read_by_products | (products if outputs_too else set()),
        "parameter": set(products),
        "activation_gradient": products | (read_by_products if outputs_too else set()),
        "parameter_gradient": set(),
    }
    edge, before_last = _edges(trace)
    for role, ops in low.items():
        ops -= edge
        if role.startswith("activation"):
            ops -= before_last
    formats = {
        tensor.id: (levels.low if tensor.id.op in low[tensor.id.role] else levels.high)[tensor.id.role]
        for tensor in trace.tensors
    }
    return Plan.of(trace, formats, scheme, levels)


def _edges(trace: Trace) -> tuple[set[int], set[int]]:
    """Returns the indices of Input, first layers and last group, and those of the ops that the last group reads."""
    inputs = {op.index for op in trace.ops if op.kind == INPUT.kind}
    last_group = max(op.group for op in trace.ops)
    last = {op.index for op in trace.ops if op.group == last_group}
    first = {op.index for op in trace.ops if op.index not in inputs and set(op.producers) <= inputs}
    before_last = {producer for op in trace.ops if op.index in last for producer in op.producers}
    return inputs | first | last, before_last
