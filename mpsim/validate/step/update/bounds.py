"""How far an update may be from mpsim's if its products and sums are fused or in another order: a few roundings of
every term, carried to the result."""

from __future__ import annotations

import numpy as np

from mpsim.kernels.contract import Array
from mpsim.recording.updates import Parts, UpdateRule
from mpsim.training.optimizer import SGD, Adam, Lion
from mpsim.training.optimizer.base import power
from mpsim.validate.step.noise import UNIT

#: The smallest subnormal number of float32, for terms that underflow.
_TINY = 2.0**-149


def bound(rule: UpdateRule, parts: Parts, loss_scale: float) -> Array:
    """Returns the bound of every element in float64. It is 0 where it is not finite."""
    optimizer, rate, count = rule.optimizer, rule.rate, rule.count
    m, g = (np.abs(each.astype(np.float64)) for each in (parts.master, parts.gradient))
    m = m if parts.compensation is None else m + np.abs(parts.compensation.astype(np.float64))
    states = {name: np.abs(array.astype(np.float64)) for name, array in parts.states.items()}
    with np.errstate(all="ignore"):
        if isinstance(optimizer, Adam):
            found = _adam(optimizer, rate, count, m, g / loss_scale, states)
        elif isinstance(optimizer, Lion):
            found = _lion(optimizer, rate, m, g / loss_scale, parts, loss_scale)
        else:
            assert isinstance(optimizer, SGD)
            found = _sgd(optimizer, rate, m, g / loss_scale, states["velocity"])
        return np.asarray(np.where(np.isfinite(found), found, 0), np.float64)


def _sgd(optimizer: SGD, rate: float, m: Array, g: Array, v: Array) -> Array:
    whole = g + optimizer.weight_decay * m
    change = whole + optimizer.momentum * v
    if optimizer.nesterov:
        change = whole + optimizer.momentum * change
    return np.asarray(4 * UNIT * (m + rate * change), np.float64)


def _adam(optimizer: Adam, rate: float, count: int, m: Array, g: Array, states: dict[str, Array]) -> Array:
    beta1, beta2 = optimizer.beta1, optimizer.beta2
    g = g if optimizer.decoupled else g + optimizer.weight_decay * m
    first = beta1 * states["first_moment"] + (1 - beta1) * g
    first_error = 4 * UNIT * (first + (1 - beta1) * states["first_moment"]) + _TINY
    # The second moment may be less than these terms say, because a decay may cancel the gradient.
    second = beta2 * states["second_moment"] + (1 - beta2) * g * g
    second_error = 8 * UNIT * second + 4 * _TINY
    least = np.maximum(beta2 * states["second_moment"], second_error)
    root = np.sqrt(1 - power(beta2, count))
    deviation = np.sqrt(np.where(optimizer.decoupled or not optimizer.weight_decay, second, least)) / root
    deviation = deviation + optimizer.epsilon
    deviation_error = second_error / (2 * root * np.sqrt(np.maximum(least, second_error))) + 4 * UNIT * deviation
    size = rate / (1 - power(beta1, count))
    step_error = first_error / deviation + first * deviation_error / (deviation * deviation)
    return np.asarray(4 * UNIT * (m + size * first / deviation) + size * step_error, np.float64)


def _lion(optimizer: Lion, rate: float, m: Array, g: Array, parts: Parts, loss_scale: float) -> Array:
    """Where the interpolated moment is within its roundings of 0, the sign may be the other one."""
    beta1, moment = optimizer.beta1, parts.states["first_moment"].astype(np.float64)
    mixed = beta1 * moment + (1 - beta1) * parts.gradient.astype(np.float64) / loss_scale
    close = np.abs(mixed) <= 4 * UNIT * (beta1 * np.abs(moment) + (1 - beta1) * g) + _TINY
    return np.asarray(4 * UNIT * (m + rate) + np.where(close, 2 * rate, 0), np.float64)
