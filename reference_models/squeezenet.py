"""SqueezeNet (Iandola et al. 2016) with batch norm, for 32 x 32 images, as in the paper."""

from __future__ import annotations

from mpsim import nn, ops
from mpsim.engine.tensor import Tensor
from mpsim.initialization import normal_fan_in, uniform_fan_in
from reference_models.network import Network

#: width -> (inputs, squeeze, expand) of fire2 .. fire9.
FIRES = {
    1.0: (
        (96, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128),
        (256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256),
    ),
    0.5: (
        (48, 8, 32), (64, 8, 32), (64, 16, 64), (128, 16, 64),
        (128, 24, 96), (192, 24, 96), (192, 32, 128), (256, 32, 256),
    ),
    0.25: (
        (24, 4, 16), (32, 4, 16), (32, 8, 32), (64, 8, 32),
        (64, 12, 48), (96, 12, 48), (96, 16, 64), (128, 16, 256),
    ),
    0.1: (
        (12, 4, 8), (16, 4, 8), (16, 4, 12), (24, 4, 12),
        (24, 8, 20), (40, 8, 20), (40, 8, 24), (48, 8, 256),
    ),
}  # fmt: skip


class Fire(nn.Module):
    """conv1x1 to ``squeeze``-bn-relu, then conv1x1-bn and conv3x3-bn to ``expand`` each, joined, relu."""

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        self.conv1 = nn.Conv2d(inputs, squeeze, 1)
        self.bn1 = nn.BatchNorm2d(squeeze)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(squeeze, expand, 1)
        self.bn2 = nn.BatchNorm2d(expand)
        self.conv3 = nn.Conv2d(squeeze, expand, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(expand)
        self.cat = nn.Cat()
        self.relu2 = nn.ReLU()

    def __call__(self, x: Tensor) -> Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))
        narrow = self.bn2(self.conv2(x))
        wide = self.bn3(self.conv3(x))
        return self.relu2(self.cat(narrow, wide))  # (N, 2 * expand, H, W)


class SqueezeNet(Network):
    """Stem, fire2-4, fire5-8, fire9 with max pools between, conv1x1 to the classes, average pool 4x4."""

    def __init__(self, width: float = 1.0, classes: int = 10, seed: int | None = 0) -> None:
        super().__init__("squeezenet", width, classes, (3, 32, 32), FIRES)
        fires = FIRES[width]
        stem = fires[0][0]
        self.conv1 = nn.Conv2d(3, stem, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool1 = nn.MaxPool2d(2)
        self.fire2, self.fire3, self.fire4 = (Fire(*sizes) for sizes in fires[:3])
        self.maxpool2 = nn.MaxPool2d(2)
        self.fire5, self.fire6, self.fire7, self.fire8 = (Fire(*sizes) for sizes in fires[3:7])
        self.maxpool3 = nn.MaxPool2d(2)
        self.fire9 = Fire(*fires[7])
        self.conv2 = nn.Conv2d(2 * fires[7][2], classes, 1)
        self.avg_pool = nn.AvgPool2d(4)
        self.draw_weights(seed, convolution=normal_fan_in, bias=uniform_fan_in)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.maxpool1(self.relu(self.bn1(self.conv1(x))))
        x = self.maxpool2(self.fire4(self.fire3(self.fire2(x))))
        x = self.maxpool3(self.fire8(self.fire7(self.fire6(self.fire5(x)))))
        return ops.flatten(self.avg_pool(self.conv2(self.fire9(x))))  # (N, classes, 1, 1) -> (N, classes)
