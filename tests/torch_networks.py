"""The networks of two collections for CIFAR (NETWORKS), written from their papers at small widths and depths.

Each row has one of everything that the paper introduced, and the functions that the collection's file calls. They take
images (3, 8, 8) and return five logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.torch_blocks import (
    ChannelShuffle,
    DropPath,
    Excite,
    Head,
    Join,
    Kind,
    Sum,
    Swish,
    bn_conv,
    conv,
    conv_bn,
)  # fmt: skip


class LeNet(nn.Module):
    """LeCun et al. 1998: convolutions, pooling, three linear layers."""

    def __init__(self, act: Callable[[Tensor], Tensor] = F.relu, pool: Callable[..., Tensor] = F.max_pool2d) -> None:
        super().__init__()
        self.act, self.pool = act, pool
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, padding=1)
        self.fc1, self.fc2, self.fc3 = nn.Linear(54, 12), nn.Linear(12, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.conv1(x)), 2)
        x = self.act(self.conv2(x))
        x = x.view(x.size(0), -1)
        return self.fc3(self.act(self.fc2(self.act(self.fc1(x)))))


class VGG(nn.Module):
    """Simonyan and Zisserman 2014, with batch norm, and dropout before the linear layers."""

    def __init__(self, dropout: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 4), (4, 8)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2, 2)]
        self.features = nn.Sequential(*layers, nn.Dropout2d(0.4) if dropout else nn.AvgPool2d(1, 1))
        drops = [nn.Dropout(0.25), nn.Dropout(0.5)] if dropout else [nn.Identity(), nn.Identity()]
        self.classifier = nn.Sequential(drops[0], nn.Linear(32, 12), nn.ReLU(True), drops[1], nn.Linear(12, 5))

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


class Attentive(nn.Module):
    """Channels times a sigmoid of their means; SiLU and a leaky ReLU; tied weights; a buffer."""

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


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """The identity, or a projection where sizes differ."""
    return nn.Identity() if (inputs, stride) == (outputs, 1) else conv_bn(inputs, outputs, 1, stride, act=None)


def basic(inputs: int, outputs: int, stride: int = 1, gate: bool = False, drop: nn.Module | None = None) -> Sum:
    """He et al. 2016; with a gate, Hu et al. 2018."""
    body = nn.Sequential(conv_bn(inputs, outputs, 3, stride), conv_bn(outputs, outputs, 3, act=None))
    body.extend([Excite(outputs, 2)] if gate else [])
    return Sum(body, shortcut(inputs, outputs, stride), drop=drop)


def bottleneck(inputs: int, inner: int, outputs: int, stride: int = 1, groups: int = 1, gate: bool = False) -> Sum:
    """He et al. 2016; with groups, Xie et al. 2017; with a gate after them, Radosavovic et al. 2020."""
    body = nn.Sequential(conv_bn(inputs, inner), conv_bn(inner, inner, 3, stride, groups))
    body.extend([Excite(inner, 2)] if gate else [])
    return Sum(body.append(conv_bn(inner, outputs, act=None)), shortcut(inputs, outputs, stride))


class PreAct(nn.Module):
    """He et al. 2016b: batch norm and ReLU come first, and the projection of the shortcut reads their result."""

    def __init__(self, inputs: int, outputs: int, stride: int, gate: bool = False, narrow: bool = False) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        kernel = 1 if narrow else 3
        self.conv1, self.rest = conv(inputs, outputs, kernel, stride), bn_conv(outputs, outputs, 3)
        if (inputs, stride) != (outputs, 1):
            self.shortcut = conv(inputs, outputs, 1, stride)
        self.fc1, self.fc2 = (nn.Conv2d(outputs, 2, 1), nn.Conv2d(2, outputs, 1)) if gate else (None, None)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(x))
        short = self.shortcut(y) if hasattr(self, "shortcut") else x
        y = self.rest(self.conv1(y))
        if self.fc1 is not None and self.fc2 is not None:
            w = F.avg_pool2d(y, y.size(2))
            y = y * F.sigmoid(self.fc2(F.relu(self.fc1(w))))
        y += short
        return y


class DenseLayer(nn.Module):
    """Huang et al. 2017: a layer reads the results of all earlier ones."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(bn_conv(inputs, 2 * growth), bn_conv(2 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.body(x), x], 1)


