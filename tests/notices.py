"""What a process that a test starts prints besides its own words."""

from __future__ import annotations

from mpsim.kernels import HAS_EXTENSION


def own_words(errors: str) -> str:
    """Standard error without the line on the default backend, which mpsim prints first where it has no extension."""
    if HAS_EXTENSION:
        return errors
    notice, _, rest = errors.partition("\n")
    assert notice.startswith("The default backend is numba")
    return rest
