"""The cuda backend in the CUDA simulator, bit for bit the reference; test_cuda.py runs this file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernel_cases import CASES
from samples import SLOW
from test_contract import bits, shapes

from mpsim import Trainer, assignment, matmul, nn, ops, round_to, trace
from mpsim.formats import FORMATS
from mpsim.kernels import BackendUnavailable, bind, load, spec
from mpsim.kernels import cuda as backend
from mpsim.kernels.contract import CONTRACT
from mpsim.kernels.cuda.device.arrays import is_on_device
from mpsim.kernels.cuda.device.intrinsics import SIMULATED
from mpsim.kernels.cuda_check import __main__ as check
from mpsim.kernels.cuda_check import cases, rounding
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Overflow, Policy

#: Elements of a case's arrays, at most: the simulator takes some ten microseconds for one.
LARGEST = {"channel_sum": 9000, "total_sum": 5000, "conv2d": 1500, "conv2d_weight_gradient": 1500}


def moved(value: Any, move: Any) -> Any:
    """The value with ``move`` applied to every array inside."""
    if isinstance(value, np.ndarray) or is_on_device(value):
        return move(value)
    return type(value)(moved(part, move) for part in value) if type(value) in (tuple, list) else value


def size(case: tuple[Any, ...]) -> int:
    return sum(part.size if isinstance(part, np.ndarray) else size(part) for part in case
               if isinstance(part, np.ndarray | list | tuple))  # fmt: skip


def small(name: str) -> list[tuple[Any, ...]]:
    """Returns the small cases of a kernel; without --slow the first, the middle and the largest one."""
    chosen = [case for case in CASES[name] if size(case) <= LARGEST.get(name, 500)]
    assert chosen, f"no case of {name} is small"
    if SLOW or len(chosen) <= 3:
        return chosen
    return [chosen[0], chosen[len(chosen) // 2], max(chosen, key=size)]


def test_this_is_the_simulator() -> None:
    assert SIMULATED


def test_every_kernel_is_defined() -> None:
    assert [name for name in CONTRACT if not callable(getattr(backend, name, None))] == []


@pytest.mark.parametrize("name", CONTRACT)
def test_kernel_equals_the_reference(name: str) -> None:
    for case in small(name):
        given = moved(case, np.copy)
        wanted = getattr(load("reference"), name)(*given)
        on_device = moved(case, backend.from_numpy)
        result = moved(getattr(backend, name)(*on_device), backend.to_numpy)
        same = bits(result) == bits(wanted) and bits(moved(on_device, backend.to_numpy)) == bits(given)
        assert same, shapes(case)


def test_a_number_that_is_not_finite_is_found_in_any_of_many_arrays() -> None:
    arrays = [np.ones(size, np.float32) for size in (3, 40, 1, 7, 0, 2, 2, 9, 30, 5)]
    assert backend.all_finite(*map(backend.from_numpy, arrays))
    for number, array in enumerate(arrays):
        if array.size:
            spoilt = [x.copy() for x in arrays]
            spoilt[number][-1] = np.inf if number % 2 else np.nan
            assert not backend.all_finite(*map(backend.from_numpy, spoilt)), number


# -- rounding -----------------------------------------------------------------------------------------------


def turning_points(name: str, dtype: type) -> np.ndarray:
    """Midpoints, neighbours and ends of a format, one unit of the source beside them, and patterns drawn."""
    format, generator = FORMATS[name], np.random.default_rng(0)
    numbers = [0.0, float(format.smallest), float(format.smallest) / 2, float(format.smallest_normal)]
    numbers += [float(format.largest), float(format.overflow_threshold[0])]
    codes = generator.integers(0, 1 << min(format.bits, 62), 3).astype(f"uint{format.code_bits}")
    with np.errstate(all="ignore"):
        some = load("reference").decode_array(codes, format, np.float64)
        x = np.concatenate([numbers, some, some * (1 + 2.0 ** -(format.mantissa_bits + 1))]).astype(dtype)
        beside = np.nextafter(x, dtype(np.inf))
        drawn = generator.integers(0, 1 << 32, 8, dtype=np.uint32).view(np.float32).astype(dtype)
    ends = np.array([np.inf, np.nan], dtype)
    return np.concatenate([x, -x, beside, ends, -ends, drawn])


@pytest.mark.parametrize("mode", list(Mode))
def test_rounding_of_every_format(mode: Mode) -> None:
    for number, format in enumerate(FORMATS.values()):
        if not SLOW and (number + list(Mode).index(mode)) % 3:
            continue  # every format in a third of the modes
        overflow = list(Overflow)[number % 4]
        if mode.is_legacy:
            overflow = Overflow.MARK if number % 2 else Overflow.SATURATE
        policy = Policy(mode, overflow, 1 + 7 * number % 32 if mode.takes_bit_count else None)
        for dtype in (np.float32, np.float64):
            if dtype == np.float32 and not format.fits_float32:
                continue
            if mode.is_legacy and (dtype == np.float64 or not spec.legacy_applies(format)):
                continue
            x, random = turning_points(format.name, dtype), None
            if mode.needs_random_bits:
                words = np.random.default_rng(number).integers(0, 1 << 32, x.shape, dtype=np.uint32)
                random = Stream(number, "rounding", 5, 7) if number % 2 else words
            wanted, counts = load("reference").round_array(x, format, policy, random)
            result, found = backend.round_array(*moved((x, format, policy, random), backend.from_numpy))
            assert backend.to_numpy(result).tobytes() == wanted.tobytes(), (format.name, policy, dtype)
            assert list(backend.to_numpy(found)) == list(counts), (format.name, policy, dtype)


def test_codes_of_every_format() -> None:
    for format in FORMATS.values():
        for dtype in (np.float32, np.float64) if format.fits_float32 else (np.float64,):
            largest = (1 << format.bits) - 1
            codes = np.unique(np.array([largest * k // 8 for k in range(9)], f"uint{format.code_bits}"))
            values = load("reference").decode_array(codes, format, dtype)
            decoded = backend.to_numpy(backend.decode_array(backend.from_numpy(codes), format, dtype))
            assert decoded.tobytes() == values.tobytes(), (format.name, dtype)
            wanted = load("reference").encode_array(values, format)
            encoded = backend.to_numpy(backend.encode_array(backend.from_numpy(values), format))
            assert encoded.tobytes() == wanted.tobytes(), (format.name, dtype)


# -- public functions, and a step -----------------------------------------------------------------------------


def test_public_functions_accept_and_return_numpy_arrays() -> None:
    x = np.linspace(-500, 500, 24, dtype=np.float32).reshape(4, 6)
    out = np.empty_like(x)
    for given in (x, x.astype(np.float64), np.float32(0.3)):
        wanted = round_to(given, "float8_e4m3fn", backend="reference", counts=True)
        result = round_to(given, "float8_e4m3fn", backend="cuda", counts=True)
        assert bits(result[0]) == bits(wanted[0]) and result[1] == wanted[1]
    assert round_to(x, "bfloat16", out=out, backend="cuda") is out
    assert bits(out) == bits(round_to(x, "bfloat16", backend="reference"))
    assert bits(matmul(x, x.T.copy(), backend="cuda")) == bits(matmul(x, x.T.copy(), backend="reference"))


def test_the_simulator_has_one_device() -> None:
    assert bind("cuda:0").backend == "cuda:0"
    with pytest.raises(BackendUnavailable, match="only device 0"):
        load("cuda:1")
    with pytest.raises(ValueError, match="unknown backend"):
        load("cuda:first")


class Tiny(nn.Module):
    """A few layers of each kind."""

    name, width, classes, input_shape = "tiny", 1.0, 3, (2, 4, 4)

    def __init__(self) -> None:
        self.conv, self.norm, self.relu = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()
        self.pool, self.split, self.cat, self.shuffle = nn.MaxPool2d(2), nn.SplitHalf(), nn.Cat(), nn.ChannelShuffle()
        self.depthwise = nn.Conv2d(2, 2, 3, padding=1, groups=2, bias=False)
        self.add, self.average, self.head = nn.Add(), nn.AvgPool2d(), nn.Linear(4, 3)

    def __call__(self, x: Any) -> Any:
        x = self.pool(self.relu(self.norm(self.conv(x))))
        first, second = self.split(x)
        y = self.shuffle(self.cat(self.depthwise(first), second))
        return self.head(ops.flatten(self.average(self.add(x, y))))


def step(name: str, semantics: str, rounding: str, copies: list[Any]) -> Any:
    """What a step gives and leaves, from drawn weights, and how often it added to ``copies``."""
    model, generator = Tiny(), np.random.default_rng(0)
    fixed = ("running", "num_batches")
    drawn = {
        name: array if any(word in name for word in fixed) else generator.standard_normal(array.shape).astype("f4")
        for name, array in model.state().items()
    }
    model.load_state(drawn)
    plan = assignment.demote(trace(model, batch=2, semantics=semantics), 0.7)
    count = 12 if rounding == "stochastic" else None
    trainer = Trainer(
        model, plan, backend=name, threads=1, semantics=semantics, rounding=rounding, random_bit_count=count
    )
    images = generator.standard_normal((2, *model.input_shape)).astype(np.float32)
    copies.clear()
    report = trainer.step(images, np.array([2, 0]))
    crossings = len(copies)
    state = {name: array.tobytes() for name, array in model.state().items()}
    result = trainer.digest(), report.loss, report.logits.tobytes(), report.overflow, report.underflow, state
    return result, crossings


@pytest.mark.parametrize(("semantics", "rounding"), [
    *(pytest.param(semantics, "nearest", marks=pytest.mark.slow) for semantics in ("standard", "lee2023")),
    ("standard", "stochastic"),
])  # fmt: skip
def test_a_step_equals_the_reference_s(semantics: str, rounding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    copies: list[Any] = []
    kind = type(backend.zeros(1))
    copy = kind.copy_to_host
    monkeypatch.setattr(
        kind, "copy_to_host", lambda array, *rest, **more: copies.append(0) or copy(array, *rest, **more)
    )
    result, crossings = step("cuda", semantics, rounding, copies)
    assert result == step("reference", semantics, rounding, [])[0]
    assert crossings == 4  # whether all gradients are finite, the counts, the loss, the logits


# -- the check that runs on devices -------------------------------------------------------------------------


def test_the_check_runs_and_finds_what_differs(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    few = {name: found for name, found in cases.cases(True).items() if name in ("relu", "permute", "sgd_update")}
    monkeypatch.setattr(cases, "cases", lambda quick: few)
    monkeypatch.setattr(rounding, "combinations", lambda: everything[::60])
    assert check.main(["--quick"]) == 0
    assert "none different" in capsys.readouterr().out
    real = backend.relu
    monkeypatch.setattr(backend, "relu", lambda x: backend.scale(real(x), -1.0))
    assert check.main(["--quick"]) == 1
    assert "DIFFER" in capsys.readouterr().out


everything = rounding.combinations()
