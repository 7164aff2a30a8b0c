"""small_cnn: three convolutions with batch norm, for 8 x 8 digits and 32 x 32 colour images."""

from __future__ import annotations

from collections.abc import Sequence

from mpsim import checks, nn, ops
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from mpsim.initialization import normal_fan_in
from reference_models.network import Network, Shape


class SmallCNN(Network):
    """conv3x3-bn-relu-maxpool2, conv3x3-bn-relu twice, average of each quarter of the image, linear.

    The three convolutions have ``channels`` times ``width`` outputs, rounded, and at least 1. ``input_shape`` is
    (C, H, W), where H and W are multiples of 4.
    """

    def __init__(
        self,
        width: float = 1.0,
        classes: int = 10,
        seed: int | None = 0,
        input_shape: Shape = (1, 8, 8),
        channels: Sequence[int] = (16, 32, 64),
    ) -> None:
        super().__init__("small_cnn", width, classes, input_shape)
        _, height, columns = checks.sizes("input_shape", input_shape, "(channels, height, width)")
        if height % 4 or columns % 4:
            raise UsageError(
                f"input_shape must be (channels, height, width), both sides multiples of 4, for small_cnn; "
                f"got {input_shape}",
                "input_shape",
            )
        checks.sizes("channels", channels, "(first, second, third)")
        first, second, third = (max(1, round(count * width)) for count in channels)
        self.conv1 = nn.Conv2d(input_shape[0], first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.relu1 = nn.ReLU()
        self.maxpool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(second, third, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(third)
        self.relu3 = nn.ReLU()
        self.avg_pool = nn.AvgPool2d((input_shape[1] // 4, input_shape[2] // 4))
        self.linear = nn.Linear(4 * third, classes)
        self.draw_weights(seed, convolution=normal_fan_in)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.maxpool1(self.relu1(self.bn1(self.conv1(x))))  # (N, C, H, W) -> (N, 16, H/2, W/2)
        x = self.relu2(self.bn2(self.conv2(x)))  # -> (N, 32, H/2, W/2)
        x = self.relu3(self.bn3(self.conv3(x)))  # -> (N, 64, H/2, W/2)
        return self.linear(ops.flatten(self.avg_pool(x)))  # -> (N, 64, 2, 2) -> (N, 256) -> (N, classes)
