"""How a backend is called: with arrays of any place in memory, on any threads, in a changed floating-point state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from environments import STATES
from hypothesis import strategies as st

from mpsim.process import environment
from mpsim.process.registers import DEFAULT

Array = np.ndarray[Any, Any]
Draw = Callable[..., Any]

#: Numbers of elements: below and above the lengths of vectors, and around the pieces that threads take.
SIZES = st.one_of(
    st.integers(0, 70), st.integers(0, 70), st.integers(250, 270), st.integers(2040, 2060), st.integers(4090, 4110),
    st.sampled_from([65536 - 1, 65536, 65536 + 33]),
)  # fmt: skip
THREADS = st.sampled_from([1, 1, 2, 3, 8])


@contextmanager
def changed(state: str | None) -> Iterator[None]:
    """Changes the floating-point state, as other code in the process may have, and checks that it is there again."""
    if state is None:
        yield
        return
    environment.leave_float_environment(DEFAULT | STATES[state])
    try:
        yield
    finally:
        left = environment.enter_float_environment() & ~environment.FLAGS
        assert left == DEFAULT | STATES[state], f"the state {state} was changed to {left:#x}"


def states() -> st.SearchStrategy[str | None]:
    """The default state more often than all others."""
    return st.one_of(st.none(), st.none(), st.sampled_from([None, *STATES]))


def placed(array: Array, place: int) -> Array:
    """A copy that begins ``place`` elements after an aligned one, or, for -1, that is not contiguous."""
    if place < 0:
        whole = np.empty(2 * array.size, array.dtype)
        whole[::2] = array
        return whole[::2]
    whole = np.empty(array.size + place, array.dtype)
    whole[place:] = array
    return whole[place:]


def same(found: Any, wanted: Any, what: object) -> None:
    """Equal types, shapes and bits. Any NaN equals any other: kernels promise neither payload nor sign."""
    if isinstance(wanted, tuple | list):
        assert len(found) == len(wanted), what
        for one, other in zip(found, wanted, strict=True):
            same(one, other, what)
        return
    if wanted is None or found is None:
        assert found is wanted, what
        return
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.dtype == wanted.dtype and found.shape == wanted.shape, what
    equal = found == wanted
    if wanted.dtype.kind == "f":
        equal &= np.signbit(found) == np.signbit(wanted)
        equal |= np.isnan(found) & np.isnan(wanted)
    if not equal.all():
        at = tuple(np.argwhere(~equal)[0])
        wrong = f"{(~equal).sum()} of {equal.size} differ"
        raise AssertionError(f"{what}: {wrong}, at {at} {found[at]!r}, not {wanted[at]!r}")
