"""The network of the steps in the verdict matrix."""

from __future__ import annotations

from typing import Any

from mpsim import nn, ops


class Small(nn.Module):
    """A convolution, a ReLU, a linear layer."""

    name = "small"

    def __init__(self, classes: int) -> None:
        self.conv, self.linear = nn.Conv2d(1, 3, 3), nn.Linear(108, classes)

    def __call__(self, x: Any) -> Any:
        return self.linear(ops.flatten(ops.relu(self.conv(x))))


def build(classes: int = 10, input_shape: tuple[int, int, int] = (1, 8, 8)) -> Small:
    return Small(classes)
