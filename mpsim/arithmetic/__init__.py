"""Operations on codes: add, multiply, fma, square roots, extrema, comparisons, in any mix of formats."""

from mpsim.arithmetic.definition import ARITHMETIC
from mpsim.arithmetic.flags import Flag, exceptions
from mpsim.arithmetic.operations import classify, compare, neighbour, operate
from mpsim.arithmetic.predicates import COMPARISONS

__all__ = ["ARITHMETIC", "COMPARISONS", "Flag", "classify", "compare", "exceptions", "neighbour", "operate"]
