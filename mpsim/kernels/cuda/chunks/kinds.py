"""Lists the kinds of sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mpsim.kernels.cuda.chunks.accumulators import Nothing, summation
from mpsim.kernels.cuda.chunks.aligned import aligned_sum
from mpsim.kernels.cuda.chunks.exact import exact_sum
from mpsim.kernels.cuda.chunks.in_order import add_float32, add_narrow, fused_sum, narrow_sum, separate_sum
from mpsim.products.accumulators import Accumulator


class Kind(NamedTuple):
    """Two device functions, and example numbers of the kind, which signatures need."""

    #: (a, left, a_k, b, right, b_k, first, end, digits, numbers) -> the sum over k from ``first`` to ``end`` of
    #: a[left + a_k[k]] * b[right + b_k[k]]. ``digits`` has exact.LIMBS integers, which exact sums need.
    sum_chunk: Callable[..., object]
    #: (total, sum of the next chunk, numbers) -> total
    add: Callable[..., object]
    numbers: NamedTuple


KINDS: dict[str, Kind] = {
    "fused": Kind(fused_sum, add_float32, Nothing()),
    "separate": Kind(separate_sum, add_float32, Nothing()),
    "narrow": Kind(narrow_sum, add_narrow, summation(Accumulator(format="bfloat16")).numbers),
    "exact": Kind(exact_sum, add_float32, Nothing()),
    "aligned": Kind(aligned_sum, add_float32, summation(Accumulator(kind="aligned")).numbers),
}
