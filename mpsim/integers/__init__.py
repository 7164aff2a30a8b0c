"""Integer types, and conversions of numbers to them, each rounded once.

>>> import numpy as np
>>> from mpsim.integers import to_integer
>>> to_integer(np.float32([2.5, -300, np.nan]), "int8")
array([   2, -128,    0], dtype=int8)
"""

from mpsim.integers.rounding import from_integer, to_integer
from mpsim.integers.types import Integer, IntegerOverflow, IntegerPolicy, as_integer, is_integer_name

__all__ = [
    "Integer", "IntegerOverflow", "IntegerPolicy", "as_integer", "from_integer", "is_integer_name", "to_integer",
]  # fmt: skip
