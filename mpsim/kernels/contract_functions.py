"""Defines a part of the contract (contract.py): updates of optimizers, functions of one or two arguments, softmax, and
copies by index."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Updates(Protocol):
    """Updates of parameters, in place. All arrays have the same shape, and every operation is rounded. Scalars are
    float32, except for beta1 and beta2: these are float64, and the kernel rounds beta and 1 - beta to float32."""

    def sgd_update(
        self,
        master: Array,
        gradient: Array,
        velocity: Array,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        inverse_scale: float,
        damping: float = 1.0,
        nesterov: bool = False,
    ) -> None:
        """In place: g = gradient*inverse_scale; g = g + weight_decay*master; velocity = momentum*velocity + damping*g;
        step = g + momentum*velocity if nesterov, else velocity; master = master - learning_rate*step. Each operation
        is rounded. The scalars are float32."""

    def adam_update(
        self,
        master: Array,
        gradient: Array,
        first_moment: Array,
        second_moment: Array,
        step_size: float,
        kept: float,
        weight_decay: float,
        beta1: float,
        beta2: float,
        root: float,
        epsilon: float,
        inverse_scale: float,
    ) -> None:
        """In place: g = gradient*inverse_scale; g = g + weight_decay*master; first_moment = first_moment +
        (1-beta1)*(g - first_moment); second_moment = beta2*second_moment + (1-beta2)*(g*g); d =
        sqrt(second_moment)/root + epsilon; master = kept*master - step_size*(first_moment/d). beta1 and beta2 are
        float64, and beta and 1-beta are rounded to float32. The other scalars are float32."""

    def lion_update(
        self,
        master: Array,
        gradient: Array,
        first_moment: Array,
        learning_rate: float,
        kept: float,
        beta1: float,
        beta2: float,
        inverse_scale: float,
    ) -> None:
        """In place: g = gradient*inverse_scale; c = beta1*first_moment + (1-beta1)*g; s = 1 if c > 0, -1 if c < 0, else
        c; master = kept*master - learning_rate*s; first_moment = beta2*first_moment + (1-beta2)*g. beta1 and beta2 are
        float64, and beta and 1-beta are rounded to float32. The other scalars are float32."""


class Functions(Protocol):
    """Elementwise functions, softmax, and gathering by index."""

    def subtract(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """a - b."""

    def multiply(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """a * b."""

    def divide(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """a / b."""

    def unary(self, x: Array, function: str, a: float = 0.0, b: float = 0.0, *, out: Array | None = None) -> Array:
        """The function of mpsim.kernels.elementary.functions.FUNCTIONS with this name, of each element. It is computed
        in float64 by the operations stated there, and rounded once. a and b are float32."""

    def softmax(self, x: Array) -> Array:
        """x (N,C), per row: m = the first largest element (the first NaN if any); e_c = exp32(x_c - m);
        y_c = e_c / sum_c e_c."""

    def softmax_gradient(self, gy: Array, y: Array) -> Array:
        """Per row: s = sum_c gy_c * y_c, where each product is rounded before it is added; gx_c = (gy_c - s) * y_c."""

    def take(self, x: Array, index: Array) -> Array:
        """x (P,n,Q), int64 (m,) -> (P,m,Q): y[p, j, q] = x[p, index[j], q], or +0 if index[j] is -1."""

    def take_gradient(self, gy: Array, index: Array, size: int) -> Array:
        """gy (P,m,Q) -> (P,size,Q): gx starts at +0. gy[p, j, q] is added at index[j] in rising j, unless index[j] is
        -1."""
