"""Every matrix instruction that MMA-Sim 2.1.1 simulates, against the preset of its name, in every bit.

test_mmasim.py looks at NVIDIA's instructions with operands of one type, and at the neighbours of their accumulators.
Here are all forms, with two types of operands too, and each preset by its full name. A NaN is equal to any NaN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mmasim_simulators import INPUTS, dots, of_nvidia, one_thread
from product_rows import rows_of

from mpsim.products.presets import PRESETS
from mpsim.validate.dot.subjects import Model, as_inputs, same
from mpsim.validate.subjects.worker import as_array

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")
pytest.importorskip("torch", reason="the peers extra is not installed")
pytest.importorskip("mmasim", reason="the peers extra is not installed")

Array = np.ndarray[Any, Any]
Form = tuple[str, ...]

#: Where an instruction of this k is one with fewer terms: half of what its preset without "k" has.
SHORT = {("tf32", 4), ("f16", 8), ("bf16", 8), ("e4m3", 16), ("e5m2", 16)}
INSTRUCTIONS = {"MMA": "mma_sync", "WGMMA": "wgmma", "TCGen05MMA": "tcgen05"}
#: Presets that no simulator has: sums of chunks in float32 are a kernel's, and MMA-Sim has no float8 by mma.sync on
#: Hopper and Blackwell, whose presets test_recorded_products.py compares with recordings.
ABSENT = re.compile("(hopper|blackwell)_mma_sync_float8|.*_promoted_")


def preset_of(kind: str, architecture: str, one: Any) -> str:
    """The name of the preset that is due."""
    family = architecture.lower().replace(" lovelace", "").replace(" ", "_")
    if (family, one.k) == ("turing", 4):
        family = "volta"  # whose instruction it is
    short = kind == "MMA" and family in ("hopper", "blackwell", "rtx_blackwell") and (one.a_type_ptx, one.k) in SHORT
    inputs = list(dict.fromkeys([INPUTS[one.a_type_ptx], INPUTS[one.b_type_ptx]]))
    words = [family, INSTRUCTIONS[kind], *([f"k{one.k}"] if short else []), *inputs]
    return "_".join([*words, *(["to_float16"] if one.d_type.itemsize == 2 else [])])


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[str, list[Any]]]:
    """Preset -> the simulators that it describes, one of each spelling but for m and n."""
    found: dict[str, dict[str, Any]] = {}
    with one_thread():
        for kind, architecture, spelling, one in of_nvidia():
            if one.a_type_ptx != "f64":
                shape = f"{architecture} k{one.k}.{spelling.partition('.')[2]}"
                found.setdefault(preset_of(kind, architecture, one), {}).setdefault(shape, one)
        yield {name: list(spelled.values()) for name, spelled in found.items()}


def differing(simulator: Any, name: str, left: str, right: str) -> list[tuple[Array, Array]]:
    """The rows whose results are not those of the preset."""
    length = max(40, 3 * simulator.k + 2) if simulator.c_type == simulator.d_type else simulator.k
    narrow = simulator.d_type.itemsize == 2
    model = Model(PRESETS[name].summation, "float16" if narrow else "float32")
    wrong = []
    for a, b in rows_of(left, right, length, -24 if narrow else -149):
        x, y = as_array(as_inputs(a, left)), as_array(as_inputs(b, right))
        unequal = ~same(dots(simulator, x, y).astype(np.float64), model.dots(a, b))
        wrong += [(a[row], b[row]) for row in np.flatnonzero(unequal)]
    return wrong


NVIDIA = [name for name in PRESETS if not ABSENT.match(name)]


@pytest.mark.parametrize("name", NVIDIA)
def test_an_instruction_of_nvidia_is_its_preset(name: str, simulators: dict[str, list[Any]]) -> None:
    for simulator in simulators[name]:
        assert differing(simulator, name, INPUTS[simulator.a_type_ptx], INPUTS[simulator.b_type_ptx]) == []


def test_every_form_has_a_preset(simulators: dict[str, list[Any]]) -> None:
    assert sorted(simulators) == sorted(NVIDIA)
    assert sum(map(len, simulators.values())) == 96 + 100  # operands of one type, of two


def test_the_rows_tell_the_operands_of_a_mixed_product_apart(simulators: dict[str, list[Any]]) -> None:
    """Another least exponent of one operand, or the operands exchanged, would be seen."""
    (simulator,) = simulators["hopper_wgmma_float8_e4m3fn_float8_e5m2"]
    for wrong in ("hopper_wgmma_float8_e5m2_float8_e4m3fn", "hopper_wgmma_float8_e4m3fn", "hopper_wgmma_float8_e5m2"):
        assert differing(simulator, wrong, "float8_e4m3fn", "float8_e5m2")
