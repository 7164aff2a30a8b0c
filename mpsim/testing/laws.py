"""Defines laws that casts obey, each as a Hypothesis test.

A law is a function that accepts a cast and returns a test without arguments. Name the test ``test_...`` in a test file,
or call it. A cast accepts an array of the source type (float32, or float64 for source float64) and returns an array of
floats of the same shape. Inputs are turning points of the format (``strategies``). A failure shrinks toward fewer
elements, then toward the smallest magnitude.

>>> import mpsim
>>> test_idempotent = idempotent(lambda x: mpsim.round_to(x, "float8_e5m2", backend="reference"), "float8_e5m2")
>>> test_idempotent()
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.formats import Format, as_format
from mpsim.policies import Policy
from mpsim.rounding import round_to
from mpsim.testing import strategies
from mpsim.testing.assertions import CastSubject, assert_rounds_like, assert_same_bits

from hypothesis import given, settings  # isort: skip  (after strategies, whose message explains how to install it)
from hypothesis import strategies as st  # isort: skip
from mpsim.kernels.contract import Array

Cast = Callable[[Array], ArrayLike]


def _test(check: Callable[..., None], *drawn: st.SearchStrategy[Any], max_examples: int) -> Callable[[], None]:
    """Returns a test that calls ``check`` with drawn values."""
    checks.whole("max_examples", max_examples, least=1)

    @settings(max_examples=max_examples, deadline=None)
    @given(st.tuples(*drawn))
    def law(values: tuple[object, ...]) -> None:
        with np.errstate(all="ignore"):
            check(*values)

    return law


def idempotent(
    cast: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests that a number of the format does not change: cast(cast(x)) has the bits of cast(x).

    >>> idempotent(np.float16, "float16", max_examples=10)()
    """

    def check(x: Array) -> None:
        once = np.asarray(cast(x.copy()))
        again = np.asarray(cast(once.astype(x.dtype))).astype(once.dtype)
        assert_same_bits(again, once, x, what="idempotent", any_nan=True)

    return _test(check, strategies.arrays_near_ties(format, source, specials=True), max_examples=max_examples)


