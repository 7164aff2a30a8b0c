"""Small networks of PyTorch, written from their papers, with one of everything that these papers introduced."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """LeCun et al. 1998: tanh, average pooling, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, padding=1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(54, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(torch.tanh(self.conv1(x)), 2)
        x = torch.tanh(self.conv2(x))
        x = x.view(x.size(0), -1)
        return self.fc3(torch.tanh(self.fc2(torch.tanh(self.fc1(x)))))


class VGG(nn.Module):
    """Simonyan and Zisserman 2014, with batch norm, and dropout before the linear layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 4), (4, 8)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2, 2)]
        self.features = nn.Sequential(*layers, nn.Dropout2d(0.4))
        self.classifier = nn.Sequential(
            nn.Dropout(0.25), nn.Linear(32, 12), nn.ReLU(True), nn.Dropout(0.5), nn.Linear(12, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class Residual(nn.Module):
    """He et al. 2016: a block with a projection, and one whose shortcut is padded with zeros (option A)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.down = nn.Sequential(nn.Conv2d(4, 8, 1, 2, bias=False), nn.BatchNorm2d(8))
        self.conv3, self.bn3 = nn.Conv2d(8, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12)
        self.relu, self.pool, self.fc = nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(x))
        y += self.down(x)
        y = self.relu(y)
        short = F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.fc(torch.flatten(self.pool(F.relu(self.bn3(self.conv3(y)) + short)), 1))


class Mobile(nn.Module):
    """Sandler et al. 2018: an inverted residual with a depthwise convolution and ReLU6; a dilated one; hard-swish."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU6(inplace=True))
        self.depth = nn.Sequential(nn.Conv2d(6, 6, 3, 1, 2, 2, groups=6, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.project = nn.Sequential(nn.Conv2d(6, 3, 1, bias=False), nn.BatchNorm2d(3))
        self.fc = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.project(self.depth(self.expand(x)))
        return self.fc(F.hardswish(x).mean([2, 3]))


class Attentive(nn.Module):
    """Hu et al. 2018: channels are multiplied by a sigmoid of their means; SiLU and a leaky ReLU; tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding="same", padding_mode="reflect")
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Linear(2, 6)
        self.mix, self.again = nn.Linear(6, 6, bias=False), nn.Linear(6, 6)
        self.again.weight = self.mix.weight
        self.fc = nn.Linear(6, 5)
        self.register_buffer("scale", torch.tensor([0.5, 2.0, 1.0, 1.5, 1.0, 0.75]))

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), 0.1)
        w = F.silu(self.squeeze(F.adaptive_avg_pool2d(x, 1))).flatten(1)
        w = torch.sigmoid(self.excite(w)).unsqueeze(-1).unsqueeze(-1)
        x = (x * w).mean(dim=(2, 3)) * self.scale
        return self.fc(F.gelu(self.again(F.gelu(self.mix(x)))))


class Dense(nn.Module):
    """Huang et al. 2017: each layer reads the results of all earlier ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * i) for i in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(4 + 3 * i, 3, 3, padding=1, bias=False) for i in range(2))
        self.fc = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        F.leaky_relu_(x, 0.2)  # overwrites x
        for norm, conv in zip(self.norms, self.convs, strict=False):
            x = torch.cat([conv(F.relu(norm(x))), x], 1)
        x = F.avg_pool2d(F.relu(self.norms[2](x)), 4)
        return self.fc(F.max_pool2d(x, 2).reshape(x.shape[0], -1))


class Shuffle(nn.Module):
    """Zhang et al. 2018 and Ma et al. 2018: groups of channels, their shuffle, and a split in halves."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.branch = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2), nn.GroupNorm(2, 4), nn.ReLU())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        a, b = x.chunk(2, dim=1)
        x = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = x.size()
        x = x.view(n, 2, c // 2, h, w).permute(0, 2, 1, 3, 4).contiguous().view(n, c, h, w)
        return self.fc(F.adaptive_max_pool2d(x, 1).squeeze(-1).squeeze(-1))


class Patches(nn.Module):
    """Dosovitskiy et al. 2021: patches as tokens with positions, attention, layer norm; a mean over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.position = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 4, 8) * 0.1)
        self.norm1, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 24), nn.Linear(8, 8)
        self.norm2, self.fc1, self.fc2 = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + self.position
        n, t, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, 2, d // 2).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        x = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return self.head(x.mean(1))
