"""Accumulators and products as text: names of matrix instructions, fields, and stages.

>>> from mpsim import Accumulator
>>> accumulator_of("ampere_float16").terms, accumulator_of("chunk=64,format=fp_6_9_0").format
(8, 'fp_6_9_0')
"""

from __future__ import annotations

from dataclasses import fields

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.process import in_default_environment
from mpsim.products.accumulators import KINDS, Accumulator, Summation, in_short
from mpsim.products.presets import FAMILIES, LEAST, PRESETS, TENSOR_CORES, TensorCore
from mpsim.products.stages import STAGES, Order, Product
from mpsim.products.text import product_of, text_of
from mpsim.products.words import sentence_of

__all__ = ["LEAST", "PRESETS", "TENSOR_CORES", "TensorCore", "accumulator_of", "described"]


@in_default_environment
def accumulator_of(text: str) -> Summation:
    """The accumulator of a tensor core's name, of a kind ("exact"), or of fields: "chunk=64,fma=false"; or the product
    of stages written as calls (``mpsim.products.text.product_of``): "groups(lanes(8), rising(), folding())".

    Raises ValueError for anything else.

    >>> accumulator_of("chunk=64,fma=false") == Accumulator(chunk=64, fma=False)
    True
    >>> accumulator_of("hopper_float16").fraction_bits
    25
    """
    if text in TENSOR_CORES:
        return TENSOR_CORES[text].accumulator
    if text in PRESETS:
        return PRESETS[text].summation
    if "(" in text:
        return in_short(product_of(text))
    defaults = {field.name: field.default for field in fields(Accumulator)}
    given: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals and name not in KINDS:
            raise _unknown(name)
        if not equals:
            name, value = "kind", name
        if name not in defaults:
            raise UsageError(
                f"accumulator {text!r}: {name!r} is not a field; expected {', '.join(defaults)}, "
                f"or a tensor core: {', '.join(TENSOR_CORES)}; or an instruction: {', '.join(FAMILIES)}"
            )
        given[name] = _value(name, value, defaults[name])
    return Accumulator(**given)  # type: ignore[arg-type]


def _unknown(name: str) -> Exception:
    """The error for a word that names no accumulator: it suggests kinds, orders and instructions of such a name."""
    orders = [f"{each}()" for each, stage in STAGES.items() if issubclass(stage, Order)]
    near = checks.near(name, [*KINDS, *orders, *TENSOR_CORES, *PRESETS])[:3]
    also = f"fields, as chunk=64; an order, as rising(); or an instruction: {', '.join(FAMILIES)}"
    return checks.unknown("accumulator", name, KINDS, hint=checks.did_you_mean(near), also=also)


def _value(name: str, value: str, default: object) -> object:
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise UsageError(f"{name} is true or false, not {value!r}")
        return value.lower() == "true"
    if name in ("chunk", "least_alignment") and value.lower() == "none":
        return None
    if isinstance(default, int):
        if not value.removeprefix("-").isdecimal():
            raise UsageError(f"{name} is a whole number, not {value!r}")
        return int(value)
    return value


def described(accumulator: Summation) -> str:
    """The fields that count, or the stages, as ``accumulator_of`` reads them.

    >>> described(Accumulator(chunk=None, fma=False))
    'sequential,format=float32,chunk=none,fma=false'
    """
    if isinstance(accumulator, Product):
        return text_of(accumulator)
    used = {
        "sequential": ("format", "chunk", "fma") if accumulator.format == "float32" else ("format", "chunk"),
        "pairwise": ("chunk", "fma"),
        "aligned": ("terms", "fraction_bits", "format", "rounding", "chunk", "inputs", "least_alignment"),
    }.get(accumulator.kind, ())
    return ",".join([accumulator.kind, *(f"{name}={str(getattr(accumulator, name)).lower()}" for name in used)])


#: Characters of a product's text beyond which it is said in words.
LONGEST = 200


def short(summation: Summation) -> str:
    """The text of an accumulator or product; in words where it is long, as with trees of many terms.

    >>> short(Accumulator(kind="exact"))
    'exact'
    """
    text = described(summation)
    if len(text) <= LONGEST or isinstance(summation, Accumulator):
        return text
    sentence = sentence_of(summation).replace(" are added ", ", added ", 1)
    return f"{sentence[0].lower()}{sentence[1:-1]}"


def family_of(summation: Summation) -> str:
    """The kind of an accumulator, or the type of a product's order: what is listed together.

    >>> family_of(Accumulator()), family_of(product_of("pairwise()"))
    ('sequential', 'pairwise')
    """
    return summation.kind if isinstance(summation, Accumulator) else type(summation.order).__name__.lower()
