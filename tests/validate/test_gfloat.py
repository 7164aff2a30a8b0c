"""gfloat, an independent implementation in Python, against mpsim: every code decoded, encoded and rounded.

gfloat 0.5.2 (in the extra ``peers``) rounds float64 by its own arithmetic. The only
disagreement is an overflow that it refuses.
"""

from __future__ import annotations

import numpy as np
import pytest

from mpsim import decode, encode, round_to
from mpsim.formats import FORMATS
from mpsim.policies import Mode, Overflow
from mpsim.validate.corpora import turning_points

gfloat = pytest.importorskip("gfloat", reason="the peers extra is not installed")
from gfloat import RoundMode, formats  # noqa: E402

#: Names here and what gfloat calls them.
THEIRS = {
    "float8_e4m3fn": formats.format_info_ocp_e4m3,
    "float8_e5m2": formats.format_info_ocp_e5m2,
    "float6_e2m3fn": formats.format_info_ocp_e2m3,
    "float6_e3m2fn": formats.format_info_ocp_e3m2,
    "float4_e2m1fn": formats.format_info_ocp_e2m1,
    "float16": formats.format_info_binary16,
    "bfloat16": formats.format_info_bfloat16,
}
MODES = {
    Mode.NEAREST_EVEN: RoundMode.TiesToEven,
    Mode.NEAREST_AWAY: RoundMode.TiesToAway,
    Mode.TOWARD_ZERO: RoundMode.TowardZero,
    Mode.UP: RoundMode.TowardPositive,
    Mode.DOWN: RoundMode.TowardNegative,
}


@pytest.mark.parametrize("name", [*THEIRS, "float8_e8m0fnu"])
def test_every_code(name: str) -> None:
    format = FORMATS[name]
    info = THEIRS.get(name, formats.format_info_ocp_e8m0)
    codes = np.arange(1 << format.bits).astype(f"uint{format.code_bits}")
    theirs = np.asarray(gfloat.decode_ndarray(info, codes.astype(np.int64)), np.float64)
    ours = decode(codes, name, np.float64)
    assert np.array_equal(theirs, ours, equal_nan=True)
    numbers = ~np.isnan(ours)
    assert np.array_equal(np.signbit(theirs[numbers]), np.signbit(ours[numbers]))
    assert np.array_equal(np.asarray(gfloat.encode_ndarray(info, ours[numbers])), encode(ours[numbers], name))


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("saturates", [False, True])
def test_every_turning_point(name: str, saturates: bool) -> None:
    if not saturates and not FORMATS[name].has_nan:
        with pytest.raises(
            ValueError, match="No Infs or NaNs"
        ):  # it refuses what overflows; we give the largest number
            gfloat.round_ndarray(THEIRS[name], np.array([1e6]), sat=False)
        return
    x = np.unique(turning_points(FORMATS[name], "float64", 8))
    x = x[np.abs(x) < 2.0**200]
    for mode, theirs in MODES.items():
        overflow = Overflow.SATURATE if saturates else Overflow.INFINITY
        found = np.asarray(gfloat.round_ndarray(THEIRS[name], x, theirs, sat=saturates))
        ours = round_to(x, name, mode, overflow)
        differ = ~((found == ours) | (np.isnan(found) & np.isnan(ours)))
        assert not differ.any(), (name, mode, x[differ][:5], found[differ][:5], ours[differ][:5])
