"""Defines the kinds of losses: cross-entropy and its forms, squared errors, binary cross-entropy, or one's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import fsum, prod

import numpy as np

from mpsim import checks, ops
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError, UsageTypeError
from mpsim.process import in_default_environment


@dataclass(frozen=True)
class Loss:
    """A loss. Its subclasses compute it and say which labels they take."""

    def __call__(self, outputs: Tensor, labels: np.ndarray) -> Tensor:
        """Returns the loss, a tensor of one element."""
        raise NotImplementedError

    def blank(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns labels of outputs of a shape, for a trace."""
        return np.zeros(shape[:-1], np.int64)

    def counted(self, labels: np.ndarray) -> np.ndarray:
        """Returns a mask of the classes that count, bool of their shape."""
        return np.ones(labels.shape, np.bool_)

    def weight(self, labels: np.ndarray) -> float:
        """Returns the weight of the loss of a part of a batch in the mean over the batch."""
        return float(len(labels))

    def undivided(self) -> Loss:
        """Returns the loss of a part of weight 0 of a batch, with the weight 1."""
        return self


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """The mean of -sum over c of t_c log(softmax(outputs)_c), where t is 1 at the class, or the given shares.

    Args:
        smoothing: The share of t that is spread evenly over all classes.
        weights: A factor for each class, or nothing.
        ignore_index: Labels of this class are left out, or None.

    With classes as labels the mean is over the labels that count, weighted by the weights of their classes, and with
    shares over all rows, as in PyTorch. It is a NaN if no label counts. Without any argument it is
    ``ops.cross_entropy``, and else ``ops.soft_nll_loss`` of float32 shares: t, smoothed, times the weights, in float64.

    Raises:
        UsageError: An argument is out of range.

    Source: smoothing, Szegedy et al. 2016; shares, Zhang et al. 2018, "mixup".

    >>> CrossEntropy(smoothing=0.1).shares(np.array([1]), 2)[0]
    array([[0.05, 0.95]])
    """

    smoothing: float = 0.0
    weights: tuple[float, ...] = ()
    ignore_index: int | None = None

    @in_default_environment
    def __post_init__(self) -> None:
        object.__setattr__(self, "smoothing", float(checks.real("smoothing", self.smoothing, least=0, most=1)))
        object.__setattr__(self, "weights", _factors("weights", self.weights))
        if self.ignore_index is not None:
            checks.whole("ignore_index", self.ignore_index, least=-(1 << 31), most=(1 << 31) - 1)

    def __call__(self, outputs: Tensor, labels: np.ndarray) -> Tensor:
        labels, classes = np.asarray(labels), outputs.shape[-1]
        if self == CrossEntropy() and labels.dtype.kind in "iu":
            return ops.cross_entropy(outputs, labels)
        rows = ops.reshape(outputs, (-1, classes)) if len(outputs.shape) > 2 else outputs  # (N, ..., C) -> (M, C)
        shares, divisor = self.shares(labels.reshape(-1, *labels.shape[len(outputs.shape) - 1 :]), classes)
        return ops.soft_nll_loss(ops.log_softmax(rows), shares.astype(np.float32), divisor)

    @in_default_environment
    def shares(self, labels: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
        """Returns the factors of the log-probabilities, float64 (M, classes), and the number that divides their sum.

        Args:
            labels: Classes, integers (M,), or shares (M, classes).
            classes: The number of classes.
        """
        weights = _for_classes("weights", self.weights, classes)
        given = labels.dtype.kind in "iu"
        counts = self.counted(labels) if given else np.ones(len(labels), np.bool_)
        classes_of = np.where(counts, labels, 0) if given else labels
        shares = _one_hot(classes_of, classes) * (1 - self.smoothing) + self.smoothing / classes
        shares = shares * weights * counts[:, None]
        return shares, fsum(weights[classes_of[counts]]) if given else float(len(labels))

    def counted(self, labels: np.ndarray) -> np.ndarray:
        return np.asarray(labels != self.ignore_index)

    @in_default_environment
    def weight(self, labels: np.ndarray) -> float:
        if labels.dtype.kind not in "iu" or not (self.weights or self.ignore_index is not None):
            return super().weight(labels)
        counts = labels[self.counted(labels)]
        return fsum(np.array(self.weights)[counts]) if self.weights else float(len(counts))

    @in_default_environment
    def undivided(self) -> Loss:
        return _Undivided(self.smoothing, self.weights, self.ignore_index)


@dataclass(frozen=True)
class _Undivided(CrossEntropy):
    """The cross-entropy of a part of a batch whose labels weigh 0: a sum, not the NaN of a mean over nothing."""

    def shares(self, labels: np.ndarray, classes: int) -> tuple[np.ndarray, float]:
        return super().shares(labels, classes)[0], 1.0


@dataclass(frozen=True)
class MSE(Loss):
    """The mean of the squared differences between outputs and labels (``ops.mse_loss``).

    Classes as labels stand for 1 at the class and 0 elsewhere.

    >>> from mpsim import kernels
    >>> from mpsim.engine.tape import Tape
    >>> outputs = Tape(kernels.bind("reference")).input(np.float32([[3, 1]]))
    >>> MSE()(outputs, np.float32([[1, 2]])).value
    array([2.5], dtype=float32)
    """

    def __call__(self, outputs: Tensor, labels: np.ndarray) -> Tensor:
        return ops.mse_loss(outputs, _one_hot(np.asarray(labels), outputs.shape[-1]).astype(np.float32))


@dataclass(frozen=True)
class BCE(Loss):
    """The mean binary cross-entropy of sigmoid(outputs) (``ops.bce_loss``), as PyTorch's BCEWithLogitsLoss.

    Args:
        positive: A factor of the terms of positive labels for each class, or nothing.

    Classes as labels stand for 1 at the class and 0 elsewhere.

    Raises:
        UsageError: A factor is negative.

    >>> BCE(positive=[1, 3]).positive
    (1.0, 3.0)
    """

    positive: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "positive", _factors("positive", self.positive))

    def __call__(self, outputs: Tensor, labels: np.ndarray) -> Tensor:
        targets = _one_hot(np.asarray(labels), outputs.shape[-1])
        positive = targets * _for_classes("positive", self.positive, outputs.shape[-1])
        return ops.bce_loss(outputs, positive.astype(np.float32), (1 - targets).astype(np.float32))


