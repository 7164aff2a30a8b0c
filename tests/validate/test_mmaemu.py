"""mmaemu 0.1.0's float8 products, on the CPU, against products in stages: no bit may differ.

mmaemu models what torch._scaled_mm adds on an RTX 4060 ("ada") and an H100 PCIe ("hopper"), which its authors compared
with recordings, and mma.sync of a B200 ("b200_mma_sync"), fitted to recordings that do not determine it. Any NaN is
equal to any other.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from product_rows import any_codes, rows_of

from mpsim import matmul
from mpsim.products.accumulators import Summation
from mpsim.products.presets import PRESETS
from mpsim.products.stages import Product
from mpsim.products.tensor_cores import accumulator_of
from mpsim.products.text import product_of
from mpsim.validate.dot.subjects import Model, same

torch = pytest.importorskip("torch", reason="the peers extra is not installed")
mmaemu = pytest.importorskip("mmaemu", reason="mmaemu is not installed")
chain = pytest.importorskip("mmaemu.model.chain", reason="mmaemu is not installed")
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

Array = np.ndarray[Any, Any]
E4M3, E5M2 = "float8_e4m3fn", "float8_e5m2"
PAIRS = [(left, right) for left in (E4M3, E5M2) for right in (E4M3, E5M2)]
#: mmaemu's preset -> the beginning of ours, and the instruction without operands.
OURS = {"ada": "ada_mma_sync", "hopper": "hopper_wgmma"}
ALIGNED = {
    "ada": "aligned(16, 13, sums(fp_8_13_0, toward_zero), -132)",
    "hopper": "aligned(32, 13, sums(fp_8_13_0, toward_zero), -133)",
    "b200_mma_sync": "aligned(32, 25, sums(float32, toward_zero), -133)",
}
FIRST = "rising(float32, first)"


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Its warnings of what was not measured."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def tensor(x: Array, format: str) -> Any:
    """Numbers of the format, which PyTorch converts exactly."""
    return torch.from_numpy(np.ascontiguousarray(x, np.float32)).to(getattr(torch, format))


def name_of(preset: str, left: str, right: str, ending: str = "") -> str:
    return "_".join([OURS[preset], *dict.fromkeys([left, right])]) + ending


def stages(order: str, left: str, right: str) -> Product:
    return product_of(f"product(operand({left}, truncate), operand({right}, truncate), order={order})")


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("preset", ALIGNED)
def test_a_chain_of_instructions(preset: str, pair: tuple[str, str]) -> None:
    summation: Summation
    if preset in OURS:
        summation = PRESETS[name_of(preset, *pair)].summation
    else:
        summation = stages(f"groups(blocks(32), {ALIGNED[preset]}, rising())", *pair)
    for a, b in rows_of(*pair, 98, -149):
        found = chain.dot(tensor(a, pair[0]), tensor(b, pair[1]), preset=preset).numpy()
        assert same(found.astype(np.float64), Model(summation).dots(a, b)).all()


@pytest.mark.parametrize("preset", OURS)
def test_an_instruction_that_begins_with_c(preset: str) -> None:
    """C of any exponent, as the first term, times 1."""
    random = np.random.default_rng(1)
    order = ALIGNED[preset][:-1] + ", first)"
    for left, right in PAIRS:
        a, b = any_codes(random, left, (2000, 40)), any_codes(random, right, (2000, 40))
        a *= random.random(a.shape) < 0.2
        c = random.standard_normal(2000).astype(np.float32) * np.float32(2.0) ** random.integers(-140, 60, 2000)
        found = chain.dot(tensor(a, left), tensor(b, right), torch.from_numpy(c.astype(np.float32)), preset=preset)
        product = product_of(f"product(operand({left}), operand({right}), order={order})")
        expected = Model(product).dots(np.insert(a, 0, c, axis=1), np.insert(b, 0, 1, axis=1))
        assert same(found.numpy().astype(np.float64), expected).all()


def test_two_models_of_a_b200_differ() -> None:
    """mmaemu aligns the 32 products of its B200 at once, Khattak and Mikaitis those of each half; no recording decides.
    448 * 448 - 448 * 448 in the first half and 2**-12 in the second: at once, 2**-12 is less than 2**(16 - 25)."""
    a, b = np.zeros((2, 1, 32), np.float32)
    a[0, :3], b[0, :3] = (448, -448, 2.0**-6), (448, 448, 2.0**-6)
    found = chain.dot(tensor(a, E4M3), tensor(b, E4M3), preset="b200_mma_sync").item()
    at_once = stages(f"groups(blocks(32), {ALIGNED['b200_mma_sync']}, rising())", E4M3, E4M3)
    in_halves = PRESETS["blackwell_mma_sync_float8_e4m3fn"].summation
    assert found == Model(at_once).dots(a, b)[0] == 0
    assert Model(in_halves).dots(a, b)[0] == 2.0**-12


def sparse(random: np.random.Generator, format: str, k: int) -> Array:
    """Any codes; in every other row few that are not 0, so that the splits' sums lie far apart."""
    a = any_codes(random, format, (24, k))
    a[::2] *= random.random((12, k)) < 0.008
    return a


