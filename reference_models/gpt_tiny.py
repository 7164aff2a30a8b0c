"""gpt_tiny: a small causal transformer that predicts the next character of a text."""

from __future__ import annotations

from mpsim import checks, nn, ops
from mpsim.engine.tensor import Tensor
from reference_models.network import Shape
from reference_models.transformer import Block, Positioned, blank_position, size_at

DEPTH = 4


class GPTTiny(Positioned):
    """An embedding, a learned position, four causal blocks with four heads, a norm, linear with the embedding's weight.

    It maps tokens (N, T) from 0 to classes - 1 to the logits (N, T, classes) of each next token. The size is 64 times
    ``width``, rounded to a multiple of 4, and at least 4. ``input_shape`` is (T,). Sources of the architecture: Radford
    et al. 2019, "Language Models are Unsupervised Multitask Learners"; for the shared weight, Press and Wolf 2017,
    "Using the Output Embedding to Improve Language Models".
    """

    def __init__(self, width: float = 1.0, classes: int = 10, seed: int | None = 0, input_shape: Shape = (64,)) -> None:
        super().__init__("gpt_tiny", width, classes, checks.sizes("input_shape", input_shape, "(tokens,)"))
        self.vocabulary = self.classes
        size = size_at(width)
        self.embedding = nn.Embedding(classes, size)
        self.position = blank_position(self.input_shape[0], size)
        self.blocks = nn.ModuleList(Block(size, causal=True) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(size)
        self.head = nn.Linear(size, classes, bias=False)
        self.head.weight = self.embedding.weight
        self.draw_weights(seed)

    def __call__(self, tokens: Tensor) -> Tensor:
        x = ops.add(self.embedding(tokens), self.position, name="add_position")  # (N, T) -> (N, T, D)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))
