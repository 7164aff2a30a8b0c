"""Defines the input types of casts: their bit patterns, their exact values, and the arrays passed to subjects.

Source: IEEE 754-2019 §3.4. bfloat16 is the upper half of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.kernels.contract import Array


@dataclass(frozen=True)
class Source:
    """An input type. Patterns are unsigned integers of its width, and values are exact in float32 or float64.

    >>> SOURCES["bfloat16"].values(np.array([0x3F80], np.uint16))
    array([1.], dtype=float32)
    """

    name: str

    @property
    def format(self) -> Format:
        return FORMATS[self.name]

    @property
    def unsigned(self) -> np.dtype[np.unsignedinteger]:
        """The dtype of patterns."""
        return np.dtype(f"uint{self.format.bits}")

    @property
    def wide(self) -> str:
        """The type in which values are represented."""
        return "float64" if self.name == "float64" else "float32"

    @property
    def sign_mask(self) -> int:
        return self.format.sign_mask

    def values(self, patterns: Array) -> Array:
        """Converts bit patterns to numbers, float32, or float64 for float64. NaNs keep their signs and payloads."""
        if self.name == "bfloat16":
            return (patterns.astype(np.uint32) << np.uint32(16)).view(np.float32)
        with np.errstate(invalid="ignore"):
            return np.asarray(patterns.view(self.name).astype(self.wide, copy=False))

    def patterns(self, values: Array) -> Array:
        """Rounds values (float64 or narrower) to nearest even, with infinity on overflow, and returns bit patterns."""
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            if self.name == "bfloat16":
                words = np.asarray(values, np.float32).view(np.uint32)
                bumped = words + np.uint32(0x7FFF) + ((words >> np.uint32(16)) & np.uint32(1))
                kept = np.where(np.isnan(values), words | np.uint32(0x400000), bumped) >> np.uint32(16)
                return np.asarray(kept.astype(np.uint16))
            return np.asarray(values, np.float64).astype(self.name).view(self.unsigned)

    def array(self, patterns: Array) -> Array:
        """Returns the array that a NumPy subject receives. For bfloat16 it is an array of ml_dtypes.

        Raises:
            ModuleNotFoundError: The type is bfloat16, and ml_dtypes is not installed.
        """
        if self.name == "bfloat16":
            import ml_dtypes

            return patterns.view(ml_dtypes.bfloat16)
        return patterns.view(self.name)


def widened(x: Array) -> Array:
    """Converts x to float64. Signaling NaNs become quiet without a warning."""
    with np.errstate(invalid="ignore"):
        return np.asarray(x, np.float64)


SOURCES = {name: Source(name) for name in ("float16", "bfloat16", "float32", "float64")}


def as_source(name: str | Source) -> Source:
    """Returns a Source unchanged, or the source of a name. Raises UsageError for others."""
    if isinstance(name, Source):
        return name
    if name not in SOURCES:
        raise UsageError(f"unknown source {name!r}. Known: {', '.join(SOURCES)}")
    return SOURCES[name]
