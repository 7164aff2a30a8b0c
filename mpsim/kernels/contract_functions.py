"""Defines a part of the contract (contract.py): functions of one or two arguments, softmax, and copies by index."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


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
