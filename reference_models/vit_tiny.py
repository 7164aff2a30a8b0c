"""vit_tiny: a small vision transformer for 32 x 32 images and other sizes."""

from __future__ import annotations

from mpsim import checks, nn, ops
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from reference_models.network import Shape
from reference_models.transformer import Block, Positioned, blank_position, size_at

PATCH, DEPTH = 4, 4


class ViTTiny(Positioned):
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
        size, tokens = size_at(width), (height // PATCH) * (columns // PATCH)
        self.patch = nn.Conv2d(channels, size, PATCH, stride=PATCH)
        self.position = blank_position(tokens, size)
        self.blocks = nn.ModuleList(Block(size) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, classes)
        self.draw_weights(seed)

    def __call__(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        samples, size = x.shape[:2]
        x = ops.permute(ops.reshape(x, (samples, size, -1)), (0, 2, 1))  # (N, D, H/4, W/4) -> (N, T, D)
        x = ops.add(x, self.position, name="add_position")
        for block in self.blocks:
            x = block(x)
        return self.head(ops.mean(self.norm(x), 1, name="mean"))
