"""Quantisers as text and as JSON, both read and written."""

from __future__ import annotations

from mpsim.blocks.quantizers.stages import STAGES, Quantizer
from mpsim.errors import UsageError
from mpsim.files.descriptions import Language

EXAMPLE = "'quantizer(statistic(block(16)), scale(format=float8_e4m3fn), element=element(float4_e2m1fn))'"
_LANGUAGE = Language("quantiser", STAGES, EXAMPLE)


def read(text: str) -> Quantizer:
    """Returns the quantiser of a text: stages as calls by their names, in lower case, with their fields as arguments.

    Raises:
        UsageError: The text is something else.

    >>> read("quantizer(statistic(tile(128, 128)))").group
    Tile(rows=128, columns=128)
    """
    found = _LANGUAGE.read(text)
    if not isinstance(found, Quantizer):
        raise UsageError(f"{text!r} is not a quantiser; expected e.g. {EXAMPLE}")
    return found


def text_of(stage: object) -> str:
    """Returns a stage as ``read`` reads it. Fields that have their defaults are left out.

    >>> text_of(Quantizer())
    'quantizer()'
    """
    return _LANGUAGE.write(stage)


def to_json(stage: object) -> object:
    """Returns a stage as JSON values, with its name under "stage". Fields that have their defaults are left out.

    >>> to_json(Quantizer())
    {'stage': 'quantizer'}
    """
    return _LANGUAGE.to_json(stage)


def of_json(value: object) -> Quantizer:
    """Returns the quantiser of ``to_json``. Raises UsageError for anything else.

    >>> of_json(to_json(Quantizer())) == Quantizer()
    True
    """
    found = _LANGUAGE.of_json(value)
    if not isinstance(found, Quantizer):
        raise UsageError(f"{value!r} is not a quantiser in JSON")
    return found
