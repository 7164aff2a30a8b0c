"""Defines matmul, the public function for matrix products with a chosen accumulator. It validates the arguments.

Definition: docs/semantics.md ("Contraction"), mpsim/products/accumulators.py, mpsim/kernels/spec_dot.py.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.interchange import as_array
from mpsim.kernels import DEFAULT_BACKEND, hosted
from mpsim.kernels.contractions.beside import NOTHING, Beside
from mpsim.kernels.philox import Stream
from mpsim.process import in_default_environment
from mpsim.products.accumulators import Accumulator, Summation, in_short
from mpsim.products.stages import Product
from mpsim.products.tensor_cores import accumulator_of
from mpsim.rounding import round_to

__all__ = ["as_accumulator", "matmul"]


@in_default_environment
def matmul(
    a: ArrayLike,
    b: ArrayLike,
    accumulator: Summation | str = Accumulator(),
    *,
    c: ArrayLike | None = None,
    beta: float = 1.0,
    alpha: float = 1.0,
    bias: ArrayLike | None = None,
    left_scale: ArrayLike | None = None,
    right_scale: ArrayLike | None = None,
    stream: Stream | None = None,
    backend: str = DEFAULT_BACKEND,
    threads: int | None = None,
) -> np.ndarray:
    """Computes the matrix product a @ b with the sums of ``accumulator``.

    Args:
        a, b: (M, K) and (K, N), float32. float16, bfloat16 and other narrow ml_dtypes arrays are widened exactly.
        accumulator: An Accumulator or a Product, or its text, such as "chunk=64", "exact" or "hopper_float16".
        c, beta, alpha: (M, N), and numbers rounded to float32, for products with ``AddC``, ``start="c"``, ``Scale``.
        bias: (N,), added as ``Bias`` specifies. An Accumulator adds it in float32.
        left_scale: For products that use it: (), one per row (M, 1), per block of k (1, blocks), or (M, blocks). With
            ``Scaled`` and ``AlignedScaled``, blocks is K / block rounded up, else 1.
        right_scale: (), one per column (1, N), per block of k (blocks, 1), or (blocks, N).
        stream: The random bits of stochastic sums. None means ``Stream(0, "sums")``.
        backend, threads: They change no bit, except with kind "blas". threads=None means one per core.

    Returns: (M, N), float32. Raises TypeError for arrays of other types (round float64 to float32 first), or ValueError
    if shapes do not match, or if the accumulator lacks or does not use an argument.
    Source: Wang et al. 2018 (chunks, narrow accumulation); IEEE 754-2019 §5.4.1 (fusedMultiplyAdd).

    >>> import numpy as np
    >>> a, b = np.float32([[2**24, 1, -(2**24)]]), np.ones((3, 1), np.float32)
    >>> print(matmul(a, b, backend="reference"), matmul(a, b, Accumulator(kind="exact"), backend="reference"))
    [[0.]] [[1.]]
    >>> print(matmul(a, b, "product(order=exact(), epilogue=(scale(left),))", left_scale=0.5, backend="reference"))
    [[0.5]]
    """
    left, right = _matrix(a, "a"), _matrix(b, "b")
    if left.shape[1] != right.shape[0]:
        raise UsageError(
            f"matmul multiplies (M, K) by (K, N), got {left.shape} by {right.shape}: "
            f"K is {left.shape[1]} in a and {right.shape[0]} in b"
        )
    chosen, threads = as_accumulator(accumulator), checks.threads(threads)
    shape, blocks = (left.shape[0], right.shape[1]), _blocks(chosen, left.shape[1])
    beside = Beside(
        None if c is None else _of_shape(_matrix(c, "c"), "c", [shape]),
        _factor(beta, "beta"),
        _factor(alpha, "alpha"),
        _scale(left_scale, "left_scale", (shape[0], blocks.get("left", 1)), chosen),
        _scale(right_scale, "right_scale", (blocks.get("right", 1), shape[1]), chosen),
        checks.instance("stream", stream or NOTHING.stream, Stream, "a Stream, such as Stream(0, 'sums')"),
    )
    added = None if bias is None else _of_shape(_numbers(bias, "bias"), "bias", [shape[1:]])
    if added is not None and isinstance(chosen, Product) and not chosen.takes_bias:
        raise UsageError("the product adds no bias; add Bias to its epilogue, or leave the bias out")
    return hosted(backend).matmul(left, right, bias=added, beside=beside, threads=threads, accumulator=chosen)


def _blocks(accumulator: Summation, length: int) -> dict[str, int]:
    """Returns, for each side, the number of blocks of k with separate scales."""
    blocks = accumulator.scales_of_blocks if isinstance(accumulator, Product) else {}
    return {side: max(1, -(-length // size)) for side, size in blocks.items()}


def _scale(scale: ArrayLike | None, name: str, most: tuple[int, int], accumulator: Summation) -> np.ndarray | None:
    """Returns scales as a matrix, each axis of size 1 or ``most``, after checking the order's format, if any."""
    if scale is None:
        return None
    rows, columns = most
    allowed = list(dict.fromkeys([(rows, columns), (rows, 1), (1, columns), (1, 1)]))
    array = _numbers(np.float32(scale) if isinstance(scale, int | float) else scale, name)
    if isinstance(accumulator, Product) and accumulator.format_of_scales is not None:
        _check_scales(array, name, as_format(accumulator.format_of_scales))
    return _of_shape(array, name, [*allowed, ()]).reshape((1, 1) if array.ndim == 0 else array.shape)


def _check_scales(scales: np.ndarray, name: str, format: Format) -> None:
    """Raises UsageError for scales that are negative or not numbers of the format."""
    number = scales >= 0
    number &= round_to(np.where(number, scales, 1), format, overflow="infinity", backend="reference") == scales
    wrong = scales[~(number | np.isnan(scales) & format.has_nan)]
    if wrong.size:
        raise UsageError(
            f"{name} has {wrong[0]}, but scales of this product are numbers of {format.name} that are not negative; "
            f"round them first, e.g. mpsim.round_to(scales, {format.name!r})"
        )


def _factor(value: float, name: str) -> float:
    return float(np.float32(checks.real(name, value, least=-checks.FLOAT32_LARGEST, most=checks.FLOAT32_LARGEST)))


def _of_shape(array: np.ndarray, name: str, allowed: list[tuple[int, ...]]) -> np.ndarray:
    if array.shape not in allowed:
        shapes = " or ".join(map(str, allowed))
        raise UsageError(f"{name} has shape {array.shape}; with this accumulator and these a and b it has {shapes}")
    return array


def as_accumulator(accumulator: Summation | str) -> Summation:
    """Returns an accumulator or product unchanged, or that of a text (``mpsim.products.tensor_cores.accumulator_of``).
    A product with a short form is returned as an Accumulator.

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
    """Returns x as a contiguous float32 matrix with the same numbers."""
    array = _numbers(x, name)
    if array.ndim != 2:
        raise UsageError(f"matmul takes matrices, and {name} has shape {array.shape}")
    return array


def _numbers(x: ArrayLike, name: str) -> np.ndarray:
    """Returns x as a contiguous float32 array with the same numbers."""
    array = as_array(x)
    if array.dtype.name not in FORMATS or array.dtype.name == "float64":
        raise UsageTypeError(
            f"matmul takes float32, float16 or narrower ml_dtypes arrays, and {name} is {array.dtype}; "
            f"convert it with np.asarray({name}, np.float32) if rounding its numbers to float32 is what you mean"
        )
    with np.errstate(invalid="ignore"):  # a signaling NaN
        return np.require(array, np.float32, ["C", "A"])
