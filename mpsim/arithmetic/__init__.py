"""Operations on codes: add, multiply, fma, square roots, extrema, comparisons, in any mix of formats."""

from mpsim.arithmetic.definition import ARITHMETIC, COMPARISONS
from mpsim.arithmetic.operations import classify, compare, operate

__all__ = ["ARITHMETIC", "COMPARISONS", "classify", "compare", "operate"]
