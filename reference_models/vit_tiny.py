"""vit_tiny: a small vision transformer for 32 x 32 images and other sizes."""

from __future__ import annotations

import numpy as np

from mpsim import checks, nn, ops
from mpsim.engine.tensor import Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.initialization import Distribution
from mpsim.kernels.philox import Stream
from reference_models.network import Network, Shape

PATCH, DEPTH, HEADS = 4, 4, 4


class Attention(nn.Module):
    """Self-attention with HEADS heads: (N, T, D) -> (N, T, D)."""

    def __init__(self, size: int) -> None:
        self.q, self.k, self.v, self.out = (nn.Linear(size, size) for _ in range(4))

    def __call__(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads(layer(x)) for layer in (self.q, self.k, self.v))
        y = ops.attention(q, k, v, name=self.path)  # (N, heads, T, D/heads)
        return self.out(ops.reshape(ops.permute(y, (0, 2, 1, 3)), x.shape))

    def heads(self, x: Tensor) -> Tensor:
        """(N, T, D) -> (N, heads, T, D/heads)."""
        samples, tokens, size = x.shape
        return ops.permute(ops.reshape(x, (samples, tokens, HEADS, size // HEADS)), (0, 2, 1, 3))


class Block(nn.Module):
    """x + attention(norm(x)), then x + linear(gelu(linear(norm(x)))) with twice the size inside."""

    def __init__(self, size: int) -> None:
        self.norm1, self.attention, self.add1 = nn.LayerNorm(size), Attention(size), nn.Add()
        self.norm2, self.wide, self.gelu = nn.LayerNorm(size), nn.Linear(size, 2 * size), nn.GELU()
        self.narrow, self.add2 = nn.Linear(2 * size, size), nn.Add()

    def __call__(self, x: Tensor) -> Tensor:
        x = self.add1(x, self.attention(self.norm1(x)))
        return self.add2(x, self.narrow(self.gelu(self.wide(self.norm2(x)))))


class ViTTiny(Network):
    """Patches of 4 x 4, a learned position, four blocks with four heads, a norm, the mean of all patches, linear.

    The size is 64 times ``width``, rounded to a multiple of 4, and at least 4. The sides of the images are multiples of
    4. Sources of the architecture: Dosovitskiy et al. 2021, "An Image Is Worth 16x16 Words"; for the mean, Beyer et al.
    2022, "Better plain ViT baselines for ImageNet-1k".
    """

    def __init__(
        self, width: float = 1.0, classes: int = 10, seed: int | None = 0, input_shape: Shape = (3, 32, 32)
    ) -> None:
        super().__init__("vit_tiny", width, classes, input_shape)
        channels, height, columns = checks.sizes("input_shape", input_shape, "(channels, height, width)")
        if height % PATCH or columns % PATCH:
            raise UsageError(
                f"input_shape must be (channels, height, width), both sides multiples of {PATCH}, for vit_tiny; got "
                f"{input_shape}",
                "input_shape",
            )
        size, tokens = HEADS * max(1, round(64 * width / HEADS)), (height // PATCH) * (columns // PATCH)
        self.patch = nn.Conv2d(channels, size, PATCH, stride=PATCH)
        self.position = Parameter(np.zeros((tokens, size), np.float32))
        self.blocks = nn.ModuleList(Block(size) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, classes)
        self.draw_weights(seed)

    def draw_weights(self, seed: int | None, **rules: object) -> None:
        """Draws the position from the normal distribution with deviation 0.02, and layers as ``initialize`` does."""
        super().draw_weights(seed, **rules)
        if seed is not None:
            place = list(self.parameters().values()).index(self.position)
            stream = Stream(seed, "initial_weights", tensor=place)
            self.position.replace(Distribution("normal", 0.02).draw(self.position.shape, stream))

    def __call__(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        samples, size = x.shape[:2]
        x = ops.permute(ops.reshape(x, (samples, size, -1)), (0, 2, 1))  # (N, D, H/4, W/4) -> (N, T, D)
        x = ops.add(x, self.position, name="add_position")
        for block in self.blocks:
            x = block(x)
        return self.head(ops.mean(self.norm(x), 1, name="mean"))
