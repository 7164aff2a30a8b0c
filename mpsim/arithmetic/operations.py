"""Public functions: operations on codes of any formats, computed exactly and rounded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mpsim import checks
from mpsim.arithmetic import definition, odd, predicates
from mpsim.arithmetic.definition import ARITHMETIC, OF_THE_SIGN
from mpsim.arithmetic.predicates import COMPARISONS
from mpsim.errors import UsageError, UsageTypeError
from mpsim.formats import Format, as_format
from mpsim.interchange import as_array, name_of
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.policies import Mode, Overflow, Policy
from mpsim.process import in_default_environment
from mpsim.rounding import decode, encode, round_to

__all__ = ["classify", "compare", "neighbour", "operate"]

#: Exponents within +-MOST_EXPONENT and significands of MOST_PRECISION bits: float64 then holds every product, and what
#: is rounded to odd has no exponent near the ends of float64's range.
MOST_EXPONENT, MOST_PRECISION = 479, 24
Formats = str | Format | Sequence[str | Format]
#: Comparisons that float64 numbers compute.
_RELATIONS = {
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}


@in_default_environment
def operate(
    name: str,
    *codes: ArrayLike,
    formats: Formats,
    result: str | Format | None = None,
    mode: str | Mode = Mode.NEAREST_EVEN,
    overflow: str | Overflow = Overflow.INFINITY,
    random_bits: ArrayLike | None = None,
    random_bit_count: int | None = None,
    rules: str | None = None,
    backend: str = DEFAULT_BACKEND,
) -> Array:
    """Compute an operation on codes exactly and round it once.

    The rules are those of IEEE P3109 if an operand or the result has a P3109 format, else those of IEEE 754-2019. They
    differ for quotients by zero (NaN in P3109) and zeros (one in P3109).

    Args:
        name: An operation, such as "add", "fma" or "minimum_number"; see ``ARITHMETIC``. The operands of "scaled_add"
            and the like each follow a scale factor, by which they are multiplied exactly.
        codes: One array of integers for each operand, in 0 .. 2**bits - 1 of its format. They are broadcast.
        formats: The format of all operands, or one for each.
        result: The format of the result; None for the first operand's.
        mode, overflow, random_bit_count: As for ``round_to``.
        random_bits: For mode "stochastic": uint32 words of the result's shape.
        rules: "p3109" or "ieee754", whatever the formats are; None for the choice above.
        backend: What decodes, rounds and encodes arrays; it changes no bit.

    Returns:
        The codes of the results, an unsigned integer array of the broadcast shape.

    Raises:
        UsageError: For an unknown operation, codes outside a format, shapes that do not broadcast, or a result that the
            format has no code for.

    Source: IEEE P3109 Interim Report v4.0 §4.9 to §4.11, §5.5; IEEE 754-2019 §5.4, §6.3, §9.2, §9.6.

    >>> [hex(code) for code in operate("multiply", [0x40, 0x41], [0x42, 0x42], formats="p3109_k8p3")]
    ['0x42', '0x44']
    >>> operate("divide", 0x38, 0, formats="float8_e4m3"), operate("divide", 0x40, 0, formats="p3109_k8p3")
    (array(120, dtype=uint8), array(128, dtype=uint8))
    """
    asked = Asked.of(name, codes, formats, result)
    policy = Policy(mode, overflow, random_bit_count)  # type: ignore[arg-type]
    if policy.mode.is_legacy:
        raise UsageError(f"mode {policy.mode.value!r} is defined for float32 numbers only, not for operations on codes")
    words = _random_words(policy, random_bits, asked.codes[0].shape)
    if rules is not None:
        checks.named("rules", rules, ["p3109", "ieee754"])
    if asked.is_fast(policy):
        return _fast(asked, policy, words, definition.is_p3109(rules, (*asked.formats, asked.result)), backend)
    return _exact(asked, policy, words, rules)


@in_default_environment
def compare(name: str, *codes: ArrayLike, formats: Formats) -> Array:
    """Evaluate a comparison or a predicate on codes.

    Args:
        name: "less", "less_equal", "equal", "greater", "greater_equal", "total_order", "is_nan", "is_zero", "is_one",
            "is_infinite", "is_finite", "is_normal", "is_subnormal" or "is_sign_minus" (a number below zero).
        codes, formats: As for ``operate``.

    Returns:
        A boolean array of the broadcast shape.

    Raises:
        UsageError: For an unknown name, codes outside a format, or shapes that do not broadcast.

    Source: IEEE P3109 Interim Report v4.0 §4.12, §4.13; IEEE 754-2019 §5.6.1, §5.7.2, §5.10.

    >>> compare("less", [0x3C, 0x80], [0x40, 0x40], formats="p3109_k8p3")
    array([ True, False])
    """
    checks.named("comparison", name, list(COMPARISONS))
    arrays, of_operands = operands_of(name, COMPARISONS[name], codes, formats)
    if name in _RELATIONS and all(each.fits_float64 for each in of_operands):
        values = [decode(array, each, np.float64) for array, each in zip(arrays, of_operands, strict=True)]
        return np.asarray(_RELATIONS[name](*values))
    if len(arrays) == 1:
        found, places = np.unique(arrays[0], return_inverse=True)
        answers = each_element(lambda code: predicates.compare(name, (code,), of_operands), [found], np.dtype(bool))
        return answers[places].reshape(arrays[0].shape)
    return each_element(lambda *row: predicates.compare(name, row, of_operands), arrays, np.dtype(bool))


@in_default_environment
def classify(codes: ArrayLike, format: str | Format) -> Array:
    """Return the class of each code: "nan", "zero", or "positive_normal" and the like.

    Args:
        codes: Integers in 0 .. 2**bits - 1 of the format.
        format: Their format.

    Returns:
        An array of strings of the same shape.

    Raises:
        UsageError: For codes outside the format.

    Source: IEEE P3109 Interim Report v4.0 §4.13.1.

    >>> classify([0, 1, 0x7F, 0x80, 0xC0], "p3109_k8p3").tolist()
    ['zero', 'positive_subnormal', 'positive_infinity', 'nan', 'negative_normal']
    """
    arrays, of_operands = operands_of("classify", 1, (codes,), format)
    return each_element(lambda code: predicates.classify(code, of_operands[0]), arrays, np.dtype("U20"))


@in_default_environment
def neighbour(codes: ArrayLike, format: str | Format, direction: str) -> Array:
    """Return the code of the next number above or below each code's.

    Args:
        codes: Integers in 0 .. 2**bits - 1 of the format.
        format: Their format.
        direction: "greater" or "less".

    Returns:
        An array of codes of the same shape. Where there is no such number, a P3109 format gets NaN, and another format
        the code itself.

    Raises:
        UsageError: For codes outside the format, and for a format without subnormals or without zero.

    Source: IEEE P3109 Interim Report v4.0 §4.16; IEEE 754-2019 §5.3.1 (nextUp, nextDown).

    >>> [hex(code) for code in neighbour([0, 0x7E, 0x7F, 0x81], "p3109_k8p3", "greater")]
    ['0x1', '0x7f', '0x80', '0x0']
    """
    checks.named("direction", direction, ["greater", "less"])
    arrays, (found,) = operands_of("neighbour", 1, (codes,), format)
    dtype = np.dtype(f"uint{found.code_bits}")
    return each_element(lambda code: predicates.neighbour(code, found, direction == "greater"), arrays, dtype)


class Asked(NamedTuple):
    """An operation on codes: arrays of one shape, the format of each, and the format of the result."""

    name: str
    codes: list[Array]
    formats: tuple[Format, ...]
    result: Format

    @classmethod
    def of(cls, name: str, codes: Sequence[ArrayLike], formats: Formats, result: str | Format | None) -> Asked:
        """Checks the arguments of an operation."""
        checks.named("operation", name, list(ARITHMETIC))
        arrays, found = operands_of(name, ARITHMETIC[name][0], codes, formats)
        return cls(name, arrays, found, found[0] if result is None else as_format(result))

    def is_fast(self, policy: Policy) -> bool:
        """Whether float64 arrays hold what is needed; otherwise the definition computes element by element."""
        lost = odd.OPERATIONS[self.name.removeprefix("scaled_")][1]
        factors = self.formats[:4] if self.name in ("scaled_multiply", "scaled_fma") else ()  # of one product
        spare = (policy.random_bit_count or 0) + 2  # bits below the result's last one that decide
        return (
            all(each.fits_float64 and _exponent(each) <= MOST_EXPONENT for each in (*self.formats, self.result))
            and all(each.precision <= MOST_PRECISION for each in self.formats)
            and sum(each.precision for each in factors) <= 53
            and sum(map(_exponent, factors)) <= 2 * MOST_EXPONENT
            and (lost == 0 or self.result.precision + spare <= lost)
        )

    def values(self, backend: str = DEFAULT_BACKEND) -> list[Array]:
        """Returns the operands as float64."""
        pairs = zip(self.codes, self.formats, strict=True)
        return [decode(array, format, np.float64, backend=backend) for array, format in pairs]


@np.errstate(all="ignore")
def rounded_to_odd(name: str, values: list[Array]) -> tuple[str, list[Array], Array]:
    """Returns the operation without scale factors, its operands, and its result, rounded to odd to float64."""
    if name.startswith("scaled_"):
        name, values = name.removeprefix("scaled_"), [s * x for s, x in zip(values[::2], values[1::2], strict=True)]
    return name, values, np.asarray(odd.OPERATIONS[name][0](*values))


def _exponent(format: Format) -> int:
    return max(format.max_exponent, -format.quantum_exponent, -format.min_exponent)


def _fast(asked: Asked, policy: Policy, words: Array | None, p3109: bool, backend: str) -> Array:
    """By float64 arrays rounded to odd."""
    values, result = asked.values(backend), asked.result
    if p3109:
        values = [value + 0.0 for value in values]  # one zero
    name, values, total = rounded_to_odd(asked.name, values)
    if p3109 and name in ("divide", "reciprocal", "rsqrt"):
        total = np.where(values[-1] == 0, np.nan, total)
    if p3109 and name == "copysign":
        total = np.where(np.isnan(values[1]), np.nan, total)
    if not p3109 and policy.mode is Mode.DOWN and name in ("add", "subtract", "fma", "faa"):
        total = np.where((total == 0) & ~_same_signs(name, values), -0.0, total)
    if p3109 or name not in OF_THE_SIGN:
        total = np.where(np.isnan(total), np.nan, total)
    policy = definition.p3109_policy(policy, result) if p3109 else policy
    rounded = np.asarray(
        round_to(
            np.atleast_1d(total),
            result,
            policy.mode,
            policy.overflow,
            random_bits=None if words is None else np.atleast_1d(words),
            random_bit_count=policy.random_bit_count,
            backend=backend,
        )
    )
    if p3109:
        rounded = np.where(rounded == 0, 0.0, rounded)
    return np.asarray(encode(rounded, result, backend=backend)).reshape(total.shape)


def _same_signs(name: str, values: list[Array]) -> Array:
    """Whether the terms of a sum that is zero have one sign."""
    signs = [np.signbit(value) for value in values]
    if name == "subtract":
        signs[1] = ~signs[1]
    if name == "fma":
        signs = [signs[0] ^ signs[1], signs[2]]
    return np.logical_and.reduce([sign == signs[0] for sign in signs])


def _exact(asked: Asked, policy: Policy, words: Array | None, rules: str | None) -> Array:
    """By the definition, one element at a time."""
    name, codes, formats, result = asked

    def one(*row: int) -> int:
        bits = None if words is None else row[-1]
        return definition.operate(name, row[: len(formats)], formats, result, policy, bits, rules)

    return each_element(one, codes if words is None else [*codes, words], np.dtype(f"uint{result.code_bits}"))


def each_element(function: Callable[..., object], arrays: list[Array], dtype: np.dtype) -> Array:
    """A function of each row of elements."""
    found = [function(*map(int, row)) for row in zip(*(array.reshape(-1) for array in arrays), strict=True)]
    return np.array(found, dtype).reshape(arrays[0].shape)


def operands_of(
    name: str, count: int, codes: Sequence[ArrayLike], formats: Formats
) -> tuple[list[Array], tuple[Format, ...]]:
    """The codes as arrays of one shape, and the format of each."""
    if len(codes) != count:
        raise UsageError(f"{name} takes {count} operand{'s' * (count != 1)}, got {len(codes)}")
    found = formats_of_operands(name, count, formats)
    arrays = [_codes(array, format) for array, format in zip(codes, found, strict=True)]
    try:
        return [array.copy() for array in np.broadcast_arrays(*arrays)], found
    except ValueError:
        shapes = ", ".join(str(array.shape) for array in arrays)
        raise UsageError(f"the codes of {name} have shapes that do not broadcast: {shapes}") from None


def formats_of_operands(name: str, count: int, formats: Formats) -> tuple[Format, ...]:
    """The format of each of ``count`` operands; UsageError for another number of formats."""
    several = [formats] * count if isinstance(formats, str | Format) or name_of(formats) else list(formats)
    if len(several) != count:
        raise UsageError(f"{name} takes {count} operands and has {len(several)} formats; give one, or one for each")
    return tuple(as_format(each) for each in several)


def _codes(codes: ArrayLike, format: Format) -> Array:
    array = as_array(codes)
    if array.dtype.kind not in "iu":
        raise UsageTypeError(f"codes are integers, got {array.dtype}; encode numbers with mpsim.encode first")
    wrong = (array < 0) | (array > 2**format.bits - 1)
    if wrong.any():
        raise UsageError(f"codes of {format} are 0 to {2**format.bits - 1}, got {array[wrong].reshape(-1)[0]}")
    return array.astype(f"uint{format.code_bits}")


def _random_words(policy: Policy, random_bits: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    if not policy.mode.needs_random_bits:
        if random_bits is not None:
            raise UsageError(f"mode {policy.mode.value!r} uses no random bits; got some")
        return None
    words = as_array(random_bits)
    if random_bits is None or words.dtype != np.uint32 or words.shape != shape:
        raise UsageError(f"mode {policy.mode.value!r} needs random_bits, uint32 of shape {shape}")
    return words
