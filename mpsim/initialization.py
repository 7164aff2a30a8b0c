"""Initial weights: drawn by counter, so that they depend on nothing but the seed and the parameter's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np

from mpsim import checks
from mpsim.kernels.philox import Stream, normal, uniform
from mpsim.nn import Conv2d, Linear, Module

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Distribution:
    """kind "uniform": [-spread, spread); "normal": mean 0, standard deviation spread; "zeros"."""

    kind: str
    spread: float = 0.0

    def __post_init__(self) -> None:
        checks.named("kind", self.kind, ("uniform", "normal", "zeros"))
        checks.real("spread", self.spread, least=0, most=checks.FLOAT32_LARGEST)

    def draw(self, shape: Shape, stream: Stream) -> np.ndarray:
        """float32 array of this shape from the stream's first elements."""
        if self.kind == "zeros":
            return np.zeros(shape, np.float32)
        if self.kind == "uniform":
            values = uniform(stream, prod(shape), -self.spread, self.spread)
        else:
            values = normal(stream, prod(shape), self.spread)
        return values.reshape(shape)


#: From the shape of a layer's *weight* to the distribution of its weight, or of its bias.
Rule = Callable[[Shape], Distribution]


def uniform_fan_in(weight: Shape) -> Distribution:
    """Uniform in ±1/sqrt(inputs of one output): PyTorch's default for weight and bias.

    >>> uniform_fan_in((8, 4, 2, 2))
    Distribution(kind='uniform', spread=0.25)
    """
    return Distribution("uniform", 1 / sqrt(prod(weight[1:])))


def normal_fan_in(weight: Shape) -> Distribution:
    """Normal of variance 2 / (R*S * input channels) (He et al. 2015)."""
    return Distribution("normal", sqrt(2 / prod(weight[1:])))


def normal_fan_out(weight: Shape) -> Distribution:
    """Normal of variance 2 / (R*S * output channels) (He et al. 2015), depthwise kernels too."""
    return Distribution("normal", sqrt(2 / (weight[0] * prod(weight[2:]))))


def normal_with(deviation: float) -> Rule:
    """Normal of one standard deviation, whatever the shape."""
    checks.real("deviation", deviation, least=0, most=checks.FLOAT32_LARGEST)
    return lambda weight: Distribution("normal", deviation)


def zeros(weight: Shape) -> Distribution:
    """All +0."""
    return Distribution("zeros")


def initialize(
    model: Module,
    seed: int = 0,
    *,
    convolution: Rule = uniform_fan_in,
    linear: Rule = uniform_fan_in,
    bias: Rule = uniform_fan_in,
) -> None:
    """Draws weights and biases of every Conv2d and Linear; other parameters stay as built. NumPy models only.

    The i-th parameter of ``model.parameters()`` is drawn from Stream(seed, "initial_weights", tensor=i).

    >>> from mpsim import nn
    >>> layer = nn.Linear(4, 2)
    >>> initialize(layer, seed=1)
    >>> bool((abs(layer.weight.master) <= 0.5).all())
    True
    """
    checks.seed("seed", seed)
    needed = 4 * sum(prod(parameter.shape) for parameter in model.parameters().values())
    checks.fits_memory("the network's parameters take", needed, "make it narrower, or with fewer classes")
    places = {parameter: place for place, parameter in enumerate(model.parameters().values())}
    for layer in model.modules():
        if not isinstance(layer, Conv2d | Linear):
            continue
        weight = layer.weight
        rules = {weight: convolution if isinstance(layer, Conv2d) else linear}
        if layer.bias is not None:
            rules[layer.bias] = bias
        for parameter, rule in rules.items():
            stream = Stream(seed, "initial_weights", tensor=places[parameter])
            parameter.replace(rule(weight.shape).draw(parameter.shape, stream))
