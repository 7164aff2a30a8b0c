"""Calls every kernel of the C extension, on every variant, from one or several Python threads.

    python .ci/kernel_threads.py PYTHON_THREADS

sanitize.py runs it with an extension that a sanitizer watches. Every result must have the bits that the first variant
computes on one thread. It fails if a kernel of ext/common/kernels.h was not called.
"""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/kernels"), str(ROOT / "ext")]

import numpy as np  # noqa: E402
from common import wrappers  # noqa: E402

from mpsim import _kernels  # noqa: E402

#: The kernels in kernels.h, and those that were called.
KERNELS = {name for name, _, _ in wrappers.kernels((ROOT / "ext/common/kernels.h").read_text(encoding="utf-8"))}
CALLED: set[str] = set()
Call = Callable[[], object]
#: Threads of a kernel.
THREADS = (1, 3)


def noted(name: str, function: Callable[..., object]) -> Callable[..., object]:
    """A function of the extension that adds its name to CALLED."""

    def call(*arguments: object) -> object:
        CALLED.add(name)
        return function(*arguments)

    return call


for _name in KERNELS:  # before mpsim's modules take the functions from there
    setattr(_kernels, _name, noted(_name, getattr(_kernels, _name)))

import environments  # noqa: E402
from kernel_cases import CASES  # noqa: E402

import mpsim  # noqa: E402
from mpsim.formats import FORMATS  # noqa: E402
from mpsim.kernels import load  # noqa: E402
from mpsim.kernels.compiled import contraction  # noqa: E402
from mpsim.kernels.philox import Stream  # noqa: E402


def one(name: str, case: tuple[Any, ...], threads: int) -> object:
    """The result of a kernel and its arguments afterwards, which it may change."""
    copied = [x.copy() if isinstance(x, np.ndarray) else x for x in case]
    return getattr(load("compiled"), name)(*copied, threads=threads), copied


def large(threads: int) -> dict[str, Call]:
    """Calls on more numbers than a thread takes at once, in both precisions."""
    found: dict[str, Call] = {}
    for dtype in (np.float32, np.float64):
        x = environments.numbers(150_001, seed=12, dtype=np.dtype(dtype).name)
        given = {"backend": "compiled", "threads": threads, "counts": True}
        found[f"round {dtype.__name__}"] = partial(mpsim.round_to, x, "float8_e5m2", **given)
        found[f"round {dtype.__name__} at random"] = partial(
            mpsim.round_to, x, "bfloat16", "stochastic", random_bit_count=16, random_bits=Stream(3, "rounding"), **given
        )
        found[f"NaN {dtype.__name__}"] = partial(
            one, "canonical_nan", (np.where(x < 0, np.nan, x).astype(dtype),), threads
        )
        codes = mpsim.encode(mpsim.round_to(x, "float16"), "float16")
        found[f"decode {dtype.__name__}"] = partial(one, "decode_array", (codes, FORMATS["float16"], dtype), threads)
    found["bits"] = partial(one, "random_bits", (Stream(1, "rounding", 2, 3), 50_001, 7), threads)
    return found


def calls(every: bool) -> dict[tuple[str, int], Call]:
    """The calls by name and number of threads: of each kernel all cases, or the first, the middle and the largest one;
    products and roundings."""
    found: dict[tuple[str, int], Call] = {}
    for name, cases in CASES.items():
        largest = max(cases, key=lambda case: len(environments.bits(case)))
        for number, case in enumerate(cases if every else [cases[0], cases[len(cases) // 2], largest]):
            found |= {(f"{name} {number}", threads): partial(one, name, case, threads) for threads in THREADS}
    for threads in THREADS:
        found |= {(name, threads): call for name, call in large(threads).items()}
        for generator in (environments.products, environments.public):
            for name, call in generator("compiled", threads):
                if not name.startswith(("quantize", "step")):  # slow, and of the same kernels
                    found[name, threads] = call
    return found


def digest(result: object) -> bytes:
    """A digest of the bits. Every NaN is the same, because its payload and sign are free."""
    if isinstance(result, tuple | list):
        return hashlib.sha256(b"".join(map(digest, result))).digest()
    if isinstance(result, np.ndarray) and result.dtype.kind == "f":
        result = np.where(np.isnan(result), result.dtype.type(np.nan), result)
    return hashlib.sha256(environments.bits(result)).digest()


def differing(found: dict[tuple[str, int], Call], wanted: dict[str, bytes], seed: int) -> list[str]:
    """The calls that give other bits, in an order of the seed's."""
    order = sorted(found)
    random.Random(seed).shuffle(order)
    return [f"{name}, {threads} threads" for name, threads in order if digest(found[name, threads]()) != wanted[name]]


def main(callers: int) -> None:
    """Calls everything, and ends the process with an error if bits differ or a kernel was left out."""
    contraction.WORTH_THREADS = 0
    found = calls(every=callers == 1)
    _kernels.force_variant(_kernels.variants()[0])
    wanted = {name: digest(found[name, 1]()) for name, threads in found if threads == 1}
    wrong = []
    for variant in (None, *_kernels.variants()[:-1]):  # None is the last one
        _kernels.force_variant(variant)
        with ThreadPoolExecutor(callers) as pool:
            runs = [pool.submit(differing, found, wanted, seed) for seed in range(callers)]
            wrong += [f"{variant or 'the best variant'}: {name}" for run in runs for name in run.result()]
    if wrong:
        sys.exit("\n".join(["other bits:", *wrong[:20]]))
    if left_out := KERNELS - CALLED:
        sys.exit(f"not called: {', '.join(sorted(left_out))}")
    variants = ", ".join(_kernels.variants())
    print(f"{len(found)} calls of {len(CALLED)} kernels by {callers} threads on {variants}: equal bits")


if __name__ == "__main__":
    main(int(sys.argv[1]))
