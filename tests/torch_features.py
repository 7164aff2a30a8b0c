"""What a user of PyTorch writes (FEATURES): minimal modules, each with one feature, which work or are refused.

A row is a layer or a function of images (N, 4, 8, 8) inside ``Around``, or a module of images (N, 3, 8, 8) of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint


class Around(nn.Module):
    """A convolution, the feature, and a linear layer of all that the feature returns."""

    def __init__(self, body: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 4, 3, padding=1), body
        shape = body(torch.zeros(2, 4, 8, 8)).shape
        self.head = nn.Linear(shape[1:].numel(), 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).flatten(1))


class Tokens(nn.Module):
    """Rows of images as 8 tokens of width 12; ``body`` is a function of (N, 8, 12)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x.permute(0, 2, 1, 3).flatten(2)[:, :, :12])
        return self.head((y[0] if isinstance(y, tuple) else y).mean(1))


class Fn(nn.Module):
    """A function with layers and parameters of its own."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def causal(self: Any, x: Tensor) -> Tensor:
    """Attention as minGPT writes it, with a mask in a buffer."""
    scores = x @ x.transpose(-2, -1) * 12**-0.5
    t = x.size(1)
    scores = scores.masked_fill(self.mask[:t, :t] == 0, float("-inf"))
    return F.softmax(scores, dim=-1) @ x


def with_mask() -> nn.Module:
    module = Fn(causal)
    module.register_buffer("mask", torch.tril(torch.ones(9, 9)), persistent=False)
    return module


def grouped(self: Any, x: Tensor) -> Tensor:
    q = x.view(-1, 8, 4, 3).transpose(1, 2)
    y = F.scaled_dot_product_attention(q, q[:, :2], q[:, 2:], enable_gqa=True)
    return y.transpose(1, 2).flatten(2)


def positions(self: Any, x: Tensor) -> Tensor:
    first = self.token.expand(x.shape[0], -1, -1)
    return torch.cat([first, x], dim=1) + self.table[:, : x.shape[1] + 1] + self.places(torch.arange(9))


def tied() -> nn.Module:
    module = Fn(lambda self, x: self.b(F.relu(self.a(x))), a=nn.Linear(12, 12), b=nn.Linear(12, 12))
    module.b.weight = module.a.weight
    return module


def embedded(self: Any, x: Tensor) -> Tensor:
    return self.table(torch.tensor([[0, 2], [1, 2]]))[None].broadcast_to(x.shape[0], 2, 2, 8) + x[:, :2, :2]


N = nn
#: feature -> a layer or function of (N, 4, 8, 8).
LAYERS: dict[str, Callable[[], Any]] = {
    "dilation": lambda: N.Conv2d(4, 4, 3, padding=2, dilation=(2, 1)),
    "groups": lambda: N.Conv2d(4, 8, 3, groups=4),
    'padding="same"': lambda: N.Conv2d(4, 4, (2, 3), padding="same"),
    'padding_mode="reflect"': lambda: N.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
    'padding_mode="replicate"': lambda: N.Conv2d(4, 4, 3, padding=1, padding_mode="replicate"),
    'padding_mode="circular"': lambda: N.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
    "ConvTranspose2d": lambda: N.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1),
    "Conv1d": lambda: N.Sequential(
        N.Flatten(2), N.Conv1d(4, 3, 5, stride=2, padding=1), N.Conv1d(3, 3, 4, padding="same", dilation=2)
    ),
    "MaxPool2d(ceil_mode)": lambda: N.MaxPool2d(3, 2, ceil_mode=True),
    "AvgPool2d(count_include_pad=False)": lambda: N.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "AdaptiveAvgPool2d of any size": lambda: N.AdaptiveAvgPool2d((3, 5)),
    "AdaptiveMaxPool2d of any size": lambda: N.AdaptiveMaxPool2d(3),
    "pooling of rows": lambda: N.Sequential(N.Flatten(2), N.MaxPool1d(4), N.AvgPool1d(2), N.AdaptiveAvgPool1d(3)),
    "Upsample(nearest)": lambda: N.Upsample(scale_factor=2),
    "Upsample(bilinear)": lambda: N.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "interpolate to a size": lambda: lambda x: F.interpolate(x, size=(5, 11), mode="bilinear"),
    "PixelShuffle and back": lambda: N.Sequential(N.PixelShuffle(2), N.PixelUnshuffle(4)),
    "ZeroPad2d": lambda: N.ZeroPad2d((1, 2, 0, -1)),
    "ConstantPad2d": lambda: N.ConstantPad2d(1, 0.5),
    "ReflectionPad2d": lambda: N.ReflectionPad2d(2),
    "slices": lambda: lambda x: x[:, 1:3, ::2, -3:],
    "indexing": lambda: lambda x: torch.stack([x[:, 0], x[..., -1, :].repeat(1, 2, 1).tile(2, 1)[:, :8]], 1),
    "lists of indices": lambda: lambda x: x[:, [2, 0, 2]].flip(3).roll(1, 2).repeat_interleave(2, 1),
    "split and chunk": lambda: lambda x: torch.cat([*x.split([1, 3], 1)[::-1], *x.chunk(2, 1)], dim=1),
    "multiply": lambda: lambda x: x * x.mean((2, 3), keepdim=True),
    "divide": lambda: lambda x: x / (1 + x * x),
    "subtract": lambda: lambda x: x - x.mean(1, keepdim=True),
    "scalars": lambda: lambda x: 1 - 2 * (x + 0.5) / 3,
    "powers": lambda: lambda x: x**3 + (1 + x.pow(2)) ** -0.5 + 1 / (2 + x.square()),
    "abs": lambda: lambda x: x.abs() + torch.abs(x - 0.5),
    "sum over axes": lambda: lambda x: x.sum((1, 3)),
    "mean over axes": lambda: lambda x: x.mean(dim=[2, 3]),
    "largest along an axis": lambda: lambda x: x.max(dim=2).values,
    "variance and deviation": lambda: lambda x: torch.cat([x.var((2, 3)), x.std(dim=1, unbiased=False).flatten(1)], 1),
    "norms": lambda: lambda x: F.normalize(x, dim=1),
    "matmul of batches": lambda: lambda x: x @ x.transpose(2, 3),
    "einsum": lambda: lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
    "einsum with a parameter": lambda: Fn(
        lambda self, x: torch.einsum("nchw,dc->ndhw", x, self.table), table=N.Parameter(torch.rand(3, 4))
    ),
    "parameter without axes": lambda: Fn(lambda self, x: x * self.scale, scale=N.Parameter(torch.tensor(1.5))),
    "transpose and permute": lambda: lambda x: x.transpose(1, 2).permute(0, 3, 1, 2).movedim(1, 3),
    "softmax": lambda: lambda x: F.softmax(x, dim=1),
    "log_softmax": lambda: lambda x: F.log_softmax(x, dim=1),
    "log": lambda: lambda x: torch.log(1 + x * x),
    "exp": lambda: lambda x: torch.exp(x),
    "sqrt": lambda: lambda x: (x * x + 1).sqrt() + (x * x + 1).rsqrt(),
    "Sigmoid": N.Sigmoid, "Tanh": N.Tanh, "SiLU": N.SiLU, "GELU": N.GELU, "GELU(tanh)": lambda: N.GELU("tanh"),
    "LeakyReLU": lambda: N.LeakyReLU(0.2), "ReLU6": N.ReLU6, "Hardswish": N.Hardswish, "Hardsigmoid": N.Hardsigmoid,
    "Hardtanh": N.Hardtanh, "clamp": lambda: lambda x: x.clamp(min=-0.5) + x.clamp(max=0.25),
    "ELU": lambda: N.ELU(0.5), "SELU": N.SELU, "CELU": lambda: N.CELU(0.5), "PReLU": lambda: N.PReLU(4),
    "Softplus": lambda: N.Softplus(2.0), "Mish": N.Mish, "LogSigmoid": N.LogSigmoid, "Softsign": N.Softsign,
    "GLU": lambda: N.GLU(1),
    "channel scaling": lambda: Fn(lambda self, x: x * self.scale, scale=N.Parameter(torch.rand(4, 1, 1))),
    "Dropout": lambda: N.Dropout(0.25),
    "Dropout2d": lambda: N.Dropout2d(0.25),
    "BatchNorm2d(affine=False)": lambda: N.BatchNorm2d(4, affine=False),
    "BatchNorm2d(track_running_stats=False)": lambda: N.BatchNorm2d(4, track_running_stats=False),
    "BatchNorm2d(momentum=None)": lambda: N.BatchNorm2d(4, momentum=None),
    "BatchNorm1d": lambda: N.Sequential(N.Flatten(2), N.BatchNorm1d(4)),
    "GroupNorm": lambda: N.GroupNorm(2, 4),
    "InstanceNorm2d": lambda: N.InstanceNorm2d(4, affine=True),
    "LayerNorm": lambda: N.LayerNorm((8, 8)),
    "RMSNorm": lambda: N.RMSNorm(8),
    "ModuleList and ModuleDict": lambda: Fn(
        lambda self, x: self.d["b"](self.l[1](self.l[0](x))),
        l=N.ModuleList([N.Conv2d(4, 4, 1), N.ReLU()]), d=N.ModuleDict({"b": N.Conv2d(4, 2, 1)}),
    ),
    "gradient checkpoints": lambda: lambda x: checkpoint(torch.tanh, x, use_reentrant=False),
    "Flatten and Unflatten": lambda: N.Sequential(N.Flatten(1), N.Unflatten(1, (16, 4, 4))),
    "overwriting functions": lambda: lambda x: F.relu_(x.mul(2).add_(1).sub_(0.5)),
    "Embedding": lambda: Fn(embedded, table=N.Embedding(3, 8, padding_idx=2)),
}  # fmt: skip
#: feature -> a function of tokens (N, 8, 12).
OF_TOKENS: dict[str, Callable[[], Any]] = {
    "scaled_dot_product_attention": lambda: Fn(lambda self, x: F.scaled_dot_product_attention(x, x, x, is_causal=True)),
    "masked attention": with_mask,
    "attention with fewer heads of keys": lambda: Fn(grouped),
    "MultiheadAttention": lambda: Fn(lambda self, x: self.a(x, x, x), a=N.MultiheadAttention(12, 2, batch_first=True)),
    "TransformerEncoderLayer": lambda: N.TransformerEncoderLayer(12, 2, 16, 0.0, batch_first=True, norm_first=True),
    "tokens and positions as parameters": lambda: Fn(
        positions, token=N.Parameter(torch.rand(1, 1, 12)), table=N.Parameter(torch.rand(1, 16, 12)),
        places=N.Embedding(9, 12),
    ),
    "products with parameters": lambda: Fn(
        lambda self, x: x @ self.w.t() + self.w[0], w=N.Parameter(torch.rand(12, 12))
    ),
    "tied weights": tied,
}  # fmt: skip
#: feature -> (a layer or function of (N, 4, 8, 8), what the refusal says after the line).
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "sin": (lambda: lambda x: torch.sin(x), "aten.sin.default is not supported"),
    "cumsum": (lambda: lambda x: x.cumsum(1), "aten.cumsum.default is not supported"),
    "maximum": (lambda: lambda x: torch.maximum(x, -x), "aten.maximum.default is not supported"),
    "conv3d": (lambda: lambda x: F.conv3d(x[:, None], x[:1, None, :1, :1, :1]), "aten.conv3d.default is not supported"),
    "weight_norm": (
        lambda: parametrizations.weight_norm(N.Conv2d(4, 4, 1)), "aten._weight_norm.default is not supported",
    ),
    "detach": (lambda: lambda x: x.detach() * x, "aten.detach.default: detach, which keeps a gradient from a computed"),
    "where": (lambda: lambda x: torch.where(x > 0, x, -x), "aten.where.self: where with a condition that is computed"),
    "LSTM": (
        lambda: Fn(lambda self, x: self.rnn(x.flatten(2))[0], rnn=N.LSTM(64, 3, batch_first=True)),
        "aten.lstm.input is not supported",
    ),
    "sort": (lambda: lambda x: x.sort(1).values, "aten.sort.default is not supported"),
}  # fmt: skip


def module_of(feature: str) -> nn.Module:
    """Returns the module of a row."""
    if feature in OF_TOKENS:
        return Tokens(OF_TOKENS[feature]())
    return Around(LAYERS[feature]() if feature in LAYERS else REFUSED[feature][0]())
