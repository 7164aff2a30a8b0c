"""Handing a store's epilogue to the kernel that makes an op's output or a gradient, unseen by the op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Finishing:
    """``kernels``, of which the one among ``names`` that is called gives its result finished by ``epilogue``.

    ``calls`` counts how often that happened: an epilogue is for one call.
    """

    def __init__(self, kernels: Any, names: tuple[str, ...], epilogue: Any) -> None:
        self._kernels, self._epilogue, self.calls = kernels, epilogue, 0
        for name in names:
            setattr(self, name, self._finished(getattr(kernels, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernels, name)

    def _finished(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            self.calls += 1
            return kernel(*arguments, epilogue=self._epilogue, **keywords)

        return call

    def check(self, kind: str) -> None:
        """RuntimeError if not exactly one of the kernels was called: the primitive ``kind`` names the wrong ones."""
        if self.calls != 1:
            raise RuntimeError(f"{kind}: one call of a kernel that takes the epilogue was promised, {self.calls} came")
