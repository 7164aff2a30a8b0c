"""What the installed ml_dtypes does: 0.7 rounds float64 and integers once, earlier versions by way of float32."""

from __future__ import annotations

import ml_dtypes

ROUNDS_ONCE = tuple(int(part) for part in ml_dtypes.__version__.split(".")[:2]) >= (0, 7)
PRESET = "ml_dtypes>=0.7" if ROUNDS_ONCE else "ml_dtypes<0.7"
