"""The definition of comparisons, predicates, classes and neighbours of codes.

Source: IEEE P3109 Interim Report v4.0 §4.12, §4.13, §4.16; IEEE 754-2019 §5.3.1, §5.6.1, §5.7.2, §5.10.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from mpsim.arithmetic.definition import Number, below, number_of
from mpsim.errors import UsageError
from mpsim.formats import Format


def compare(name: str, codes: Sequence[int], formats: Sequence[Format]) -> bool:
    """The truth of a comparison or a predicate on codes."""
    numbers = [number_of(code, format) for code, format in zip(codes, formats, strict=True)]
    if name in CLASSES:
        return classify(codes[0], formats[0]) in CLASSES[name]
    if name in OF_VALUES:
        return OF_VALUES[name](numbers[0])
    x, y = (number.value for number in numbers)
    if name == "total_order":  # P3109 §4.12.1: a NaN is below everything
        return numbers[0].is_nan or (not numbers[1].is_nan and not below(numbers[1], numbers[0]))
    return bool({"less": x < y, "less_equal": x <= y, "equal": x == y, "greater": x > y, "greater_equal": x >= y}[name])


def classify(code: int, format: Format) -> str:
    """The class of a code (P3109 §4.13.1; IEEE 754-2019 §5.7.2 with the sign of zeros and NaN left out)."""
    x = number_of(code, format)
    if x.is_nan or x.is_zero:
        return "nan" if x.is_nan else "zero"
    sign = "negative" if x.negative else "positive"
    if x.is_infinite:
        return f"{sign}_infinity"
    normal = x.magnitude >= Fraction(2) ** format.min_exponent
    return f"{sign}_{'normal' if normal else 'subnormal'}"


_SIGNS = ("negative", "positive")
#: predicate -> the classes in which it holds
CLASSES = {
    "is_nan": ("nan",),
    "is_zero": ("zero",),
    "is_infinite": tuple(f"{sign}_infinity" for sign in _SIGNS),
    "is_finite": ("zero", *(f"{sign}_{kind}" for sign in _SIGNS for kind in ("normal", "subnormal"))),
    "is_normal": tuple(f"{sign}_normal" for sign in _SIGNS),
    "is_subnormal": tuple(f"{sign}_subnormal" for sign in _SIGNS),
}
#: predicate -> what it says of a number (P3109 §4.13; IEEE 754's sign bit of zeros and NaN does not count)
OF_VALUES: dict[str, Callable[[Number], bool]] = {
    "is_one": lambda x: x.value == 1,
    "is_sign_minus": lambda x: x.value < 0,
}
COMPARISONS = {
    "less": 2,
    "less_equal": 2,
    "equal": 2,
    "greater": 2,
    "greater_equal": 2,
    "total_order": 2,
} | dict.fromkeys([*CLASSES, *OF_VALUES], 1)


def neighbour(code: int, format: Format, up: bool) -> int:
    """The code of the least number that is greater, or of the greatest that is less.

    Where there is none, a P3109 format gives NaN (§4.16), and another format the number itself (IEEE 754-2019 §5.3.1).
    Raises UsageError for a format without subnormals or zero, whose codes are not the order of its numbers.
    """
    if not (format.has_zero and format.subnormals):
        raise UsageError(f"codes of {format} do not follow the order of its numbers")
    if number_of(code, format).is_nan:
        return code
    last = format.largest_code if format.infinity_code is None else format.infinity_code
    magnitude = code & format.magnitude_mask
    place = (-magnitude if code & format.sign_mask else magnitude) + (1 if up else -1)  # zeros share a place
    if place > last or place < (-last if format.signed else 0):
        assert format.nan_code is not None or not format.is_p3109
        return format.nan_code if format.is_p3109 and format.nan_code is not None else code
    if place == 0 and format.has_negative_zero:  # the zero on the number's own side
        return code & format.sign_mask
    return -place | format.sign_mask if place < 0 else place
