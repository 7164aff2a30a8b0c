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
from mmasim_simulators import INPUTS, dots, of_amd, of_nvidia, one_thread
from product_rows import rows_of

from mpsim.kernels.contractions.beside import NOTHING
from mpsim.kernels.spec_dot import Dot, Term
from mpsim.products.accumulators import in_stages
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
#: Presets that no simulator has: other makers' instructions; sums of chunks in float32, which are a kernel's; float8
#: by mma.sync on Hopper and Blackwell, whose presets test_recorded_products.py compares with recordings. Those with
#: scales are in test_mmasim_scaled.py. Those of float64 are below.
ABSENT = re.compile(
    "gaudi|rdna|numpy|torch|mpsim|(hopper|blackwell)_mma_sync_float8|.*_promoted_|.*_(mxf|nvfp4)|.*_float64"
)


def preset_of(kind: str, architecture: str, one: Any) -> str:
    """The name of the preset that is due."""
    family = architecture.lower().replace(" lovelace", "").replace(" ", "_")
    if (family, one.k) == ("turing", 4):
        family = "volta"  # whose instruction it is
    short = kind == "MMA" and family in ("hopper", "blackwell", "rtx_blackwell") and (one.a_type_ptx, one.k) in SHORT
    inputs = list(dict.fromkeys([INPUTS[one.a_type_ptx], INPUTS[one.b_type_ptx]]))
    words = [family, INSTRUCTIONS[kind], *([f"k{one.k}"] if short else []), *inputs]
    return "_".join([*words, *(["to_float16"] if one.d_type.itemsize == 2 else [])])


def preset_of_amd(architecture: str, one: Any) -> tuple[str, str, str]:
    """The name of the preset that is due for a v_mfma instruction, and its operands."""
    left, right = (str(each).removeprefix("torch.") for each in (one.a_type, one.b_type))
    if one.suffix.endswith("xf32"):
        left = right = "tf32"
    short = {("CDNA2", "bfloat16"): "k2", ("CDNA3", "float16"): "k4", ("CDNA3", "bfloat16"): "k4"}.get(
        (architecture, left), ""
    )
    if architecture == "CDNA2" and one.suffix.endswith("_1k") or architecture == "CDNA3" and one.k > 4:
        short = ""
    words = [architecture.lower(), "mfma", *filter(None, [short]), *dict.fromkeys([left, right])]
    return "_".join(words), left, right


@pytest.fixture(scope="module")
def amd() -> Iterator[dict[str, list[tuple[Any, str, str]]]]:
    """Preset -> the simulators that it describes, one of each k, and their operands; no float64."""
    found: dict[str, dict[int, tuple[Any, str, str]]] = {}
    with one_thread():
        for architecture, suffix, one in of_amd():
            if "f64" not in suffix:
                name, left, right = preset_of_amd(architecture, one)
                found.setdefault(name, {}).setdefault(one.k, (one, left, right))
        yield {name: list(by_k.values()) for name, by_k in found.items()}


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
    length -= length % simulator.k if name in AMD else 0  # CDNA2 adds the zeros of a part of an instruction
    narrow = simulator.d_type.itemsize == 2
    model = Model(PRESETS[name].summation, "float16" if narrow else "float32")
    wrong = []
    for a, b in rows_of(left, right, length, -24 if narrow else -149):
        x, y = as_array(as_inputs(a, left)), as_array(as_inputs(b, right))
        unequal = ~same(dots(simulator, x, y).astype(np.float64), model.dots(a, b))
        wrong += [(a[row], b[row]) for row in np.flatnonzero(unequal)]
    return wrong


AMD = [name for name in PRESETS if "_mfma_" in name and not name.endswith("_float64")]
NVIDIA = [name for name in PRESETS if not ABSENT.match(name) and name not in AMD]


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


