"""The flags of exceptions: against the processor's, in four directions, and against rational numbers."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from oracles import fraction

from mpsim.arithmetic import ARITHMETIC, Flag, exceptions, flags, operate, operations
from mpsim.errors import UsageError
from mpsim.formats import FORMATS, Format
from mpsim.policies import Mode, Policy

#: Each operation on each element, between feclearexcept and fetestexcept, with a rounding direction.
PROCESSOR = """
#include <fenv.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#pragma STDC FENV_ACCESS ON
static unsigned flags(void) {
    int f = fetestexcept(FE_ALL_EXCEPT);
    return !!(f & FE_INEXACT) | !!(f & FE_UNDERFLOW) << 1 | !!(f & FE_OVERFLOW) << 2 | !!(f & FE_DIVBYZERO) << 3
           | !!(f & FE_INVALID) << 4;
}
#define EACH(NAME, T, EXPRESSION)                                                                              \\
    void NAME(int way, size_t n, const T *xs, const T *ys, const T *zs, T *out, uint8_t *raised) {             \\
        static const int ways[] = {FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD, FE_DOWNWARD};                       \\
        fesetround(ways[way]);                                                                                 \\
        for (size_t i = 0; i < n; i++) {                                                                       \\
            volatile T x = xs[i], y = ys[i], z = zs[i], r;                                                     \\
            (void)y, (void)z;                                                                                  \\
            feclearexcept(FE_ALL_EXCEPT);                                                                      \\
            r = EXPRESSION;                                                                                    \\
            raised[i] = flags(), out[i] = r;                                                                   \\
        }                                                                                                      \\
        fesetround(FE_TONEAREST), feclearexcept(FE_ALL_EXCEPT);                                                \\
    }
