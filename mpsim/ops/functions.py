"""Ops that apply a function of one argument to each element, or move it."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.kernels.philox import Stream

#: Computes gradient * slope, and may overwrite the gradient. The array is the stored input or output.
Slope = Callable[[Kernels, Array, Array, tuple[float, float]], Array]


def _function(
    kind: str, function: str, slope: Slope | str, *, by_output: bool = False, positive: bool = False, **sample: float
) -> Primitive:
    """Returns the op of the ``function`` of kernels.unary.

    ``slope`` is the name of another such function, or computes gradient * slope. It is a function of the stored input,
    or of the stored output if ``by_output``. The op's attributes are a and b.
    """

    def forward(kernels: Kernels, inputs: tuple, parameters: tuple, a: float = 0.0, b: float = 0.0) -> tuple:
        return kernels.unary(inputs[0], function, a, b), (a, b) if by_output else (a, b, inputs[0])

    def backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
        if not needs[0]:
            return (None,), ()
        a, b, x = saved
        if not isinstance(slope, str):
            return (slope(kernels, gradient, x, (a, b)),), ()
        return (kernels.multiply(gradient, kernels.unary(x, slope, a, b), out=gradient),), ()

    return Primitive(
        kind,
        forward,
        backward,
        same_shape,
        reads_input_again=not by_output,
        saves_output=by_output,
        samples=(Sample(((3, 4, 2),), attributes=dict(sample), positive=positive),),
    )


def same_shape(inputs: list[Shape], parameters: list[Shape], **attributes: object) -> Shape:
    """Returns the shape of the first input: that of the result of an elementwise op."""
    return inputs[0]


def _divided(kernels: Kernels, gradient: Array, x: Array, numbers: tuple[float, float]) -> Array:
    return kernels.divide(gradient, x, out=gradient)


def _over_twice(kernels: Kernels, gradient: Array, y: Array, numbers: tuple[float, float]) -> Array:
    return kernels.divide(gradient, kernels.scale(y, 2.0), out=gradient)


def _multiplied(kernels: Kernels, gradient: Array, y: Array, numbers: tuple[float, float]) -> Array:
    return kernels.multiply(gradient, y, out=gradient)


def number(name: str, value: float) -> float:
    """Returns ``value`` if it is a number within float32's range."""
    return checks.real(name, value, least=-checks.FLOAT32_LARGEST, most=checks.FLOAT32_LARGEST)


EXP = _function("Exp", "exp", _multiplied, by_output=True)
ERF = _function("Erf", "erf", "erf_slope")
TANH = _function("Tanh", "tanh", "tanh_slope_of_output", by_output=True)
SIGMOID = _function("Sigmoid", "sigmoid", "sigmoid_slope_of_output", by_output=True)
SOFTPLUS = _function("Softplus", "softplus", "sigmoid")
SILU = _function("SiLU", "silu", "silu_slope")
GELU = _function("GELU", "gelu", "gelu_slope")
GELU_TANH = _function("GELUTanh", "gelu_tanh", "gelu_tanh_slope")
CLAMP = _function("Clamp", "clamp", "clamp_slope", a=-0.5, b=0.75)
LEAKY_RELU = _function("LeakyReLU", "leaky_relu", "leaky_relu_slope", a=0.25)
HARD_SIGMOID = _function("Hardsigmoid", "hard_sigmoid", "hard_sigmoid_slope")
HARD_SWISH = _function("Hardswish", "hard_swish", "hard_swish_slope")
LOG = _function("Log", "log", _divided, positive=True)
SQRT = _function("Sqrt", "sqrt", _over_twice, by_output=True, positive=True)


def exp(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns e**x.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.exp, [0.0, 1.0])
    array([1.       , 2.7182817], dtype=float32)
    """
    return x.tape.bind(EXP, (x,), name=name)


def log(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns the natural logarithm: -infinity of 0, NaN of negative numbers.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.log, [1.0, 0.0])
    array([  0., -inf], dtype=float32)
    """
    return x.tape.bind(LOG, (x,), name=name)


def sqrt(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns the square root: NaN of negative numbers. The derivative is infinite at 0.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.sqrt, [9.0, 2.0])
    array([3.       , 1.4142135], dtype=float32)
    """
    return x.tape.bind(SQRT, (x,), name=name)


def erf(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns the error function, 2/sqrt(pi) times the integral of exp(-t*t) from 0 to x.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.erf, [0.0, 9.0])
    array([0., 1.], dtype=float32)
    """
    return x.tape.bind(ERF, (x,), name=name)


def tanh(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns the hyperbolic tangent.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.tanh, [0.0, 20.0])
    array([0., 1.], dtype=float32)
    """
    return x.tape.bind(TANH, (x,), name=name)


def sigmoid(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns 1 / (1 + exp(-x)).

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.sigmoid, [0.0, 200.0])
    array([0.5, 1. ], dtype=float32)
    """
    return x.tape.bind(SIGMOID, (x,), name=name)


def softplus(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns log(1 + exp(x)).

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.softplus, [0.0, 50.0])
    array([ 0.6931472, 50.       ], dtype=float32)
    """
    return x.tape.bind(SOFTPLUS, (x,), name=name)


def silu(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns x * sigmoid(x), which is also called swish.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.silu, [0.0, 1.0])
    array([0.       , 0.7310586], dtype=float32)
    """
    return x.tape.bind(SILU, (x,), name=name)


def gelu(x: Tensor, approximate: str = "none", *, name: str | None = None) -> Tensor:
    """Returns x times the normal distribution function of x (Hendrycks and Gimpel 2016).

    ``approximate`` is "none", or "tanh" for 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))). Raises ValueError for
    anything else.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.gelu, [0.0, 1.0])
    array([0.       , 0.8413448], dtype=float32)
    """
    checks.named("approximate", approximate, ("none", "tanh"))
    return x.tape.bind(GELU if approximate == "none" else GELU_TANH, (x,), name=name)


