"""The layer kernels one float32 operation at a time, straight from the contract: what the reference is tested with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mpsim.kernels.elementary import exp32, log32

Array = np.ndarray[Any, Any]
F = np.float32


def reduction(values: Iterable[F]) -> F:
    """REDUCTION of the contract."""
    v = [F(value) for value in values]
    total = F(0)
    for start in range(0, len(v), 4096):
        lanes = [F(0)] * 32
        for i, value in enumerate(v[start : start + 4096]):
            lanes[i % 32] = lanes[i % 32] + value
        for half in (16, 8, 4, 2, 1):
            for j in range(half):
                lanes[j] = lanes[j] + lanes[j + half]
        total = lanes[0] if start == 0 else total + lanes[0]
    return total


def channel(x: Array, c: int) -> list[F]:
    return [F(value) for n in range(x.shape[0]) for value in x[n, c].reshape(-1)]


def channel_sum(x: Array) -> Array:
    return np.array([reduction(channel(x, c)) for c in range(x.shape[1])], F)


def batch_norm(x: Array, scale: Array, shift: Array, epsilon: float) -> tuple[Array, Array, Array, Array]:
    y = np.empty_like(x)
    mean, variance, inverse = (np.empty(x.shape[1], F) for _ in range(3))
    for c in range(x.shape[1]):
        n = F(len(channel(x, c)))
        mean[c] = reduction(channel(x, c)) / n
        variance[c] = reduction((value - mean[c]) * (value - mean[c]) for value in channel(x, c)) / n
        inverse[c] = F(1) / np.sqrt(variance[c] + F(epsilon))
        factor = inverse[c] * scale[c]
        for at in np.ndindex(x.shape[0], *x.shape[2:]):
            place = (at[0], c, *at[1:])
            y[place] = (x[place] - mean[c]) * factor + shift[c]
    return y, mean, variance, inverse


def batch_norm_inference(x: Array, mean: Array, variance: Array, scale: Array, shift: Array, epsilon: float) -> Array:
    y = np.empty_like(x)
    for place in np.ndindex(*x.shape):
        c = place[1]
        inverse = F(1) / np.sqrt(variance[c] + F(epsilon))
        y[place] = (x[place] - mean[c]) * (inverse * scale[c]) + shift[c]
    return y


def batch_norm_gradient(gy: Array, x: Array, mean: Array, inverse: Array, scale: Array) -> tuple[Array, Array, Array]:
    gx = np.empty_like(x)
    gscale, gshift = np.empty(x.shape[1], F), np.empty(x.shape[1], F)
    for c in range(x.shape[1]):
        n = F(len(channel(x, c)))
        normalized = [(value - mean[c]) * inverse[c] for value in channel(x, c)]
        gshift[c] = reduction(channel(gy, c))
        gscale[c] = reduction(g * hat for g, hat in zip(channel(gy, c), normalized, strict=True))
        for at in np.ndindex(x.shape[0], *x.shape[2:]):
            place = (at[0], c, *at[1:])
            hat = (x[place] - mean[c]) * inverse[c]
            gx[place] = (inverse[c] * scale[c]) * ((gy[place] - gshift[c] / n) - hat * (gscale[c] / n))
    return gx, gscale, gshift


def update_running(running: Array, batch: Array, momentum: float, correction: float) -> None:
    for c in range(len(running)):
        running[c] = (F(1) - F(momentum)) * running[c] + F(momentum) * (batch[c] * F(correction))


def sgd_update(master: Array, gradient: Array, velocity: Array, *scalars: float) -> None:
    learning_rate, momentum, weight_decay, inverse_scale, damping = map(F, (*scalars, 1.0)[:5])
    for at in np.ndindex(*master.shape):
        g = gradient[at] * inverse_scale
        g = g + weight_decay * master[at]
        velocity[at] = momentum * velocity[at] + damping * g
        step = g + momentum * velocity[at] if scalars[5:] == (True,) else velocity[at]
        master[at] = master[at] - learning_rate * step


def adam_update(master: Array, gradient: Array, first: Array, second: Array, *scalars: float) -> None:
    step_size, kept, weight_decay, root, epsilon, inverse_scale = map(F, (*scalars[:3], *scalars[5:]))
    beta1, beta2 = scalars[3:5]
    for at in np.ndindex(*master.shape):
        g = gradient[at] * inverse_scale
        g = g + weight_decay * master[at]
        change = g - first[at]
        first[at] = first[at] + F(1.0 - beta1) * change
        square = g * g
        second[at] = F(beta2) * second[at] + F(1.0 - beta2) * square
        d = np.sqrt(second[at]) / root
        quotient = first[at] / (d + epsilon)
        master[at] = kept * master[at] - step_size * quotient


def lion_update(master: Array, gradient: Array, first: Array, *scalars: float) -> None:
    learning_rate, kept, inverse_scale = map(F, (*scalars[:2], scalars[4]))
    beta1, beta2 = scalars[2:4]
    for at in np.ndindex(*master.shape):
        g = gradient[at] * inverse_scale
        c = F(beta1) * first[at] + F(1.0 - beta1) * g
        direction = F(1) if c > 0 else F(-1) if c < 0 else c
        master[at] = kept * master[at] - learning_rate * direction
        first[at] = F(beta2) * first[at] + F(1.0 - beta2) * g


def relu(x: Array) -> Array:
    return np.array([F(0) if value <= 0 else value for value in x.reshape(-1)], F).reshape(x.shape)


def positive(x: Array) -> Array:
    return np.array([bool(value > 0) for value in x.reshape(-1)]).reshape(x.shape)


def relu_gradient(gy: Array, x: Array) -> Array:
    pairs = zip(gy.reshape(-1), x.reshape(-1), strict=True)
    return np.array([g if value > 0 else F(0) for g, value in pairs], F).reshape(x.shape)


def windows(shape: Any, kernel: Any, stride: Any, padding: Any) -> tuple[int, int]:
    rows, columns = (len(range(0, shape[2 + i] + 2 * padding[i] - kernel[i] + 1, stride[i])) for i in (0, 1))
    return rows, columns


def elements(i: int, j: int, kernel: Any, stride: Any, padding: Any) -> list[tuple[int, int]]:
    """The places (h, w) of window (i, j) in (r, s) order, those in the padding too."""
    top, left = i * stride[0] - padding[0], j * stride[1] - padding[1]
    return [(top + r, left + s) for r in range(kernel[0]) for s in range(kernel[1])]


def max_pool2d(x: Array, kernel: Any, stride: Any, padding: Any) -> tuple[Array, Array]:
    y = np.empty((*x.shape[:2], *windows(x.shape, kernel, stride, padding)), F)
    index = np.empty(y.shape, np.int32)
    for n, c, i, j in np.ndindex(*y.shape):
        best = None
        for h, w in elements(i, j, kernel, stride, padding):
            if not (0 <= h < x.shape[2] and 0 <= w < x.shape[3]):
                continue
            value = x[n, c, h, w]
            if best is None or value > best or (np.isnan(value) and not np.isnan(best)):
                best = y[n, c, i, j] = value
                index[n, c, i, j] = h * x.shape[3] + w
    return y, index


def max_pool2d_gradient(gy: Array, index: Array, x_shape: Any) -> Array:
    gx = np.zeros(x_shape, F)
    for n, c, i, j in np.ndindex(*gy.shape):
        h, w = divmod(int(index[n, c, i, j]), x_shape[3])
        gx[n, c, h, w] = gx[n, c, h, w] + gy[n, c, i, j]
    return gx


def avg_pool2d(x: Array, kernel: Any, stride: Any, padding: Any) -> Array:
    y = np.empty((*x.shape[:2], *windows(x.shape, kernel, stride, padding)), F)
    for n, c, i, j in np.ndindex(*y.shape):
        places = elements(i, j, kernel, stride, padding)
        inside = [0 <= h < x.shape[2] and 0 <= w < x.shape[3] for h, w in places]
        values = [x[n, c, h, w] if ok else F(0) for (h, w), ok in zip(places, inside, strict=True)]
        y[n, c, i, j] = reduction(values) / F(kernel[0] * kernel[1])
    return y


def avg_pool2d_gradient(gy: Array, x_shape: Any, kernel: Any, stride: Any, padding: Any) -> Array:
    gx = np.zeros(x_shape, F)
    for n, c, i, j in np.ndindex(*gy.shape):
        t = gy[n, c, i, j] / F(kernel[0] * kernel[1])
        for h, w in elements(i, j, kernel, stride, padding):
            if 0 <= h < x_shape[2] and 0 <= w < x_shape[3]:
                gx[n, c, h, w] = gx[n, c, h, w] + t
    return gx


def distances(values: Array) -> Array:
    """Each value of a row minus the largest one, or minus the first NaN."""
    largest = values[0]
    for value in values:
        if value > largest or (np.isnan(value) and not np.isnan(largest)):
            largest = value
    return np.array([value - largest for value in values], F)


def log_softmax(x: Array) -> Array:
    y = np.empty_like(x)
    for row, values in enumerate(x):
        below = distances(values)
        logarithm = log32(np.array([reduction(exp32(below))], F))[0]
        y[row] = [distance - logarithm for distance in below]
    return y


def log_softmax_gradient(gy: Array, y: Array) -> Array:
    gx = np.empty_like(y)
    for row in range(len(y)):
        total = reduction(gy[row])
        gx[row] = [g - e * total for g, e in zip(gy[row], exp32(y[row]), strict=True)]
    return gx


def nll_loss(log_probabilities: Array, labels: Array) -> Array:
    chosen = [-log_probabilities[n, label] for n, label in enumerate(labels)]
    return np.array([reduction(chosen) / F(len(labels))], F)


def nll_loss_gradient(g: Array, labels: Array, shape: Any) -> Array:
    gx = np.zeros(shape, F)
    for n, label in enumerate(labels):
        gx[n, label] = -(g[0] / F(shape[0]))
    return gx


def softmax(x: Array) -> Array:
    y = np.empty_like(x)
    for row, values in enumerate(x):
        exponentials = exp32(distances(values))
        total = reduction(exponentials)
        y[row] = [exponential / total for exponential in exponentials]
    return y


def softmax_gradient(gy: Array, y: Array) -> Array:
    gx = np.empty_like(y)
    for row in range(len(y)):
        total = reduction(g * value for g, value in zip(gy[row], y[row], strict=True))
        gx[row] = [(g - total) * value for g, value in zip(gy[row], y[row], strict=True)]
    return gx


def take(x: Array, index: Array) -> Array:
    y = np.zeros((x.shape[0], len(index), x.shape[2]), F)
    for p, (j, place), q in places(x, index):
        if place >= 0:
            y[p, j, q] = x[p, place, q]
    return y


def places(x: Array, index: Array) -> Iterable[tuple[int, tuple[int, int], int]]:
    return [(p, each, q) for p in range(x.shape[0]) for each in enumerate(index) for q in range(x.shape[2])]


def take_gradient(gy: Array, index: Array, size: int) -> Array:
    gx = np.zeros((gy.shape[0], size, gy.shape[2]), F)
    for p, (j, place), q in places(gy, index):
        if place >= 0:
            gx[p, place, q] = gx[p, place, q] + gy[p, j, q]
    return gx
