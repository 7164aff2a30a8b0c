"""Names the dtypes of NumPy, ml_dtypes, JAX and PyTorch."""

from __future__ import annotations

import numpy as np


def name_of(dtype: object) -> str | None:
    """Returns the name of a dtype as NumPy and ml_dtypes write it, or None for an object that is not a dtype.

    Args:
        dtype: A dtype or scalar type of NumPy, ml_dtypes or JAX, or a ``torch.dtype``.

    >>> name_of(np.float16), name_of(np.dtype("float32")), name_of("float32")
    ('float16', 'float32', None)
    """
    if isinstance(dtype, np.dtype):
        return dtype.name
    if type(dtype).__module__.partition(".")[0] == "torch" and type(dtype).__name__ == "dtype":
        return str(dtype).removeprefix("torch.")
    is_scalar_type = isinstance(dtype, type) and (issubclass(dtype, np.generic) or isinstance(_dtype(dtype), np.dtype))
    return np.dtype(dtype).name if is_scalar_type else None  # type: ignore[call-overload]


def _dtype(scalar_type: type) -> object:
    """Returns the dtype of a scalar type of JAX, which is an attribute of the class."""
    return getattr(scalar_type, "dtype", None)