class DualPath(nn.Module):
    """Chen et al. 2017: some channels are added as in a residual network, others joined as in a dense one."""

    def __init__(self, inputs: int, plus: int, dense: int, stride: int) -> None:
        super().__init__()
        self.plus = plus
        self.body = nn.Sequential(
            conv_bn(inputs, 4), conv_bn(4, 4, 3, stride, groups=2), conv_bn(4, plus + dense, act=None)
        )
        self.shortcut = conv_bn(inputs, plus + dense, 1, stride, act=None) if inputs != plus + 2 * dense else None

    def forward(self, x: Tensor) -> Tensor:
        y, d = self.body(x), self.plus
        x = x if self.shortcut is None else self.shortcut(x)
        return F.relu(torch.cat([x[:, :d, :, :] + y[:, :d, :, :], x[:, d:, :, :], y[:, d:, :, :]], 1))


def separable(inputs: int, outputs: int, stride: int = 1, act: Kind = nn.ReLU) -> nn.Sequential:
    """Howard et al. 2017: a depthwise convolution, then one of single elements."""
    return nn.Sequential(conv_bn(inputs, inputs, 3, stride, groups=inputs, act=act), conv_bn(inputs, outputs, act=act))


def inverted(inputs: int, inner: int, outputs: int, stride: int = 1, act: Kind = nn.ReLU6) -> nn.Module:
    """Sandler et al. 2018: narrow ends without activation, a wide depthwise convolution between them."""
    body = nn.Sequential(
        conv_bn(inputs, inner, act=act), conv_bn(inner, inner, 3, stride, groups=inner, act=act),
        conv_bn(inner, outputs, act=None),
    )  # fmt: skip
    return Sum(body, act=None) if (inputs, stride) == (outputs, 1) else body


class Grouped(nn.Module):
    """Zhang et al. 2018: groups of channels, shuffled; with a stride the shortcut is pooled and joined."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        new = outputs - (inputs if stride == 2 else 0)
        self.body = nn.Sequential(
            conv_bn(inputs, 4, groups=2), ChannelShuffle(2), conv_bn(4, 4, 3, stride, groups=4, act=None),
            conv_bn(4, new, groups=2, act=None),
        )  # fmt: skip
        self.pool = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return F.relu(torch.cat([y, self.pool(x)], 1)) if self.stride == 2 else F.relu(torch.add(x, y))


class Halves(nn.Module):
    """Ma et al. 2018: half of the channels pass unchanged; with a stride both halves read all of them."""

    def __init__(self, channels: int, stride: int, ratio: float | None = None) -> None:
        super().__init__()
        self.stride, self.ratio, half = stride, ratio, channels // 2
        inputs = half if stride == 1 else channels
        self.body = nn.Sequential(
            conv_bn(inputs, half), conv_bn(half, half, 3, stride, groups=half, act=None), conv_bn(half, half)
        )
        self.short = nn.Sequential(conv_bn(inputs, inputs, 3, stride, inputs, act=None), conv_bn(inputs, half))
        self.shuffle = ChannelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return self.shuffle(torch.cat([self.short(x), self.body(x)], 1))
        if self.ratio is None:
            a, b = torch.split(x, x.size(1) // 2, dim=1)
        else:
            c = int(x.size(1) * self.ratio)
            a, b = x[:, :c, :, :], x[:, c:, :, :]
        return self.shuffle(torch.cat([a, self.body(b)], dim=1))


class Efficient(nn.Module):
    """Tan and Le 2019: inverted residuals with gates and swish; branches and features are dropped in training."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 4, 3, act=Swish)
        self.expand, self.gate = separable(4, 8, act=Swish), Excite(8, 2, Swish)
        self.project, self.drop = conv_bn(8, 4, act=None), DropPath(0.5)
        self.dropout, self.linear = nn.Dropout(0.25), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.project(self.gate(self.expand(x)))
        if self.training and self.drop.share > 0:
            y = self.drop(y)
        x = F.adaptive_avg_pool2d(y + x, 1)
        x = x.view(x.size(0), -1)
        if self.training:
            x = self.dropout(x)
        return self.linear(x)


