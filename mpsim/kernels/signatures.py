"""Compares a backend's functions with the contract."""

from __future__ import annotations

import inspect

from mpsim.kernels.contract import Kernel


def wrong_signature(kernel: Kernel, function: object) -> str:
    """Describes how a backend's function differs from the contract, or returns ""."""
    if not callable(function):
        return f"there is no function {kernel.name}"
    wanted = dict(kernel.signature.parameters)
    try:
        found = dict(inspect.signature(function).parameters)
    except (ValueError, TypeError):  # a type or function in C
        return f"the arguments of {kernel.name} cannot be inspected"
    for name in ("threads", *(["accumulator"] if kernel.contraction else [])):
        if name not in found:
            return f"{kernel.name} has no argument {name}"
        del found[name]
    if list(found) != list(wanted):
        return f"{kernel.name} takes ({', '.join(found)}) instead of ({', '.join(wanted)})"
    for name, parameter in wanted.items():
        positional = found[name].kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if positional != (parameter.kind is parameter.POSITIONAL_OR_KEYWORD) and parameter.kind is not (
            parameter.KEYWORD_ONLY
        ):
            return f"{kernel.name} has {name} as a different kind of argument ({found[name].kind.description})"
        if parameter.default is not parameter.empty and found[name].default != parameter.default:
            return f"{kernel.name} has a default of {name} other than {parameter.default!r}"
    return ""
