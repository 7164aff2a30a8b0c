"""ResNet-18 (He et al. 2016): the paper's form for CIFAR, and the form for ImageNet."""

from __future__ import annotations

from mpsim import nn, ops
from mpsim.engine.tensor import Tensor
from mpsim.initialization import normal_fan_out
from reference_models.network import Network, input_of

#: width -> channels of the four stages.
STAGES = {1.0: (64, 128, 256, 512), 0.5: (32, 64, 128, 256), 0.25: (16, 32, 64, 128), 0.1: (8, 12, 24, 52)}


class BasicBlock(nn.Module):
    """conv3x3(stride)-bn-relu-conv3x3-bn, plus the input (through conv1x1(stride)-bn where shapes differ), relu."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.add = nn.Add()
        self.relu3 = nn.ReLU()

    def __call__(self, x: Tensor) -> Tensor:
        y = self.relu1(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return self.relu3(self.add(y, self.shortcut(x)))


class ResNet18(Network):
    """conv-bn-relu, four stages of two basic blocks with strides 1, 2, 2, 2, average pool, linear.

    ``image_size`` 32: 3x3 stem, average pool 4x4. 224: 7x7 stem of stride 2, max pool 3x3 of stride 2, global
    average pool. Convolutions without bias.
    """

    def __init__(self, width: float = 1.0, classes: int = 10, seed: int | None = 0, image_size: int = 32) -> None:
        super().__init__("resnet18", width, classes, input_of("resnet18", image_size), STAGES)
        stages = STAGES[width]
        cifar = image_size == 32
        stem = stages[0]
        self.conv1 = nn.Conv2d(3, stem, 3 if cifar else 7, 1 if cifar else 2, padding=1 if cifar else 3, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu1 = nn.ReLU()
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, padding=1)
        inputs = (stem, *stages[:-1])
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(BasicBlock(before, after, stride), BasicBlock(after, after, 1))
            for before, after, stride in zip(inputs, stages, (1, 2, 2, 2), strict=True)
        )
        self.avgpool2d = nn.AvgPool2d(4 if cifar else None)
        self.linear = nn.Linear(stages[-1], classes)
        self.draw_weights(seed, convolution=normal_fan_out)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu1(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.linear(ops.flatten(self.avgpool2d(x)))
