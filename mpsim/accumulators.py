"""How a dot product is summed, as data (docs/semantics.md, "Contraction")."""

from __future__ import annotations

from dataclasses import dataclass

from mpsim.formats import as_format

KINDS = ("sequential", "exact", "blas")


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
    ``kind="blas"``: NumPy's matmul, no promise of bits, refused where a digest is taken.
    A bias is added to the total afterwards, in float32, with every accumulator.

    >>> Accumulator(format="fp_6_9_0", chunk=64).promises_bits
    True
    """

    format: str = "float32"
    chunk: int | None = 256
    fma: bool = True
    kind: str = "sequential"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"accumulator kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"accumulator chunk must be at least 1 or None, got {self.chunk}")
        format = as_format(self.format)
        if not format.fits_float32:
            raise ValueError(f"accumulator format {self.format!r} has values that float32 cannot hold")
        if not (format.signed and format.has_zero):
            raise ValueError(f"accumulator format {self.format!r} has no sign or no zero, where every sum starts")

    @property
    def promises_bits(self) -> bool:
        """Whether two backends give the same bits."""
        return self.kind != "blas"

    @property
    def is_default(self) -> bool:
        """Whether it is the order that every backend has a fast kernel for."""
        return self == Accumulator()
