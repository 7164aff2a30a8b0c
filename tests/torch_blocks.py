"""Blocks of PyTorch that the networks of ``torch_networks`` share."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Layer = Callable[[Tensor], Tensor]
Kind = Callable[[], nn.Module]
#: A kernel's size or padding: one number, or one for each axis.
Size = int | tuple[int, int]


def conv(
    inputs: int, outputs: int, kernel: Size = 1, stride: int = 1, groups: int = 1, padding: Size | None = None
) -> nn.Conv2d:
    """A convolution without bias that keeps the size of the image, up to its stride."""
    if padding is None:
        padding = kernel // 2 if isinstance(kernel, int) else (kernel[0] // 2, kernel[1] // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)


def conv_bn(
    inputs: int, outputs: int, kernel: Size = 1, stride: int = 1, groups: int = 1, act: Kind | None = nn.ReLU,
    padding: Size | None = None,
) -> nn.Sequential:  # fmt: skip
    """Convolution, batch norm, activation (None: none)."""
    layers = [conv(inputs, outputs, kernel, stride, groups, padding), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, *([] if act is None else [act()]))


def bn_conv(inputs: int, outputs: int, kernel: Size = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Batch norm, ReLU, convolution."""
    return nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv(inputs, outputs, kernel, stride, groups))


class Head(nn.Module):
    """The mean of each channel, dropout, and a linear layer, by the functions that a collection prefers."""

    def __init__(self, channels: int, how: str = "adaptive", share: float = 0.0) -> None:
        super().__init__()
        self.how, self.drop = how, nn.Dropout(share) if share else nn.Identity()
        self.linear = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(x, 1) if self.how == "adaptive" else F.avg_pool2d(x, x.size(2))
        return self.linear(self.drop(x.view(x.size(0), -1)))


class Join(nn.Module):
    """The results of branches side by side."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Sum(nn.Module):
    """act(body(x) * factor + shortcut(x)). ``drop`` drops the body of samples or of the batch."""

    def __init__(
        self, body: nn.Module, shortcut: nn.Module | None = None, act: Layer | None = F.relu, factor: float = 1.0,
        drop: nn.Module | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.body, self.shortcut = body, nn.Identity() if shortcut is None else shortcut
        self.act, self.factor, self.drop = act, factor, drop

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        if self.drop is not None:
            y = self.drop(y)
        y = (y if self.factor == 1 else y * self.factor) + self.shortcut(x)
        return y if self.act is None else self.act(y)


class DropPath(nn.Module):
    """Huang et al. 2016: in training, the branch of each sample (or of the batch) is left out with a probability."""

    def __init__(self, share: float, batch: bool = False) -> None:
        super().__init__()
        self.share, self.batch = share, batch

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1.0 - self.share
        mask = torch.empty([1 if self.batch else x.shape[0], 1, 1, 1], dtype=x.dtype).bernoulli_(keep)
        return x.div(keep) * mask


class Excite(nn.Module):
    """Hu et al. 2018: channels times a gate computed from their means."""

    def __init__(self, channels: int, inner: int, act: Kind = nn.ReLU, linear: bool = False) -> None:
        super().__init__()
        layer = nn.Linear if linear else lambda i, o: nn.Conv2d(i, o, 1)
        self.gate = nn.Sequential(layer(channels, inner), act(), layer(inner, channels), nn.Sigmoid())
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        w = F.adaptive_avg_pool2d(x, (1, 1))
        if not self.linear:
            return x * self.gate(w)
        return x * self.gate(w.view(w.size(0), -1)).view(x.size(0), x.size(1), 1, 1)


class ChannelShuffle(nn.Module):
    """Zhang et al. 2018."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.data.size()
        x = x.view(n, self.groups, c // self.groups, h, w).transpose(1, 2).contiguous()
        return x.view(n, -1, h, w)


class Swish(nn.Module):
    """x * sigmoid(x), written out."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.sigmoid()
