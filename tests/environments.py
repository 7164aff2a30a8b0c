"""Calls public functions in changed floating-point environments; test_environment.py runs this file.

It prints a line for each call whose result has other bits than in the default environment, or that leaves another
environment than it found.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from kernel_cases import CASES
from networks import Branching
from samples import SLOW

import mpsim
import reference_models
from mpsim import arithmetic, assignment, blocks, data, integers, matmul, nn, round_to, validate
from mpsim.files.tensors import TensorFile
from mpsim.formats import FORMATS
from mpsim.kernels import bind, load
from mpsim.process import environment, release_threads
from mpsim.process.environment import enter_float_environment, leave_float_environment
from mpsim.process.registers import ARM, DEFAULT, X86
from mpsim.products.presets import PRESETS
from mpsim.training.optimizer import AdamW, Lion
from mpsim.training.optimizer.base import Optimizer

#: States of the control register, which differ from the default in these bits.
STATES: dict[str, int] = {}
if X86:
    STATES = {"flush": 0x8000, "zero_in": 0x40, "both": 0x8040, "down": 0x2000, "up": 0x4000, "toward_zero": 0x6000}
elif ARM:
    STATES = {"both": 1 << 24, "up": 1 << 22, "down": 2 << 22, "toward_zero": 3 << 22}

#: Orders beside the presets'.
ORDERS = ("carried(2, rising(start=first), bfloat16)", "groups(lanes(8), rising(), folding(lanes=8))", "pairwise()")
Call = Callable[[], object]


def numbers(*shape: int, seed: int = 0, dtype: str = "float32") -> Any:
    """Random numbers, a third of them so small that their products, sums or halves are subnormal."""
    generator = np.random.default_rng(seed)
    scales = np.exp2(generator.choice([0.0, -60.0, -126.0] if dtype == "float32" else [0.0, -500.0, -1022.0], shape))
    return (generator.standard_normal(shape) * scales).astype(dtype)


def small(value: Any) -> Any:
    """Scales the float32 arrays of a kernel's arguments so that many elements are subnormal."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return np.ldexp(value, np.int32(-126))
    return type(value)(map(small, value)) if type(value) in (tuple, list) else value


def bits(value: object) -> bytes:
    """The bits of everything inside a result."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tobytes()
    if isinstance(value, dict):
        return b"".join(bits(each) for each in value.items())
    if isinstance(value, tuple | list):
        return b"".join(map(bits, value))
    return value.hex().encode() if isinstance(value, float) else repr(value).encode()


def kernels(backend: str, threads: int) -> Iterator[tuple[str, Call]]:
    """Every kernel on three cases, the first, the middle and the largest one, with ordinary and with small numbers."""
    for name, cases in CASES.items():
        for number, case in enumerate([cases[0], cases[len(cases) // 2], max(cases, key=lambda case: len(bits(case)))]):
            for kind, change in (("", lambda x: x), ("small", small)):
                given = change(case)
                function = getattr(load(backend), name)

                def call(function: Any = function, given: Any = given) -> object:
                    copied = [x.copy() if isinstance(x, np.ndarray) else x for x in given]
                    result = function(*copied, threads=threads)
                    return result, copied

                yield f"{name} {number} {kind}", call


def products(backend: str, threads: int) -> Iterator[tuple[str, Call]]:
    """Contractions that are large enough for several threads, of numbers whose products are subnormal."""
    kernels, images = bind(backend, threads), 8 if backend == "compiled" else 1
    a, b = numbers(70, 90, seed=7), numbers(90, 1500 if backend == "compiled" else 150, seed=8)
    yield "large matmul", partial(kernels.matmul, a, b)
    for groups, channels in ((1, 16), (1, 3), (48, 48)):
        x, w = numbers(images, channels, 20, 20, seed=9), numbers(48, channels // groups, 3, 3, seed=10)
        gy = numbers(images, 48, 20, 20, seed=11)
        shape = f"{channels} channels, {groups} groups"
        yield f"conv2d {shape}", partial(kernels.conv2d, x, w, None, (1, 1), (1, 1), groups)
        yield (
            f"input gradient {shape}",
            partial(kernels.conv2d_input_gradient, gy, w, x.shape, (1, 1), (1, 1), groups),
        )
        yield (
            f"weight gradient {shape}",
            partial(kernels.conv2d_weight_gradient, x, gy, w.shape, (1, 1), (1, 1), groups),
        )


IMAGES = [numbers(4, 3, 8, 8, seed=step) for step in range(2)]


def steps(backend: str, threads: int) -> object:
    """Two training steps whose tensors are small."""
    model = Branching()
    plan = assignment.demote(mpsim.trace(model, batch=4), 0.7)
    trainer = mpsim.Trainer(model, plan, backend=backend, threads=threads)
    for images in IMAGES:
        report = trainer.step(images, np.array([0, 1, 2, 0]))
    return trainer.digest(), report.loss, report.logits, report.overflow, report.underflow


def transformer_steps(optimizer: Optimizer, backend: str, threads: int) -> object:
    """Steps of a transformer, the second with the optimizer's states of the first."""
    model = reference_models.build("gpt_tiny", 0.25, classes=20)
    plan = assignment.demote(mpsim.trace(model, batch=2), 0.7)
    trainer = mpsim.Trainer(model, plan, optimizer=optimizer, backend=backend, threads=threads)
    texts = data.grammar("test", 4)
    for first in (0, 2):
        rows = np.arange(first, first + 2)
        report = trainer.step(texts.load(rows), texts.labels[rows])
    return trainer.digest(), report.loss