def monotone(
    cast: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests that x <= y implies cast(x) <= cast(y) if neither result is NaN.

    >>> monotone(np.float16, "float16", max_examples=10)()
    """

    def check(x: Array) -> None:
        rising = np.sort(x[~np.isnan(x)])
        y = np.asarray(cast(rising.copy())).astype(np.float64)
        keep = ~np.isnan(y)
        rising, y = rising[keep], y[keep]
        falls = np.flatnonzero(y[1:] < y[:-1])
        if falls.size:
            i = int(falls[0])
            raise AssertionError(
                f"monotone: {rising[i]!s} gives {y[i]!s}, the larger {rising[i + 1]!s} gives the smaller {y[i + 1]!s}"
            )

    return _test(check, strategies.arrays_near_ties(format, source, specials=True), max_examples=max_examples)


def odd_symmetric(
    cast: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests cast(-x) = -cast(x), which modes up and down do not obey. Signs of zeros count if the format has -0.

    >>> odd_symmetric(np.float16, "float16", max_examples=10)()
    """
    target = as_format(format)

    def check(x: Array) -> None:
        mirrored, plain = np.asarray(cast(-x)), -np.asarray(cast(x.copy()))
        _same(mirrored, plain, x, target, "odd-symmetric")

    return _test(check, strategies.arrays_near_ties(target, source, specials=True), max_examples=max_examples)


def up_down_dual(
    up: Cast, down: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests up(-x) = -down(x) for a signed format. Signs of zeros count if the format has -0.

    >>> up = lambda x: round_to(x, "float8_e5m2", "up", backend="reference")
    >>> down = lambda x: round_to(x, "float8_e5m2", "down", backend="reference")
    >>> up_down_dual(up, down, "float8_e5m2", max_examples=10)()
    """
    target = as_format(format)

    def check(x: Array) -> None:
        _same(np.asarray(up(-x)), -np.asarray(down(x.copy())), x, target, "up and down")

    return _test(check, strategies.arrays_near_ties(target, source, specials=True), max_examples=max_examples)


def _same(left: Array, right: Array, x: Array, format: Format, what: str) -> None:
    if not format.has_negative_zero:
        left, right = left + 0.0, right + 0.0  # -0 + 0 = +0
    assert_same_bits(left, right, x, what=what, any_nan=True)


def closed(cast: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100) -> Callable[[], None]:
    """Tests that every result is a number of the format, an infinity that it has, or NaN.

    >>> closed(np.float16, "float16", max_examples=10)()
    """
    target = as_format(format)

    def check(x: Array) -> None:
        y = np.asarray(cast(x.copy())).astype(np.float64)
        held = np.asarray(round_to(y, target, "toward_zero", "mark", backend="reference"))
        inside = np.isnan(y) | ((held == y) & (np.isfinite(y) | target.has_infinity))
        if not target.has_negative_zero:
            inside &= ~((y == 0) & np.signbit(y))
        if not inside.all():
            i = int(np.flatnonzero(~inside)[0])
            raise AssertionError(f"closed: {x[i]!s} gives {y[i]!s}, which {target} does not represent")

    return _test(check, strategies.arrays_near_ties(target, source, specials=True), max_examples=max_examples)


def to_odd_then_narrower(
    to_odd: Cast, narrower: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests narrower(to_odd(x)) = narrower(x).

    ``narrower`` rounds to ``format``, and ``to_odd`` rounds to odd to a format of the same range with at least two more
    bits of precision. Source: Boldo and Melquiond 2008.

    >>> to_odd = lambda x: round_to(x, "fp_5_8_0", "to_odd", backend="reference")
    >>> narrower = lambda x: round_to(x, "fp_5_3_0", backend="reference")
    >>> to_odd_then_narrower(to_odd, narrower, "fp_5_3_0", max_examples=10)()
    """

    def check(x: Array) -> None:
        staged = np.asarray(narrower(np.asarray(to_odd(x.copy())).astype(x.dtype)))
        assert_same_bits(staged, np.asarray(narrower(x.copy())), x, what="to odd, then narrower", any_nan=True)

    return _test(check, strategies.arrays_near_ties(format, source), max_examples=max_examples)


def decodes_back(encode: Cast, decode: Cast, format: str | Format, *, max_examples: int = 100) -> Callable[[], None]:
    """Tests encode(decode(code)) = code for the codes of all numbers and infinities, and that NaN stays NaN.

    ``decode`` maps unsigned integers to floats, ``encode`` floats to unsigned integers. If a format has no subnormals,
    nonzero codes with exponent 0 are not tested.

    >>> decodes_back(lambda x: x.view(np.uint16), lambda code: code.view(np.float16), "float16", max_examples=10)()
    """
    target = as_format(format)
    dtype = f"uint{target.code_bits}"

    def check(drawn: list[int]) -> None:
        codes = np.array(drawn, dtype)
        values = np.asarray(decode(codes.copy()))
        back = np.asarray(encode(values))
        nan = np.isnan(values)
        if target.has_nan and not np.isnan(np.asarray(decode(back.astype(dtype)))[nan]).all():
            raise AssertionError(f"decodes back: a NaN of {target} does not stay NaN")
        magnitude = codes & codes.dtype.type(target.magnitude_mask)
        without = target.has_zero and not target.subnormals
        keep = ~nan & ~((magnitude >> target.mantissa_bits == 0) & (magnitude != 0) & without)
        assert_same_bits(back[keep].astype(dtype), codes[keep], what=f"encode of decode, {target}")

    drawn = st.lists(strategies.codes(target), max_size=24)
    return _test(check, drawn, max_examples=max_examples)


def scalar_is_array(
    cast: Callable[[Any], ArrayLike], format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests that a NumPy scalar gives the same result as the same number in an array.

    >>> scalar_is_array(np.float16, "float16", max_examples=10)()
    """

    def check(x: Array) -> None:
        together = np.asarray(cast(x.copy()))
        single = np.array([np.asarray(cast(number)).reshape(()) for number in x], together.dtype)
        assert_same_bits(single, together, x, what="scalar and array", any_nan=True)

    return _test(check, strategies.arrays_near_ties(format, source, specials=True), max_examples=max_examples)


def split_invariant(
    cast: Cast, format: str | Format, source: str = "float32", *, max_examples: int = 100
) -> Callable[[], None]:
    """Tests that two parts of an array give the same results as the array, i.e. that elements are independent.

    >>> split_invariant(np.float16, "float16", max_examples=10)()
    """

    def check(x: Array, cut: int) -> None:
        cut %= x.size + 1
        together = np.asarray(cast(x.copy()))
        parts = np.concatenate([np.asarray(cast(part.copy())) for part in (x[:cut], x[cut:])])
        assert_same_bits(parts, together, x, what=f"array split at {cut}", any_nan=True)

    arrays = strategies.arrays_near_ties(format, source, specials=True, max_size=70)
    return _test(check, arrays, st.integers(0, 70), max_examples=max_examples)


def rounds_like(
    cast: CastSubject,
    format: str | Format,
    policy: Policy = Policy(),
    source: str = "float32",
    *,
    max_examples: int = 100,
) -> Callable[[], None]:
    """Calls ``assert_rounds_like`` with drawn arrays, and for a stochastic policy with drawn random bits.

    >>> rounds_like(np.float16, "float16", max_examples=10)()
    """
    arrays = strategies.arrays_near_ties(format, source, specials=True, max_size=12)
    if not policy.mode.needs_random_bits:
        return _test(
            lambda x: assert_rounds_like(cast, format, policy, x, source=source), arrays, max_examples=max_examples
        )

    def check(x: Array, words: Array) -> None:
        assert_rounds_like(cast, format, policy, x, source=source, random_bits=words[: x.size])

    return _test(check, arrays, strategies.random_bits(12), max_examples=max_examples)


#: The laws of one cast with a mode to nearest, toward zero or to odd: law(cast, format, source) by name.
LAWS: dict[str, Callable[..., Callable[[], None]]] = {
    "idempotent": idempotent,
    "monotone": monotone,
    "odd_symmetric": odd_symmetric,
    "closed": closed,
    "scalar_is_array": scalar_is_array,
    "split_invariant": split_invariant,
}
