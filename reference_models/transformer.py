"""The parts that the transformers share: attention with several heads, a block, and a learned position."""

from __future__ import annotations

import numpy as np

from mpsim import nn, ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.initialization import Distribution
from mpsim.kernels.philox import Stream
from reference_models.network import Network

HEADS = 4


def size_at(width: float) -> int:
    """Returns 64 times ``width``, rounded to a multiple of HEADS, and at least HEADS.

    >>> size_at(1.0), size_at(0.01)
    (64, 4)
    """
    return HEADS * max(1, round(64 * width / HEADS))


class Attention(nn.Module):
    """Self-attention with HEADS heads: (N, T, D) -> (N, T, D). With ``causal`` a token sees itself and earlier ones."""

    def __init__(self, size: int, causal: bool = False) -> None:
        self.q, self.k, self.v, self.out = (nn.Linear(size, size) for _ in range(4))
        self.causal = causal

    def __call__(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads(layer(x)) for layer in (self.q, self.k, self.v))
        y = ops.attention(q, k, v, causal=self.causal, name=self.path)  # (N, heads, T, D/heads)
        return self.out(ops.reshape(ops.permute(y, (0, 2, 1, 3)), x.shape))

    def heads(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, heads, T, D/heads)."""
        samples, tokens, size = x.shape
        return ops.permute(ops.reshape(x, (samples, tokens, HEADS, size // HEADS)), (0, 2, 1, 3))


class Block(nn.Module):
    """x + attention(norm(x)), then x + linear(gelu(linear(norm(x)))) with twice the size inside."""

    def __init__(self, size: int, causal: bool = False) -> None:
        self.norm1, self.attention, self.add1 = nn.LayerNorm(size), Attention(size, causal), nn.Add()
        self.norm2, self.wide, self.gelu = nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.GELU()
        self.narrow, self.add2 = nn.Linear(2 * size, size), nn.Add()

    def __call__(self, x: Tensor) -> Tensor:
        x = self.add1(x, self.attention(self.norm1(x)))
        return self.add2(x, self.narrow(self.gelu(self.wide(self.norm2(x)))))


class Positioned(Network):
    """A network with a learned ``position`` (T, D), which is added to the T rows of its input."""

    position: Parameter

    def draw_weights(self, seed: int | None, **rules: object) -> None:
        """Draws the position from the normal distribution with deviation 0.02, and layers as ``initialize`` does."""
        super().draw_weights(seed, **rules)
        if seed is not None:
            place = list(self.parameters().values()).index(self.position)
            stream = Stream(seed, "initial_weights", tensor=place)
            self.position.replace(Distribution("normal", 0.02).draw(self.position.shape, stream))


def blank_position(tokens: int, size: int) -> Parameter:
    """Returns a position of zeros (T, D)."""
    return Parameter(np.zeros((tokens, size), np.float32))
