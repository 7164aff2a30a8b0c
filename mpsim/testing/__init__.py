"""Provides Hypothesis strategies, assertions and laws for users' tests. No other part of mpsim imports this package.

The strategies and the laws need Hypothesis (``pip install 'mpsim[testing]'``) and are loaded when they are first
used. The assertions and ``check_gradients`` need only mpsim.

>>> from mpsim import round_to
>>> assert_rounds_like(lambda x: round_to(x, "float8_e4m3fn"), "float8_e4m3fn")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from mpsim.testing.assertions import assert_rounds_like, assert_same_bits
from mpsim.testing.block_assertions import assert_quantizes_like
from mpsim.testing.distances import assert_dot_within_bound, assert_within_codes, dot_bound
from mpsim.testing.gradients import check_gradients, check_primitive
from mpsim.testing.mismatch import Mismatch

if TYPE_CHECKING:
    from mpsim.testing import laws, strategies
    from mpsim.testing.large import large_arrays, shapes
    from mpsim.testing.strategies import (
        arrays_near_ties,
        bit_patterns,
        codes,
        formats,
        near_ties,
        plans,
        random_bits,
        turning_points,
        values,
    )

__all__ = [
    "Mismatch", "arrays_near_ties", "assert_dot_within_bound", "assert_quantizes_like", "assert_rounds_like",
    "assert_same_bits", "assert_within_codes", "bit_patterns", "check_gradients", "check_primitive", "codes",
    "dot_bound", "formats", "large_arrays", "laws", "near_ties", "plans", "random_bits", "shapes", "strategies",
    "turning_points", "values",
]  # fmt: skip


def __getattr__(name: str) -> object:
    """Loads the parts that need Hypothesis. If it is missing, MissingExtra says what to install."""
    if name in ("laws", "strategies"):
        return importlib.import_module(f"mpsim.testing.{name}")
    if name in ("large_arrays", "shapes"):
        return getattr(importlib.import_module("mpsim.testing.large"), name)
    if name in __all__:
        return getattr(importlib.import_module("mpsim.testing.strategies"), name)
    raise AttributeError(f"module 'mpsim.testing' has no attribute {name!r}")