class Progressive(nn.Module):
    """Liu et al. 2018: the cells that their search found, of separable convolutions, joined and pooled."""

    def __init__(self, inputs: int, outputs: int, stride: int, wide: bool = False) -> None:
        super().__init__()
        self.stride, self.wide = stride, wide
        sizes = (7, 3, 5) if wide else (7,)
        self.separable = nn.ModuleList(self._separable(inputs, outputs, size, stride) for size in sizes)
        self.project = conv_bn(inputs, outputs, act=None) if stride == 2 else None
        self.join = conv_bn(2 * outputs, outputs) if wide else None

    @staticmethod
    def _separable(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
        groups = 1 if outputs % inputs else inputs
        return conv_bn(inputs, outputs, size, stride, groups=groups, act=None)

    def forward(self, x: Tensor) -> Tensor:
        y = [layer(x) for layer in self.separable]
        pool = F.max_pool2d(x, kernel_size=3, stride=self.stride, padding=1)
        pool = pool if self.project is None else self.project(pool)
        if self.join is None:
            return F.relu(y[0] + pool)
        return self.join(torch.cat([F.relu(y[0] + y[1]), F.relu(pool + y[2])], 1))


class Tree(nn.Module):
    """Yu et al. 2018: blocks are the leaves of a tree whose roots join the results of all their branches."""

    def __init__(self, inputs: int, outputs: int, level: int, stride: int = 1, simple: bool = False) -> None:
        super().__init__()
        self.simple, self.level = simple, level
        if level == 1:
            self.left, self.right = basic(inputs, outputs, stride), basic(outputs, outputs)
        else:
            self.left = Tree(inputs, outputs, level - 1, stride, simple)
            self.right = Tree(outputs, outputs, level - 1, 1, simple)
        self.first = None if simple or level == 1 else basic(inputs, outputs, stride)
        self.root = conv_bn((2 if self.first is None else 3) * outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        kept = [] if self.first is None else [self.first(x)]
        y = self.left(x)
        return self.root(torch.cat([*kept, y, self.right(y)], 1))


class Gated(nn.Module):
    """Wang et al. 2017: the trunk's result times 1 + a mask, which a branch of smaller images computes."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.trunk = basic(channels, channels)
        self.down = nn.ModuleList(basic(channels, channels) for _ in range(depth))
        self.up = nn.ModuleList(basic(channels, channels) for _ in range(depth))
        self.mask = nn.Sequential(bn_conv(channels, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        mask, sizes, skips = x, [], []
        for down in self.down:
            sizes.append((mask.size(2), mask.size(3)))
            mask = down(F.max_pool2d(mask, kernel_size=3, stride=2, padding=1))
            skips.append(mask)
        for i, up in enumerate(self.up):
            mask = up(mask if i == 0 else mask + skips[-1 - i])
            mask = F.interpolate(mask, size=sizes[-1 - i])
        return (1 + self.mask(mask)) * self.trunk(x)


class Fit(nn.Module):
    """Zoph et al. 2018: an earlier result is shrunk without loss: two poolings, one of them shifted by an element."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.p1 = nn.Sequential(nn.AvgPool2d(1, stride=2), nn.Conv2d(inputs, outputs // 2, 1))
        shift = nn.ConstantPad2d((0, 1, 0, 1), 0), nn.ConstantPad2d((-1, 0, -1, 0), 0)
        self.p2 = nn.Sequential(*shift, nn.AvgPool2d(1, stride=2), nn.Conv2d(inputs, outputs // 2, 1))
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.bn(torch.cat([self.p1(x), self.p2(x)], 1))


class NAS(nn.Module):
    """Zoph et al. 2018: a cell that shrinks the image, then a cell of five pairs that reads the last two results."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fit = conv_bn(3, 4, 3, act=None), Fit(4, 4)
        self.shrink = nn.ModuleList((self._separable(2), self._separable(2)))
        self.reduce = nn.Sequential(nn.ReLU(), conv_bn(8, 4, act=None))
        self.cell = nn.ModuleList(self._separable(1) for _ in range(3))
        self.pool, self.head = nn.AvgPool2d(3, stride=1, padding=1), Head(24)

    @staticmethod
    def _separable(stride: int) -> nn.Sequential:
        return nn.Sequential(nn.ReLU(), conv(4, 4, 3, stride, groups=4), conv(4, 4), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        first = [self.shrink[0](x) + F.max_pool2d(x, 3, 2, 1), self.shrink[1](x) + F.avg_pool2d(x, 3, 2, 1)]
        before, x = self.fit(x), self.reduce(torch.cat(first, 1))
        found = [before, self.cell[0](x) + x, self.cell[1](before) + self.cell[2](x), self.pool(x) + before]
        found += [self.pool(before) + self.pool(before), F.relu(x)]
        return self.head(torch.cat(found, 1))


class TwoStreams(nn.Module):
    """Targ et al. 2016: a residual and a transient stream, which read each other; modules pass pairs."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        paths = [conv(inputs, outputs, 3, stride) for _ in range(4)]
        self.residual, self.transient, self.across, self.back = paths
        self.short = conv(inputs, outputs, 1, stride) if (inputs, stride) != (outputs, 1) else nn.Identity()
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)

    def forward(self, pair: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        r, t = pair
        kept = self.residual(r) + self.short(r) + self.back(t)
        return F.relu(self.bn1(kept)), F.relu(self.bn2(self.transient(t) + self.across(r)))


class RiR(nn.Module):
    """A stem, pairs of streams, a classifier of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.streams = conv_bn(3, 4, 3), nn.Sequential(TwoStreams(4, 4), TwoStreams(4, 6, 2))
        self.classifier = nn.Sequential(conv_bn(12, 6), nn.AdaptiveAvgPool2d(1))
        self.fc = nn.Sequential(nn.Dropout(), nn.Linear(6, 5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.classifier(torch.cat(self.streams((x, x)), 1))
        return self.fc(h.view(h.size()[0], -1))


def inception(inputs: int) -> Join:
    """Szegedy et al. 2015."""
    pooled = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_bn(inputs, 2))
    return Join(
        conv_bn(inputs, 2), nn.Sequential(conv_bn(inputs, 3), conv_bn(3, 3, 3)),
        nn.Sequential(conv_bn(inputs, 2), conv_bn(2, 2, 3), conv_bn(2, 2, 3)), pooled,
    )  # fmt: skip


def factored(inputs: int, inner: int, last: int) -> Join:
    """Szegedy et al. 2016: 1 x 7 and 7 x 1 in place of 7 x 7, and branches that divide again."""
    long = [conv_bn(inputs, inner), conv_bn(inner, inner, (1, 7)), conv_bn(inner, inner, (7, 1))]
    ends = nn.Sequential(conv_bn(inputs, inner), Join(conv_bn(inner, 2, (1, 3)), conv_bn(inner, 2, (3, 1))))
    pooled = nn.Sequential(nn.AvgPool2d(kernel_size=3, stride=1, padding=1), conv_bn(inputs, last))
    return Join(conv_bn(inputs, 2), nn.Sequential(*long), ends, pooled)


def reduction(inputs: int, outputs: int, pool: nn.Module) -> Join:
    """Szegedy et al. 2016: convolutions and pooling without padding, side by side, halve the image."""
    return Join(conv_bn(inputs, outputs, 3, 2, padding=0), pool)


def inception_residual(inputs: int) -> Sum:
    """Szegedy et al. 2017: the joined branches, projected and scaled, are added to the input."""
    branches = Join(conv_bn(inputs, 2), nn.Sequential(conv_bn(inputs, 2), conv_bn(2, 3, (1, 7)), conv_bn(3, 3, (7, 1))))
    return Sum(nn.Sequential(branches, nn.Conv2d(5, inputs, 1)), factor=0.25)


def fire(inputs: int, squeeze: int, expand: int) -> nn.Sequential:
    """Iandola et al. 2016."""
    return nn.Sequential(conv_bn(inputs, squeeze), Join(conv_bn(squeeze, expand), conv_bn(squeeze, expand, 3)))


def depthwise(inputs: int, outputs: int, relu: bool = True) -> nn.Sequential:
    """Chollet 2017: ReLU, depthwise, single elements, batch norm."""
    first = [nn.ReLU(inplace=False)] if relu else []
    return nn.Sequential(*first, conv(inputs, inputs, 3, groups=inputs), conv(inputs, outputs), nn.BatchNorm2d(outputs))


def row(*layers: nn.Module, head: int, stem: nn.Module | None = None, how: str = "adaptive", share: float = 0.0):
    """A stem of four channels, the layers, and a head of ``head`` channels."""
    return nn.Sequential(stem or conv_bn(3, 4, 3), *layers, Head(head, how, share))


def xception_block() -> Sum:
    body = nn.Sequential(depthwise(4, 6, relu=False), depthwise(6, 6), nn.MaxPool2d(3, stride=2, padding=1))
    return Sum(body, conv_bn(4, 6, 1, 2, act=None), act=None)


#: "collection.file" -> the network.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "kuangliu.densenet": lambda: row(
        DenseLayer(4, 2), DenseLayer(6, 2), bn_conv(8, 4), nn.AvgPool2d(2), DenseLayer(4, 2), head=6, how="avg",
        stem=conv(3, 4, 3),
    ),
    "kuangliu.dla": lambda: row(Tree(4, 6, 1, 2), Tree(6, 6, 2), head=6, how="avg"),
    "kuangliu.dla_simple": lambda: row(Tree(4, 6, 1, 2), Tree(6, 6, 2, simple=True), head=6, how="avg"),
    "kuangliu.dpn": lambda: row(DualPath(4, 4, 2, 2), DualPath(8, 4, 2, 1), head=10, how="avg"),
    "kuangliu.efficientnet": Efficient,
    "kuangliu.googlenet": lambda: row(
        inception(4), nn.MaxPool2d(3, stride=2, padding=1), inception(9), head=9, how="avg"
    ),
    "kuangliu.lenet": LeNet,
    "kuangliu.mobilenet": lambda: row(separable(4, 6, 2), separable(6, 6), head=6, how="avg"),
    "kuangliu.mobilenetv2": lambda: row(
        inverted(4, 8, 4, act=nn.ReLU), inverted(4, 8, 6, 2, act=nn.ReLU), head=6, how="avg"
    ),
    "kuangliu.pnasnet": lambda: row(Progressive(4, 8, 2), Progressive(8, 8, 1, wide=True), head=8, how="avg"),
    "kuangliu.preact_resnet": lambda: row(
        PreAct(4, 4, 1), PreAct(4, 6, 2, narrow=True), head=6, how="avg", stem=conv(3, 4, 3)
    ),
    "kuangliu.regnet": lambda: row(bottleneck(4, 4, 6, 2, 2, gate=True), bottleneck(6, 4, 6, 1, 2, True), head=6),
    "kuangliu.resnet": lambda: row(basic(4, 4), bottleneck(4, 4, 8, 2), head=8, how="avg"),
    "kuangliu.resnext": lambda: row(bottleneck(4, 4, 8, 2, groups=2), head=8, how="avg"),
    "kuangliu.senet": lambda: row(PreAct(4, 4, 1, gate=True), PreAct(4, 6, 2, gate=True), head=6, how="avg"),
    "kuangliu.shufflenet": lambda: row(Grouped(4, 8, 2), Grouped(8, 8, 1), head=8, how="avg"),
    "kuangliu.shufflenetv2": lambda: row(Halves(4, 2), Halves(4, 1, 0.5), head=4, how="avg"),
    "kuangliu.vgg": lambda: VGG(dropout=False),
    "weiaicunzai.attention": lambda: row(Gated(4, 2), basic(4, 6, 2), Gated(6, 1), head=6),
    "weiaicunzai.densenet": lambda: row(DenseLayer(4, 2), bn_conv(6, 4), nn.AvgPool2d(2, stride=2), head=4),
    "weiaicunzai.googlenet": lambda: row(inception(4), nn.MaxPool2d(3, 2, 1), nn.Dropout2d(0.4), head=9),
    "weiaicunzai.inceptionv3": lambda: row(
        factored(4, 3, 2), reduction(11, 4, nn.AvgPool2d(3, stride=2)), nn.Dropout2d(), head=15
    ),
    "weiaicunzai.inceptionv4": lambda: row(
        reduction(4, 4, nn.MaxPool2d(3, 2)), factored(8, 3, 2), nn.AvgPool2d(3), nn.Dropout2d(0.2), head=11, how="avg",
    ),
    "weiaicunzai.inception_resnet_v2": lambda: row(
        inception_residual(4), reduction(4, 4, nn.MaxPool2d(3, 2)), inception_residual(8), nn.Dropout2d(0.2), head=8
    ),
    "weiaicunzai.mobilenet": lambda: row(separable(4, 8, 2), separable(8, 8), head=8),
    "weiaicunzai.mobilenetv2": lambda: row(inverted(4, 8, 4), inverted(4, 8, 6, 2), head=6),
    "weiaicunzai.nasnet": NAS,
    "weiaicunzai.preactresnet": lambda: row(PreAct(4, 6, 2), PreAct(6, 6, 1, narrow=True), head=6),
    "weiaicunzai.resnet": Residual,
    "weiaicunzai.resnext": lambda: row(bottleneck(4, 6, 8, 1, groups=3), bottleneck(8, 6, 8, 2, groups=3), head=8),
    "weiaicunzai.rir": RiR,
    "weiaicunzai.senet": lambda: row(
        basic(4, 4), Sum(nn.Sequential(conv_bn(4, 6, 3, 2), Excite(6, 2, linear=True)), conv(4, 6, 1, 2)), head=6
    ),
    "weiaicunzai.shufflenet": lambda: row(Grouped(4, 8, 2), Grouped(8, 8, 1), head=8),
    "weiaicunzai.shufflenetv2": lambda: row(Halves(4, 2), Halves(4, 1), head=4),
    "weiaicunzai.squeezenet": lambda: row(
        nn.MaxPool2d(2, 2), fire(4, 3, 4), Sum(fire(8, 3, 4), act=None), nn.Conv2d(8, 6, 1), head=6
    ),
    "weiaicunzai.stochasticdepth": lambda: row(
        basic(4, 4, drop=DropPath(0.5)), basic(4, 6, 2, drop=DropPath(0.25, batch=True)), head=6
    ),
    "weiaicunzai.vgg": VGG,
    "weiaicunzai.wideresidual": lambda: row(
        Sum(nn.Sequential(bn_conv(4, 8, 3, 2), nn.Dropout(), bn_conv(8, 8, 3)), conv(4, 8, 1, 2), act=None),
        nn.BatchNorm2d(8), nn.ReLU(), head=8, stem=conv(3, 4, 3),
    ),
    "weiaicunzai.xception": lambda: row(
        xception_block(), Sum(nn.Sequential(depthwise(6, 6), depthwise(6, 6)), act=None), nn.ReLU(), head=6
    ),
    "paper.lenet": lambda: LeNet(torch.tanh, F.avg_pool2d),
    "paper.attentive": Attentive,
    "paper.vit": Patches,
}  # fmt: skip
