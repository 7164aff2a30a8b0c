"""Runs the examples of all public names in changed floating-point environments; test_environment.py runs this file.

Every public function and method starts in the changed environment when an example calls it. The example around it runs
in the default one. A line is printed for each example that fails, for each call whose result has other bits than in
the default environment, and for each call that leaves another environment than it found.
"""

from __future__ import annotations

import contextlib
import doctest
import hashlib
import inspect
import io
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import ModuleType
from typing import Any

import hypothesis
import numpy as np
from environments import STATES, bits
from public_names import public
from test_doctests import FLAGS, with_examples

from mpsim.process.environment import enter_float_environment, leave_float_environment
from mpsim.process.registers import DEFAULT
from website import api


class Calls:
    """The calls from examples: their names, the SHA-256 of results that are plain data, and what they left behind."""

    def __init__(self) -> None:
        self.changed, self.inside = 0, False
        self.results: list[tuple[str, bytes]] = []
        self.left: set[str] = set()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Makes a function start in the changed environment, unless another public function called it."""

        @wraps(function)
        def hostile(*arguments: object, **options: object) -> object:
            if self.inside:
                return function(*arguments, **options)
            self.inside = True
            before = enter_float_environment()
            leave_float_environment(DEFAULT | self.changed)
            try:
                result = function(*arguments, **options)
            finally:
                left = enter_float_environment() & ~0x3F
                leave_float_environment(before)
                self.inside = False
                if left != DEFAULT | self.changed:
                    self.left.add(f"{name} leaves {left:#x}")
            self.results.append((name, hashlib.sha256(bits(result)).digest() if is_plain(result) else b""))
            return result

        return hostile


def is_plain(value: object) -> bool:
    """Whether a value consists of numbers, texts and arrays of numbers."""
    if isinstance(value, dict):
        return all(is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, tuple | list):
        return all(map(is_plain, value))
    if isinstance(value, np.ndarray | np.generic):
        return not value.dtype.hasobject
    return isinstance(value, bool | int | float | str | bytes | None)


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, and what makes an object."""
    for name, value in vars(kind).items():
        if not name.startswith("_") or name in ("__call__", "__init__"):
            yield name, value


def install(calls: Calls) -> None:
    """Wraps the public functions wherever a module has them, and the methods of public classes."""
    wrapped = {}
    for key, (name, value) in public().items():
        if inspect.isfunction(value):
            wrapped[key] = calls.wrap(name, value)
        elif inspect.isclass(value) and value.__module__.startswith("mpsim") and not issubclass(value, BaseException):
            for method, found in methods(value):
                whole = f"{name}.{method}"
                if isinstance(found, property) and found.fget is not None:
                    setattr(
                        value, method, property(calls.wrap(whole, found.fget), found.fset, found.fdel, found.__doc__)
                    )
                elif isinstance(found, classmethod | staticmethod):
                    setattr(value, method, type(found)(calls.wrap(whole, found.__func__)))
                elif inspect.isfunction(found):
                    setattr(value, method, calls.wrap(whole, found))
    for module in [each for name, each in sys.modules.items() if name.startswith(("mpsim", "reference_models"))]:
        for name, value in list(vars(module).items()):
            if id(value) in wrapped and not isinstance(value, ModuleType):
                setattr(module, name, wrapped[id(value)])


def homes() -> list[str]:
    """The modules with examples of public names."""
    named = {*api.modules(), "mpsim", *(value.__module__ for _, value in public().values())}
    return [name for name in with_examples() if name in named]


def run(calls: Calls, modules: list[str], changed: int) -> tuple[dict[str, list[tuple[str, bytes]]], list[str]]:
    """Runs all examples with these bits of the register changed. Returns the calls by module, and the failures."""
    calls.changed, found, failures = changed, {}, []
    for name in modules:
        calls.results = found[name] = []
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            failed = doctest.testmod(sys.modules[name], optionflags=FLAGS).failed
        failures += [f"an example of {name} fails:\n{printed.getvalue()}"] if failed else []
    return found, failures


def main() -> None:
    hypothesis.settings.register_profile("same", derandomize=True, database=None)
    hypothesis.settings.load_profile("same")
    calls, modules = Calls(), homes()
    install(calls)
    run(calls, modules, 0)  # what is remembered is remembered from here on
    wanted, failures = run(calls, modules, 0)
    print(
        sum(map(len, wanted.values())), "calls of", len({name for part in wanted.values() for name, _ in part}), "names"
    )
    print(*failures, sep="\n", end="")
    for state, changed in STATES.items():
        calls.left.clear()
        found, failures = run(calls, modules, changed)
        pairs = [pair for module in modules for pair in zip(found[module], wanted[module], strict=False)]
        wrong = {name for (name, result), (_, right) in pairs if result != right}
        counts = [f"{module} makes other calls" for module in modules if len(found[module]) != len(wanted[module])]
        for line in [*failures, *(f"{name} has other bits" for name in sorted(wrong)), *sorted(calls.left), *counts]:
            print(f"{state}: {line}")


if __name__ == "__main__":
    main()
