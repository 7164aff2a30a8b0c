"""The backends whose arrays are NumPy's, and those of them that run here.

kernels/test_cuda.py and mpsim.kernels.cuda_check run the kernels of "cuda".
"""

from __future__ import annotations

from functools import cache

from mpsim.kernels import BACKENDS, BackendUnavailable, load

ON_HOST = tuple(name for name in BACKENDS if name != "cuda")


@cache
def that_run() -> tuple[str, ...]:
    """The names of those that run here."""
    return tuple(name for name in ON_HOST if _runs(name))


def _runs(name: str) -> bool:
    try:
        load(name)
    except BackendUnavailable:
        return False
    return True