SPLITS = [
    *(("ada", fast, s, scheme) for fast in (True, False) for s in (2, 3, 5) for scheme in ("serial", "pairwise")),
    *(("hopper", fast, s, "contiguous") for fast in (True, False) for s in (2, 3, 5)),
    *((profile, fast, 1, "none") for fast in (True, False) for profile in ("ada", "hopper")),
]


def split(profile: str, fast: bool, number: int, scheme: str) -> str:
    """The order that mmaemu documents for a product split in ``number``: of 64 k in turn, or of consecutive k in
    multiples of 128; slow: sums begin afresh every 128 k and are added in float32; then the splits' results."""
    inner = ALIGNED[profile] if fast else f"groups(blocks(128), {ALIGNED[profile]}, rising())"
    if number == 1:
        return inner
    if scheme == "contiguous":
        return f"groups(splits({number}, 128), {inner}, {FIRST})"
    outer, half, last = FIRST, (number + 1) // 2, number - 1
    if scheme == "pairwise":  # the last split, then each of the first half with its partner
        outer = f"tree({(last, *((i, i + half) if i + half < last else i for i in range(half)))})"
    return f"groups(lanes({number}, 64), {inner}, {outer})"


@pytest.mark.parametrize(("profile", "fast", "number", "scheme"), SPLITS)
def test_a_product_split_in_k(profile: str, fast: bool, number: int, scheme: str) -> None:
    random = np.random.default_rng(number)
    for left, right in PAIRS if number == 3 else PAIRS[1:2]:
        for k in (number * 128 + 352, 1000):
            a, b = sparse(random, left, k), any_codes(random, right, (40, k))
            found = mmaemu.accumulate(
                tensor(a, left),
                tensor(b, right),
                use_fast_accum=fast,
                profile=profile,
                splitk=(number, scheme) if number > 1 else 1,
            ).numpy()
            product = stages(split(profile, fast, number, scheme), left, right)
            expected = matmul(a, np.ascontiguousarray(b.T), product, threads=1)
            assert same(found.astype(np.float64), expected.astype(np.float64)).all()
            assert np.isfinite(found).sum() > 100


def test_promotion_is_the_preset_of_that_name() -> None:
    order = split("hopper", False, 1, "none")
    random = np.random.default_rng(0)
    a, b = any_codes(random, E4M3, (64, 700)), any_codes(random, E5M2, (700, 64))
    found = matmul(a, b, stages(order, E4M3, E5M2), threads=1)
    preset = accumulator_of(name_of("hopper", E4M3, E5M2, "_promoted_128"))
    assert same(found.astype(np.float64), matmul(a, b, preset, threads=1).astype(np.float64)).all()


def test_these_products_tell_the_splits_apart() -> None:
    random = np.random.default_rng(5)
    a, b = sparse(random, E4M3, 1000), any_codes(random, E5M2, (1000, 40))
    orders = {split(*each) for each in SPLITS if each[0] == "ada" and each[2] != 2}
    results = {matmul(a, b, stages(order, E4M3, E5M2), threads=1).tobytes() for order in orders}
    assert len(results) == len(orders) == 10


epilogue = pytest.importorskip("mmaemu.model.epilogue", reason="mmaemu is not installed")
#: What torch._scaled_mm does with the sum: alpha = round(scale_a * scale_b), then one fused multiply-add to beta * C,
#: which is +0; then the result's format. A float8 result is multiplied by a scale of its own before, and saturates. A
#: number that is scaled must have 24 bits, so there the product is rounded before +0 is added. This differs in the sign
#: of a zero to which float32 rounds a negative product, which no float8 scale in use shows.
FUSED = "scale(both, none), addc()"
OUTPUTS = {
    "float32": f"epilogue=({FUSED})",
    "bfloat16": f"epilogue=({FUSED}), output=bfloat16",
    "float16": f"epilogue=({FUSED}), output=float16",
    E4M3: f"epilogue=(scale(both), addc(), scale(alpha)), output=sums({E4M3}, saturate=true)",
    E5M2: f"epilogue=(scale(both), addc(), scale(alpha)), output=sums({E5M2}, saturate=true)",
}
FACTORS = [(1.0, 1.0, 1.0), (0.3, 1.7, 5.5), (1e-4, 2e-3, 1e5), (0.0, -1.0, 1.0), (3e30, 3e30, 1.0),
           (263 / 3, 1.0, 1.0)]  # fmt: skip
