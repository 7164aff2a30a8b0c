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

from mpsim.formats import as_format
from mpsim.products.presets import PRESETS
from mpsim.rounding import decode, round_to
from mpsim.validate.dot.inputs.edges import edge_rows
from mpsim.validate.dot.orders.separation import adversarial_rows
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


def rows_of(left: str, right: str, length: int, quantum: int, seed: int = 0) -> Iterator[tuple[Array, Array]]:
    """Operands of dot products: rows that are made for either format, rounded to each; any codes, few of them not 0;
    and codes that nearly cancel."""
    random = np.random.default_rng(seed)
    for format in dict.fromkeys([left, right]):
        for a, b in (
            edge_rows(as_format(format), length),
            adversarial_rows(as_format(format), length, 1024, seed, quantum),
        ):
            yield in_format(a, left), in_format(b, right)
    x, y = (any_codes(random, format, (1024, length)) for format in (left, right))
    few = random.random(x.shape) < random.choice([0.1, 0.3, 1.0], (len(x), 1))
    yield np.where(few, x, 0), y
    half = length // 2
    places = random.permuted(np.tile(np.arange(half), (len(x), 1)), axis=1)
    a = np.hstack([x[:, :half], -np.take_along_axis(x[:, :half], places, 1), x[:, 2 * half :]])
    b = np.hstack([y[:, :half], np.take_along_axis(y[:, :half], places, 1), y[:, 2 * half :]])
    changed = random.random(b.shape) < 0.05
    yield a, np.where(changed, y, b)


def in_format(x: Array, format: str) -> Array:
    kept = as_format(format)
    x = round_to(x, kept, overflow="saturate_propagate", threads=1)
    return x if kept.has_nan else np.nan_to_num(x, nan=0.0, posinf=kept.largest, neginf=-kept.largest)


def any_codes(random: np.random.Generator, name: str, shape: tuple[int, int]) -> Array:
    """Any numbers of a format: rarely infinities and NaN."""
    format = as_format(name)
    codes = random.integers(0, 1 << format.bits, shape, np.uint64).astype(
        f"uint{max(8, 1 << (format.bits - 1).bit_length())}"
    )
    x = np.asarray(decode(codes, format)).astype(np.float32)
    return np.where(np.isfinite(x) | (random.random(shape) < 0.003), x, np.float32(0))


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
