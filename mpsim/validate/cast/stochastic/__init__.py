"""Tests stochastic rounding: with given random bits by equality, without them by neighbours and frequencies.

docs/semantics.md §2 defines mode ``stochastic``. Results that do not depend on random bits (numbers of the format,
zeros, infinity, NaN, numbers far beyond the largest) are compared as in any other mode.
"""

from mpsim.validate.cast.stochastic.given_bits import validate_given_bits
from mpsim.validate.cast.stochastic.own_bits import validate_own_bits
from mpsim.validate.cast.stochastic.result import StochasticReport

__all__ = ["StochasticReport", "validate_given_bits", "validate_own_bits"]
