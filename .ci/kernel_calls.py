"""Writes calls of kernels to a file that kernel_calls.c runs, and prints the lines that it should print for a variant.

    python .ci/kernel_calls.py FILE

The results are those of the reference backend. The calls round every float16 and every bfloat16 number as same_bits.py
does, encode and decode the results, multiply matrices, and apply functions of one argument and log-softmax. The structs
have the layout of mpsim.kernels.compiled.structs, which the extension has compared with the C compiler's.
"""

from __future__ import annotations

import itertools
import struct
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from same_bits import SOURCES, TARGETS, WORDS

from mpsim import FORMATS, Policy, round_to
from mpsim.errors import MpsimError
from mpsim.kernels import bind
from mpsim.kernels.compiled.structs import packed
from mpsim.kernels.elementary.functions import FUNCTIONS
from mpsim.kernels.parameters import code_layout, parameters
from mpsim.policies import Mode, Overflow

ROUND, CODES, MATMUL, UNARY, LOG_SOFTMAX = range(1, 6)
Call = tuple[bytes, str]


def numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def crc(array: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


def calls() -> Iterator[Call]:
    """The bytes of each call and the line of its results."""
    for source, target in itertools.product(range(len(SOURCES)), TARGETS):
        for mode, overflow in itertools.product(Mode, Overflow):
            yield from rounding(source, target, mode, overflow)
    kernels, random = bind("reference"), np.random.Generator(np.random.Philox(2))
    for rows, depth, columns in ((1, 1, 1), (3, 5, 7), (17, 300, 33), (64, 64, 64)):
        a, b = (random.standard_normal(shape, np.float32) for shape in ((rows, depth), (depth, columns)))
        head = numbers(MATMUL, rows, depth, columns)
        yield head + a.tobytes() + b.tobytes(), crc(kernels.matmul(a, b))
    x = next(iter(SOURCES.values()))
    for number, name in enumerate(FUNCTIONS):
        ends = (-0.5, 2.5) if name.startswith("clamp") else (0.25, 0.0)
        result = np.abs(kernels.canonical_nan(kernels.unary(x, name, *ends)))  # the sign of a NaN is not defined
        yield numbers(UNARY, number) + struct.pack("<2f", *ends), crc(result)
    for shape in ((1, 1), (7, 10), (33, 100)):
        x = random.standard_normal(shape, np.float32)
        yield numbers(LOG_SOFTMAX, *shape) + x.tobytes(), crc(kernels.log_softmax(x))


def rounding(source: int, target: str, mode: Mode, overflow: Overflow) -> Iterator[Call]:
    """One rounding of all numbers, and for one mode the codes of its finite results."""
    kernels, format, x = bind("reference"), FORMATS[target], list(SOURCES.values())[source]
    stochastic, random = mode.value.startswith("stochastic"), "stochastic" in mode.value
    bits: dict[str, Any] = {"random_bit_count": 11 if stochastic else None}
    try:
        policy = Policy(mode, overflow, **bits)
        words = WORDS if random else None
        result, counts = round_to(
            x, format, mode, overflow, random_bits=words, **bits, backend="reference", counts=True
        )
    except MpsimError:  # modes of QPyTorch do not apply to every format
        return
    fields = packed(parameters(format, policy, "float32"))
    yield numbers(ROUND, source, random) + fields, " ".join([crc(result), *map(str, counts)])
    if (mode, overflow) == (Mode.NEAREST_EVEN, Overflow.INFINITY):
        codes = kernels.encode_array(result[np.isfinite(result)], format)
        decoded = kernels.decode_array(codes, format, np.float32)
        head = numbers(CODES, codes.itemsize) + packed(code_layout(format))
        yield head, f"{crc(codes)} {crc(decoded)}"


def main(path: str) -> None:
    """Writes the file and prints the lines."""
    with np.errstate(all="ignore"), open(path, "wb") as file:
        for x in SOURCES.values():
            file.write(x.tobytes())
        file.write(WORDS.tobytes())
        for call, line in calls():
            file.write(call)
            print(line)
        file.write(numbers(0))


if __name__ == "__main__":
    main(sys.argv[1])
