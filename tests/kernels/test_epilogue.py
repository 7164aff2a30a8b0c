"""A kernel with an epilogue gives what rounding its result gives, and counts the same: bits, backends, threads."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from kernel_cases import CASES, numbers, with_specials

from mpsim import kernels
from mpsim.accumulators import Accumulator
from mpsim.formats import as_format
from mpsim.kernels import load
from mpsim.kernels.contract import CONTRACT
from mpsim.kernels.epilogue import Epilogue
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy

STREAM = Stream(7, "rounding", 3, 4)
#: (format, policy, random bits): one sum, two sums, one zero, 64-bit integers, random bits, legacy.
ROUNDINGS = (
    ("fp_4_3_4", Policy("nearest_even", "saturate"), None),
    ("bfloat16", Policy("nearest_even", "mark"), None),
    ("float8_e4m3fnuz", Policy("toward_zero", "saturate"), None),
    ("float8_e8m0fnu", Policy("down", "saturate"), None),
    ("fp_6_9_0", Policy("stochastic", "saturate", 8), STREAM),
    ("fp_4_3_4", Policy("qpytorch_nearest", "mark"), None),
)

#: Beside the contract's: several blocks; odd areas, so that parts start anywhere; every way to convolve.
MORE: dict[str, list[tuple[Any, ...]]] = {
    "relu": [(with_specials(1, 3 * 4096 + 7),)],
    "batch_norm": [(numbers(2, 4, 70, 3, 3), numbers(3, 70), numbers(4, 70), 1e-5)],
    "batch_norm_gradient": [(numbers(5, 3, 9, 25, 21), numbers(6, 3, 9, 25, 21), *(numbers(i, 9) for i in (7, 8, 9)))],
    "concatenate": [([numbers(1, 3, 5, 40, 41), numbers(2, 3, 2, 40, 41)],)],
    "conv2d": [
        (numbers(10, 2, 3, 40, 41), numbers(11, 5, 3, 3, 3), numbers(12, 5), (1, 1), (1, 1), 1),  # bands of rows
        (numbers(13, 9, 4, 9, 9), numbers(14, 6, 2, 1, 1), None, (1, 1), (0, 0), 2),  # groups, in place
        (numbers(15, 40, 3, 5, 5), numbers(16, 4, 3, 3, 3), None, (2, 2), (1, 1), 1),  # images as lanes
        (numbers(17, 3, 21, 5, 5), numbers(18, 21, 1, 3, 3), None, (2, 2), (1, 1), 21),  # depthwise
    ],
    "conv2d_input_gradient": [
        (numbers(19, 2, 5, 21, 21), numbers(20, 5, 3, 3, 3), (2, 3, 41, 41), (2, 2), (1, 1), 1),  # parts
        (numbers(21, 40, 4, 3, 3), numbers(22, 4, 3, 3, 3), (40, 3, 5, 5), (2, 2), (1, 1), 1),
        (numbers(23, 3, 21, 3, 3), numbers(24, 21, 1, 3, 3), (3, 21, 5, 5), (2, 2), (1, 1), 21),
        (numbers(25, 9, 6, 9, 9), numbers(26, 6, 2, 1, 1), (9, 4, 9, 9), (1, 1), (0, 0), 2),
    ],
}
NAMES = [name for name, row in CONTRACT.items() if row.epilogue]


@pytest.fixture(autouse=True)
def threads_for_small_contractions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing here would be large enough for a second thread."""
    module = pytest.importorskip("mpsim.kernels.compiled.contraction")
    monkeypatch.setattr(module, "WORTH_THREADS", 0)


def cases(name: str) -> list[tuple[Any, ...]]:
    """The contract's, but few of the many that elementwise kernels and batch norm have, and those above."""
    given = CASES[name]
    return [*given[:: max(1, len(given) // 6)], *MORE.get(name, [])]


def rounded_after(made: Any, name: str, policy: Policy, bits: Stream | None) -> tuple[Any, list[int]]:
    """The result and the counts, both by the reference's round_array."""
    first, *rest = made if isinstance(made, tuple) else (made,)
    first, counts = load("reference").round_array(first, as_format(name), policy, bits)
    return [first, *rest], counts.tolist()


def as_bytes(arrays: Any) -> list[bytes]:
    return [np.asarray(array).tobytes() for array in (arrays if isinstance(arrays, list | tuple) else [arrays])]


def check(name: str, backend: str, chosen: list[tuple[Any, ...]], roundings: tuple = ROUNDINGS) -> None:
    for threads in (1, 2):
        kernel = getattr(kernels.bind(backend, threads), name)
        for case in chosen:
            made = kernel(*copy.deepcopy(case))
            for format, policy, bits in roundings:
                wanted, wanted_counts = rounded_after(copy.deepcopy(made), format, policy, bits)
                epilogue = Epilogue(as_format(format), policy, bits)
                found = kernel(*copy.deepcopy(case), epilogue=epilogue)
                assert as_bytes(found) == as_bytes(wanted), (format, policy, threads)
                assert epilogue.counts.tolist() == wanted_counts, (format, policy, threads)


@pytest.mark.parametrize("name", NAMES)
def test_the_result_is_rounded_and_counted(name: str, backend: str) -> None:
    if backend != "compiled":  # below, in every instruction set
        check(name, backend, CASES[name][:1], ROUNDINGS[3:5])


@pytest.mark.parametrize("name", NAMES)
def test_in_every_instruction_set(name: str, variant: str) -> None:
    check(name, "compiled", cases(name))


@pytest.mark.parametrize("name", [name for name in NAMES if CONTRACT[name].contraction])
def test_with_another_accumulator(name: str, backend: str) -> None:
    kernel = getattr(kernels.bind(backend, 1, Accumulator(chunk=None)), name)
    case, (format, policy, _) = CASES[name][0], ROUNDINGS[0]
    wanted, counts = rounded_after(kernel(*case), format, policy, None)
    epilogue = Epilogue(as_format(format), policy)
    assert as_bytes(kernel(*case, epilogue=epilogue)) == as_bytes(wanted)
    assert epilogue.counts.tolist() == counts


def test_a_kernel_may_work_in_place(backend: str) -> None:
    x, epilogue = numbers(1, 5000), Epilogue(as_format("fp_4_3_4"), Policy("nearest_even", "saturate"))
    wanted, counts = load("reference").round_array(x + x, epilogue.format, epilogue.policy)
    y = kernels.bind(backend, 2).add(x, x, out=x, epilogue=epilogue)
    assert y is x and y.tobytes() == wanted.tobytes() and epilogue.counts.tolist() == counts.tolist()
