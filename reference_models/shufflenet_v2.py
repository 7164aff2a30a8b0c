"""ShuffleNet-v2 (Ma et al. 2018): the paper's form for CIFAR, and the form for ImageNet."""

from __future__ import annotations

from mpsim import nn, ops
from mpsim.engine.tensor import Tensor
from reference_models.network import Network, input_of

#: width -> channels of the three stages. The stem always has 24, and the last convolution 1024.
STAGES = {1.0: (116, 232, 464), 0.5: (56, 112, 224), 0.25: (28, 56, 112), 0.1: (12, 24, 48)}
STEM, LAST = 24, 1024
#: Basic blocks after the down block of each stage.
BLOCKS = (3, 7, 3)


class BasicBlock(nn.Module):
    """Leaves the first half of the channels. Second half: conv1x1-bn-relu, depthwise 3x3-bn, conv1x1-bn-relu."""

    def __init__(self, channels: int) -> None:
        half = channels // 2
        self.split = nn.SplitHalf()
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()
        self.cat = nn.Cat()
        self.shuffle = nn.ChannelShuffle(2)

    def __call__(self, x: Tensor) -> Tensor:
        passing, y = self.split(x)
        y = self.relu1(self.bn1(self.conv1(y)))
        y = self.bn2(self.conv2(y))
        y = self.relu2(self.bn3(self.conv3(y)))
        return self.shuffle(self.cat(passing, y))


class DownBlock(nn.Module):
    """Both branches halve the image. Left: depthwise 3x3(2)-bn, conv1x1-bn-relu. Right: as in a basic block."""

    def __init__(self, inputs: int, outputs: int) -> None:
        half = outputs // 2
        self.conv1 = nn.Conv2d(inputs, inputs, 3, 2, padding=1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU()
        self.conv3 = nn.Conv2d(inputs, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()
        self.conv4 = nn.Conv2d(half, half, 3, 2, padding=1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu3 = nn.ReLU()
        self.cat = nn.Cat()
        self.shuffle = nn.ChannelShuffle(2)

    def __call__(self, x: Tensor) -> Tensor:
        left = self.bn1(self.conv1(x))
        left = self.relu1(self.bn2(self.conv2(left)))
        right = self.relu2(self.bn3(self.conv3(x)))
        right = self.bn4(self.conv4(right))
        right = self.relu3(self.bn5(self.conv5(right)))
        return self.shuffle(self.cat(left, right))


class ShuffleNetV2(Network):
    """conv3x3-bn-relu, three stages of a down block and 3, 7, 3 basic blocks, conv1x1-bn-relu, average pool, linear.

    ``image_size`` 32: stem of stride 1, average pool 4x4. 224: stem of stride 2, max pool 3x3 of stride 2, global
    average pool. Convolutions without bias.
    """

    def __init__(self, width: float = 1.0, classes: int = 10, seed: int | None = 0, image_size: int = 32) -> None:
        super().__init__("shufflenet_v2", width, classes, input_of("shufflenet_v2", image_size), STAGES)
        stages = STAGES[width]
        cifar = image_size == 32
        self.conv1 = nn.Conv2d(3, STEM, 3, 1 if cifar else 2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu1 = nn.ReLU()
        self.maxpool = nn.Identity() if cifar else nn.MaxPool2d(3, 2, padding=1)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(DownBlock(before, after), *(BasicBlock(after) for _ in range(count)))
            for before, after, count in zip((STEM, *stages[:-1]), stages, BLOCKS, strict=True)
        )
        self.conv2 = nn.Conv2d(stages[-1], LAST, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(LAST)
        self.relu2 = nn.ReLU()
        self.avg_pool = nn.AvgPool2d(4 if cifar else None)
        self.linear = nn.Linear(LAST, classes)
        self.draw_weights(seed)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu1(self.bn1(self.conv1(x))))
        x = self.layer3(self.layer2(self.layer1(x)))
        x = self.relu2(self.bn2(self.conv2(x)))
        return self.linear(ops.flatten(self.avg_pool(x)))
