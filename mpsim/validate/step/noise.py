"""How far a float32 result may lie from mpsim's if its sums are formed in another order.

With n terms, u = 2**-24 and m the sum of the terms' magnitudes, two orders of summation, fused or not, differ by at
most about 2 n u m, and typically by a few sqrt(n) u m (Higham and Mary 2019, "A New Approach to Probabilistic
Rounding Error Analysis": errors of random sign; a factor of 6 fails once in 10**7). ``factor`` takes the smaller one.
Terms that are multiples of one quantum and sum to less than 2**24 of it are added exactly in any order: the bound is
then 0, as it is for ops that round once. Normalization, softmax, functions such as GELU, and the mean over windows have
further roundings, ``MORE`` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mpsim.kernels.contract import Array

UNIT = 2.0**-24
#: Roundings of an op beside its sums, in units: quotients, square roots, exponentials of other libraries.
MORE = 16


class Bound(Array):
    """A bound of a kernel's result, where the kernel's result would be; a plain array stands for an exact result.

    Kernels of ``bounds.bound_kernels`` continue from it, because it can compute the result itself (``result``). What an
    op computes from it in another way is not a bound: for such an op only its own bits count as equal.
    """

    result: Callable[[], Array] | None = None

    def reshape(self, *shape: Any, **options: Any) -> Bound:
        """Returns the bound of the reshaped result."""
        result = self.result
        assert result is not None
        bound = self.view(np.ndarray).reshape(*shape, **options)
        return bounded(bound, lambda: result().reshape(*shape, **options))

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: object, out: Any = None, **options: object
    ) -> object:
        plain = [x.view(np.ndarray) if isinstance(x, Bound) else x for x in inputs]
        if out is not None:
            options["out"] = tuple(x.view(np.ndarray) if isinstance(x, Bound) else x for x in out)
        return getattr(ufunc, method)(*plain, **options)


def bounded(bound: Array, result: Callable[[], Array]) -> Bound:
    """Returns a bound of what ``result`` computes, which is called once at most."""
    found = np.asarray(bound, np.float32).view(Bound)
    kept: list[Array] = []

    def once() -> Array:
        if not kept:
            kept.append(np.asarray(result()))
        return kept[0]

    found.result = once
    return found


def value_of(x: Array) -> Array:
    """Returns a kernel's result, of a bound or of an exact result."""
    if not isinstance(x, Bound):
        return x
    assert x.result is not None
    return x.result()


def bound_of(value: Array) -> Array:
    """What a store is given on bound kernels, as a bound: 0 for an exact result."""
    return value.view(np.ndarray) if isinstance(value, Bound) else np.zeros(value.shape, np.float32)


def factor(terms: int) -> float:
    """How many units of the terms' magnitudes two orders of a sum may differ by.

    >>> factor(1), factor(4), factor(900)
    (0.0, 8.0, 240.0)
    """
    return 0.0 if terms < 2 else min(2.0 * terms, 8.0 * float(np.sqrt(terms)))


def of_sums(magnitudes: Array, terms: int, quantum: float | None = None, more: float = 0.0) -> Array:
    """The bound of sums of ``terms`` terms. quantum: a power of two that every term is a multiple of, if known."""
    with np.errstate(over="ignore", invalid="ignore"):
        bound = np.asarray(magnitudes, np.float64) * (UNIT * (factor(terms) + more))
        if quantum is not None:
            bound = np.where(np.asarray(magnitudes) <= 2.0**24 * quantum, 0.0, bound)
    return np.asarray(bound, np.float32)


def quantum_of(x: Array) -> float:
    """The largest power of two that every number of x is a multiple of; infinity for zeros alone.

    >>> quantum_of(np.float32([1.5, -4, 0]))
    0.5
    """
    finite = x[np.isfinite(x) & (x != 0)]
    if not finite.size:
        return float("inf")
    significand, exponent = np.frexp(finite)
    integer = np.ldexp(np.abs(significand), 24).astype(np.int64)
    return float(np.ldexp(1.0, int((exponent - 24 + np.log2((integer & -integer).astype(np.float64))).min())))
