"""The orders in which PyTorch sums the products of small_cnn on a CPU with AVX-512, on one thread.

Found by the probes of ``mpsim.validate.dot.orders.trees`` on these shapes, and stated in docs/validating.md: here they
predict every bit of products of random numbers, and of a training step.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mpsim.kernels import bind
from mpsim.kernels.reference.fma import fma
from mpsim.products.passes import accumulators_of, entries_of
from mpsim.products.tensor_cores import accumulator_of
from mpsim.recording.reading import read_step
from mpsim.recording.steps import network_of
from mpsim.validate import Verdict, teacher_forced

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
ORDERS = (EXAMPLES / "torch_orders.json").read_text(encoding="utf-8")
#: What the orders were found with.
STABLE = torch.__version__.startswith("2.13.") and torch.backends.cpu.get_cpu_capability() == "AVX512"
pytestmark = pytest.mark.skipif(not STABLE, reason="the orders are those of PyTorch 2.13 with AVX-512")
BATCH, GEOMETRY = 16, ((1, 1), (1, 1), 1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def normal(seed: int, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize(
    ("layer", "inputs", "outputs", "size"), [("conv1", 1, 16, 8), ("conv2", 16, 32, 4), ("conv3", 32, 64, 4)]
)
def test_convolutions(layer: str, inputs: int, outputs: int, size: int) -> None:
    for seed in range(3):
        x, w, gy = normal(seed, (BATCH, inputs, size, size), (outputs, inputs, 3, 3), (BATCH, outputs, size, size))
        forward, derivative = bind("compiled", 2, accumulators_of(ORDERS)).of_layer(layer)
        tensors = [torch.from_numpy(each) for each in (gy, x, w)]
        options = None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False]
        gx, gw, _ = torch.ops.aten.convolution_backward(*tensors, *options)
        y = torch.nn.functional.conv2d(tensors[1], tensors[2], padding=1)
        assert np.array_equal(forward.conv2d(x, w, None, *GEOMETRY), y.numpy())
        assert np.array_equal(derivative.by_weight.conv2d_weight_gradient(x, gy, w.shape, *GEOMETRY), gw.numpy())
        if layer != "conv1":  # whose input's gradient no step computes
            assert np.array_equal(derivative.by_input.conv2d_input_gradient(gy, w, x.shape, *GEOMETRY), gx.numpy())


def test_the_linear_layer() -> None:
    """Its forward product adds the columns 0 to 7 in four lanes and the last two in eight; products are rounded."""
    x, w, b, gy = normal(0, (BATCH, 256), (10, 256), (10,), (BATCH, 10))
    forward, derivative = bind("compiled", 2, accumulators_of(ORDERS)).of_layer("linear")
    tensors = [torch.from_numpy(each) for each in (x, w, b, gy)]
    assert np.array_equal(derivative.by_input.matmul(gy, w), (tensors[3] @ tensors[1]).numpy())
    gw = derivative.by_weight.swapped.matmul(gy, x, transpose_a=True)
    assert np.array_equal(gw, (tensors[3].t() @ tensors[0]).numpy())
    y = torch.nn.functional.linear(*tensors[:3]).numpy()
    assert np.array_equal(forward.matmul(x, w, transpose_b=True, bias=b), y)
    for lanes, columns in ((4, slice(0, 8)), (8, slice(8, 10))):
        text = f"product(products=float32, order=groups(lanes({lanes}), rising(), folding()))"
        found = bind("compiled", 2, accumulator_of(text)).matmul(x, w, transpose_b=True, bias=b)
        assert np.array_equal(found[:, columns], y[:, columns])
        assert not np.array_equal(found, y)


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory):
    """A step in float32, in which the order of every sum shows: PyTorch's file, and mpsim's network."""
    theirs = tmp_path_factory.mktemp("step") / "theirs.npz"
    subprocess.run([sys.executable, str(EXAMPLES / "torch_step.py"), str(theirs)], check=True)
    file = read_step(theirs)
    return file, network_of(file, f"{EXAMPLES / 'torch_step.py'}:make")


def replay(step, described: str):
    theirs, network = step
    return teacher_forced(theirs, network.model, network.plan, "standard", described=entries_of(described))


def test_a_step_is_replayed_bit_for_bit(step) -> None:
    """Every product, average pooling, the gradient of the linear layer's bias, the loss, and the update, whose weight
    decay and step torch.optim.SGD adds by fused multiply-adds."""
    report = replay(step, ORDERS)
    assert set(report.described) == {
        "Y/1/0", "GP/1/0", "Y/5/0", "GP/5/0", "G/4/0", "Y/8/0", "GP/8/0", "G/7/0", "Y/12/0", "GP/12/0",
        "G/11/0", "Y/11/0", "GP/12/1", "Y/14/0",
    }  # fmt: skip
    equal = {tensor.name for tensor in report.tensors if tensor.equal}
    assert set(report.described) <= equal and report.verdict is Verdict.EQUAL
    assert "14 of them are sums in a described order: 14 equal" in str(report)
    of_batch_norms = {
        name
        for op, before in ((2, 1), (6, 5), (9, 8))
        for name in (f"Y/{op}/0", f"G/{before}/0", f"GP/{op}/0", f"GP/{op}/1")
    }
    assert {tensor.name for tensor in report.tensors} - equal == of_batch_norms | {"Y/13/0", "G/12/0"}
    assert sum(name.startswith("next_master/") for name in equal) == 11
    assert any("the step fused, in every bit" in note for note in report.notes)
    plain = replay(step, "")
    assert plain.described == () and plain.verdict is Verdict.EQUAL
    assert equal - {tensor.name for tensor in plain.tensors if tensor.equal} == {
        "Y/5/0",
        "G/4/0",
        "Y/8/0",
        "G/7/0",
        "GP/1/0",
        "Y/12/0",
        "Y/11/0",
        "GP/12/1",
        "Y/14/0",
    }


def in_eights(terms: np.ndarray) -> np.ndarray:
    """(N, C, H*W) -> (C,): eight float32 lanes for each image, folded in halves, and the images one after the other in
    float64."""
    lanes = terms.reshape(*terms.shape[:2], -1, 8)
    total = np.zeros((*terms.shape[:2], 8), np.float32)
    for k in range(lanes.shape[2]):
        total = total + lanes[:, :, k]
    for half in (4, 2, 1):
        total = total[..., :half] + total[..., half:]
    return np.cumsum(total[..., 0].astype(np.float64), axis=0)[-1]


@pytest.mark.parametrize("op", [2, 6, 9])
def test_batch_norm_is_another_formula(step, op: int) -> None:
    """Its twelve tensors are restated in every bit. The output is x * factor + shift, not (x - mean) * factor + shift,
    and sums mix float32 and float64: no order of mpsim's own formula gives them."""
    tensors = step[0].tensors
    x, gy = tensors[f"Y/{op - 1}/0"], tensors[f"G/{op}/0"]
    (weight, shift), count = (tensors[f"P/{op}/{i}"] for i in range(2)), x.size // x.shape[1]
    by_channel = lambda values: np.broadcast_to(values.reshape(1, -1, 1, 1), x.shape)  # noqa: E731
    chain = lambda values: np.cumsum(np.moveaxis(values, 1, 0).reshape(x.shape[1], -1).astype(np.float64), 1)[:, -1]  # noqa: E731
    mean = (chain(x) / count).astype(np.float32)
    centred = x - by_channel(mean)
    variance = (chain(centred * centred) / count).astype(np.float32)
    inverse = (1 / np.sqrt(variance.astype(np.float64) + 1e-5)).astype(np.float32)
    factor = inverse * weight
    y = fma(x, by_channel(factor), by_channel(fma(-mean, factor, shift)))
    assert np.array_equal(y, tensors[f"Y/{op}/0"])
    flat = (*x.shape[:2], -1)
    of_shift, of_scale = in_eights(gy.reshape(flat)), in_eights((gy * centred).reshape(flat))
    assert np.array_equal(of_shift.astype(np.float32), tensors[f"GP/{op}/1"])
    assert np.array_equal((of_scale * inverse).astype(np.float32), tensors[f"GP/{op}/0"])
    slope = of_scale.astype(np.float32) * inverse * inverse / np.float32(count)
    gx = fma(-centred, by_channel(slope), gy - by_channel((of_shift / count).astype(np.float32)))
    assert np.array_equal(gx * by_channel(inverse) * by_channel(weight), tensors[f"G/{op - 1}/0"])


