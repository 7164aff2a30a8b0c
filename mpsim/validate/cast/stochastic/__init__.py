"""Stochastic rounding under test: with given random bits by equality, without them by neighbours and frequencies.

Definition: docs/semantics.md §2, mode ``stochastic``. What no random bit decides (numbers of the format, zeros,
infinity, NaN, numbers far beyond the largest) is compared as in any other mode.
"""

from mpsim.validate.cast.stochastic.given_bits import validate_given_bits
from mpsim.validate.cast.stochastic.own_bits import validate_own_bits
from mpsim.validate.cast.stochastic.result import StochasticReport

__all__ = ["StochasticReport", "validate_given_bits", "validate_own_bits"]