#define ALL(T, SQRT, FMA)                                                                                      \\
    EACH(add_##T, T, x + y) EACH(subtract_##T, T, x - y) EACH(multiply_##T, T, x * y) EACH(divide_##T, T, x / y) \\
    EACH(sqrt_##T, T, SQRT(x)) EACH(fma_##T, T, FMA(x, y, z))
ALL(float, sqrtf, fmaf)
ALL(double, sqrt, fma)
"""
WAYS = ("nearest_even", "toward_zero", "up", "down")


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("cc") is None or platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("compares with an x86-64 processor, which finds tininess after rounding, by a C compiler")
    folder = tmp_path_factory.mktemp("fenv")
    (folder / "p.c").write_text(PROCESSOR)
    target = "-mfma" if "fma" in Path("/proc/cpuinfo").read_text() else "-O1"
    subprocess.run(["cc", "-O1", "-frounding-math", target, "-shared", "-fPIC", "-o", folder / "p.so",
                    folder / "p.c", "-lm"], check=True)  # fmt: skip
    return ctypes.CDLL(str(folder / "p.so"))


def operands(bits: int, mantissa: int, count: int, thirds: int) -> np.ndarray:
    """Rows of edges with one another, of subnormal products, of quotients near overflow, and of random codes."""
    random = np.random.default_rng(7)
    top, one = (1 << (bits - 1 - mantissa)) - 1, (1 << (bits - 2 - mantissa)) - 1
    edges = [0, 1, 2, (1 << mantissa) - 1, 1 << mantissa, (1 << mantissa) + 1, one << mantissa, (top << mantissa) - 1,
             top << mantissa, (top << mantissa) + 1, (top << mantissa) + (1 << mantissa - 1)]  # fmt: skip
    edges += [code | 1 << bits - 1 for code in edges]
    crossed = np.array(np.meshgrid(edges, edges, edges[1 :: len(edges) // thirds], indexing="ij"), np.uint64).reshape(
        3, -1
    )
    fraction = random.integers(0, 1 << mantissa, (3, count), np.uint64)
    low = random.integers(1, one, (1, count), np.uint64)
    near = random.integers(-2, 3, (1, count)) + one
    exponents = np.concatenate([low, near - low.astype(np.int64) + 1, random.integers(0, 6, (1, count))])
    tiny = fraction | np.clip(exponents, 0, top - 1).astype(np.uint64) << np.uint64(mantissa)
    anywhere = random.integers(0, (1 << bits) - 1, (3, count), np.uint64, endpoint=True)
    return np.concatenate([crossed, tiny, anywhere], axis=1)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "sqrt", "fma"])
@pytest.mark.parametrize(("type", "bits", "mantissa"), [("float", 32, 23), ("double", 64, 52)])
def test_against_the_processor(processor: ctypes.CDLL, name: str, type: str, bits: int, mantissa: int) -> None:
    """Flags and results in every bit; a processor may not signal 0 times infinity plus NaN."""
    unsigned = np.dtype(f"uint{bits}")
    codes = np.ascontiguousarray(operands(bits, mantissa, 120, 3 if name == "fma" else 1).astype(unsigned))
    count = {"sqrt": 1, "fma": 3}.get(name, 2)
    for way, mode in enumerate(WAYS):
        out, raised = np.zeros(codes.shape[1], unsigned), np.zeros(codes.shape[1], np.uint8)
        function = getattr(processor, f"{name}_{type}")
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*codes, out, raised)]
        function(way, ctypes.c_size_t(codes.shape[1]), *pointers)
        got = exceptions(name, *codes[:count], formats=f"float{bits}", mode=mode)
        infinity = np.uint64(((1 << (bits - 1 - mantissa)) - 1) << mantissa)
        nan = (codes & unsigned.type((1 << bits - 1) - 1)) > infinity
        same = (got == raised) | (nan[2] & (got == Flag.INVALID) if name == "fma" else False)
        assert same.all(), (mode, [hex(c) for c in codes[:, np.argmin(same)]], got[~same][0], raised[~same][0])
        results = operate(name, *codes[:count], formats=f"float{bits}", mode=mode)
        both = ((out | results) & unsigned.type((1 << bits - 1) - 1)) > infinity
        assert ((results == out) | both).all(), mode


RATIONAL: dict[str, Callable] = {
    "add": lambda x, y: x + y, "multiply": lambda x, y: x * y, "divide": lambda x, y: x / y, "convert": lambda x: x,
}  # fmt: skip


@pytest.mark.parametrize("tininess", ["after", "before"])
@pytest.mark.parametrize("name", RATIONAL)
def test_against_rational_numbers(name: str, tininess: str) -> None:
    """Every pair of codes of one small format, the result in another, by the oracle of rounding on wider formats."""
    format, result = Format("t", 2, 2), Format("r", 2, 1)
    wide = Format("w", 8, 1)  # the result's precision, and exponents without end on this scale
    count = 1 if name == "convert" else 2
    codes = [axis.reshape(-1) for axis in np.meshgrid(*[np.arange(32)] * count, indexing="ij")]
    emin, top = fraction.smallest_normal(result), fraction.largest(result)
    for mode in ("nearest_even", "up", "toward_zero"):
        got = exceptions(name, *codes, formats=format, result=result, mode=mode, tininess=tininess)
        seen = set()
        for row, raised in zip(zip(*map(np.ndarray.tolist, codes), strict=True), got.tolist(), strict=True):
            values = [fraction.code_value(format, code) for code in row]
            values = [Fraction(0) if value == "-0" else value for value in values]
            if any(isinstance(value, str) for value in values) or (name == "divide" and values[1] == 0):
                continue
            exact = RATIONAL[name](*values)
            freely = fraction.round_value(exact, wide, mode, "infinity")
            freely = Fraction(0) if freely == "-0" else freely
            rounded = fraction.round_value(exact, result, mode, "infinity")
            rounded = Fraction(0) if rounded == "-0" else rounded
            tiny = 0 < abs(exact if tininess == "before" else freely) < emin
            expected = Flag.INEXACT * (rounded != exact) | Flag.OVERFLOW * (abs(freely) > top)
            expected |= Flag.UNDERFLOW * (tiny and rounded != exact)
            assert raised == expected, (mode, row, raised, expected)
            seen.add(raised)
        assert {0, 1, 3} <= seen and (5 in seen or mode == "toward_zero")


@pytest.mark.parametrize("name", ["divide", "fma", "sqrt", "rsqrt", "minimum", "copysign", "convert", "faa"])
def test_the_fast_way_against_the_definition(name: str) -> None:
    """Random codes and edges of float16 and bfloat16, to a result with fewer bits, in every mode."""
    formats = [FORMATS[each] for each in ("float16", "bfloat16", "float16")][: ARITHMETIC[name][0]]
    result = Format("r", 4, 6)
    codes = operands(16, 10, 100, 1)[: len(formats), ::3]
    for mode in (mode for mode in Mode if not mode.needs_random_bits and not mode.is_legacy):
        for after in (True, False):
            tininess = "after" if after else "before"
            assert operations.Asked(name, [], formats, result).is_fast(Policy(mode))
            got = exceptions(name, *codes, formats=formats, result=result, mode=mode, tininess=tininess)
            rows = zip(*codes.tolist(), strict=True)
            expected = [flags.flags_of(name, row, formats, result, Policy(mode), after) for row in rows]
            assert got.tolist() == expected, (mode, tininess)


def test_special_operands() -> None:
    """One row for each rule of §7.2 and §7.3 in float16: 1 is 0x3C00, infinity 0x7C00, a signalling NaN 0x7C01."""
    one, zero, inf, quiet, signalling = 0x3C00, 0, 0x7C00, 0x7E00, 0x7C01
    rows = [
        ("add", (inf, inf | 0x8000), 16), ("subtract", (inf, inf), 16), ("add", (inf, inf), 0),
        ("add", (quiet, one), 0), ("add", (signalling, one), 16), ("multiply", (zero, inf), 16),
        ("multiply", (zero, quiet), 0), ("divide", (zero, zero), 16), ("divide", (inf, inf), 16),
        ("divide", (one, zero), 8), ("divide", (inf, zero), 0), ("divide", (quiet, zero), 0),
        ("reciprocal", (0x8000,), 8), ("rsqrt", (zero,), 8), ("rsqrt", (inf,), 0), ("sqrt", (0xBC00,), 16),
        ("sqrt", (0x8000,), 0), ("fma", (zero, inf, one), 16), ("fma", (zero, inf, quiet), 16),
        ("fma", (quiet, one, one), 0), ("fma", (one, inf, inf | 0x8000), 16), ("minimum", (one, quiet), 0),
        ("minimum_number", (one, signalling), 16), ("negate", (signalling,), 0), ("abs", (signalling,), 0),
        ("copysign", (one, signalling), 0), ("convert", (signalling,), 16), ("convert", (quiet,), 0),
    ]  # fmt: skip
    for name, codes, expected in rows:
        assert exceptions(name, *codes, formats="float16") == expected, (name, codes)
        given = [FORMATS["float16"]] * len(codes)
        assert flags.flags_of(name, codes, given, FORMATS["float16"], Policy(), True) == expected, (name, codes)


@pytest.mark.parametrize("format", ["p3109_k8p3", "float8_e4m3fn", "float8_e5m2fnuz", "float4_e2m1fn"])
def test_formats_without_exceptions(format: str) -> None:
    with pytest.raises(UsageError, match="IEEE 754's infinities and NaNs"):
        exceptions("add", 0, 0, formats=format)
    with pytest.raises(UsageError, match="did you mean after"):
        exceptions("add", 0, 0, formats="float16", tininess="afer")
