"""What a process that a test starts prints besides its own words."""

from __future__ import annotations

from mpsim.kernels import HAS_EXTENSION


def own_words(errors: str) -> str:
    """Standard error without the line on the default backend, which each process without the extension prints."""
    lines = errors.splitlines(keepends=True)
    own = [line for line in lines if not line.startswith("The default backend is numba")]
    assert (len(own) == len(lines)) == HAS_EXTENSION
    return "".join(own)
