"""What a kernel does to its result in the pass that writes it, while each part of it is in the cache.

Data only: a store makes an ``Epilogue``, the tape hands it on, a kernel obeys it. Kernels that cannot take one
have it applied after they are done (``applied_after``): the bits are the same, the pass over memory is not saved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpsim.formats import Format
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy


def _zero_counts() -> np.ndarray:
    return np.zeros(5, np.int64)


@dataclass(eq=False, slots=True)
class Epilogue:
    """Rounds a kernel's (first) result as ``round_array`` does; for one call of one kernel.

    ``random_bits``: for stochastic modes the stream whose word i belongs to element i of the whole result.
    ``counts``: int64 (5,) in the order of mpsim.rounding.Counts, to which the kernel adds what it counts; an array of
    the backend's, in place of the zeros, where the kernel cannot take an epilogue.

    >>> from mpsim import kernels
    >>> from mpsim.formats import as_format
    >>> epilogue = Epilogue(as_format("float8_e4m3fn"), Policy("nearest_even", "saturate"))
    >>> kernels.bind("reference").add(np.float32([400]), np.float32([60]), epilogue=epilogue)
    array([448.], dtype=float32)
    >>> epilogue.counts.tolist()
    [0, 0, 0, 1, 0]
    """

    format: Format
    policy: Policy
    random_bits: Stream | None = None
    counts: Any = field(default_factory=_zero_counts)


def applied_after(kernel: Callable[..., Any], round_array: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel with an ``epilogue``, for which ``round_array`` makes a pass of its own over the result."""

    def call(*arguments: Any, epilogue: Epilogue | None = None, **keywords: Any) -> Any:
        result = kernel(*arguments, **keywords)
        if epilogue is None:
            return result
        made, *rest = result if isinstance(result, tuple) else (result,)
        made, epilogue.counts = round_array(made, epilogue.format, epilogue.policy, epilogue.random_bits, out=made)
        return (made, *rest) if rest else made

    return call
