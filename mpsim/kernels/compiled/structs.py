"""Defines the structs of ext/common/structs.h as NamedTuples, and packs them to the bytes that kernels read.

When this module is imported, it compares names, offsets and sizes of the fields with the built extension's.
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct
from typing import NamedTuple, get_type_hints

from mpsim import _kernels
from mpsim.kernels.contractions.narrow import Narrow
from mpsim.kernels.parameters import CodeLayout, Parameters
from mpsim.policies import Mode

Pair = tuple[int, int]
Triple = tuple[int, int, int]


class RandomStream(NamedTuple):
    """The key of a Philox stream, and the upper words of its counter."""

    key: Pair
    words: Triple


class Convolution(NamedTuple):
    """The shapes and the geometry of a convolution."""

    images: int
    channels: int
    height: int
    width: int
    outputs: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    stride_height: int
    stride_width: int
    padding_height: int
    padding_width: int
    groups: int


class SumRounding(NamedTuple):
    """The rounding of a sum: mpsim.kernels.contractions.narrow.Rounding."""

    format: Narrow
    mode: int
    flush_below: float
    random_bits: int
    is_double: bool


class Aligned(NamedTuple):
    """Sums of aligned, truncated products."""

    terms: int
    quantum: float
    least_left: float
    least_right: float
    least_sum: float
    least_scale: float
    mask_left: int
    mask_right: int
    toward_zero: int


class Late(NamedTuple):
    """Sums that align c after their products: mpsim.kernels.contractions.steps.LateNumbers."""

    quantum: float
    sum_quantum: float
    reach: float
    least_left: float
    least_right: float
    least_sum: float
    sums: int


class Scaled(NamedTuple):
    """Sums of aligned products with scales of blocks: mpsim.kernels.contractions.steps.ScaledNumbers."""

    grouped: int
    quantum: float
    least_left: float
    least_right: float
    least_sum: float
    least: float
    least_scale: float
    left_table: int
    right_table: int
    sums: int


class Batch(NamedTuple):
    """Images: their number, their channels, and the elements per channel of an image."""

    images: int
    channels: int
    area: int


class Pooling(NamedTuple):
    """A pooling layer: its planes, their size, the rows and columns of windows, and the window's geometry."""

    planes: int
    height: int
    width: int
    rows: int
    columns: int
    kernel: Pair
    stride: Pair
    padding: Pair


class Moving(NamedTuple):
    """Copies of runs of elements. Their positions have three axes in both arrays."""

    size: Triple
    from_start: int
    from_step: Triple
    to_start: int
    to_step: Triple
    run: int
    before: int
    after: int


#: C name -> type.
STRUCTS: dict[str, type] = {
    "RoundingParameters": Parameters,
    "CodeLayout": CodeLayout,
    "RandomStream": RandomStream,
    "Convolution": Convolution,
    "NarrowFormat": Narrow,
    "SumRounding": SumRounding,
    "AlignedSum": Aligned,
    "LateSum": Late,
    "ScaledSum": Scaled,
    "Batch": Batch,
    "Pooling": Pooling,
    "Moving": Moving,
}
#: The type of a field -> its characters in the format of Python's ``struct``.
_CHARACTERS: dict[object, str] = {int: "q", bool: "q", float: "d", Pair: "qq", Triple: "qqq", Narrow: "qqqddq"}


def _characters(type: type) -> list[str]:
    return [_CHARACTERS[annotation] for annotation in get_type_hints(type).values()]


#: type -> its layout in memory.
_STRUCTS = {type: Struct("".join(_characters(type))) for type in STRUCTS.values()}


def layout(type: type) -> tuple[int, tuple[tuple[str, int, int], ...]]:
    """Returns the struct's size, and each field's name, offset and size in bytes.

    >>> layout(Batch)
    (24, (('images', 0, 8), ('channels', 8, 8), ('area', 16, 8)))
    """
    fields, offset = [], 0
    for name, annotation in get_type_hints(type).items():
        characters = _CHARACTERS[annotation]
        fields.append((name, offset, 8 * len(characters)))
        offset += 8 * len(characters)
    return offset, tuple(fields)


def compare(built: Mapping[str, object]) -> None:
    """Raises ImportError if the extension was built with different structs, or with other modes or numbers of them."""
    expected: dict[str, object] = {name: layout(type) for name, type in STRUCTS.items()}
    expected["RoundingMode"] = tuple(mode.name for mode in Mode)
    wrong = sorted(name for name in {*built, *expected} if built.get(name) != expected.get(name))
    if wrong:
        name = wrong[0]
        raise ImportError(
            f"mpsim._kernels was built from different sources: its {name} is {built.get(name)}, "
            f"expected {expected.get(name)}. Run 'pip install -e .'"
        )


compare(_kernels.layouts())


def packed(fields: tuple[float | tuple[float, ...], ...]) -> bytes:
    """Packs one of the NamedTuples to bytes.

    >>> packed(Batch(1, 2, 3)) == bytes([1, *7 * [0], 2, *7 * [0], 3, *7 * [0]])
    True
    """
    numbers: list[float] = []
    for field in fields:
        numbers += field if isinstance(field, tuple) else (field,)
    return _STRUCTS[type(fields)].pack(*numbers)
