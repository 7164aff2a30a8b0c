"""Log-softmax, the negative log-likelihood of labels, whose composition is the cross-entropy, and further losses."""

from __future__ import annotations

import numpy as np

from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError, UsageTypeError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import expanded
from mpsim.ops.functions import number
from mpsim.ops.reductions import divided
from mpsim.ops.shape import reshape


def cross_entropy(logits: Tensor, labels: np.ndarray) -> Tensor:
    """Returns the mean loss (1,), nll_loss of log_softmax, by ops "criterion.logsoftmax" and "criterion.nllloss".

    ``logits`` are (N, C) with ``labels`` (N,), or (N, ..., C) with ``labels`` (N, ...), such as one for each token. The
    classes are the last axis, not the second one as in PyTorch.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.cross_entropy(x, np.array([0])), [[0.0, 0.0]])
    array([0.6931472], dtype=float32)
    """
    labels = np.asarray(labels)
    if len(logits.shape) > 2 and labels.shape == logits.shape[:-1]:
        logits, labels = reshape(logits, (-1, logits.shape[-1])), labels.reshape(-1)  # (N, ..., C) -> (M, C)
    return nll_loss(log_softmax(logits), labels)


def log_softmax(x: Tensor, *, name: str | None = "criterion.logsoftmax") -> Tensor:
    """Computes y_c = x_c - log(sum over c of exp(x_c)) per row: (N, C) -> (N, C).

    The derivative g_c - exp(y_c) * sum(g) uses the *stored* y (Lee et al. 2023, section 2 of the artifact's step).

    >>> from mpsim import nn, ops
    >>> nn.apply(ops.log_softmax, [[0.0, 0.0]])
    array([[-0.6931472, -0.6931472]], dtype=float32)
    """
    return x.tape.bind(LOG_SOFTMAX, (x,), name=name)


def _softmax_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return kernels.log_softmax(inputs[0]), ()


def _softmax_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    (stored_output,) = saved
    return (kernels.log_softmax_gradient(gradient, stored_output) if needs[0] else None,), ()


def _softmax_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    if len(inputs[0]) != 2:
        raise UsageError(f"input must be (N, C), got {inputs[0]}; flatten images first")
    return inputs[0]


LOG_SOFTMAX = Primitive(
    "LogSoftmax", _softmax_forward, _softmax_backward, _softmax_shape, saves_output=True, samples=(Sample(((4, 5),)),)
)


def nll_loss(log_probabilities: Tensor, labels: np.ndarray, *, name: str | None = "criterion.nllloss") -> Tensor:
    """Computes the mean over n of -log_probabilities[n, labels[n]]: (N, C) and a host array of N integers -> (1,).

    Raises TypeError for labels that are not integers, and ValueError for a wrong number of labels or one outside
    0..C-1.

    >>> import numpy as np
    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.nll_loss(x, np.array([1])), [[-2.0, -0.5]])
    array([0.5], dtype=float32)
    """
    labels = np.ascontiguousarray(labels)
    if labels.dtype.kind not in "iu":
        raise UsageTypeError(f"labels must be integers, got an array of {labels.dtype}")
    classes = log_probabilities.shape[-1]
    outside = labels[(labels < 0) | (labels >= classes)]
    if outside.size:
        raise UsageError(f"labels must be in 0..{classes - 1}, got {outside.flat[0]}")
    labels = labels.astype(np.int64, copy=False)
    return log_probabilities.tape.bind(NLL_LOSS, (log_probabilities, labels), name=name)


def _nll_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    log_probabilities, labels = inputs[0], kernels.from_numpy(inputs[1])
    return kernels.sums.nll_loss(log_probabilities, labels), (labels, log_probabilities.shape)


def _nll_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (kernels.nll_loss_gradient(gradient, *saved) if needs[0] else None, None), ()


def _nll_shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    log_probabilities, labels = inputs
    if len(log_probabilities) != 2 or labels != log_probabilities[:1]:
        raise UsageError(f"(N, C) log-probabilities and (N,) labels are wanted, got {log_probabilities} and {labels}")
    return (1,)


NLL_LOSS = Primitive(
    "NLLLoss",
    _nll_forward,
    _nll_backward,
    _nll_shape,
    is_loss=True,
    sums="output",
    samples=(Sample(((4, 3), np.array([2, 0, 1, 2]))),),
)


def soft_nll_loss(
    log_probabilities: Tensor, shares: np.ndarray, divisor: float, *, name: str | None = "criterion.nllloss"
) -> Tensor:
    """Computes -(sum over n and c of log_probabilities * shares) / divisor: (N, C) and a host array (N, C) -> (1,).

    The products are rounded and added in the order of the array, by the REDUCTION of the kernels' contract. ``shares``
    and ``divisor`` are float32 numbers. The gradient is -(g / divisor) * shares. Raises ValueError for another shape.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.soft_nll_loss(x, np.float32([[0.5, 0.5]]), 1.0), [[-1.0, -2.0]])
    array([1.5], dtype=float32)
    """
    return log_probabilities.tape.bind(
        SOFT_NLL_LOSS, (log_probabilities, shares), name=name, divisor=number("divisor", divisor)
    )


