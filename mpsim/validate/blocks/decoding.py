"""``mpsim validate blocks --decode``: compares a dequantiser with a description, on every code with every scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpsim import checks
from mpsim.blocks import BlockFormat, Quantizer
from mpsim.blocks.quantized import Quantized
from mpsim.blocks.quantizers.elements import Integer
from mpsim.blocks.quantizers.groups import Block, Row
from mpsim.errors import UsageError
from mpsim.files.records import Record
from mpsim.formats import FORMATS, as_format
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.contract import Array
from mpsim.process import default_float_environment
from mpsim.rounding import encode
from mpsim.validate.answers import Report, SubjectError, Verdict
from mpsim.validate.blocks.answers import BlockAnswers
from mpsim.validate.blocks.causes import outcomes
from mpsim.validate.blocks.corpus import group_size, quantizer_of, whole_of
from mpsim.validate.blocks.expected import Expected, joined
from mpsim.validate.blocks.kinds import MEANINGS, Kind
from mpsim.validate.blocks.report import many
from mpsim.validate.blocks.subjects import BlockSubject, open_blocks
from mpsim.validate.blocks.validation import LENGTHS
from mpsim.validate.subjects.casts import values_of
from mpsim.validate.subjects.opening import Calling
from mpsim.validate.subjects.worker import Typed

F = np.float32
#: Of scales in float32 those that are tried: ends, zero, and powers of two times these.
DIGITS = (1.0, 1.0000001192092896, 1.3333333730697632, 1.9999998807907104)


@dataclass(frozen=True)
class DecodedClass:
    """A class of blocks whose numbers differ. ``example``: (code, scale code, expected, got). cause: words or None."""

    kind: Kind
    blocks: int
    elements: int
    example: tuple[int, int, float, float]
    cause: str | None


@dataclass(frozen=True)
class DecodeReport(Report):
    """The result of comparing a dequantiser. ``pairs``: how many codes with scales were compared."""

    format: str
    quantizer: Quantizer
    pairs: int
    exhaustive: bool
    answers: str
    classes: tuple[DecodedClass, ...]

    @property
    def verdict(self) -> Verdict:
        return Verdict.of(not self.classes)

    def details(self) -> Record:
        return {
            "format": self.format,
            "pairs": self.pairs,
            "exhaustive": self.exhaustive,
            "answers": self.answers,
            "classes": [
                {
                    "class": each.kind.value, "blocks": each.blocks, "elements": each.elements, "cause": each.cause,
                    "example": dict(zip(("code", "scale", "expected", "got"), map(_plain, each.example), strict=True)),
                }
                for each in self.classes
            ],
        }  # fmt: skip


def _plain(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)


def validate_dequantizer(
    subject: str | Callable[..., object],
    format: str | BlockFormat | Quantizer,
    *,
    tensor_scale: float | None = None,
    calling: Calling = Calling(),
    backend: str = DEFAULT_BACKEND,
) -> DecodeReport:
    """Tests a dequantiser: on every code with every scale, or, of scales in float32, with chosen ones.

    Args:
        subject: As for ``validate_blocks``. It takes codes (n, size), uint8 or of integers int8, and scales (n,), uint8
            or float32, and answers numbers (n, size).
        format: A block format, a preset or a description, whose groups are blocks or rows.
        tensor_scale: The second scale that the subject uses; 1 by default.
        calling, backend: As for ``validate_blocks``.

    Returns:
        The report.

    Raises:
        SubjectError: The subject cannot be run or answers something else.
        ValueError: The description has other groups, zero points, or a multiplier.

    >>> from mpsim.rounding import decode
    >>> def subject(codes, scales):
    ...     return decode(codes, "float8_e5m2") * decode(scales, "float8_e8m0fnu")[:, None]
    >>> validate_dequantizer(subject, "mxfp8_e5m2").equal
    True
    """
    quantizer = quantizer_of(format)
    if not isinstance(quantizer.group, Block | Row) or quantizer.statistic.of == "range":
        raise UsageError("dequantisers of blocks or rows without zero points are compared; give another description")
    if quantizer.second is not None and quantizer.second.form == "multiplier":
        raise UsageError(
            "the tensor scale of this description is a multiplier's; give one with second(), which divides"
        )
    if quantizer.second is None and tensor_scale is not None:
        raise UsageError(f"this description has no second scale, got {tensor_scale}", "tensor_scale")
    second = whole_of(quantizer) if tensor_scale is None else float(tensor_scale)
    checks.real("tensor_scale", second, above=0, most=checks.FLOAT32_LARGEST)
    opened = open_blocks(subject, quantizer, calling, inputs=2, decodes=True)
    codes, scales = code_pairs(quantizer)
    with default_float_environment():
        given = None if quantizer.second is None else np.asarray(F(second))
        coded = Quantized(quantizer, codes, scales, None, given, None, 1)
        expected = joined([coded], quantizer.group, [len(codes)])
        answered = _ask(opened, codes, scales)
        _check_steady(opened, codes, scales, answered)
        classes = _classes(expected, answered)
    name = format if isinstance(format, str) and "(" not in format else getattr(format, "name", "the description")
    few = as_format(quantizer.scale.format).bits <= 8
    return DecodeReport(opened.name, str(name), quantizer, codes.size, few, answered.type, classes, state=opened.state)


def code_pairs(quantizer: Quantizer) -> tuple[Array, Array]:
    """Returns codes (n, size) and scales (n, 1): each element with each scale."""
    element, size = quantizer.element, group_size(quantizer)
    if isinstance(element, Integer):
        every = np.arange(element.ends[0], element.ends[1] + 1).astype(np.int8)
    else:
        every = np.arange(1 << element.bits).astype(np.uint8 if element.bits <= 8 else np.uint16)
    rows = np.resize(every, -(-every.size // size) * size).reshape(-1, size)
    scales = _scales(quantizer)
    return np.tile(rows, (len(scales), 1)), np.repeat(scales, len(rows))[:, None]


def _scales(quantizer: Quantizer) -> Array:
    format = as_format(quantizer.scale.format)
    if format.bits <= 8:
        return np.arange(format.magnitude_mask + 1).astype(np.uint8)
    powers = np.ldexp(np.array(DIGITS), np.arange(-148, 128, 4)[:, None]).reshape(-1)
    numbers = np.concatenate([[0.0, format.smallest, format.largest, np.nan], powers])
    return np.asarray(encode(numbers, format, overflow="saturate", backend="reference"))


def _ask(subject: BlockSubject, codes: Array, scales: Array) -> BlockAnswers:
    format = as_format(subject.quantizer.scale.format)
    scale = Typed("uint8" if format.bits <= 8 else format.name, np.ascontiguousarray(scales[:, 0]))
    answers = subject.call([Typed(codes.dtype.name, codes), scale])
    if len(answers) != 1 or answers[0].words.shape != codes.shape or answers[0].type not in FORMATS:
        shapes = ", ".join(f"{each.type} of {each.words.shape}" for each in answers)
        raise SubjectError(f"{subject.name} answered {shapes}; expected floats of {codes.shape}")
    return BlockAnswers(answers[0].type, values_of(answers[0], subject.name))


def _check_steady(subject: BlockSubject, codes: Array, scales: Array, answered: BlockAnswers) -> None:
    """Raises SubjectError if answers differ in two equal calls, or depend on the number of blocks in a call."""
    if not answered.equals(_ask(subject, codes, scales)):
        raise SubjectError(f"{subject.name} answers differently in equal calls")
    generator = np.random.default_rng(0)
    for count in LENGTHS:
        rows = np.sort(generator.integers(0, len(codes), count))
        if not _ask(subject, codes[rows], scales[rows]).equals(answered.at(rows)):
            raise SubjectError(f"{subject.name} answers some blocks otherwise among {count} than among {len(codes)}")


def _classes(expected: Expected, answered: BlockAnswers) -> tuple[DecodedClass, ...]:
    different, kinds = answered.differ(expected), _kinds(expected)
    wrong, found = different.any(-1), []
    for index, kind in enumerate(Kind):
        members = wrong & (kinds == index)
        if not members.any():
            continue
        region = np.flatnonzero((kinds == index) | ~wrong)  # a cause changes nothing that is right
        here = answered.at(region)
        causes = (
            words
            for words, change in outcomes(expected.quantizer, answered)
            if not here.differ(change(expected.at(region))).any()
        )
        rows = np.flatnonzero(members)
        first = _nearest_to_one(rows, expected)
        at = int(np.flatnonzero(different[first])[0])
        got = answered.values
        assert got is not None
        example = (
            int(expected.codes[first, at]), int(expected.scales[first, 0]),
            float(expected.values(answered.type)[first, at]), float(got[first, at]),
        )  # fmt: skip
        found.append(DecodedClass(kind, int(members.sum()), int(different[members].sum()), example, next(causes, None)))
    return tuple(found)


def _nearest_to_one(rows: Array, expected: Expected) -> int:
    """Returns the row whose scale is nearest to 1, as an example."""
    numbers = expected.scale_numbers[rows, 0]
    sound = np.where(np.isfinite(numbers) & (numbers > 0), numbers, 2.0**500)
    return int(rows[np.argsort(np.abs(np.log2(sound)), kind="stable")[0]])


def _kinds(expected: Expected) -> Array:
    """Returns the index in ``list(Kind)`` of the class of every block of codes."""
    format, numbers = as_format(expected.quantizer.scale.format), expected.scale_numbers[:, 0]
    special = ~np.isfinite(expected.exact).all(-1)
    small = ((expected.exact != 0) & (np.abs(expected.exact) < np.finfo(F).smallest_normal)).any(-1)
    limit = (numbers == format.largest) | ((numbers == format.smallest) & (not format.has_zero))
    choices = (
        (special, Kind.SPECIAL), (numbers == 0, Kind.ZEROS), (limit, Kind.LIMIT), (small, Kind.SUBNORMAL),
    )  # fmt: skip
    order = list(Kind)
    return np.select(
        [where for where, _ in choices], [order.index(kind) for _, kind in choices], order.index(Kind.ELEMENT)
    )


# -- how it is presented ------------------------------------------------------------------------------------


def text(report: DecodeReport, width: int = 110) -> str:
    """Returns the report as text, with the verdict first and then each class of blocks that differ."""
    pairs = f"every code with every scale ({report.pairs:,})" if report.exhaustive else f"{report.pairs:,} codes"
    lines = [f"{report.subject}: {report.format} to numbers, answered as values in {report.answers}, {pairs}"]
    if report.state:
        lines.append(f"the subject sets {' and '.join(report.state)} for its whole process")
    if report.equal:
        return "\n".join([*lines, "equal in every bit"])
    lines.append(f"different in {sum(each.elements for each in report.classes):,} elements:")
    for each in report.classes:
        lines += _lines(each)
    return "\n".join(lines)


def _lines(found: DecodedClass) -> list[str]:
    code, scale, expected, got = found.example
    count = f"{many(found.blocks, 'block')}, {many(found.elements, 'element')}"
    cause = "    unexplained" if found.cause is None else f"    likely cause: {found.cause}"
    return [
        f"  {found.kind.value}: {count} ({MEANINGS[found.kind]})",
        f"    code {code & 0xFF:#04x} with scale {scale:#04x}: expected {expected}, got {got}",
        cause,
    ]


def cases(report: DecodeReport) -> dict[str, list[str] | None]:
    """Returns a test case for each class of blocks."""
    found = {each.kind.value: [line.strip() for line in _lines(each)] for each in report.classes}
    return {kind.value: found.get(kind.value) for kind in Kind}


def draw(report: DecodeReport, axes: object) -> None:
    """Draws the number of elements of each class that differ."""
    counts = {each.kind.value: each.elements for each in report.classes}
    names = [kind.value for kind in Kind][::-1]
    bars = axes.barh(names, [counts.get(name, 0) for name in names], color="tab:red")  # type: ignore[attr-defined]
    axes.bar_label(bars, [f"{counts.get(name, 0):,}" for name in names], padding=3)  # type: ignore[attr-defined]
    axes.set_title(f"{report.subject}: {report.format} to numbers", fontsize=9)  # type: ignore[attr-defined]