def replayed(backend: str, threads: int) -> object:
    """A recorded step that is computed again."""
    trainer = mpsim.Trainer(Branching(), backend=backend, threads=threads)
    record = validate.record_step(trainer, IMAGES[0], np.array([0, 1, 2, 0]))
    file = TensorFile(record.tensors, record.index)
    return validate.teacher_forced(file, Branching(), None, backend=backend, threads=threads).to_dict()


def truncating(x: Any) -> Any:
    return round_to(x, "float8_e5m2", "toward_zero", backend="reference")


def slow_ones(backend: str, threads: int) -> Iterator[tuple[str, Call]]:
    """Public functions that take longer, and products with other orders."""
    for optimizer in (mpsim.SGD(0.1, momentum=0.9, nesterov=True), AdamW(0.01), Lion(0.01)):
        yield f"{type(optimizer).__name__} step", partial(transformer_steps, optimizer, backend, threads)
    yield "replay", partial(replayed, backend, threads)
    cast = {"format": "float8_e5m2", "source": "float16", "mode": "nearest_even", "backend": backend}
    yield "validate_cast", lambda: validate.validate_cast(truncating, **cast).details()
    yield (
        "validate_dot",
        lambda: str(validate.validate_dot(mpsim.Accumulator(chunk=8), length=40, backend=backend)),
    )
    a, b = numbers(20, 40, seed=2), numbers(40, 30, seed=3)
    for name in list(PRESETS)[::8]:
        yield f"matmul {name}", partial(answer, matmul, a, b, name, backend=backend, threads=threads)


def answer(function: Callable[..., object], *arguments: object, **options: object) -> object:
    """The result, or the message of an error, such as a scale that has to be given."""
    try:
        return function(*arguments, **options)
    except mpsim.MpsimError as error:
        return str(error)


def quantized(x: Any, name: str, backend: str) -> object:
    return blocks.dequantize(blocks.quantize(x, name, backend=backend))