def test_log_softmax_has_functions_of_its_own() -> None:
    """An order of sums cannot give its bits: 1 % of PyTorch's exponentials are not those of mpsim, each the float32
    number that is nearest to the exact one."""
    x = np.linspace(-20, 0, 20_001).astype(np.float32)
    found, own = torch.exp(torch.from_numpy(x)).numpy(), bind("compiled", 1).unary(x, "exp")
    assert np.array_equal(own, np.exp(x.astype(np.float64)).astype(np.float32))
    assert 0.005 < (found != own).mean() < 0.02


@pytest.mark.parametrize(
    ("described", "wrong"),
    [
        ("conv2:forward=chunk=none", {"Y/5/0"}),
        (
            "conv[23]:input_gradient=groups(blocks(144), reordered(lanes(9), rising()), rising(start=first))",
            {"G/4/0", "G/7/0"},
        ),
        ("conv1:weight_gradient=chunk=256", {"GP/1/0"}),
        ("linear:forward=product(products=float32, order=groups(lanes(4), rising(), folding()))", {"Y/12/0"}),
        ("linear:sums=rising();avg_pool:sums=folding()", {"GP/12/1", "Y/11/0"}),
    ],
)
def test_a_wrong_order_is_a_suspect(step, described: str, wrong: set[str]) -> None:
    report = replay(step, described)
    assert {tensor.name for tensor in report.suspects()} == wrong and report.verdict is Verdict.DIFFERENT
