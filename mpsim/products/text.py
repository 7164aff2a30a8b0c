"""Products as text and as JSON, both read and written."""

from __future__ import annotations

from typing import Any

from mpsim.errors import UsageError
from mpsim.files.descriptions import Language, given_fields
from mpsim.process import in_default_environment
from mpsim.products.stages import STAGES, Order, Product, Sums

EXAMPLE = "'groups(lanes(8), rising(), folding())' or 'product(order=rising(float16), output=float16)'"


def _plain(stage: object) -> object:
    """An order alone stands for a product in that order."""
    alone = isinstance(stage, Product) and {name for name, _ in given_fields(stage)} <= {"order"}
    return stage.order if alone else stage  # type: ignore[attr-defined]


_LANGUAGE = Language("product", STAGES, EXAMPLE, Sums, _plain)


@in_default_environment
def product_of(text: str) -> Product:
    """The product of a text: stages as calls by their names, in lower case, with their fields as arguments.

    A format's name stands for ``sums`` of that format, and an order alone for a product in that order. Raises
    UsageError for anything else.

    >>> product_of("groups(lanes(8), rising(), folding())").order.partition
    Lanes(number=8, take=1, rest='turn')
    >>> product_of("product(order=rising(float16), output=float16)").output == Sums("float16")
    True
    """
    found = _LANGUAGE.read(text)
    if isinstance(found, Order):
        return Product(order=found)
    if not isinstance(found, Product):
        raise UsageError(f"{text!r} is neither a product nor an order of one; expected e.g. {EXAMPLE}")
    return found


def text_of(stage: object) -> str:
    """A stage as ``product_of`` reads it: fields that have their defaults are left out.

    >>> text_of(product_of("product(order=groups(blocks(size=64), rising(), pairwise()))"))
    'groups(blocks(64), rising(), pairwise())'
    """
    return _LANGUAGE.write(stage)


def to_json(stage: object) -> Any:
    """A stage as JSON values, its type under "stage"; fields that have their defaults are left out.

    >>> to_json(Sums("float16"))
    {'stage': 'sums', 'format': 'float16'}
    """
    return _LANGUAGE.to_json(stage)


def of_json(value: object) -> object:
    """The stage of ``to_json``. Raises UsageError for anything else.

    >>> of_json(to_json(Product())) == Product()
    True
    """
    return _LANGUAGE.of_json(value)