#: The last of FACTORS gives 3 * a number just below 263 / 3, which float32 rounds to a tie of bfloat16.
TINY = (2.0**-70, -(2.0**-72), 1.0)  # products that float32 rounds to subnormal numbers and zeros
ORDER = "aligned(16, 13, sums(fp_8_13_0, toward_zero), -132)"


def operands() -> tuple[Array, Array]:
    """E4M3 and E5M2 numbers whose sums are ordinary, infinite, NaN and zero."""
    random = np.random.default_rng(7)
    a, b = any_codes(random, E4M3, (64, 96)), any_codes(random, E5M2, (96, 96)) * np.float32(2.0**-8)
    a[:6] = 0
    a[4, 0], a[5, 0] = 3, 2.0**-6  # sums of few bits, and tiny ones
    return a, tensor(b, E5M2).float().numpy()


def finished(text: str, factors: tuple[float, ...], zeros: bool = True) -> Array:
    """What the description gives; zeros: with C = +0, or without C."""
    a, b = operands()
    product = product_of(f"product(operand({E4M3}, truncate), operand({E5M2}, truncate), order={ORDER}, {text})")
    given: dict[str, Any] = {"left_scale": np.float32(factors[0]), "right_scale": np.float32(factors[1])}
    given |= {"alpha": factors[2]} if "alpha" in text else {}
    given |= {"c": np.zeros((64, 96), np.float32)} if zeros else {}
    return matmul(a, np.ascontiguousarray(b.T), product, threads=1, **given).astype(np.float64)


def theirs(output: str, factors: tuple[float, ...]) -> Array:
    """mmaemu's epilogue of the same sums."""
    total = torch.from_numpy(totals())
    one, other, own = (torch.tensor([each]) for each in factors)
    found = epilogue.apply(total, one, other, out_dtype=getattr(torch, output), scale_result=own)
    return np.asarray(found.float().numpy().astype(np.float64))


def totals() -> Array:
    a, b = operands()
    product = product_of(f"product(operand({E4M3}, truncate), operand({E5M2}, truncate), order={ORDER})")
    return matmul(a, np.ascontiguousarray(b.T), product, threads=1)


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_epilogue_of_a_scaled_product(output: str) -> None:
    for factors in [*FACTORS, *([] if output in (E4M3, E5M2) else [TINY])]:
        found, expected = theirs(output, factors), finished(OUTPUTS[output], factors)
        assert same(found, expected).all(), factors
    assert np.isfinite(found).sum() > 1000


def test_a_scaled_product_from_its_operands_to_its_result() -> None:
    """mmaemu's whole scaled_mm, on an RTX 4060, to bfloat16."""
    a, b = operands()
    found = mmaemu.scaled_mm(
        tensor(a, E4M3), tensor(b, E5M2).t(), torch.tensor([0.3]), torch.tensor([1.7]), out_dtype=torch.bfloat16,
        use_fast_accum=True, profile="ada", splitk=1,
    )  # fmt: skip
    assert same(found.float().numpy().astype(np.float64), finished(OUTPUTS["bfloat16"], FACTORS[1])).all()


def test_without_c_only_signs_of_zeros_differ() -> None:
    factors = (0.0, -1.0, 1.0)
    found, expected = theirs("float32", factors), finished(OUTPUTS["float32"], factors, zeros=False)
    assert not same(found, expected).all() and (np.nan_to_num(found) == np.nan_to_num(expected)).all()


@pytest.mark.parametrize(
    "output,other",
    [
        ("float32", "epilogue=(scale(left), scale(right), addc())"),  # one scale after the other
        ("float32", "epilogue=(scale(both), addc())"),  # rounded twice: a negative zero is lost
        ("bfloat16", "epilogue=(scale(both, none), addc(bfloat16))"),  # rounded once to bfloat16
        (E4M3, f"epilogue=(scale(both), addc(), scale(alpha)), output={E4M3}"),  # NaN beyond 448
        (E4M3, f"epilogue=(scale(both, none), addc({E4M3})), output=sums({E4M3}, saturate=true)"),  # without its scale
    ],
)
def test_the_results_tell_other_epilogues_apart(output: str, other: str) -> None:
    factors = [*FACTORS, TINY]
    assert any(not same(theirs(output, each), finished(other, each)).all() for each in factors)
