"""Defines assertions with a stated bound: a distance in codes, and the error bounds of dot products."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import Format, as_format
from mpsim.interchange import as_array, words_of
from mpsim.kernels.contract import Array
from mpsim.process import in_default_environment
from mpsim.testing.assertions import check_alike, mismatch
from mpsim.testing.mismatch import Mismatch
from mpsim.validate.grid import distances, off_grid

#: The widest mantissa of operands, whose products are exact in float64.
MOST_MANTISSA = 25


@in_default_environment
def assert_within_codes(
    actual: ArrayLike,
    expected: ArrayLike,
    codes: int = 1,
    format: str | Format | None = None,
    inputs: ArrayLike | None = None,
    *,
    what: str = "",
) -> None:
    """Asserts that the numbers of two arrays are at most ``codes`` codes apart, i.e. neighbours for 1.

    The distance counts the steps between numbers of the format, across zero too. +0 and -0 are at distance 0, and
    infinity follows the largest number. All NaNs are equal, and a NaN is near no number.

    Args:
        actual, expected: The arrays, of NumPy, PyTorch, JAX or anything that NumPy reads.
        codes: The largest distance.
        format: The format whose codes count. The default is the arrays' own type. Otherwise the arrays contain numbers
            of the format as a wider type, such as float32.
        inputs: As for ``assert_same_bits``.
        what: The beginning of the message.

    Raises:
        AssertionError: Types or shapes differ, a distance is larger, or ``actual`` has a number that is not the
            format's.
        ValueError: ``expected`` has a number that is not the format's.
        TypeError: The arrays do not contain floats.

    >>> assert_within_codes(np.float32([1.0]), np.float32([1.0000001]))
    >>> assert_within_codes(np.float16([1.0]), np.float16([1.25]), format="float8_e4m3fn")
    Traceback (most recent call last):
    ...
    mpsim.testing.mismatch.Mismatch: 1 of 1 elements are more than 1 code of float8_e4m3fn apart; at index 0: \
