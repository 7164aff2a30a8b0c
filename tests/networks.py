"""A small network that has one of everything: every op, fan-out, both halves of a split, a shuffle."""

from __future__ import annotations

import numpy as np

from mpsim import nn, ops
from mpsim.engine.tensor import Tensor
from mpsim.initialization import initialize


class Branching(nn.Module):
    name, width, classes, input_shape = "branching", 1.0, 3, (3, 8, 8)

    def __init__(self, seed: int = 0) -> None:
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu1 = nn.ReLU()
        self.pool1 = nn.MaxPool2d(3, stride=2, padding=1)
        self.split = nn.SplitHalf()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(2))
        self.cat = nn.Cat()
        self.shuffle = nn.ChannelShuffle(2)
        self.conv2 = nn.Conv2d(4, 4, 1, groups=2, bias=False)
        self.add = nn.Add()
        self.relu2 = nn.ReLU()
        self.avgpool = nn.AvgPool2d()
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4, self.classes)
        initialize(self, seed)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.pool1(self.relu1(self.bn1(self.conv1(x))))
        first, second = self.split(x)
        y = self.shuffle(self.cat(first, self.branch(second)))
        x = self.relu2(self.add(self.conv2(y), x))  # x, of pool1, is read by both halves of the split and by add
        return self.linear(self.flatten(self.avgpool(x)))


def batch(images: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(images (N, 3, 8, 8) float32, labels (N,)) for Branching."""
    random = np.random.default_rng(seed)
    return random.standard_normal((images, 3, 8, 8)).astype(np.float32), random.integers(0, 3, images)


def loss_of(tape: object, model: nn.Module, images: np.ndarray, labels: np.ndarray) -> Tensor:
    """One forward pass."""
    return ops.cross_entropy(model(tape.input(images)), labels)  # type: ignore[attr-defined]
