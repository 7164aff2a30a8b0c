"""Log-softmax and the negative log-likelihood of labels, whose composition is the cross-entropy."""

from __future__ import annotations

import numpy as np

from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Tensor
from mpsim.errors import UsageError, UsageTypeError
from mpsim.kernels import Kernels
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
    return kernels.nll_loss(log_probabilities, labels), (labels, log_probabilities.shape)


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
    samples=(Sample(((4, 3), np.array([2, 0, 1, 2]))),),
)