@dataclass(frozen=True)
class Custom(Loss):
    """A loss of one's own.

    Args:
        function: function(outputs, labels) returns a tensor of one element, computed by ops. Labels are a NumPy array.
        name: The name in files.
        values: Whether a trace passes values as labels, float32 of the outputs' shape, and else classes.

    >>> def absolute(outputs, labels):
    ...     distance = ops.subtract(outputs, labels)
    ...     return ops.mean(ops.add(ops.relu(distance), ops.relu(ops.scale(distance, -1))))
    >>> Custom(absolute, "absolute", values=True).blank((2, 3)).shape
    (2, 3)
    """

    function: Callable[..., object]
    name: str = ""
    values: bool = False

    def __post_init__(self) -> None:
        if not callable(self.function):
            found = checks.shown(self.function)
            raise UsageTypeError(f"function must be a function of outputs and labels, got {found}", "function")
        object.__setattr__(self, "name", self.name or getattr(self.function, "__name__", type(self.function).__name__))

    def __call__(self, outputs: Tensor, labels: np.ndarray) -> Tensor:
        loss = self.function(outputs, labels)
        if not isinstance(loss, Tensor) or prod(loss.shape) != 1:
            found = f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
            raise UsageError(f"loss {self.name!r} must return a tensor of one element, got {found}")
        return loss

    def blank(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, np.float32) if self.values else super().blank(shape)


def _one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    """Returns classes as float64 values (..., classes), and values as they are."""
    return np.eye(classes)[labels] if labels.dtype.kind in "iu" else labels.astype(np.float64)


def _factors(name: str, given: object) -> tuple[float, ...]:
    if isinstance(given, str) or not hasattr(given, "__iter__"):
        found = checks.shown(given)
        raise UsageTypeError(f"{name} must be a number for each class, such as (1, 2.5), got {found}", name)
    most = checks.FLOAT32_LARGEST
    return tuple(float(checks.real(f"{name}[{i}]", each, least=0, most=most)) for i, each in enumerate(given))


def _for_classes(name: str, factors: tuple[float, ...], classes: int) -> np.ndarray:
    """Returns a factor for each class, 1 if none are given."""
    if factors and len(factors) != classes:
        raise UsageError(f"{name} of the loss must be {classes} numbers, one for each class; got {len(factors)}")
    return np.array(factors or [1.0] * classes)
