"""Draws initial weights from a counter-based generator, so that they depend only on seed and parameter number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod, sqrt

import numpy as np

from mpsim import checks
from mpsim.kernels.philox import Stream, normal, uniform
from mpsim.nn import Embedding, Linear, Module
from mpsim.nn.convolution import Convolution
from mpsim.process import in_default_environment

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Distribution:
    """A distribution of initial values.

    Args:
        kind: "uniform" in [-spread, spread), "normal" with mean 0 and standard deviation ``spread``, or "zeros".
        spread: The width of the distribution.

    Raises:
        ValueError: The kind is unknown, or the spread is not a finite float32 >= 0.

    >>> abs(Distribution("uniform", 0.5).draw((2, 3), Stream(1, "initial_weights"))).max() <= 0.5
    np.True_
    """

    kind: str
    spread: float = 0.0

    def __post_init__(self) -> None:
        checks.named("kind", self.kind, ("uniform", "normal", "zeros"))
        checks.real("spread", self.spread, least=0, most=checks.FLOAT32_LARGEST)

    @in_default_environment
    def draw(self, shape: Shape, stream: Stream) -> np.ndarray:
        """Returns a float32 array of this shape from the first elements of the stream."""
        if self.kind == "zeros":
            return np.zeros(shape, np.float32)
        if self.kind == "uniform":
            values = uniform(stream, prod(shape), -self.spread, self.spread)
        else:
            values = normal(stream, prod(shape), self.spread)
        return values.reshape(shape)


#: A function from the shape of a layer's *weight* to the distribution of its weight or of its bias.
Rule = Callable[[Shape], Distribution]


def uniform_fan_in(weight: Shape) -> Distribution:
    """Returns the uniform distribution in ±1/sqrt(inputs of one output), PyTorch's default for weight and bias.

    >>> uniform_fan_in((8, 4, 2, 2))
    Distribution(kind='uniform', spread=0.25)
    """
    return Distribution("uniform", 1 / sqrt(prod(weight[1:])))


def normal_fan_in(weight: Shape) -> Distribution:
    """Returns the normal distribution with variance 2 / (R*S * input channels) (He et al. 2015).

    >>> normal_fan_in((8, 4, 2, 2)).spread == (2 / 16) ** 0.5
    True
    """
    return Distribution("normal", sqrt(2 / prod(weight[1:])))


def normal_fan_out(weight: Shape) -> Distribution:
    """Returns the normal distribution with variance 2 / (R*S * output channels) (He et al. 2015).

    Depthwise kernels use the same formula.

    >>> normal_fan_out((8, 4, 1, 1))
    Distribution(kind='normal', spread=0.5)
    """
    return Distribution("normal", sqrt(2 / (weight[0] * prod(weight[2:]))))


def normal_with(deviation: float) -> Rule:
    """Returns a rule for the normal distribution with the given standard deviation for every shape.

    >>> normal_with(0.01)((8, 4))
    Distribution(kind='normal', spread=0.01)
    """
    checks.real("deviation", deviation, least=0, most=checks.FLOAT32_LARGEST)
    return lambda weight: Distribution("normal", deviation)


def zeros(weight: Shape) -> Distribution:
    """Returns the distribution whose values are all +0.

    >>> zeros((8, 4))
    Distribution(kind='zeros', spread=0.0)
    """
    return Distribution("zeros")


def initialize(
    model: Module,
    seed: int = 0,
    *,
    convolution: Rule = uniform_fan_in,
    linear: Rule = uniform_fan_in,
    bias: Rule = uniform_fan_in,
    embedding: Rule = normal_with(1.0),
) -> None:
    """Draws the weights and biases of convolutions and Linear, and the weights of Embedding. Others keep their values.

    The i-th parameter of ``model.parameters()`` is drawn from Stream(seed, "initial_weights", tensor=i).

    Args:
        model: The network. Its arrays must be NumPy's.
        seed: The seed.
        convolution, linear: The rule for the weights of each kind of layer.
        bias: The rule for biases, which receives the shape of the weight.
        embedding: The rule for the weights of an Embedding, by default the standard normal distribution.

    Raises:
        ValueError: The seed is out of range, or the parameters exceed this machine's memory.

    >>> from mpsim import nn
    >>> layer = nn.Linear(4, 2)
    >>> initialize(layer, seed=1)
    >>> bool((abs(layer.weight.master) <= 0.5).all())
    True
    """
    checks.seed("seed", seed)
    needed = 4 * sum(prod(parameter.shape) for parameter in model.parameters().values())
    checks.fits_memory("the network's parameters need", needed, "reduce its width or the number of classes")
    places = {parameter: place for place, parameter in enumerate(model.parameters().values())}
    for layer in model.modules():
        if not isinstance(layer, Convolution | Embedding | Linear):
            continue
        weight = layer.weight
        rules = {weight: linear}
        if not isinstance(layer, Linear):
            rules[weight] = convolution if isinstance(layer, Convolution) else embedding
        if not isinstance(layer, Embedding) and layer.bias is not None:
            rules[layer.bias] = bias
        for parameter, rule in rules.items():
            stream = Stream(seed, "initial_weights", tensor=places[parameter])
            parameter.replace(rule(weight.shape).draw(parameter.shape, stream))
