"""Names and combinations of rounding modes and overflow policies."""

from __future__ import annotations

import pytest

from mpsim.errors import MpsimError
from mpsim.policies import Mode, Overflow, Policy


def test_numbering_is_the_kernels() -> None:
    """The compiled kernels count on this order."""
    assert [mode.value for mode in sorted(Mode, key=lambda mode: mode.number)] == [
        "nearest_even", "nearest_away", "nearest_zero", "toward_zero", "up", "down", "to_odd", "stochastic",
        "qpytorch_nearest", "qpytorch_stochastic", "stochastic_b", "stochastic_c",
        "stochastic_equal",
    ]  # fmt: skip
    assert [overflow.number for overflow in Overflow] == [0, 1, 2, 3]
    assert [overflow.value for overflow in Overflow] == ["infinity", "saturate", "saturate_propagate", "mark"]


def test_names_become_members() -> None:
    policy = Policy("up", "mark")  # type: ignore[arg-type]
    assert policy == Policy(Mode.UP, Overflow.MARK)
    assert hash(policy) == hash(Policy(Mode.UP, Overflow.MARK))
    assert [mode for mode in Mode if mode.needs_random_bits] == [
        Mode.STOCHASTIC, Mode.QPYTORCH_STOCHASTIC, Mode.STOCHASTIC_B, Mode.STOCHASTIC_C, Mode.STOCHASTIC_EQUAL
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nearest_evn",), "unknown rounding mode 'nearest_evn'; did you mean nearest_even"),
        (("up", "saturat"), "unknown overflow policy 'saturat'; did you mean saturate"),
        (("zzz",), "Known: nearest_even, "),
        ((7,), "rounding mode must be a name, got 7"),
        (("stochastic",), "random_bit_count must be a whole number from 1 to 32 for mode 'stochastic', got None"),
        (("stochastic", "infinity", 0), "got 0"),
        (("stochastic", "infinity", 33), "got 33"),
        (("stochastic", "infinity", 2.0), "got 2.0"),
        (("up", "infinity", 3), "is for mode 'stochastic'"),
        (("qpytorch_nearest",), "supports only overflow 'saturate' and 'mark'"),
        (("qpytorch_stochastic", "mark", 8), "is for mode 'stochastic'"),
    ],
)
def test_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(MpsimError, match=message):
        Policy(*arguments)
