"""The base class of the reference networks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mpsim import checks, nn
from mpsim.errors import UsageError
from mpsim.initialization import initialize

Shape = tuple[int, ...]


class Network(nn.Module):
    """A network for ``mpsim.trace.trace`` and the trainer, with its name, width, classes and input shape (C, H, W), or
    (T,) and a vocabulary if it reads tokens.

    Raises ValueError for fewer than one class, or for a width that is not in ``widths``, if given.
    """

    def __init__(
        self, name: str, width: float, classes: int, input_shape: Shape, widths: Iterable[float] | None = None
    ) -> None:
        checks.classes("classes", classes)
        checks.width("width", width)
        if widths is not None and width not in widths:
            known = ", ".join(map(str, widths))
            raise UsageError(f"width must be one of {known} for {name}, got {width!r}", "width")
        self.name, self.width, self.classes, self.input_shape = name, float(width), classes, input_shape

    def draw_weights(self, seed: int | None, **rules: Any) -> None:
        """Calls ``mpsim.initialization.initialize`` with ``rules``. Without a seed the weights stay zero."""
        if seed is not None:
            initialize(self, seed, **rules)


def input_of(name: str, image_size: int) -> Shape:
    """Returns (3, size, size). Raises ValueError for a size for which the networks are not defined."""
    if image_size not in (32, 224):
        got = checks.shown(image_size)
        raise UsageError(f"{name} is defined for images of 32 (CIFAR) and 224 (ImageNet) pixels a side, got {got}")
    return 3, image_size, image_size
