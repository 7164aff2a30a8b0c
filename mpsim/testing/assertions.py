"""Defines assertions that compare bits and report the smallest input that differs. They need no test tool."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import FORMATS, Format, as_format
from mpsim.interchange import as_array, words_of
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.policies import Policy
from mpsim.process import default_float_environment
from mpsim.rounding import decode, encode, round_to
from mpsim.testing.mismatch import MOST, Mismatch, stored_inputs
from mpsim.validate.corpora import cast_corpus
from mpsim.validate.grid import places
from mpsim.validate.sources import Source, as_float_source

#: A cast to check: called with an array, and with random bits for a stochastic policy.
CastSubject: TypeAlias = Callable[..., ArrayLike]


def assert_same_bits(
    actual: ArrayLike, expected: ArrayLike, inputs: ArrayLike | None = None, *, what: str = "", any_nan: bool = False
) -> None:
    """Asserts that two arrays have the same shape, type and bits, including signs of zeros and payloads of NaNs.

    Args:
        actual, expected: The arrays, of NumPy, PyTorch, JAX or anything that NumPy reads.
        inputs: The inputs of the elements, in the same shape. With them, the message names the element whose input is
            smallest in magnitude, otherwise the first element.
        what: The beginning of the message.
        any_nan: Whether all NaNs are equal.

    Raises:
        AssertionError: The arrays differ. It is a ``Mismatch``, which has the elements that differ.

    >>> assert_same_bits(np.float16([0.0]), np.float16([-0.0]))
    Traceback (most recent call last):
    ...
    mpsim.testing.mismatch.Mismatch: 1 of 1 elements differ; at index 0: got 0.0 (0x0000), expected -0.0 (0x8000)
    """
    __tracebackhide__ = True
    check_alike(actual, expected, what)
    got, wanted = as_array(actual), as_array(expected)
    different = words_of(actual).words.reshape(-1) != words_of(expected).words.reshape(-1)
    if any_nan and got.dtype.kind in "fV":
        different &= ~(np.isnan(got) & np.isnan(wanted)).reshape(-1)
    if different.any():
        head = f"{what}: " if what else ""
        raise mismatch(head, "differ", np.flatnonzero(different), got, wanted, inputs, {"kind": "bits"})


def check_alike(actual: ArrayLike, expected: ArrayLike, what: str) -> None:
    """Raises Mismatch if two arrays have different types or shapes."""
    __tracebackhide__ = True
    got, wanted = words_of(actual), words_of(expected)
    if got.type != wanted.type or got.words.shape != wanted.words.shape:
        raise Mismatch(
            f"{what}{': ' if what else ''}got {got.type} of shape {got.words.shape}, expected {wanted.type} of shape "
            f"{wanted.words.shape}"
        )


def mismatch(
    head: str, verb: str, at: Array, actual: Array, expected: Array, inputs: ArrayLike | None,
    about: dict[str, object], end: Callable[[int], str] = lambda first: "",
) -> Mismatch:  # fmt: skip
    """Returns the exception for the elements ``at`` that differ: that of the smallest input first, else in order."""
    given = None if inputs is None else as_array(inputs).reshape(-1)
    if given is not None:
        at = at[_by_magnitude(given[at])]
    first, flat, wanted = int(at[0]), actual.reshape(-1), expected.reshape(-1)
    index = tuple(int(i) for i in np.unravel_index(first, actual.shape)) if actual.ndim else ()
    place = f"at index {index[0] if len(index) == 1 else index}"
    if given is not None:
        place = f"smallest input {_shown(given, first)}"
    kept = {"actual": flat[at[:MOST]], "expected": wanted[at[:MOST]]}
    kept |= {} if given is None else {"inputs": given[at[:MOST]]}
    return Mismatch(
        f"{head}{at.size} of {actual.size} elements {verb}; {place}: "
        f"got {_shown(flat, first)}, expected {_shown(wanted, first)}{end(first)}",
        about, kept,
    )  # fmt: skip


def assert_rounds_like(
    subject: CastSubject,
    format: str | Format,
    policy: Policy = Policy(),
    x: ArrayLike | None = None,
    *,
    source: str = "float32",
    random_bits: Array | None = None,
    backend: str = DEFAULT_BACKEND,
) -> None:
    """Asserts that a cast returns what ``round_to`` returns for every input. All NaNs count as equal.

    Args:
        subject: The cast. It is called with an array of the source type and, for a stochastic policy, ``random_bits``.
            It returns an array of the same shape, of NumPy, PyTorch or JAX, either numbers as floats or codes as
            unsigned integers.
        format: The target format.
        policy: The rounding mode and overflow policy.
        x: The inputs, a number or an array of the source type. The default is the corpus of ``mpsim.validate``: all
            patterns of a 16-bit source, otherwise every code, midpoints, neighbours, powers of two, specials and random
            patterns.
        source: The source type.
        random_bits: For a stochastic policy, uint32 of x's shape.
        backend: The backend of ``round_to``.

    Raises:
        AssertionError: Results differ. The message has their number and the smallest input in magnitude with its
            result, the expected result and the nearest midpoint. Inputs in the counterexample file of the running test
            (the pytest plugin) are tried first.
        ValueError: The policy is stochastic, and ``x`` or ``random_bits`` is missing.

    >>> import ml_dtypes
    >>> cast = lambda x: x.astype(ml_dtypes.float8_e5m2).astype(np.float32)
    >>> assert_rounds_like(cast, "float8_e5m2", backend="reference")
    """
    target, origin = as_format(format), as_float_source(source)
    if policy.mode.needs_random_bits and (x is None or random_bits is None):
        raise UsageError(f"mode {policy.mode.value!r} needs x and random_bits, uint32 of its shape")
    __tracebackhide__ = True
    about: dict[str, object] = {"kind": "cast", "format": target.name, "source": origin.name, "mode": policy.mode.value}
    about |= {"overflow": policy.overflow.value, "subject": getattr(subject, "__name__", "subject")}
    stored = None if random_bits is not None else stored_inputs(about)
    given = [_inputs(x, target, origin)]
    if stored is not None:
        given.insert(0, (origin.array(stored), origin.values(stored)))
    for inputs, wide in given:
        with np.errstate(all="ignore"):
            answer = subject(inputs.copy()) if random_bits is None else subject(inputs.copy(), random_bits)
        got = as_array(answer)
        if got.shape != wide.shape:
            raise Mismatch(f"got shape {got.shape} for inputs of shape {wide.shape}")
        with default_float_environment():  # the subject may have changed it
            expected = round_to(
                wide, target, policy.mode, policy.overflow, random_bits=random_bits,
                random_bit_count=policy.random_bit_count, backend=backend, threads=1,
            )  # fmt: skip
            _compare(got, expected, (inputs, wide), origin, target, about)


def _inputs(x: ArrayLike | None, format: Format, source: Source) -> tuple[Array, Array]:
    """Returns the array that the subject receives, and the same numbers as float32 or float64."""
    if x is None:
        patterns = cast_corpus(format, source)
        return source.array(patterns), source.values(patterns)
    array = np.atleast_1d(as_array(x))
    if array.dtype.kind not in "fiu" and array.dtype.name not in FORMATS:
        raise UsageTypeError(f"x must be numbers of source {source.name}, got {array.dtype}")
    with np.errstate(over="ignore", invalid="ignore"):
        wide = array.astype(source.wide)
        same = np.array_equal(wide.astype(array.dtype), array, equal_nan=True)
        patterns = source.patterns(wide)
    if wide.size and not (same and np.array_equal(source.values(patterns), wide, equal_nan=True)):
        raise UsageError(f"x has numbers of {array.dtype} that source {source.name} does not represent")
    if source.name == "bfloat16":
        return source.array(patterns), wide
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(wide.astype(source.name)), wide


def _compare(
    got: Array, expected: Array, inputs: tuple[Array, Array], source: Source, format: Format, about: dict[str, object]
) -> None:
    """Compares results for ``inputs``: the array that the subject received, and its numbers as a wider type."""
    __tracebackhide__ = True
    given, x = inputs
    if got.dtype.kind in "iu":
        has_code = np.ones(x.shape, bool)
        if not format.has_nan:
            has_code &= ~np.isnan(expected)
        if not format.has_infinity:
            has_code &= ~np.isinf(expected)
        codes = encode(np.where(has_code, expected, format.largest), format, backend="reference")
        wrong = (got != codes) & ~(np.isnan(_decoded(got, format)) & np.isnan(expected)) & has_code
        shown = np.asarray(got), codes
    else:
        numbers = got.astype(np.float64)
        wide = expected.astype(np.float64)
        wrong = (_patterns(numbers) != _patterns(wide)).reshape(x.shape) & ~(np.isnan(numbers) & np.isnan(wide))
        shown = numbers, wide
    at = np.flatnonzero(wrong)
    if at.size == 0:
        return
    flat, results = x.reshape(-1), [each.reshape(-1) for each in shown]
    at = at[_by_magnitude(flat[at])]
    first = int(at[0])
    kept = {"inputs": given.reshape(-1)[at[:MOST]], "actual": results[0][at[:MOST]], "expected": results[1][at[:MOST]]}
    raise Mismatch(
        f"{about['subject']} to {format}: {at.size} of {x.size} inputs differ; smallest {_shown(flat, first)}: "
        f"got {_shown(results[0], first)}, expected {_shown(results[1], first)}"
        f"{_middle(flat[first : first + 1], format, source)}",
        about, kept,
    )  # fmt: skip


def _decoded(codes: Array, format: Format) -> Array:
    inside = np.clip(codes.astype(np.int64), 0, 2**format.bits - 1)
    return np.asarray(decode(inside, format, np.float64, backend="reference"))


def _middle(x: Array, format: Format, source: Source) -> str:
    """Describes the exact midpoint of the neighbours of x."""
    if not np.isfinite(x[0]) or x[0] == 0:
        return ""
    place = places(x, format, source)
    lower, quantum = Fraction(float(place.lower[0])), Fraction(float(place.quantum[0]))
    middle = (lower + quantum / 2) * (-1 if x[0] < 0 else 1)
    return f"; its neighbours' midpoint is {middle}" + (" (a tie)" if place.tie[0] else "")


def _patterns(array: Array) -> Array:
    """Returns the elements' bit patterns in one dimension."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat if flat.dtype.kind in "iub" else flat.view(f"uint{8 * flat.dtype.itemsize}")


def _by_magnitude(x: Array) -> Array:
    """Returns the indexes by rising magnitude. Positive numbers precede negative ones, and NaNs are last."""
    with np.errstate(invalid="ignore"):  # of signaling NaNs
        wide = x.astype(np.float64)
    magnitude = np.abs(wide)
    return np.lexsort((np.signbit(wide), np.isnan(magnitude), np.where(np.isnan(magnitude), np.inf, magnitude)))


def _shown(flat: Array, index: int) -> str:
    """Returns text with an element and its bits."""
    value, bits = flat[index], int(_patterns(flat[index : index + 1])[0])
    digits = 2 * flat.dtype.itemsize
    return f"{bits:#0{digits + 2}x}" if flat.dtype.kind in "iu" else f"{value!s} (0x{bits:0{digits}x})"
