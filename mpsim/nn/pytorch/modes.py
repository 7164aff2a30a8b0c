"""Compares what a module calls in training with what it calls in evaluation."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from mpsim.interchange.pytorch import Node, Program, is_node
from mpsim.nn.pytorch.graph import arguments_of, line_of
from mpsim.nn.pytorch.masks import DRAWS

#: The arguments that say whether a function is in training, or how much it drops.
_FLAGS = {"train", "training", "use_input_stats", "dropout_p"}


class _Call(NamedTuple):
    """A call, its function, and its arguments with the results of earlier calls by their numbers."""

    node: Node
    function: str
    arguments: object


def compared(training: Program, evaluation: Program) -> tuple[frozenset[str], list[str]]:
    """Compares the exports of both modes.

    Returns:
        The names of the calls that the module makes in training only, and what is not supported. Without these calls,
        i.e. with the first argument of each in place of its result, training is evaluation.
    """
    second = _calls(evaluation)
    names, only, matched = _sources(training), set(), 0
    for node in _of_interest(training):
        form = str(node.target), _arguments(node, names)
        if matched < len(second) and form == second[matched][1:]:
            matched += 1
            names[node.name] = str(matched)
        else:
            only.add(node.name)
            names[node.name] = names.get(_first(node), _first(node))
    if matched < len(second) or _result(training, names) != _result(evaluation, _numbers(second, evaluation)):
        return frozenset(), _differences(_calls(training), second)
    always = [call for call in second if _is_active(call)]
    return frozenset(only), [
        f"{line_of(node)}: {function} is active in evaluation too; pass training=self.training"
        for node, function, _ in always
    ]


def _differences(first: list[_Call], second: list[_Call]) -> list[str]:
    """Returns the lines of what differs, given that something does."""
    kinds = [Counter(call.function for call in calls) for calls in (first, second)]
    found = [
        f"{line_of(node)}: {function} is called in {mode} only"
        for mode, calls in (("training", first), ("evaluation", second))
        for node, function, _ in calls
        if kinds[0][function] != kinds[1][function]
    ]
    pairs = zip(first, second, strict=False)
    return (
        found
        or [
            f"{line_of(a.node)}: {a.function} is called with other arguments in evaluation than in training"
            for a, b in pairs
            if a[1:] != b[1:]
        ][:1]
        or ["the results of training and evaluation are those of different calls"]
    )


def _is_active(call: _Call) -> bool:
    """Returns whether a call of evaluation draws random numbers."""
    given = arguments_of(call.node)
    dropout = "dropout" in call.function and given.get("train")
    return bool(dropout or given.get("dropout_p")) or call.function in DRAWS


def _calls(program: Program) -> list[_Call]:
    """Returns each call, with its arguments in a form that two exports of one module share."""
    names = _sources(program)
    calls: list[_Call] = []
    for node in _of_interest(program):
        calls.append(_Call(node, str(node.target), _arguments(node, names)))
        names[node.name] = str(len(calls))
    return calls


def _sources(program: Program) -> dict[str, str]:
    signature = program.graph_signature
    return {**signature.inputs_to_parameters, **signature.inputs_to_buffers}


def _of_interest(program: Program) -> list[Node]:
    """Returns the calls, without the counts of batches."""
    calls = [node for node in program.graph.nodes if node.op == "call_function"]
    return [node for node in calls if "num_batches_tracked" not in str(node.args)]


def _arguments(node: Node, names: dict[str, str]) -> object:
    given = {name: value for name, value in arguments_of(node).items() if name not in _FLAGS}
    return _shared_form(given, names)


def _first(node: Node) -> str:
    first = node.args[0] if node.args else None
    return first.name if is_node(first) else ""


def _numbers(calls: list[_Call], program: Program) -> dict[str, str]:
    return {**_sources(program), **{call.node.name: str(number) for number, call in enumerate(calls, 1)}}


def _result(program: Program, names: dict[str, str]) -> object:
    (output,) = (node for node in program.graph.nodes if node.op == "output")
    return _shared_form(output.args[0], names)


def _shared_form(value: object, names: dict[str, str]) -> object:
    if isinstance(value, dict):
        return {name: _shared_form(each, names) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_shared_form(each, names) for each in value]
    return ("result", names.get(value.name, value.name)) if is_node(value) else str(value)
