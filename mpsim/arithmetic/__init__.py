"""Operations on codes: add, multiply, fma, square roots, extrema, comparisons, in any mix of formats.

>>> operate("multiply", 0x38, 0x40, formats="float8_e4m3fn")  # 1 times 2
array(64, dtype=uint8)
>>> ARITHMETIC["fma"][0], COMPARISONS["less"]  # the numbers of operands
(3, 2)
"""

from mpsim.arithmetic.definition import ARITHMETIC
from mpsim.arithmetic.flags import Flag, exceptions
from mpsim.arithmetic.operations import classify, compare, neighbour, operate
from mpsim.arithmetic.predicates import COMPARISONS

__all__ = ["ARITHMETIC", "COMPARISONS", "Flag", "classify", "compare", "exceptions", "neighbour", "operate"]
