"""The public door to matrix products with a chosen accumulator: arguments are validated here, then one kernel runs.

Definition: docs/semantics.md ("Contraction"), mpsim/products/accumulators.py, mpsim/kernels/spec_dot.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS
from mpsim.kernels import hosted
from mpsim.products.accumulators import Accumulator, Summation, in_short
from mpsim.products.stages import Product
from mpsim.products.tensor_cores import accumulator_of

__all__ = ["as_accumulator", "matmul"]


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Summation | str = Accumulator(),
    *,
    backend: str = "compiled",
    threads: int | None = None,
) -> np.ndarray:
    """The matrix product a @ b with every dot product summed as ``accumulator`` says.

    a: (M, K), b: (K, N), float32; float16, bfloat16 and other narrow ml_dtypes arrays widen exactly. The result
    is float32, (M, N). ``accumulator``: an Accumulator or its text, as "chunk=64", "exact" or "hopper_float16".
    ``threads``: None for as many as there are cores; any number gives the same bits.

    Raises TypeError for another type (float64 too: round it to float32 yourself, or a product would be of other
    numbers than you gave), ValueError for shapes that do not match, BackendUnavailable if the backend cannot run.
    Source: Wang et al. 2018 (chunks, narrow accumulation); IEEE 754-2019 §5.4.1 (fusedMultiplyAdd).

    >>> import numpy as np
    >>> a, b = np.float32([[2**24, 1, -(2**24)]]), np.ones((3, 1), np.float32)
    >>> print(matmul(a, b, backend="reference"), matmul(a, b, Accumulator(kind="exact"), backend="reference"))
    [[0.]] [[1.]]
    """
    left, right = _matrix(a, "a"), _matrix(b, "b")
    if left.shape[1] != right.shape[0]:
        raise UsageError(
            f"matmul multiplies (M, K) by (K, N), got {left.shape} by {right.shape}: "
            f"K is {left.shape[1]} in a and {right.shape[0]} in b"
        )
    chosen, threads = as_accumulator(accumulator), checks.threads(threads)
    return hosted(backend).matmul(left, right, threads=threads, accumulator=chosen)


def as_accumulator(accumulator: Summation | str) -> Summation:
    """The accumulator or product itself, or that of a text (``mpsim.products.tensor_cores.accumulator_of``). A product
    with a short form is returned as the Accumulator that it is.

    >>> as_accumulator("chunk=64").chunk, as_accumulator("hopper_float16").kind
    (64, 'aligned')
    """
    if isinstance(accumulator, str):
        return accumulator_of(accumulator)
    if isinstance(accumulator, Product):
        return in_short(accumulator)
    expected = "an Accumulator, such as Accumulator(chunk=64), or its text, such as 'chunk=64' or 'hopper_float16'"
    checks.instance("accumulator", accumulator, Accumulator, expected)
    return accumulator


def _matrix(x: ArrayLike, name: str) -> np.ndarray:
    """x as a contiguous float32 matrix with the same numbers."""
    array = np.asarray(x)
    if array.dtype.name not in FORMATS or array.dtype.name == "float64":
        raise UsageTypeError(
            f"matmul takes float32, float16 or narrower ml_dtypes arrays, and {name} is {array.dtype}; "
            f"convert it with np.asarray({name}, np.float32) if rounding its numbers to float32 is what you mean"
        )
    if array.ndim != 2:
        raise UsageError(f"matmul takes matrices, and {name} has shape {array.shape}")
    with np.errstate(invalid="ignore"):  # a signaling NaN
        return np.require(array, np.float32, ["C", "A"])
