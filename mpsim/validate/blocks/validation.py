"""``mpsim validate blocks``: a block quantiser against mpsim.blocks, and which scale rule it follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpsim.blocks import SCALE_RULES, BlockFormat, Blocks, dequantize, quantize
from mpsim.kernels.spec_blocks import SCALE_OVERFLOWS, as_block_format
from mpsim.rounding import decode
from mpsim.validate.blocks.corpus import block_corpus
from mpsim.validate.sources import as_source
from mpsim.validate.subjects.adapters import LIBRARIES, SubjectError, open_subject

__all__ = ["BlockReport", "Counterexample", "RuleResult", "validate_blocks"]

Array = np.ndarray[Any, Any]
Subject = Callable[[Array], Any]


@dataclass(frozen=True)
class Counterexample:
    """The differing block of smallest largest magnitude; its other elements are 0 where the difference stays.

    expected and got: float32 values, or, if ``codes``, element codes; the scales are codes, None for values.
    """

    block: Array
    expected: Array
    got: Array
    expected_scale: int
    got_scale: int | None
    codes: bool

    def as_json(self) -> dict[str, Any]:
        """Numbers as JSON; ``input_hex`` has float32 patterns."""
        return {
            "input": self.block.tolist(),
            "input_hex": [f"{int(word):#010x}" for word in self.block.view(np.uint32)],
            "answers": "codes" if self.codes else "values",
            "expected": self.expected.tolist(),
            "got": self.got.tolist(),
            "expected_scale": self.expected_scale,
            "got_scale": self.got_scale,
        }


@dataclass(frozen=True)
class RuleResult:
    """The comparison with one scale rule. rule: None for NVFP4, which has one."""

    rule: str | None
    scale_overflow: str
    blocks: int
    elements: int
    first: Counterexample | None = None
    cause: str | None = None

    @property
    def name(self) -> str:
        return f"scale overflow {self.scale_overflow}" if self.rule is None else f"scale rule {self.rule}"

    def as_json(self) -> dict[str, Any]:
        return {
            "scale_rule": self.rule,
            "scale_overflow": self.scale_overflow,
            "differing_blocks": self.blocks,
            "differing_elements": self.elements,
            "smallest": None if self.first is None else self.first.as_json(),
            "likely_cause": self.cause,
        }


@dataclass(frozen=True)
class BlockReport:
    """What came out; ``rules``: the declared one, or all, the nearest first."""

    subject: str
    format: BlockFormat
    blocks: int
    declared: bool
    rules: tuple[RuleResult, ...]

    @property
    def equal(self) -> bool:
        return self.rules[0].blocks == 0

    def as_json(self) -> dict[str, Any]:
        """The whole report as JSON values."""
        return {
            "subject": self.subject,
            "format": self.format.name,
            "blocks": self.blocks,
            "declared": self.declared,
            "equal": self.equal,
            "equal_to": [result.name for result in self.rules if not result.blocks],
            "rules": [result.as_json() for result in self.rules],
        }


def validate_blocks(
    subject: str | Subject,
    format: str | BlockFormat,
    *,
    scale_rule: str | None = None,
    scale_overflow: str | None = None,
    tensor_scale: float | None = None,
    arguments: str = "numpy",
    seed: int = 0,
    backend: str = "compiled",
) -> BlockReport:
    """Tries a block quantiser on ``block_corpus`` and says which scale rule it follows, in every bit.

    subject: "package.module:function", "file.py:function" or a function; takes float32 (n, block size), one block a
    row, and answers dequantised values of that shape, or (element codes, scale codes (n,)). Elements round to nearest
    even and saturate. Of a block whose scale is NaN only the scale counts. ``scale_rule``, ``scale_overflow``:
    declared; with neither, all rules are compared. ``tensor_scale``: the one that an NVFP4 subject uses (default 1).
    Raises SubjectError if the subject cannot be run, ValueError for wrong names.

    >>> import numpy as np
    >>> from mpsim.blocks import round_to_blocks
    >>> report = validate_blocks(lambda x: round_to_blocks(x, "mxfp4", scale_rule="even"), "mxfp4")
    >>> print(report.equal, report.rules[0].rule)
    True even
    """
    row = as_block_format(format)
    candidates = _candidates(row, scale_rule, scale_overflow)
    if row.tensor_scale and tensor_scale is None:
        tensor_scale = 1.0
    corpus = block_corpus(row, tensor_scale, seed)
    name, function = _opened(subject, arguments)

    def ask(x: Array) -> tuple[Array, Array | None]:
        return _answers(function, name, x, row)

    def define(x: Array, result: RuleResult) -> Blocks:
        return quantize(
            x, row, scale_rule=result.rule or "floor", scale_overflow=result.scale_overflow,
            tensor_scale=tensor_scale, backend=backend,
        )  # fmt: skip

    answered = ask(corpus)
    _check_repeatable(ask, name, corpus, answered)
    results = []
    for candidate in candidates:
        different = _different(define(corpus, candidate), answered)
        counted = replace(candidate, blocks=int(different.any(-1).sum()), elements=int(different.sum()))
        results.append((counted, different))
    results.sort(key=lambda item: (item[0].blocks, item[0].elements))
    nearest, different = results[0]
    if nearest.blocks:
        first = _smallest(corpus, different, ask, lambda x: define(x, nearest))
        nearest = replace(nearest, first=first, cause=_cause(corpus[different.any(-1)]))
    declared = scale_rule is not None or scale_overflow is not None
    return BlockReport(name, row, len(corpus), declared, (nearest, *(result for result, _ in results[1:])))


def _candidates(format: BlockFormat, rule: str | None, overflow: str | None) -> list[RuleResult]:
    if rule is not None and rule not in SCALE_RULES:
        raise ValueError(f"unknown scale rule {rule!r}. Known: {', '.join(SCALE_RULES)}")
    if overflow is not None and overflow not in SCALE_OVERFLOWS:
        raise ValueError(f"unknown scale_overflow {overflow!r}. Known: {', '.join(SCALE_OVERFLOWS)}")
    if format.tensor_scale:
        if rule is not None:
            raise ValueError(f"{format.name} has one scale rule; got {rule!r}")
        return [RuleResult(None, each, 0, 0) for each in ([overflow] if overflow else SCALE_OVERFLOWS)]
    # No float32 block has an E8M0 scale beyond the largest: its exponent is at most 128 less the element's.
    return [RuleResult(each, overflow or "saturate", 0, 0) for each in ([rule] if rule else SCALE_RULES)]


# -- the subject and its answers ----------------------------------------------------------------------------


def _opened(subject: str | Subject, arguments: str) -> tuple[str, Subject]:
    if not isinstance(subject, str):
        return getattr(subject, "__name__", type(subject).__name__), subject
    place, colon, _ = subject.rpartition(":")
    if not colon or subject.startswith("command:") or place.endswith(LIBRARIES):
        raise SubjectError(f"{subject}: a block quantiser is named package.module:function or file.py:function")
    opened = open_subject(subject, arguments=arguments)
    return subject, lambda x: opened.call(as_source("float32"), x, None)


def _answers(function: Subject, name: str, x: Array, row: BlockFormat) -> tuple[Array, Array | None]:
    """(values float32, None) or (element codes, scale codes), uint8. Raises SubjectError."""
    try:
        with np.errstate(all="ignore"):
            answer = function(x.copy())
    except Exception as error:  # anything at all may come out of somebody else's code
        raise SubjectError(f"{name} failed on blocks of shape {x.shape}: {type(error).__name__}: {error}") from error
    if not isinstance(answer, tuple | list):
        values = np.asarray(answer)
        if values.shape != x.shape or values.dtype.kind != "f":
            raise SubjectError(f"{name} answered {values.dtype} of shape {values.shape}; expected floats of {x.shape}")
        with np.errstate(all="ignore"):
            return values.astype(np.float32), None
    if len(answer) != 2:
        raise SubjectError(f"{name} answered {len(answer)} things; expected values, or (codes, scales)")
    codes, scales = (_codes(part, name) for part in answer)
    if codes.shape != x.shape or scales.size != len(x):
        raise SubjectError(f"{name} answered codes of shape {codes.shape} and {scales.size} scales to {x.shape}")
    return codes, scales.reshape(-1, 1)


def _codes(part: Any, name: str) -> Array:
    array = np.asarray(part)
    if array.dtype.kind not in "iu" and array.dtype.itemsize == 1:  # a type of ml_dtypes
        array = array.view(np.uint8)
    if array.dtype.kind not in "iu":
        raise SubjectError(f"{name} answered codes of type {array.dtype}; expected integers")
    if array.dtype == np.int8:
        return array.view(np.uint8)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 256:
        raise SubjectError(f"{name} answered codes beyond 8 bits")
    return array.astype(np.uint8)


def _different(expected: Blocks, answered: tuple[Array, Array | None]) -> Array:
    """Per element; a wrong scale makes all elements of its block differ."""
    got, scales = answered
    if scales is None:
        values = dequantize(expected)
        same = values.view(np.uint32) == np.ascontiguousarray(got).view(np.uint32)
        return np.asarray(~(same | (np.isnan(values) & np.isnan(got))))
    numbers = decode(expected.scales, expected.format.scale, np.float64, backend="reference")
    return np.asarray(((expected.codes != got) & ~np.isnan(numbers)) | (expected.scales != scales))


def _check_repeatable(ask: Callable[[Array], Any], name: str, corpus: Array, answered: tuple[Array, Any]) -> None:
    step = max(1, len(corpus) // 64)
    again, scales = ask(np.ascontiguousarray(corpus[::step]))
    same = np.array_equal(again.view(f"u{again.itemsize}"), answered[0][::step].view(f"u{again.itemsize}"))
    if not same or (scales is not None and not np.array_equal(scales, answered[1][::step])):
        raise SubjectError(
            f"{name} answers some blocks otherwise among fewer others: each row is a block of its own, and a tensor "
            f"scale is the one given (--tensor-scale)"
        )


# -- the counterexample -------------------------------------------------------------------------------------


def _smallest(corpus: Array, different: Array, ask: Callable[[Array], Any], define: Any) -> Counterexample:
    with np.errstate(invalid="ignore"):
        amax = np.abs(corpus).max(-1)
    rows = np.flatnonzero(different.any(-1))
    row = corpus[rows[np.argsort(amax[rows], kind="stable")[0]]]
    top = int(np.argmax(np.where(np.isnan(row), np.inf, np.abs(row))))
    fewer = np.zeros((row.size + 2, row.size), np.float32)  # the largest alone, with one other, all
    fewer[:, top] = row[top]
    fewer[np.arange(1, row.size + 1), np.arange(row.size)] = row
    fewer[-1] = row
    expected, answered = define(fewer), ask(fewer)
    at = int(np.flatnonzero(_different(expected, answered).any(-1))[0])
    got, scales = answered
    wanted = dequantize(expected) if scales is None else expected.codes
    got_scale = None if scales is None else int(scales[at, 0])
    return Counterexample(fewer[at], wanted[at], got[at], int(expected.scales[at, 0]), got_scale, scales is not None)


def _cause(blocks: Array) -> str | None:
    """What the differing blocks have in common, where that has a usual cause."""
    if not np.isfinite(blocks).all():
        return "NaN or infinite elements" if not np.isfinite(blocks).all(-1).any() else None
    amax = np.abs(blocks).max(-1).astype(np.float64)
    fraction, _ = np.frexp(amax)
    if (amax == 0).all():
        return "blocks of zeros"
    if ((fraction > 1 - 2.0**-18) & (amax > 0)).all():
        return "only just below powers of two: a logarithm that is rounded up to the integer; read the exponent's bits"
    if (amax < np.finfo(np.float32).smallest_normal).all():
        return "only blocks of subnormal numbers: they are flushed to zero, or their exponent is taken for -126"
    return None
