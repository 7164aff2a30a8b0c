"""Defines layers, i.e. named parameters and calls of ops. Layers know neither formats nor training.

A layer is called with tensors. Its name is its path in the network (e.g. "layer1.0.conv1"). Its op has the same name,
and its parameters are named as in a PyTorch state dict (e.g. "layer1.0.conv1.weight").

>>> list(Sequential(Conv2d(1, 4, 3), ReLU(), Flatten(), Linear(64, 2, bias=False)).parameters())
['0.weight', '0.bias', '3.weight']
"""

from mpsim.engine.tensor import Parameter
from mpsim.nn.activations import (
    GELU,
    Dropout,
    Hardsigmoid,
    Hardswish,
    LeakyReLU,
    ReLU,
    ReLU6,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    StochasticDepth,
    Tanh,
)
from mpsim.nn.applying import apply
from mpsim.nn.convolution import Conv1d, Conv2d, ConvTranspose2d
from mpsim.nn.layers import (
    Add,
    Cat,
    ChannelShuffle,
    Embedding,
    Flatten,
    Identity,
    Linear,
    SplitHalf,
)
from mpsim.nn.module import Module, ModuleList, Sequential
from mpsim.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm
from mpsim.nn.pytorch import ImportedNetwork, from_torch, to_torch_state
from mpsim.nn.resizing import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool2d,
    CircularPad2d,
    MaxPool2d,
    PixelShuffle,
    ReflectionPad2d,
    ReplicationPad2d,
    Upsample,
    ZeroPad2d,
)

__all__ = [
    "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "Add", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Cat",
    "ChannelShuffle", "CircularPad2d", "Conv1d", "Conv2d", "ConvTranspose2d", "Dropout", "Embedding", "Flatten",
    "GELU", "GroupNorm", "Hardsigmoid", "Hardswish", "Identity", "ImportedNetwork", "LayerNorm", "LeakyReLU",
    "Linear", "MaxPool2d", "Module", "ModuleList", "Parameter", "PixelShuffle", "RMSNorm", "ReLU", "ReLU6",
    "ReflectionPad2d", "ReplicationPad2d", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "SplitHalf",
    "StochasticDepth", "Tanh", "Upsample", "ZeroPad2d", "apply", "from_torch", "to_torch_state",
]  # fmt: skip
