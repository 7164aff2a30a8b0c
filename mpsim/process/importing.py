"""Imports mpsim's modules in the default floating-point environment.

Python computes 2.0**-52 when it compiles a module, and reads 0.1 then. In a thread that rounds up or flushes subnormal
numbers it would compute other constants, and store them with the compiled module for later processes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType

from mpsim.process.environment import default_float_environment

PACKAGES = ("mpsim.", "reference_models.")


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with default_float_environment():
            super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not name.startswith(PACKAGES):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


sys.meta_path.insert(0, _Finder())