def public(backend: str, threads: int) -> Iterator[tuple[str, Call]]:
    """The public functions that compute."""
    at = {"backend": backend, "threads": threads}
    for dtype in ("float32", "float64"):
        x = numbers(5000, seed=1, dtype=dtype)
        for name in ("float8_e4m3fn", "bfloat16", "float16", "float32"):
            yield f"round_to {dtype} {name}", partial(round_to, x, name, counts=True, **at)
        yield f"encode {dtype}", partial(mpsim.encode, round_to(x, "bfloat16"), "bfloat16", **at)
    codes = np.arange(1 << 16).astype(np.uint16)
    yield "decode", partial(mpsim.decode, codes, "bfloat16", **at)
    a, b = numbers(20, 40, seed=2), numbers(40, 30, seed=3)
    for order in ("", "chunk=8,fma=false", "exact", "hopper_float16", "ampere_bfloat16", "numpy_sum_float32", *ORDERS):
        options = {"accumulator": order} if order else {}
        yield f"matmul {order}", partial(matmul, a, b, **options, **at)
    for name in [*blocks.BLOCK_FORMATS, *blocks.PRESETS]:
        for kind, x in (("", numbers(32, 64, seed=6)), ("small", numbers(32, 64, seed=6) * np.float32(2.0**-100))):
            yield f"quantize {name} {kind}", partial(answer, quantized, x, name, backend)
    yield "step", partial(steps, backend, threads)
    yield "apply", lambda: nn.apply(nn.Sequential(nn.Linear(40, 30), nn.GELU(), nn.LayerNorm(30)), a, backend=backend)
    yield "round_to_blocks", partial(blocks.round_to_blocks, a[:, :32], "mxfp8_e4m3", backend=backend)
    if SLOW:
        yield from slow_ones(backend, threads)


def once() -> Iterator[tuple[str, Call]]:
    """Public functions without a backend."""
    x, y = numbers(300, seed=4, dtype="float64"), numbers(300, seed=5, dtype="float64")
    yield "to_integer", partial(integers.to_integer, x * 2.0**3, "int8")
    codes = [mpsim.encode(round_to(each, "bfloat16"), "bfloat16") for each in (x, y)]
    for name, count in (("add", 2), ("multiply", 2), ("divide", 2), ("sqrt", 1)):
        yield f"operate {name}", partial(arithmetic.operate, name, *codes[:count], formats="bfloat16")
    for name in ("float8_e4m3fn", "bfloat16", "float64", "fp_4_3_4"):
        format = FORMATS[name]
        yield f"numbers of {name}", lambda format=format: (
            float(format.smallest), float(format.smallest_normal), float(format.largest),
        )  # fmt: skip
    yield "cosine", lambda: [mpsim.Cosine(10).factor(step) for step in range(10)]


def start_threads(state: int) -> None:
    """Starts the threads of the compiled loops in this state, which they inherit."""
    from mpsim import _kernels

    x = np.ones(1 << 16, np.float32)
    leave_float_environment(state)
    _kernels.add(x, x, x, x.size, 2)
    enter_float_environment()


def main() -> None:
    backend, calls = sys.argv[1], dict(once())
    if backend == "compiled":  # its loops set the state in each thread, whatever the thread started with
        environment.release_threads = lambda: None
    for threads in (1, 2) if SLOW or backend == "compiled" else (2,):
        found = dict([*kernels(backend, threads), *products(backend, threads), *public(backend, threads)])
        calls |= {f"{name}, {threads} threads": call for name, call in found.items()}
    print(len(calls), "calls")
    wanted = {name: hashlib.sha256(bits(call())).digest() for name, call in calls.items()}
    for state, changed in STATES.items():
        if state in ("flush", "zero_in") and not SLOW:
            continue  # "both" has the two
        release_threads()
        if backend == "compiled":
            start_threads(DEFAULT | changed)
        for name, call in calls.items():
            leave_float_environment(DEFAULT | changed)
            try:
                result = call()
            finally:
                left = enter_float_environment() & ~0x3F
            if hashlib.sha256(bits(result)).digest() != wanted[name]:
                print(f"{state}: {name} has other bits")
            if left != DEFAULT | changed:
                print(f"{state}: {name} leaves {left:#x}")


if __name__ == "__main__":
    main()
