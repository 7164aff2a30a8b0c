"""Batch normalization over (N, H, W) per channel (Ioffe and Szegedy 2015)."""

from __future__ import annotations

from typing import Any

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels


def batch_norm(
    x: Tensor,
    scale: Parameter,
    shift: Parameter,
    running_mean: Array | None = None,
    running_variance: Array | None = None,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    name: str | None = None,
) -> Tensor:
    """Computes y = (x - mean) / sqrt(variance + epsilon) * scale + shift per channel: (N, C, H, W) -> (N, C, H, W).

    On a training tape mean and variance are those of the batch. The running statistics (backend arrays (C,), if passed)
    are updated in place: running = (1 - momentum) * running + momentum * batch, with the unbiased variance, over
    N*H*W - 1. An evaluation tape uses the running statistics, which are then required. Raises UsageError for an epsilon
    that is 0 in float32, or a momentum outside 0 to 1.
    """
    check_epsilon(epsilon)
    check_momentum(momentum)
    attributes = {
        "running": None if running_mean is None else (running_mean, running_variance),
        "epsilon": epsilon,
        "momentum": momentum,
        "training": x.tape.training,
    }
    return x.tape.bind(BATCH_NORM, (x,), (scale, shift), name, **attributes)


def check_epsilon(value: float) -> float:
    """Returns ``value`` if it is above 0 in float32, so that a variance of 0 has an inverse deviation."""
    return checks.real("epsilon", value, least=2.0**-149, most=checks.FLOAT32_LARGEST)


def check_momentum(value: float) -> float:
    """Returns ``value``, the weight of a batch in the running statistics, if it is from 0 to 1."""
    return checks.share("momentum", value)


def _forward(
    kernels: Kernels,
    inputs: tuple,
    parameters: tuple,
    *,
    running: tuple[Array, Array] | None = None,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    training: bool = True,
) -> tuple[Array, tuple]:
    (x,), (scale, shift) = inputs, parameters
    if not training and running is not None:
        return kernels.batch_norm_inference(x, *running, scale, shift, epsilon), ()
    y, mean, variance, inverse_deviation = kernels.batch_norm(x, scale, shift, epsilon)
    if running is not None:
        count = x.shape[0] * x.shape[2] * x.shape[3]
        kernels.update_running(running[0], mean, momentum, 1.0)
        kernels.update_running(running[1], variance, momentum, count / (count - 1) if count > 1 else 1.0)
    return y, (x, mean, inverse_deviation, scale)


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x_gradient, scale_gradient, shift_gradient = kernels.batch_norm_gradient(gradient, *saved, out=gradient)
    return (x_gradient,), (scale_gradient, shift_gradient)


def _shape(
    inputs: list[Shape], parameters: list[Shape], *, running: tuple | None = None, training: bool = True, **rest: Any
) -> Shape:
    (x,) = inputs
    if len(x) != 4:
        raise UsageError(f"input must be (N, C, H, W), got {x}")
    if not training and running is None:
        raise UsageError("evaluation needs running statistics, got none")
    statistics = {} if running is None else {"running mean": running[0].shape, "running variance": running[1].shape}
    for what, shape in {"scale": parameters[0], "shift": parameters[1], **statistics}.items():
        if tuple(shape) != (x[1],):
            raise UsageError(f"input has {x[1]} channels, {what} has shape {tuple(shape)}")
    return x


BATCH_NORM = Primitive(
    "BatchNorm2d",
    _forward,
    _backward,
    _shape,
    reads_input_again=True,
    samples=(Sample(((3, 2, 4, 5),), ((2,), (2,))),),
)
