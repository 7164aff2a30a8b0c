"""Operator-based assignments: the inputs of matrix products low, the rest high (HFP8, torch.amp)."""

from __future__ import annotations

from mpsim.assignment.levels import PAPER_LEVELS, Levels, parse_levels
from mpsim.assignment.plan import Plan
from mpsim.engine.tape import INPUT
from mpsim.ops import primitive_of
from mpsim.trace import Trace


def operator_based(trace: Trace, levels: Levels | str = PAPER_LEVELS) -> Plan:
    """pi_op (paper §3.2, after HFP8, Sun et al. 2019): what Conv2d and Linear read is low.

    Low: parameters and activation gradients of Conv2d and Linear, and every activation that one of them reads.
    Then back to high: Input; the ops all of whose producers are Input, and the ops of the last group, with
    activation, parameters and gradients; activation and gradient of every op read by the last group.

    >>> import reference_models
    >>> from mpsim.trace import trace
    >>> plan = operator_based(trace(reference_models.build("small_cnn")))
    >>> 0 < plan.low_share < 0.5
    True
    """
    return _by_operator(trace, levels, "operator_based", outputs_too=False)


def operator_based_extended(trace: Trace, levels: Levels | str = PAPER_LEVELS) -> Plan:
    """pi_op' (paper §5.1, as torch.amp): inputs and outputs of Conv2d and Linear are low.

    The published artifact does not contain it, so this is our reading of the paper: pi_op, and also the
    activations of Conv2d and Linear and the gradients of the activations they read, with the same exceptions
    for the first and last layers.

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
    """(Input, the first layers and the last group; the ops that the last group reads)."""
    inputs = {op.index for op in trace.ops if op.kind == INPUT.kind}
    last_group = max(op.group for op in trace.ops)
    last = {op.index for op in trace.ops if op.group == last_group}
    first = {op.index for op in trace.ops if op.index not in inputs and set(op.producers) <= inputs}
    before_last = {producer for op in trace.ops if op.index in last for producer in op.producers}
    return inputs | first | last, before_last
