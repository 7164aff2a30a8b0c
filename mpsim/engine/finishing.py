"""Handing a store's epilogue to the kernel that makes an op's output or a gradient, unseen by the op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mpsim.kernels import Kernels


class _Finished:
    """A kernel that is always given one epilogue, and how often it was called."""

    __slots__ = ("calls", "epilogue", "kernel")

    def __init__(self, kernel: Callable[..., Any], epilogue: Any) -> None:
        self.kernel, self.epilogue, self.calls = kernel, epilogue, 0

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        self.calls += 1
        return self.kernel(*arguments, epilogue=self.epilogue, **keywords)


class Finishing:
    """``kernels``, of which the one among ``names`` that is called gives its result finished by ``epilogue``."""

    def __init__(self, kernels: Kernels, names: tuple[str, ...], epilogue: Any) -> None:
        self._kernels = kernels
        self._finished = {name: _Finished(getattr(kernels, name), epilogue) for name in names}

    def __getattr__(self, name: str) -> Any:
        return self._finished.get(name) or getattr(self._kernels, name)

    def check(self, kind: str) -> None:
        """RuntimeError if not exactly one of the kernels was called: the primitive ``kind`` names the wrong ones."""
        calls = sum(kernel.calls for kernel in self._finished.values())
        if calls != 1:
            raise RuntimeError(f"{kind}: one call of {' or '.join(self._finished)} was promised, {calls} came")
