"""Normalization by the mean and variance of a batch, of groups of channels, or of each row."""

from __future__ import annotations

from math import prod

import numpy as np

from mpsim import checks
from mpsim.engine.primitive import Primitive, Sample, Shape, needs_parameter
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.errors import UsageError
from mpsim.kernels import Kernels
from mpsim.ops.broadcasting import expanded, reduced
from mpsim.ops.reductions import divided


def batch_norm(
    x: Tensor,
    scale: Parameter | None = None,
    shift: Parameter | None = None,
    running_mean: Array | None = None,
    running_variance: Array | None = None,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.1,
    of_batch: bool = False,
    name: str | None = None,
) -> Tensor:
    """Computes y = (x - mean) / sqrt(variance + epsilon) * scale + shift per channel of (N, C[, L]) or (N, C, H, W).

    Without scale and shift these are 1 and 0. On a training tape mean and variance are those of the batch. The running
    statistics (backend arrays (C,), if passed) are updated in place: running = (1 - momentum) * running + momentum *
    batch, with the unbiased variance, over N*H*W - 1. An evaluation tape uses the running statistics, which are then
    required unless ``of_batch`` is set: then it uses those of the batch. Raises UsageError for an epsilon that is 0 in
    float32, or a momentum outside 0 to 1.

    Source: Ioffe and Szegedy 2015.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.batch_norm(x, epsilon=2.0**-40), [[1.0], [3.0]], training=True)
    array([[-1.],
           [ 1.]], dtype=float32)
    """
    check_epsilon(epsilon)
    check_momentum(momentum)
    attributes = {
        "running": None if running_mean is None else (running_mean, running_variance),
        "epsilon": epsilon,
        "momentum": momentum,
        "training": x.tape.training or of_batch,
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
    (x,) = inputs
    image = _image(x)
    scale, shift = parameters or unit(kernels, x.shape[1], x)
    if not training and running is not None:
        return kernels.batch_norm_inference(image, *running, scale, shift, epsilon).reshape(*x.shape), ()
    y, mean, variance, inverse_deviation = kernels.batch_norm(image, scale, shift, epsilon)
    if running is not None:
        count = x.size // x.shape[1]
        kernels.update_running(running[0], mean, momentum, 1.0)
        kernels.update_running(running[1], variance, momentum, count / (count - 1) if count > 1 else 1.0)
    return y.reshape(*x.shape), (x, mean, inverse_deviation, scale, bool(parameters))


def _backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, *statistics, affine = saved
    gradient = _image(gradient)
    x_gradient, *others = kernels.batch_norm_gradient(gradient, _image(x), *statistics, out=gradient)
    return (x_gradient.reshape(*x.shape),), tuple(others) if affine else ()


def _image(x: Array) -> Array:
    """(N, C, ...) -> (N, C, H, W)."""
    return x if len(x.shape) == 4 else x.reshape(*x.shape[:2], -1, 1)


def _shape(
    inputs: list[Shape], parameters: list[Shape], *, running: tuple | None = None, training: bool = True, **rest: object
) -> Shape:
    (x,) = inputs
    if len(x) not in (2, 3, 4):
        raise UsageError(f"input must be (N, C), (N, C, L) or (N, C, H, W), got {x}")
    if len(parameters) == 1:
        raise UsageError("scale and shift are needed together, got one of them")
    if not training and running is None:
        raise UsageError("evaluation needs running statistics, got none")
    statistics = {} if running is None else {"running mean": running[0].shape, "running variance": running[1].shape}
    for what, shape in {**dict(zip(("scale", "shift"), parameters, strict=False)), **statistics}.items():
        if tuple(shape) != (x[1],):
            raise UsageError(f"input has {x[1]} channels, {what} has shape {tuple(shape)}")
    return x


BATCH_NORM = Primitive(
    "BatchNorm2d",
    _forward,
    _backward,
    _shape,
    reads_input_again=True,
    samples=(Sample(((3, 2, 4, 5),), ((2,), (2,))), Sample(((5, 3),)), Sample(((4, 2, 3),), ((2,), (2,)))),
)


def layer_norm(
    x: Tensor,
    weight: Parameter | None = None,
    bias: Parameter | None = None,
    *,
    axes: int = 1,
    epsilon: float = 1e-5,
    name: str | None = None,
) -> Tensor:
    """Computes (x - mean) / sqrt(variance + epsilon) * weight + bias, with statistics over the last ``axes`` axes.

    weight and bias have the shape of these axes. A bias needs a weight. Each row is normalized as a channel by the
    kernel batch_norm with scale 1 and shift 0, then multiplied, then added. Raises UsageError for shapes that do not
    match, or an epsilon that is 0 in float32.

    Source: Ba, Kiros and Hinton 2016.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.layer_norm(x, epsilon=2.0**-40), [[1.0, 3.0]])
    array([[-1.,  1.]], dtype=float32)
    """
    count = checks.whole("axes", axes, least=1, most=len(x.shape) - 1)
    given = {"rows": prod(x.shape[:-count]), "affine": x.shape[-count:], "epsilon": check_epsilon(epsilon)}
    return x.tape.bind(LAYER_NORM, (x,), (weight, bias), name, **given)


def group_norm(
    x: Tensor,
    groups: int,
    weight: Parameter | None = None,
    bias: Parameter | None = None,
    *,
    epsilon: float = 1e-5,
    name: str | None = None,
) -> Tensor:
    """Computes (x - mean) / sqrt(variance + epsilon) * weight + bias, with statistics of each image and group of
    channels: (N, C, ...) -> (N, C, ...).

    weight and bias are (C,). With ``groups`` = C this is instance normalization. The orders are those of
    ``layer_norm``. Raises UsageError if the channels cannot be divided into the groups, for shapes that do not match,
    or for an epsilon that is 0 in float32.

    Source: Wu and He 2018.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.group_norm(x, 2, epsilon=2.0**-40), [[1.0, 3.0, 5.0, 9.0]])
    array([[-1.,  1., -1.,  1.]], dtype=float32)
    """
    channels = x.shape[1] if len(x.shape) > 1 else 0
    if channels == 0 or channels % checks.whole("groups", groups, least=1):
        raise UsageError(f"{channels} channels cannot be divided into {groups} groups")
    affine = (channels, *[1] * (len(x.shape) - 2))
    given = {"rows": x.shape[0] * groups, "affine": affine, "epsilon": check_epsilon(epsilon)}
    return x.tape.bind(GROUP_NORM, (x,), (weight, bias), name, **given)


def rms_norm(
    x: Tensor, weight: Parameter | None = None, *, epsilon: float = 2.0**-23, name: str | None = None
) -> Tensor:
    """Computes x * r * weight, r = 1 / sqrt(mean(x * x) + epsilon) over the last axis.

    weight has the size of this axis. Products and the mean are rounded to float32, and r is rounded once. Raises
    UsageError for shapes that do not match, or an epsilon that is 0 in float32.

    Source: Zhang and Sennrich 2019.

    >>> from mpsim import nn, ops
    >>> nn.apply(lambda x: ops.rms_norm(x, epsilon=2.0**-40), [[3.0, -3.0]]).round(3)
    array([[ 1., -1.]], dtype=float32)
    """
    return x.tape.bind(RMS_NORM, (x,), (weight,), name, epsilon=check_epsilon(epsilon))


def _affine(kernels: Kernels, y: Array, parameters: tuple, affine: Shape) -> Array:
    """Multiplies y by the first parameter and adds the second, if there are any, in the memory of y."""
    for kernel, parameter in zip((kernels.multiply, kernels.add), parameters, strict=False):
        y = kernel(y, expanded(kernels, parameter.reshape(*affine), tuple(y.shape)), out=y)
    return y


def unit(kernels: Kernels, count: int, x: Array) -> tuple[Array, Array]:
    """Returns a scale of ones and a shift of zeros, of the dtype of x."""
    one, zero = (kernels.from_numpy(np.full(count, value, x.dtype)) for value in (1, 0))
    return one, zero


def _rows_forward(
    kernels: Kernels, inputs: tuple, parameters: tuple, *, rows: int, affine: Shape, epsilon: float
) -> tuple[Array, tuple]:
    (x,) = inputs
    one, zero = unit(kernels, rows, x)
    y, mean, variance, inverse = kernels.batch_norm(x.reshape(1, rows, 1, -1), one, zero, epsilon)
    y = _affine(kernels, y.reshape(*x.shape), parameters, affine)
    return y, (x, mean, variance, inverse, parameters, affine, epsilon)


def _rows_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, mean, variance, inverse, parameters, affine, epsilon = saved
    one, zero = unit(kernels, mean.size, x)
    rows, found = x.reshape(1, mean.size, 1, -1), [None for _ in parameters]
    if parameters and needs_parameter(needs, 0):
        normalized = kernels.batch_norm_inference(rows, mean, variance, one, zero, epsilon).reshape(*x.shape)
        product = kernels.multiply(gradient, normalized, out=normalized)
        found[0] = reduced(kernels, product, affine).reshape(*parameters[0].shape)
    if len(parameters) > 1 and needs_parameter(needs, 1):
        own = kernels.scale(gradient, 1.0) if gradient.size == parameters[1].size else gradient  # overwritten below
        found[1] = reduced(kernels, own, affine).reshape(*parameters[1].shape)
    if not needs[0]:
        return (None,), tuple(found)
    gradient = _affine(kernels, gradient, parameters[:1], affine).reshape(*rows.shape)
    x_gradient = kernels.batch_norm_gradient(gradient, rows, mean, inverse, one)[0]
    return (x_gradient.reshape(*x.shape),), tuple(found)


def _rows_shape(inputs: list[Shape], parameters: list[Shape], *, affine: Shape, **rest: object) -> Shape:
    wanted = tuple(size for size in affine if size != 1) if len(affine) > 1 else affine
    for what, shape in zip(("weight", "bias"), parameters, strict=False):
        if tuple(shape) not in (wanted, affine):
            raise UsageError(f"{what} must have shape {wanted}, got {tuple(shape)}")
    return inputs[0]


def _rms_forward(kernels: Kernels, inputs: tuple, parameters: tuple, *, epsilon: float) -> tuple[Array, tuple]:
    (x,) = inputs
    length = x.shape[-1]
    squares = kernels.channel_sum(kernels.multiply(x, x).reshape(1, -1, length))
    inverse = kernels.unary(kernels.unary(divided(kernels, squares, length), "shift", epsilon), "inverse_root")
    y = _times_rows(kernels, x, inverse)
    return _affine(kernels, y, parameters, (length,)), (x, inverse, parameters)


def _rms_backward(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    x, inverse, parameters = saved
    length, normalized, found = x.shape[-1], _times_rows(kernels, x, inverse), []
    if parameters:
        found.append(reduced(kernels, kernels.multiply(gradient, normalized), (length,)))
    if not needs[0]:
        return (None,), tuple(found)
    gradient = _affine(kernels, gradient, parameters, (length,))
    products = kernels.multiply(gradient, normalized).reshape(1, -1, length)
    share = divided(kernels, kernels.channel_sum(products), length)
    rest = kernels.subtract(gradient, _times_rows(kernels, normalized, share))
    return (_times_rows(kernels, rest, inverse),), tuple(found)


def _times_rows(kernels: Kernels, x: Array, factors: Array) -> Array:
    """Multiplies each row of x (..., D) by its factor."""
    shape = tuple(x.shape)
    return kernels.multiply(x, expanded(kernels, factors.reshape(*shape[:-1], 1), shape))


def _rms_shape(inputs: list[Shape], parameters: list[Shape], *, epsilon: float) -> Shape:
    (x,) = inputs
    if len(x) < 2 or any(tuple(shape) != x[-1:] for shape in parameters):
        raise UsageError(f"input must be (..., D) and weight (D,), got {x} and {', '.join(map(str, parameters))}")
    return x


def _row_sample(rows: int, affine: Shape, *parameters: Shape, x: Shape = (2, 4, 3)) -> Sample:
    return Sample((x,), parameters, {"rows": rows, "affine": affine, "epsilon": 1e-5})


LAYER_NORM = Primitive(
    "LayerNorm", _rows_forward, _rows_backward, _rows_shape, reads_input_again=True,
    samples=(_row_sample(8, (3,), (3,), (3,)), _row_sample(2, (4, 3), (4, 3)), _row_sample(4, (7,), x=(4, 7))),
)  # fmt: skip
GROUP_NORM = Primitive(
    "GroupNorm", _rows_forward, _rows_backward, _rows_shape, reads_input_again=True,
    samples=(_row_sample(4, (4, 1), (4,), (4,)), _row_sample(2, (4, 1), x=(2, 4, 6))),
)  # fmt: skip
RMS_NORM = Primitive(
    "RMSNorm", _rms_forward, _rms_backward, _rms_shape, reads_input_again=True,
    samples=(Sample(((2, 4, 3),), ((3,),), {"epsilon": 2.0**-23}), Sample(((4, 3),), (), {"epsilon": 0.5})),
)  # fmt: skip
