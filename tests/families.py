"""Small networks that use the ops of later families: functions, broadcasting, indexing, normalization, attention."""

from __future__ import annotations

import numpy as np

from mpsim import nn, ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.initialization import initialize


class Attentive(nn.Module):
    """A CNN with channel attention, padding modes, upsampling, slices and many activations."""

    name, width, classes, input_shape = "attentive", 1.0, 3, (3, 8, 8)

    def __init__(self, seed: int = 0) -> None:
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.norm1 = nn.GroupNorm(2, 8)
        self.silu = nn.SiLU()
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)
        self.leaky, self.gate = nn.LeakyReLU(0.1), nn.Sigmoid()
        self.conv2 = nn.Conv2d(8, 8, 3, stride=2, bias=False)
        self.hard = nn.Hardswish()
        self.conv3 = nn.Conv2d(8, 6, 3, padding=1)
        self.six, self.tanh, self.soft = nn.ReLU6(), nn.Tanh(), nn.Softplus()
        self.head = nn.Linear(6, self.classes)
        initialize(self, seed)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.silu(self.norm1(self.conv1(ops.pad(x, [(1, 1), (1, 1)], "reflect"))))
        gate = self.gate(self.up(self.leaky(self.down(ops.mean(x, (2, 3))))))  # (N, C)
        x = ops.multiply(x, ops.reshape(gate, (*gate.shape, 1, 1)))
        y = self.hard(self.conv2(ops.pad(x, [(0, 2), (0, 2)], "replicate")))  # (N, 8, 4, 4)
        x = ops.subtract(ops.upsample_nearest(y, 2), ops.scale(x, 0.5))
        x = self.conv3(ops.slice(x, 3, 1, None, 2))
        x = ops.divide(self.six(x), ops.shift(self.soft(self.tanh(x)), 0.5))
        return self.head(ops.sum(x, (2, 3)))


class Transformer(nn.Module):
    """Patches, a learned position, one block of attention and a feed-forward part, and a normalized mean."""

    name, width, classes, input_shape = "transformer", 1.0, 3, (3, 8, 8)

    def __init__(self, seed: int = 0) -> None:
        size = 12
        self.patch = nn.Conv2d(3, size, 4, stride=4)
        self.position = Parameter(np.random.default_rng(seed).normal(0, 0.1, (4, size)).astype(np.float32))
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(size), nn.LayerNorm(size, bias=False), nn.RMSNorm(size)
        self.q, self.k, self.v = (nn.Linear(size, size) for _ in range(3))
        self.out = nn.Linear(size, size)
        self.wide, self.narrow = nn.Linear(size, 2 * size), nn.Linear(2 * size, size)
        self.gelu, self.drop, self.depth = nn.GELU(), nn.Dropout(0.25), nn.StochasticDepth(0.25)
        self.head = nn.Linear(size, self.classes)
        initialize(self, seed)

    def heads(self, x: Tensor) -> Tensor:
        return ops.permute(ops.reshape(x, (*x.shape[:2], 3, 4)), (0, 2, 1, 3))  # (N, T, D) -> (N, heads, T, D/heads)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        x = ops.permute(ops.reshape(x, (*x.shape[:2], 4)), (0, 2, 1))  # (N, D, 2, 2) -> (N, T, D)
        x = ops.add(x, self.position)
        y = self.norm1(x)
        q, k, v = (self.heads(layer(y)) for layer in (self.q, self.k, self.v))
        y = ops.attention(q, k, v, causal=True, name="attention")
        y = ops.reshape(ops.permute(y, (0, 2, 1, 3)), x.shape)
        x = ops.add(x, self.depth(self.out(y)))
        x = ops.add(x, self.narrow(self.drop(self.gelu(self.wide(self.norm2(x))))))
        return self.head(ops.mean(self.norm3(x), 1))


class Resizing(nn.Module):
    """Dilated, transposed and one-dimensional convolutions, pooling of odd sizes, larger images, plain batch norms."""

    name, width, classes, input_shape = "resizing", 1.0, 3, (3, 8, 8)

    def __init__(self, seed: int = 0) -> None:
        self.conv1 = nn.Conv2d(3, 4, 3, padding="same", dilation=2)
        self.norm1 = nn.BatchNorm2d(4, affine=False)
        self.pool1, self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 2, 1, True, False)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1, groups=2)
        self.smooth, self.shuffle = nn.Upsample(2, "bilinear"), nn.PixelShuffle(2)
        self.average, self.largest = nn.AdaptiveAvgPool2d((3, 5)), nn.AdaptiveMaxPool2d(3)
        self.conv2, self.norm2 = nn.Conv1d(5, 6, 3, padding=2, dilation=2), nn.BatchNorm1d(6, track_running_stats=False)
        self.head = nn.Linear(6, self.classes)
        initialize(self, seed)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.norm1(self.conv1(x))
        large = ops.add(self.smooth(self.pool1(x)), self.up(ops.pad(self.pool2(x), [(0, -1), (0, -1)])))  # (N, 4, 8, 8)
        rows = ops.subtract(
            self.average(large), ops.pad(self.largest(self.shuffle(large)), [(0, 0), (1, 1)], "circular")
        )
        rows = ops.slice(ops.reshape(rows, (rows.shape[0], 60)), 1, 0, 45)
        y = ops.reshape(ops.exp(ops.clamp(rows, -2, 2)), (rows.shape[0], 5, 9))
        return self.head(ops.mean(ops.erf(self.norm2(self.conv2(y))), 2))


class NextToken(nn.Module):
    """A causal transformer of one block on tokens (N, T), whose head shares the weight of the embedding."""

    def __init__(self, vocabulary: int = 5, tokens: int = 6, size: int = 8, seed: int = 0) -> None:
        self.embedding, self.head = nn.Embedding(vocabulary, size), nn.Linear(size, vocabulary, bias=False)
        self.head.weight = self.embedding.weight
        self.position = Parameter(np.random.default_rng(seed).normal(0, 0.5, (tokens, size)).astype(np.float32))
        self.norm1, self.norm2 = nn.RMSNorm(size), nn.RMSNorm(size)
        self.q, self.k, self.v, self.out = (nn.Linear(size, size, bias=False) for _ in range(4))
        initialize(self, seed)

    def __call__(self, tokens: Tensor) -> Tensor:
        x = ops.add(self.embedding(tokens), self.position)
        y = self.norm1(x)
        x = ops.add(x, self.out(ops.attention(self.q(y), self.k(y), self.v(y), causal=True, name="attention")))
        return self.head(self.norm2(x))  # (N, T, vocabulary)


FAMILIES = {"attentive": Attentive, "transformer": Transformer, "resizing": Resizing}
