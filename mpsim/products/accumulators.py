"""The short form of the products that every backend has kernels for (docs/semantics.md, "Contraction").

``mpsim.products.stages.Product`` describes any product in stages; an ``Accumulator`` names one of five kinds by fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from mpsim import checks
from mpsim.errors import UsageError
from mpsim.formats import as_format
from mpsim.products.stages import (
    LEAST_ALIGNMENT,
    MOST_CHUNK,
    Aligned,
    Blocks,
    Exact,
    Groups,
    Operand,
    Order,
    Pairwise,
    Product,
    Rising,
    Sums,
    Unspecified,
)
from mpsim.products.sums import DIRECTED, check_sums_format
from mpsim.products.text import of_json, to_json

KINDS = ("sequential", "pairwise", "aligned", "exact", "blas")


@dataclass(frozen=True)
class Accumulator:
    """The order and the precision in which the products of a dot product are added.

    ``kind="sequential"``: within a chunk of ``chunk`` consecutive k (None: all of k),
    acc = fma(a_k, b_k, acc) in rising k from +0 (``fma=False``: the product is rounded to float32 first);
    chunk results are added to the total in rising order, the first chunk being the total. Every one of these
    additions is rounded to ``format``, to nearest even, overflow to infinity; in a format narrower than float32
    the products are exact (``fma`` has no effect) and each addition is rounded once (Wang et al. 2018).
    ``kind="exact"``: the correctly rounded float32 dot product, in whatever order: the exact sum of the exact
    products, rounded once to nearest even. An exact zero is +0; NaN, 0 * infinity, or infinite products of both
    signs give NaN, infinite products of one sign that infinity. The other fields have no effect.
    ``kind="pairwise"``: float32; chunks are summed as above, then results of neighbouring chunks are added in pairs,
    (0, 1), (2, 3), ..., again and again until one is left; an odd one at the end passes up as it is.
    ``kind="aligned"``: a chain of instructions, as tensor cores sum (Xie et al. 2025, arXiv:2511.10909). Each takes
    ``terms`` consecutive k (fewer at the end of a chunk): the products and the sum so far, c, all exact, are
    truncated toward zero to multiples of 2**(E - fraction_bits), E being the largest exponent among those that are
    not zero, and at least ``least_alignment`` (None: no least), and added exactly; the sum becomes the next c in
    ``format``, by ``rounding``, overflow to infinity, and +0 where that is zero. A product's exponent is the sum of
    its operands' exponents, each at least the smallest normal exponent of ``inputs``, c's at least that of
    ``format``. Operands' significands are first truncated to the mantissa bits of ``inputs``, as TF32 instructions do.
    Two formats, "float8_e4m3fn/float8_e5m2", are those of the first and of the second argument of a product.
    c starts at +0 in each chunk; chunk results are added in float32 to nearest even, so a chunk is what a kernel that
    promotes every ``chunk`` k does; None: no promotion.
    ``kind="blas"``: NumPy's matmul, no promise of bits, refused where a digest is taken.
    A bias is added to the total afterwards, in float32, with every accumulator.

    >>> Accumulator(format="fp_6_9_0", chunk=64).promises_bits
    True
    """

    format: str = "float32"
    chunk: int | None = 256
    fma: bool = True
    kind: str = "sequential"
    terms: int = 16
    fraction_bits: int = 24
    rounding: str = "nearest_even"
    inputs: str = "float32"
    least_alignment: int | None = LEAST_ALIGNMENT

    def __post_init__(self) -> None:
        checks.named("accumulator kind", self.kind, KINDS)
        if self.chunk is not None:
            checks.whole("chunk", self.chunk, least=1, most=MOST_CHUNK, note=", or None for one chunk")
        checks.instance("fma", self.fma, bool, "true or false")
        check_sums_format("accumulator", self.format)
        if self.kind == "pairwise" and self.format != "float32":
            raise UsageError(f"a pairwise accumulator is float32, not {self.format!r}")
        checks.named("accumulator rounding", self.rounding, DIRECTED)
        if self.rounding != "nearest_even" and self.kind != "aligned":
            raise UsageError(f"an accumulator of kind {self.kind!r} rounds to nearest even, not {self.rounding!r}")
        _check_inputs(self.inputs)
        if self.least_alignment is not None:
            checks.whole("least_alignment", self.least_alignment, least=-252, most=127, note=", or None for no least")
        Aligned(self.terms, self.fraction_bits)  # which refuses numbers that no instruction has

    @property
    def product(self) -> Product:
        """The same in stages.

        >>> from mpsim.products.text import text_of
        >>> text_of(Accumulator(chunk=None, fma=False).product)
        'product(products=float32, order=rising())'
        """
        if self.kind == "blas":
            return Product(order=Unspecified())
        if self.kind == "exact":
            return Product(order=Exact())
        if self.kind == "aligned":
            left, right = (Operand(name, "truncate") for name in self.operands)
            return Product(left, right, None, self._in_chunks(self._aligned, Rising(start="first")))
        sums = Sums(self.format, self.rounding)
        inner = Rising(sums)
        outer = Pairwise(sums) if self.kind == "pairwise" else Rising(sums, "first")
        products = Sums() if self.format == "float32" and not self.fma else None
        return Product(products=products, order=self._in_chunks(inner, outer))

    @property
    def _aligned(self) -> Aligned:
        return Aligned(self.terms, self.fraction_bits, Sums(self.format, self.rounding), self.least_alignment)

    def _in_chunks(self, inner: Order, outer: Order) -> Order:
        return inner if self.chunk is None else Groups(Blocks(self.chunk), inner, outer)

    @staticmethod
    def of(product: Product) -> Accumulator | None:
        """The short form of a product; None where there is none.

        >>> Accumulator.of(Accumulator(chunk=64).product) == Accumulator(chunk=64)
        True
        >>> Accumulator.of(Product(order=Pairwise())) is None
        True
        """
        order, chunk, outer = product.order, None, None
        if isinstance(order, Groups) and isinstance(order.partition, Blocks):
            chunk, outer, order = order.partition.size, order.outer, order.inner
        fields: dict[str, Any] = {"chunk": chunk, "kind": "pairwise" if isinstance(outer, Pairwise) else "sequential"}
        if isinstance(order, Aligned):
            fields |= {"kind": "aligned", "terms": order.terms, "fraction_bits": order.fraction_bits}
            fields |= {"least_alignment": order.least_exponent}
            fields |= {"inputs": inputs_of(product.left.format, product.right.format)}
        elif isinstance(order, Exact | Unspecified):
            fields = {"kind": "exact" if isinstance(order, Exact) else "blas"}
        if isinstance(order, Rising | Aligned):
            fields |= {"format": order.sums.format, "rounding": order.sums.rounding}
            fields |= {"fma": product.products is None}
        try:
            found = Accumulator(**fields)
        except UsageError:
            return None
        return found if found.product == product else None

    @property
    def operands(self) -> tuple[str, str]:
        """The formats of the first and of the second argument of a product.

        >>> Accumulator(inputs="float8_e4m3fn/float8_e5m2").operands, Accumulator(inputs="tf32").operands
        (('float8_e4m3fn', 'float8_e5m2'), ('tf32', 'tf32'))
        """
        left, _, right = self.inputs.partition("/")
        return left, right or left

    @property
    def swapped(self) -> Accumulator:
        """The accumulator of products whose arguments have changed places.

        >>> Accumulator(inputs="float8_e4m3fn/float8_e5m2").swapped.inputs
        'float8_e5m2/float8_e4m3fn'
        """
        left, right = self.operands
        return self if left == right else replace(self, inputs=inputs_of(right, left))

    @property
    def promises_bits(self) -> bool:
        """Whether two backends give the same bits."""
        return self.kind != "blas"

    @property
    def least_scale(self) -> float:
        """2**least_alignment, or a power of two below every product where there is no least."""
        return self._aligned.least_scale

    @cached_property
    def is_default(self) -> bool:
        """Whether it is the order that every backend has a fast kernel for."""
        return self == _DEFAULT


def inputs_of(left: str, right: str) -> str:
    """The field ``inputs`` of an accumulator for operands of these formats.

    >>> inputs_of("tf32", "tf32"), inputs_of("float8_e4m3fn", "float8_e5m2")
    ('tf32', 'float8_e4m3fn/float8_e5m2')
    """
    return left if left == right else f"{left}/{right}"


def _check_inputs(inputs: str) -> None:
    names = inputs.split("/") if isinstance(inputs, str) else [inputs]
    if len(names) > 2:
        raise UsageError(f"accumulator inputs {inputs!r} are more than two formats; expected one, or 'left/right'")
    if len(names) == 2 and names[0] == names[1]:
        raise UsageError(f"accumulator inputs {inputs!r} are one format twice; write {names[0]!r}")
    for name in names:
        if not as_format(name).fits_float32:
            raise UsageError(f"accumulator inputs {name!r} have values that float32 cannot hold")


#: How a dot product is summed: in short, or in stages.
Summation = Accumulator | Product


@lru_cache(maxsize=512)
def in_short(product: Product) -> Summation:
    """The product as an Accumulator where there is one.

    >>> in_short(Product()) == Accumulator()
    True
    """
    return Accumulator.of(product) or product


def in_stages(summation: Summation) -> Product:
    """The product of an Accumulator, or the product itself.

    >>> in_stages(Accumulator(kind="exact")).order
    Exact()
    """
    return summation.product if isinstance(summation, Accumulator) else summation


def to_dict(accumulator: Summation) -> dict[str, Any]:
    """As JSON values: the fields of an accumulator, or the stages of a product."""
    if isinstance(accumulator, Accumulator):
        return asdict(accumulator)
    found: dict[str, Any] = to_json(accumulator)
    return found


def from_dict(found: Mapping[str, Any]) -> Summation:
    """The accumulator or product of ``to_dict``, or that of a report of 'mpsim validate dot --json' whose verdict is
    "equal". Raises UsageError for values that are none's.

    >>> from_dict(to_dict(Product())) == Product(), from_dict({"chunk": 64}).chunk
    (True, 64)
    """
    if isinstance(found.get("matches"), list):
        return from_dict(_of_report(found))
    if "stage" not in found:
        try:
            return Accumulator(**found)
        except TypeError as error:
            raise UsageError(f"an accumulator has other fields than {checks.shown(dict(found))}: {error}") from None
    product = of_json(found)
    if not isinstance(product, Product):
        raise UsageError(f"a product was expected, not {product!r}")
    return product


def _of_report(found: Mapping[str, Any]) -> Mapping[str, object]:
    """The declared description of a report, or the first that was found."""
    candidates = [each for each in (found.get("declared"), *found["matches"]) if isinstance(each, Mapping)]
    if found.get("equal") is not True or not candidates or not isinstance(candidates[0].get("stages"), Mapping):
        raise UsageError(
            "a report of 'mpsim validate dot --json' is an accumulator only where its verdict is 'equal'; "
            "give the text 'accumulator' of one of its matches"
        )
    return dict(candidates[0]["stages"])


_DEFAULT = Accumulator()