def mse_loss(x: Tensor, targets: np.ndarray, *, name: str | None = "criterion.mseloss") -> Tensor:
    """Computes the mean of (x - target) * (x - target): a tensor and a host array of its shape -> (1,).

    The sum is formed as in ``soft_nll_loss``, and divided by the float32 number of elements. The gradient is
    (x - target) * (2 * (g / number)). Raises ValueError for another shape.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.mse_loss(x, np.float32([[1.0, 2.0]])), [[3.0, 1.0]])
    array([2.5], dtype=float32)
    """
    return x.tape.bind(MSE_LOSS, (x, targets), name=name)


def bce_loss(
    x: Tensor, positive: np.ndarray, negative: np.ndarray, *, name: str | None = "criterion.bceloss"
) -> Tensor:
    """Computes the mean of positive * softplus(-x) + negative * softplus(x): a tensor and two host arrays -> (1,).

    For targets t the binary cross-entropy of sigmoid(x) has positive = t and negative = 1 - t. Both terms are at least
    0, so that small losses keep their precision. The sum is formed as in ``mse_loss``. The gradient is
    (negative * sigmoid(x) - positive * sigmoid(-x)) * (g / number). Raises ValueError for another shape.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.bce_loss(x, np.float32([[1.0]]), np.float32([[0.0]])), [[0.0]])
    array([0.6931472], dtype=float32)
    """
    return x.tape.bind(BCE_LOSS, (x, positive, negative), name=name)


def _total(kernels: Kernels, x: Array, divisor: float) -> Array:
    """Returns the sum of all elements, in the order of the array, divided by a float32 number: (1,)."""
    return divided(kernels, kernels.channel_sum(x.reshape(1, 1, -1)), divisor)


def _constant(kernels: Kernels, array: Array, x: Array) -> Array:
    """Returns a host array as the backend's, in the type of x."""
    return kernels.from_numpy(np.ascontiguousarray(array, x.dtype))


def _spread(kernels: Kernels, gradient: Array, x: Array) -> Array:
    """Returns the one number of a loss's gradient for each element of x."""
    return expanded(kernels, gradient.reshape(*(1 for _ in x.shape)), tuple(x.shape))


def _soft_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, divisor: float) -> tuple[Array, tuple]:
    x, shares = inputs
    total = _total(kernels, kernels.multiply(x, _constant(kernels, shares, x)), divisor)
    return kernels.scale(total, -1.0, out=total), (shares, divisor)


def _soft_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    if not needs[0]:
        return (None, None), ()
    shares, divisor = _constant(kernels, saved[0], gradient), saved[1]
    each = kernels.scale(divided(kernels, gradient, divisor), -1.0)
    return (kernels.multiply(_spread(kernels, each, shares), shares), None), ()


def _mse_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    x, targets = inputs
    difference = kernels.subtract(x, _constant(kernels, targets, x))
    return _total(kernels, kernels.multiply(difference, difference), x.size), (x, targets)


def _mse_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, targets = saved
    if not needs[0]:
        return (None, None), ()
    each = kernels.scale(divided(kernels, gradient, x.size), 2.0)
    difference = kernels.subtract(x, _constant(kernels, targets, x))
    return (kernels.multiply(difference, _spread(kernels, each, x), out=difference), None), ()


def _bce_forward(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    of_true, of_false = _both(kernels, "softplus", *inputs)
    return _total(kernels, kernels.add(of_true, of_false, out=of_true), inputs[0].size), inputs


def _both(kernels: Kernels, function: str, x: Array, positive: Array, negative: Array) -> tuple[Array, Array]:
    """Returns positive * function(-x) and negative * function(x)."""
    of_true = kernels.multiply(kernels.unary(kernels.scale(x, -1.0), function), _constant(kernels, positive, x))
    return of_true, kernels.multiply(kernels.unary(x, function), _constant(kernels, negative, x))


def _bce_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    if not needs[0]:
        return (None, None, None), ()
    of_true, of_false = _both(kernels, "sigmoid", *saved)
    slope, each = kernels.subtract(of_false, of_true), divided(kernels, gradient, saved[0].size)
    return (kernels.multiply(slope, _spread(kernels, each, slope), out=slope), None, None), ()


def _of_one_shape(inputs: list[Shape], parameters: list[Shape], divisor: float = 1.0) -> Shape:
    if any(shape != inputs[0] for shape in inputs[1:]):
        raise UsageError(f"targets must have the shape of the outputs, {inputs[0]}, got {inputs[1]}")
    return (1,)


_SHARES = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [0.125, 0.5, 2], [0, 0, 0]])
SOFT_NLL_LOSS = Primitive(
    "SoftNLLLoss",
    _soft_forward,
    _soft_backward,
    _of_one_shape,
    is_loss=True,
    samples=(Sample(((4, 3), _SHARES), attributes={"divisor": 2.5}),),
)
MSE_LOSS = Primitive(
    "MSELoss",
    _mse_forward,
    _mse_backward,
    _of_one_shape,
    is_loss=True,
    reads_input_again=True,
    samples=(Sample(((4, 3), _SHARES)), Sample(((2, 2, 3), _SHARES.reshape(2, 2, 3)))),
)
BCE_LOSS = Primitive(
    "BCELoss",
    _bce_forward,
    _bce_backward,
    _of_one_shape,
    is_loss=True,
    reads_input_again=True,
    samples=(Sample(((4, 3), _SHARES, 1 - _SHARES)),),
)
