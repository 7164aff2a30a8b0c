"""MobileNet-v2 (Sandler et al. 2018) for 32 x 32 images, as in the paper: with relu instead of relu6."""

from __future__ import annotations

from mpsim import nn, ops
from mpsim.engine.tensor import Tensor
from mpsim.initialization import normal_fan_out, normal_with, zeros
from reference_models.network import Network

#: (expansion, channels, blocks, stride of the first block) at width 1.
BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
STEM, LAST = 32, 1280
WIDTHS = (1.0, 0.5, 0.25, 0.1)


def scaled(channels: int, width: float) -> int:
    """Rounds channels * width to a multiple of d = 4 (width <= 0.25) or 8, at least d, and not below 0.9 of it.

    >>> [scaled(channels, 0.1) for channels in (32, 96, 320)]
    [4, 12, 32]
    """
    divisor, wish = 4 if width <= 0.25 else 8, channels * width
    rounded = max(divisor, int(wish + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * wish else rounded


class Block(nn.Module):
    """conv1x1 expand-bn-relu, depthwise 3x3-bn-relu, conv1x1-bn; with stride 1 plus the input (or conv1x1-bn of it)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        inner = expansion * inputs
        self.stride = stride
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride == 1 and inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.add = nn.Add()

    def __call__(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.relu2(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.add(y, self.shortcut(x)) if self.stride == 1 else y


class MobileNetV2(Network):
    """conv3x3-bn-relu, 17 blocks, conv1x1-bn-relu, average pool 4x4, linear."""

    def __init__(self, width: float = 1.0, classes: int = 10, seed: int | None = 0) -> None:
        super().__init__("mobilenet_v2", width, classes, (3, 32, 32), WIDTHS)
        stem, last = scaled(STEM, width), scaled(LAST, max(1.0, width))
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu1 = nn.ReLU()
        blocks, inputs = [], stem
        for expansion, channels, count, first_stride in BLOCKS:
            outputs = scaled(channels, width)
            for position in range(count):
                blocks.append(Block(inputs, outputs, expansion, first_stride if position == 0 else 1))
                inputs = outputs
        self.layers = nn.Sequential(*blocks)
        self.conv2 = nn.Conv2d(inputs, last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.relu2 = nn.ReLU()
        self.avg_pool = nn.AvgPool2d(4)
        self.linear = nn.Linear(last, classes)
        self.draw_weights(seed, convolution=normal_fan_out, linear=normal_with(0.01), bias=zeros)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.layers(self.relu1(self.bn1(self.conv1(x))))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.linear(ops.flatten(self.avg_pool(x)))