def clamp(x: Tensor, low: float | None, high: float | None, *, name: str | None = None) -> Tensor:
    """Returns low where x is below it, high where x is above it, and else x. None: there is no such bound.

    The derivative is 1 between low and high and 0 elsewhere, also at low and high. Without a bound it is 0 at the
    infinity in its place. Raises ValueError unless low is at most high.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.clamp(x, 0, 6), [-1.0, 3.0, 9.0])
    array([0., 3., 6.], dtype=float32)
    """
    low = -np.inf if low is None else number("low", low)
    high = np.inf if high is None else number("high", high)
    if low > high:
        raise UsageError(f"low must be at most high, got {low:g} and {high:g}")
    return x.tape.bind(CLAMP, (x,), name=name, a=low, b=high)


def relu6(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns clamp(x, 0, 6).

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.relu6, [-1.0, 3.0, 9.0])
    array([0., 3., 6.], dtype=float32)
    """
    return clamp(x, 0.0, 6.0, name=name)


def leaky_relu(x: Tensor, negative_slope: float = 0.01, *, name: str | None = None) -> Tensor:
    """Returns x where it is positive, and else negative_slope * x. The derivative at 0 is negative_slope.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.leaky_relu(x, 0.25), [-1.0, 2.0])
    array([-0.25,  2.  ], dtype=float32)
    """
    return x.tape.bind(LEAKY_RELU, (x,), name=name, a=number("negative_slope", negative_slope))


def hard_sigmoid(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns clamp(x + 3, 0, 6) / 6.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.hard_sigmoid, [-3.0, 0.0, 3.0])
    array([0. , 0.5, 1. ], dtype=float32)
    """
    return x.tape.bind(HARD_SIGMOID, (x,), name=name)


def hard_swish(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns x * clamp(x + 3, 0, 6) / 6 (Howard et al. 2019, "Searching for MobileNetV3").

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.hard_swish, [1.0, 3.0])
    array([0.6666667, 3.       ], dtype=float32)
    """
    return x.tape.bind(HARD_SWISH, (x,), name=name)


def dropout(x: Tensor, share: float = 0.5, *, leading: int | None = None, name: str | None = None) -> Tensor:
    """Sets elements to +0 with probability ``share`` on a training tape, and multiplies the others by 1 / (1 - share).

    An element is kept if its random word is at least ``share`` * 2**32, rounded to an integer (Philox, purpose
    "dropout", with the tape's seed and step and the op's index). The factor is rounded to float32. An evaluation tape
    copies x.

    Args:
        x: The tensor.
        share: The probability, from 0 to below 1.
        leading: The number of leading axes that have their own draws: 1 drops entire samples (stochastic depth), 2
            drops channels. None: each element has its own.
        name: The op's name.

    Raises:
        ValueError: A number is out of range.

    Source: Srivastava et al. 2014; Huang et al. 2016 for stochastic depth.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> sorted(set(nn.apply(ops.dropout, np.ones(100), training=True).tolist()))
    [0.0, 2.0]
    """
    share = checks.real("share", share, least=0, below=1)
    axes = len(x.shape) if leading is None else checks.whole("leading", leading, least=1, most=len(x.shape))
    stream = x.tape.stream("dropout") if x.tape.training else None
    return x.tape.bind(DROPOUT, (x,), name=name, share=share, leading=axes, stream=stream)


def _dropout_forward(
    kernels: Kernels, inputs: tuple, parameters: tuple, *, share: float, leading: int, stream: Stream | None
) -> tuple[Array, tuple]:
    (x,) = inputs
    if stream is None:
        return kernels.scale(x, 1.0), (None, 1.0)
    draws = prod(tuple(x.shape)[:leading])
    kept = kernels.to_numpy(kernels.random_bits(stream, draws)) >= np.uint64(round(share * 2**32))
    mask = np.repeat(kept, x.size // draws if draws else 0).reshape(tuple(x.shape))
    factor, mask = 1 / (1 - share), kernels.from_numpy(mask)
    y = kernels.relu_gradient(x, mask)
    return kernels.scale(y, factor, out=y), (mask, factor)


def _dropout_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    mask, factor = saved
    if not needs[0] or mask is None:
        return (gradient if needs[0] else None,), ()
    return (kernels.scale(kernels.relu_gradient(gradient, mask, out=gradient), factor, out=gradient),), ()


DROPOUT = Primitive(
    "Dropout",
    _dropout_forward,
    _dropout_backward,
    same_shape,
    kept_bits=1,
    samples=tuple(
        Sample(((4, 3, 2),), attributes={"share": 0.25, "leading": leading, "stream": Stream(1, "dropout")})
        for leading in (3, 2, 1)
    ),
)


def relu(x: Tensor, *, name: str | None = None) -> Tensor:
    """Returns x where it is positive or NaN, else +0. The derivative at 0 is 0. Its mask is of the stored input.

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.relu, [-1.0, 2.0])
    array([0., 2.], dtype=float32)
    """
    return x.tape.bind(RELU, (x,), name=name)


def _relu_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.relu(inputs[0]), (kernels.positive(inputs[0]),)


def _relu_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.relu_gradient(gradient, saved[0], out=gradient) if needs[0] else None,), ()


RELU = Primitive(
    "ReLU",
    _relu_forward,
    _relu_backward,
    same_shape,
    chooses=True,
    kept_bits=1,
    samples=(Sample(((3, 4, 2),)),),
)
