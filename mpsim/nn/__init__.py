"""Layers: named parameters and a few calls of ops. No precision, no training.

A layer is called with tensors; its name is its place in the network ("layer1.0.conv1"), which names its op and
its parameters ("layer1.0.conv1.weight") as a PyTorch state dict names them.

>>> list(Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 2, bias=False)).parameters())
['0.weight', '0.bias', '3.weight']
"""

from mpsim.nn.layers import (
    Add,
    AvgPool2d,
    BatchNorm2d,
    Cat,
    ChannelShuffle,
    Conv2d,
    Flatten,
    Identity,
    Linear,
    MaxPool2d,
    ReLU,
    SplitHalf,
)
from mpsim.nn.module import Module, ModuleList, Sequential

__all__ = [
    "Add", "AvgPool2d", "BatchNorm2d", "Cat", "ChannelShuffle", "Conv2d", "Flatten", "Identity", "Linear", "MaxPool2d",
    "Module", "ModuleList", "ReLU", "Sequential", "SplitHalf",
]  # fmt: skip
