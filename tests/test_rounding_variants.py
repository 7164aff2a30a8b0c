"""The compiled rounding kernels in every instruction set that runs here, any threads, any flush-to-zero state."""

from __future__ import annotations

import ctypes
import platform
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from samples import TEST_FORMATS, assert_same_bits, corpus, policies, random_words

from mpsim.kernels import load, philox
from mpsim.policies import Overflow, Policy

_kernels = pytest.importorskip("mpsim._kernels", reason="the extension is not built")
REFERENCE, COMPILED = load("reference"), load("compiled")
FORMATS = [name for name, format in TEST_FORMATS.items() if format.fits_float32]


@pytest.fixture(params=_kernels.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    _kernels.force_variant(request.param)
    yield request.param
    _kernels.force_variant(None)


#: What Linux calls the features that a variant needs.
FEATURES = {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"},
}


@pytest.mark.skipif(
    not Path("/proc/cpuinfo").exists() or platform.machine() != "x86_64", reason="reads x86-64's features from Linux"
)
def test_variants_run_where_linux_lists_their_features() -> None:
    found = re.search(r"^flags\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    assert found
    wanted = ["portable", *(name for name, needed in FEATURES.items() if needed <= set(found[1].split()))]
    assert list(_kernels.variants()) == wanted


@pytest.mark.parametrize("name", FORMATS)
def test_every_mode(variant: str, name: str) -> None:
    """Every mode, and every overflow policy of the first, on the corpus."""
    format, x = TEST_FORMATS[name], corpus(name, "float32")
    words = random_words(x.size)
    for policy in policies(format, "float32"):
        if policy.overflow in (Overflow.INFINITY, Overflow.MARK) or policy.mode.number == 0:
            wanted, wanted_counts = REFERENCE.round_array(x, format, policy, random_bits=words)
            result, counts = COMPILED.round_array(x, format, policy, random_bits=words)
            assert_same_bits(result, wanted, x, (variant, policy))
            assert np.array_equal(counts, wanted_counts), (variant, policy, counts, wanted_counts)


@pytest.mark.parametrize("size", [1, 3, 15, 16, 17, 255, 2049])
@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e8m0fnu"])
def test_any_size_and_alignment(variant: str, name: str, size: int) -> None:
    """The rest after the last whole vector is rounded and counted as the others are."""
    format, x = TEST_FORMATS[name], np.random.default_rng(size).standard_normal(size + 3).astype(np.float32)
    for start in range(4):
        part = x[start : start + size]
        wanted, wanted_counts = REFERENCE.round_array(part, format, Policy())
        result, counts = COMPILED.round_array(part, format, Policy())
        assert_same_bits(result, wanted, part, (variant, start))
        assert np.array_equal(counts, wanted_counts)


def test_random_bits(variant: str) -> None:
    stream = philox.Stream(seed=(1 << 63) + 5, purpose="rounding", tensor=3, step=4)
    for size, first in ((1, 0), (3, 2), (4099, 5), (70_000, 1)):
        for threads in (1, 2):
            found = COMPILED.random_bits(stream, size, first, threads=threads)
            assert np.array_equal(found, philox.random_bits(stream, size, first)), (size, first, threads)


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or platform.system() != "Linux",
    reason="sets flush to zero through glibc's x86-64 fenv_t",
)
@pytest.mark.parametrize("name", ["bfloat16", "fp_8_3_2", "float32"])
def test_flush_to_zero_left_by_others(variant: str, name: str) -> None:
    """Subnormal numbers are kept even where another library made the processor flush them."""
    format = TEST_FORMATS[name]
    x = np.arange(1, 1 << 23, 4099, dtype=np.uint32).view(np.float32)
    wanted, wanted_counts = REFERENCE.round_array(x, format, Policy())
    libm = ctypes.CDLL("libm.so.6")
    before, flushing = (ctypes.c_uint32 * 8)(), (ctypes.c_uint32 * 8)()  # 28 bytes of x87 state, then MXCSR
    libm.fegetenv(before)
    libm.fegetenv(flushing)
    flushing[7] |= 0x8040  # flush to zero, denormals are zero
    libm.fesetenv(flushing)
    try:
        result, counts = COMPILED.round_array(x, format, Policy())
    finally:
        libm.fesetenv(before)
    assert_same_bits(result, wanted)
    assert np.array_equal(counts, wanted_counts)