got 1.0 (0x3c00), expected 1.25 (0x3d00), 2 codes apart
    """
    __tracebackhide__ = True
    most = checks.whole("codes", codes)
    check_alike(actual, expected, what)
    got, wanted = as_array(actual), as_array(expected)
    if got.dtype.kind not in "fV":
        raise UsageTypeError(f"assert_within_codes compares floats, got {got.dtype}; decode codes first")
    target = as_format(words_of(expected).type if format is None else format)
    head = f"{what}: " if what else ""
    with np.errstate(invalid="ignore"):  # of signaling NaNs
        wide, right = got.astype(np.float64), wanted.astype(np.float64)
    if (wrong := off_grid(right, target)).any():
        raise UsageError(f"expected has {right[wrong].reshape(-1)[0]}, which is not a number of {target}")
    about: dict[str, object] = {"kind": "codes", "codes": most, "format": target.name}
    if (wrong := off_grid(wide, target)).any():
        raise mismatch(head, f"are not numbers of {target}", np.flatnonzero(wrong), got, wanted, inputs, about)
    apart = distances(right, wide, target).reshape(-1)
    if (apart > most).any():
        verb = f"are more than {most} code{'' if most == 1 else 's'} of {target} apart"
        nan = (np.isnan(wide) | np.isnan(right)).reshape(-1)

        def end(first: int) -> str:
            return "" if nan[first] else f", {apart[first]} codes apart"

        raise mismatch(head, verb, np.flatnonzero(apart > most), got, wanted, inputs, about, end)


@in_default_environment
def dot_bound(
    a: ArrayLike, b: ArrayLike, sums: str | Format = "float32", output: str | Format | None = None
) -> tuple[Array, Array]:
    """Returns the exact matrix product rounded to float64, and how far a correct one may be from it.

    The bound holds for products of numbers that are summed in any order, with each sum rounded to nearest in the format
    of ``sums``, and the result rounded once more to ``output``. For k terms, with u = 2**-p and the smallest positive
    number s of the sums' format, it is k * u * sum(abs(a_i * b_i)) + k * s (2 * k * s in a format without subnormals),
    plus half a step of ``output``. It does not hold if a sum overflows.

    Args:
        a: A matrix (m, k) of finite numbers of at most float32, of NumPy, PyTorch or JAX.
        b: A matrix (k, n).
        sums: The format that products and sums are rounded to.
        output: The format of the result. The default is ``sums``.

    Returns:
        (exact, bound), float64 (m, n). The bound is rounded up.

    Raises:
        ValueError, TypeError: The shapes do not match, or a number is not finite or wider than float32.

    Source: Jeannerod and Rump 2013, "Improved error bounds for inner products in floating-point arithmetic", for sums
    without underflow. A product that underflows has an error of at most s / 2, which later sums increase less than
    twofold. Without subnormals a product or a sum that underflows has an error of at most s.

    >>> exact, bound = dot_bound(np.float32([[1, 2]]), np.float32([[3], [4]]))
    >>> exact.item(), bound.item() == 2 * 2**-24 * 11 * (1 + 2**-50)
    (11.0, True)
    """
    x, y = (_finite(each, name) for each, name in ((a, "a"), (b, "b")))
    if x.shape[1] != y.shape[0]:
        raise UsageError(f"a has shape {x.shape} and b {y.shape}; the second size of a is the first of b")
    inner, narrow = as_format(sums), as_format(sums if output is None else output)
    terms = x.shape[1]
    products = [[(row * column).tolist() for column in y.T] for row in x]  # exact in float64
    exact = np.array([[math.fsum(each) for each in line] for line in products]).reshape(x.shape[0], y.shape[1])
    size = np.array([[math.fsum(map(abs, each)) for each in line] for line in products]).reshape(exact.shape)
    bound = terms * 2.0**-inner.precision * size + terms * inner.smallest * (1 if inner.subnormals else 2)
    if narrow != inner:
        bound = bound + np.maximum((np.abs(exact) + bound) * 2.0**-narrow.precision, narrow.smallest / 2)
    return exact, bound * (1 + 2.0**-50)


@in_default_environment
def assert_dot_within_bound(
    actual: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    sums: str | Format = "float32",
    output: str | Format | None = None,
    *,
    what: str = "",
) -> None:
    """Asserts that a matrix product is within the error bound of ``dot_bound``, which holds for any order of sums.

    A product that passes is not proved right: ``mpsim validate dot`` finds its order, and compares it in every bit.

    Args:
        actual: The product (m, n).
        a, b, sums, output: As for ``dot_bound``. ``output`` is by default the type of ``actual``.
        what: The beginning of the message.

    Raises:
        AssertionError: The shape differs, or an element is farther from the exact result, or not finite although every
            result within the bound is.
        ValueError, TypeError: As for ``dot_bound``.

    >>> a, b = np.ones((2, 8), np.float32), np.ones((8, 3), np.float32)
    >>> assert_dot_within_bound(a @ b, a, b)
    >>> assert_dot_within_bound(a @ b + np.float32(1), a, b)
    Traceback (most recent call last):
    ...
    mpsim.testing.mismatch.Mismatch: 6 of 6 elements are farther from the exact result than the bound of 8 terms; \
at index (0, 0): got 9.0 (0x41100000), expected 8.0 (0x4020000000000000), error 1, bound 3.8147e-06
    """
    __tracebackhide__ = True
    given = words_of(actual)
    narrow = as_format(given.type if output is None else output)
    exact, bound = dot_bound(a, b, sums, narrow)
    got = as_array(actual)
    if got.shape != exact.shape:
        raise Mismatch(f"{what}{': ' if what else ''}got shape {got.shape}, expected {exact.shape}")
    with np.errstate(invalid="ignore", over="ignore"):
        wide = got.astype(np.float64)
        error = np.abs(wide - exact)
    least = min(as_format(sums).largest, narrow.largest)
    overflows = (np.abs(exact) + bound >= least) & ~np.isfinite(wide)
    wrong = np.flatnonzero(~(error <= bound) & ~overflows)
    if wrong.size:

        def end(first: int) -> str:
            return f", error {error.reshape(-1)[first]:.5g}, bound {bound.reshape(-1)[first]:.5g}"

        verb = f"are farther from the exact result than the bound of {as_array(a).shape[1]} terms"
        about: dict[str, object] = {"kind": "dot", "sums": as_format(sums).name, "output": narrow.name}
        raise mismatch(f"{what}: " if what else "", verb, wrong, got, exact, None, about, end)


def _finite(x: ArrayLike, name: str) -> Array:
    array = as_array(x)
    if array.dtype.kind not in "fV" or as_format(array.dtype).mantissa_bits > MOST_MANTISSA:
        raise UsageTypeError(f"{name} must contain floats of at most float32, got {array.dtype}")
    with np.errstate(invalid="ignore"):
        wide = array.astype(np.float64)
    if wide.ndim != 2 or not np.isfinite(wide).all():
        raise UsageError(f"{name} must be a matrix of finite numbers, got shape {wide.shape}")
    return wide
