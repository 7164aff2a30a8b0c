"""Names the rules for the codes of NaN, and finds which of them a subject follows.

The mode and overflow of a policy do not determine the code of a NaN. A declared policy accepts every code unless the
rule is declared too.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mpsim.errors import UsageError
from mpsim.formats import Format
from mpsim.kernels.contract import Array
from mpsim.validate.answers import NO_CODE, Outcome
from mpsim.validate.cast.asking import Answers

#: A rule for the codes of NaN: (code of NaN, code of -NaN), one of the names below, or None for the canonical codes.
NanCodes = tuple[int, int] | str | None
#: All NaNs count as equal, and in a format without NaN, all results.
ANY = "any"
#: The upper bits of the payload and the quiet bit, as in x86's and Arm's conversions to bfloat16.
PAYLOAD = "payload"
CANONICAL = "canonical"
#: The upper bits of the payload as they are, as where a conversion keeps the upper bits of a pattern. A NaN whose upper
#: bits are 0 becomes infinity (``mpsim.validate.cast.policy.treatments``).
TRUNCATED = "truncated"


def parse(text: str, format: Format) -> NanCodes:
    """Parses ``--nan``: any, canonical, payload, one code for all NaNs, or the codes of NaN and -NaN.

    Raises:
        ValueError: The text is something else, or the format does not have such NaNs.

    >>> from mpsim.formats import FORMATS
    >>> parse("0x7f,0xff", FORMATS["float8_e5m2"])
    (127, 255)
    """
    if text == ANY:
        return ANY
    if not format.has_nan:
        raise UsageError(f"{format} has no NaN, so --nan must be {ANY}, got {text!r}")
    if text == CANONICAL:
        return None
    if text == PAYLOAD:
        if not has_payload(format):
            raise UsageError(f"a NaN of {format} has no payload to keep")
        return PAYLOAD
    try:
        codes = [int(word, 0) for word in text.split(",")]
    except ValueError:
        codes = []
    if len(codes) not in (1, 2) or not all(0 <= code < 1 << format.bits for code in codes):
        raise UsageError(
            f"--nan must be {ANY}, {CANONICAL}, {PAYLOAD}, a code, or the codes of NaN and -NaN, e.g. 0x7f,0xff; "
            f"got {text!r}"
        )
    return codes[0], codes[-1]


def has_payload(format: Format) -> bool:
    """Whether several codes of the format are NaN, which differ in the bits of the mantissa."""
    return format.specials == "ieee" and format.mantissa_bits > 0


def canonical_codes(format: Format) -> tuple[int, int]:
    """Returns the codes of NaN and -NaN that mpsim.encode uses. The format must have NaN."""
    assert format.nan_code is not None
    sign = format.sign_mask if format.specials in ("ieee", "fn") else 0
    return format.nan_code, format.nan_code | sign


def codes(x: Array, format: Format, rule: NanCodes) -> Array:
    """Returns the uint64 codes of the NaNs x (float32 or float64) by a rule. If it accepts any, they are canonical.

    They are NO_CODE where the rule keeps payloads and the format has none.
    """
    if rule in (PAYLOAD, TRUNCATED) and not has_payload(format):
        return np.full(x.shape, NO_CODE, np.uint64)
    negative = np.signbit(x)
    if rule in (PAYLOAD, TRUNCATED):
        width, mantissa = (32, 23) if x.dtype == np.float32 else (64, 52)
        payload = x.view(f"uint{width}").astype(np.uint64) & np.uint64((1 << mantissa) - 1)
        kept = payload >> np.uint64(mantissa - format.mantissa_bits)
        if rule == PAYLOAD:
            kept |= np.uint64(1 << (format.mantissa_bits - 1))
        infinity = np.uint64(format.infinity_code or 0)
        return np.asarray(infinity | kept | np.where(negative, np.uint64(format.sign_mask), np.uint64(0)))
    plain, signed = rule if isinstance(rule, tuple) else canonical_codes(format)
    return np.where(negative, np.uint64(signed), np.uint64(plain))


def as_good(expected: Outcome, got: Outcome, format: Format) -> Array:
    """Returns where a result is right if all NaNs count as equal. Without NaN in the format, every result is."""
    nan = np.isnan(expected.values)
    return nan if not format.has_nan else nan & np.isnan(got.values)


class NanAnswers(NamedTuple):
    """How a subject treats NaN. ``option`` declares it, None if no option does. ``words`` describes it."""

    rule: NanCodes
    option: str | None
    words: str

    @property
    def is_canonical(self) -> bool:
        return self.rule is None


def found(answers: Answers) -> NanAnswers | None:
    """Describes how a subject that returns codes treats NaN. It is None if there was no NaN among the inputs."""
    nan = np.isnan(answers.x)
    format, outcome = answers.format, answers.results.outcome
    if answers.results.space != "codes" or not nan.any():
        return None
    got, x = outcome.keys[nan], answers.x[nan]
    digits = -(-format.bits // 4)
    if not format.has_nan:
        distinct = np.unique(got)
        shown = " or ".join(f"0x{int(code):0{digits}x}" for code in distinct[:3]) + " and others" * (distinct.size > 3)
        return NanAnswers(ANY, None, f"NaN becomes code {shown}")
    if not np.isnan(outcome.values[nan]).all():
        return None
    if np.array_equal(got, codes(x, format, None)):
        return NanAnswers(None, CANONICAL, "NaN has its canonical code")
    pair = _pair(got, np.signbit(x))
    if pair is not None:
        option = ",".join(f"0x{code:0{digits}x}" for code in dict.fromkeys(pair))
        shown = (
            f"every NaN is 0x{pair[0]:0{digits}x}" if pair[0] == pair[1] else f"NaN is {option.replace(',', ', -NaN ')}"
        )
        return NanAnswers(pair, option, shown)
    if has_payload(format) and np.array_equal(got, codes(x, format, PAYLOAD)):
        return NanAnswers(PAYLOAD, PAYLOAD, "NaN keeps the upper bits of its payload, quieted")
    return NanAnswers(ANY, None, f"NaN has {np.unique(got).size} codes, by no rule known here")


def _pair(got: Array, negative: Array) -> tuple[int, int] | None:
    """Returns the code of each sign if there is exactly one, otherwise None."""
    sides = [np.unique(got[negative == sign]) for sign in (False, True)]
    if any(side.size > 1 for side in sides) or (got == np.uint64(NO_CODE)).any():
        return None
    first = next(int(side[0]) for side in sides if side.size)
    plain, signed = (int(side[0]) if side.size else first for side in sides)
    return plain, signed