@pytest.mark.parametrize("name", AMD)
def test_an_instruction_of_amd_is_its_preset(name: str, amd: dict[str, list[tuple[Any, str, str]]]) -> None:
    """But for a NaN that MMA-Sim loses (below): there the preset has NaN, as the sum of the terms has."""
    for simulator, left, right in amd[name]:
        if simulator.arithmetic_op is None:
            pytest.skip("MMA-Sim compiles its float32 sums, and there is no compiler or no ninja")
        for a, b in differing(simulator, name, left, right):
            assert "e5m2fnuz" in left and "e5m2fnuz" in right
            assert np.isnan(a * b).any() and np.isnan(Model(PRESETS[name].summation).dots(a[None], b[None])).all()


def test_every_instruction_of_amd_has_a_preset(amd: dict[str, list[tuple[Any, str, str]]]) -> None:
    assert sorted(amd) == sorted(AMD) and len(AMD) == 17


def test_mma_sim_loses_a_nan_beside_large_products(amd: dict[str, list[tuple[Any, str, str]]]) -> None:
    """Its float8 instructions of CDNA3 leave out a c whose exponent is 26 or more below the products'. For a NaN it
    takes the exponent -1, so 57344 * 57344 + NaN is a number there, and 1 + NaN is not."""
    import torch

    simulator, _, _ = amd["cdna3_mfma_float8_e5m2fnuz"][0]
    nan = torch.full((1,), float("nan"))
    for value, lost in ((57344.0, True), (1.0, False)):
        x = torch.zeros(1, simulator.k)
        x[0, 0] = value
        x = x.to(simulator.a_type)
        assert bool(torch.isfinite(simulator.dpa(x, x, nan))) == lost


DOUBLE = [name for name in PRESETS if name.endswith("_float64")]


@pytest.fixture(scope="module")
def double() -> Iterator[dict[str, list[Any]]]:
    """Preset -> the simulators of float64."""
    found: dict[str, list[Any]] = {}
    with one_thread():
        for _, architecture, _, one in of_nvidia():
            if one.a_type_ptx == "f64":
                family = architecture.lower().replace(" lovelace", "").replace(" ", "_")
                found.setdefault(f"{family}_mma_sync_float64", []).append(one)
        for architecture, suffix, one in of_amd():
            if "f64" in suffix:
                found.setdefault(f"{architecture.lower()}_mfma_float64", []).append(one)
        yield found


@pytest.mark.parametrize("name", DOUBLE)
def test_an_instruction_of_float64_is_its_preset(name: str, double: dict[str, list[Any]]) -> None:
    """Operands that float32 holds, in the whole range of float32, by the kernels; and float64 operands of any exponent,
    those that give subnormal and infinite results among them, by the definition."""
    import torch

    random, product = np.random.default_rng(2), in_stages(PRESETS[name].summation)
    for simulator in double[name]:
        if simulator.arithmetic_op is None:
            pytest.skip("MMA-Sim compiles its float64 sums, and there is no compiler or no ninja")
        single = (random.standard_normal((2, 500, 40)) * 2.0 ** random.integers(-140, 120, (2, 500, 40))).astype("f4")
        single[0] *= random.random(single[0].shape) < 0.2
        wide = random.standard_normal((2, 60, 8)) * 2.0 ** random.choice([0, -20, 53, 500, -520, 1000], (2, 60, 8))
        for a, b in (single, wide):
            x, y = (torch.from_numpy(each.astype(np.float64)) for each in (a, b))
            c = simulator.dpa(x, y, torch.zeros(len(a), dtype=torch.float64)).numpy()
            if a.dtype == np.float32:
                with np.errstate(over="ignore"):
                    assert same(c.astype(np.float32).astype(np.float64), Model(product).dots(a, b)).all()
                continue
            for row, other, found in zip(a.tolist(), b.tolist(), c, strict=True):
                terms = [Term(u, v, k) for k, (u, v) in enumerate(zip(row, other, strict=True))]
                assert same(np.array(Dot(product, NOTHING, 0).sum(terms, product.order).x), found)


def test_every_form_of_float64_has_a_preset(double: dict[str, list[Any]]) -> None:
    assert sorted(double) == sorted(DOUBLE) and sum(map(len, double.values())) == 12
