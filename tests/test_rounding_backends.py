"""Every backend's rounding kernels, equal in every bit to the definition (by way of the reference)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from backends import that_run
from hypothesis import given
from hypothesis import strategies as st
from samples import (
    TEST_FORMATS,
    UNSIGNED,
    all_16_bit_sources,
    assert_same_bits,
    cases,
    corpus,
    policies,
    random_patterns,
    random_words,
)

from mpsim.formats import Format
from mpsim.kernels import load, philox, spec, spec_codes
from mpsim.policies import Mode, Overflow, Policy

REFERENCE = load("reference")
FLOAT32_CASES = [name for name, dtype in cases() if dtype == "float32"]


FAST = [name for name in that_run() if name != "reference"]


def by_definition(x: np.ndarray, format: Format, policy: Policy, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The results, and the counts over every fourth element."""
    source = x.dtype.name
    pairs = zip(x.tolist(), words.tolist(), strict=True)
    rows = [spec.round_value(value, source, format, policy, word) for value, word in pairs]
    numbers = [spec.counts(value, row, format) for value, row in zip(x[::4].tolist(), rows[::4], strict=True)]
    return np.array(rows).astype(x.dtype), np.array(numbers).sum(axis=0)


def agree(x: np.ndarray, format: Format, policy: Policy, words: Any, threads: int = 1) -> None:
    """The result and the counts of every backend that runs here (test_names_every_backend) are the reference's."""
    wanted, wanted_counts = REFERENCE.round_array(x, format, policy, random_bits=words)
    for name in FAST:
        result, counts = load(name).round_array(x, format, policy, random_bits=words, threads=threads)
        assert_same_bits(result, wanted, x, (name, format.name, policy))
        assert np.array_equal(counts, wanted_counts), (name, format.name, policy, counts, wanted_counts)


def test_names_every_backend(backend: str) -> None:
    """A backend that the loops of this file leave out is skipped here, with the cause."""
    assert backend in (*FAST, "reference")


@pytest.mark.parametrize(("name", "dtype"), cases())
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # tolist() of signaling NaNs
def test_reference_equals_definition(name: str, dtype: str) -> None:
    """All midpoints and the rest of the corpus in nearest even, a third in the other nearest modes, a sixth in the
    others; where overflow matters, under each policy."""
    format, everything = TEST_FORMATS[name], corpus(name, dtype)
    with np.errstate(invalid="ignore"):
        far = everything[~(np.abs(everything) < format.largest * 0.9)]
    for number, policy in enumerate(policies(format, dtype)):
        x = everything if policy.overflow is (Overflow.MARK if policy.mode.is_legacy else Overflow.INFINITY) else far
        if policy.mode != "nearest_even":
            step = 3 if policy.mode.startswith("nearest") else 6
            x = x[number % step :: step]
        words = random_words(x.size)
        wanted, wanted_counts = by_definition(x, format, policy, words)
        result, _ = REFERENCE.round_array(x, format, policy, random_bits=words)
        assert_same_bits(result, wanted, x, policy)
        _, counts = REFERENCE.round_array(x[::4].copy(), format, policy, random_bits=words[::4])
        assert np.array_equal(counts, wanted_counts), policy


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_corpus(name: str, dtype: str) -> None:
    x = corpus(name, dtype)
    for policy in policies(TEST_FORMATS[name], dtype):
        agree(x, TEST_FORMATS[name], policy, random_words(x.size))


@pytest.mark.parametrize("name", FLOAT32_CASES)
def test_all_16_bit_sources(name: str) -> None:
    """Every float16 and bfloat16 number, in every mode, under every overflow policy."""
    x = all_16_bit_sources()
    words = random_words(x.size)
    for policy in policies(TEST_FORMATS[name], "float32"):
        agree(x, TEST_FORMATS[name], policy, words, threads=2)


@pytest.mark.parametrize(("name", "dtype"), cases())
def test_sizes_and_in_place(fast_backend: str, name: str, dtype: str) -> None:
    """Odd sizes around the vector lengths, out of place and in place, with a mode of each kind."""
    format, kernels = TEST_FORMATS[name], load(fast_backend)
    for policy in policies(format, dtype)[1::11]:
        for size in (0, 1, 7, 31, 65, 1031):
            x, words = random_patterns(dtype, size, seed=size), random_words(size)
            wanted, _ = REFERENCE.round_array(x, format, policy, random_bits=words)
            out = np.empty_like(x)
            kernels.round_array(x, format, policy, random_bits=words, out=out, threads=2)
            assert_same_bits(out, wanted, x, policy)
            result, _ = kernels.round_array(x, format, policy, random_bits=words, out=x, threads=2)
            assert np.shares_memory(result, x) or size == 0
            assert_same_bits(x, wanted, what=policy)


@given(data=st.data(), case=st.sampled_from(cases()), words=st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6))
def test_any_pattern(data: st.DataObject, case: tuple[str, str], words: list[int]) -> None:
    """Raw bit patterns and numbers of the corpus, each moved by a few units in the last place."""
    name, dtype = case
    format, everything, unsigned = TEST_FORMATS[name], corpus(*case), UNSIGNED[dtype]
    pattern = st.integers(0, int(np.iinfo(unsigned).max))
    near = st.tuples(st.integers(0, everything.size - 1), st.integers(-3, 3)).map(
        lambda pick: (int(everything.view(unsigned)[pick[0]]) + pick[1]) % (int(np.iinfo(unsigned).max) + 1)
    )
    patterns = data.draw(st.lists(pattern | near, min_size=6, max_size=6), label="patterns")
    policy = data.draw(st.sampled_from(policies(format, dtype)), label="policy")
    x, bits = np.array(patterns, unsigned).view(dtype), np.array(words, np.uint32)
    with np.errstate(invalid="ignore"):
        wanted, _ = by_definition(x, format, policy, bits)
    assert_same_bits(REFERENCE.round_array(x, format, policy, random_bits=bits)[0], wanted, x, policy)
    agree(x, format, policy, bits)


@pytest.mark.parametrize("size", [1, 5, 4099])
def test_stream_is_its_words(backend: str, size: int) -> None:
    """A Stream gives the same result as the array of its words."""
    kernels = load(backend)
    stream = philox.Stream(seed=0x123456789ABCDEF0, purpose="rounding", tensor=9, step=70000)
    x = np.random.default_rng(1).normal(size=size).astype(np.float32)
    words = philox.random_bits(stream, size)
    for policy in (Policy(Mode.STOCHASTIC, Overflow.SATURATE, 11), Policy(Mode.QPYTORCH_STOCHASTIC, Overflow.SATURATE)):
        for dtype in ("float32", "float64")[: 1 if policy.mode.is_legacy else 2]:
            source = x.astype(dtype)
            wanted, wanted_counts = REFERENCE.round_array(source, TEST_FORMATS["fp_4_3_4"], policy, random_bits=words)
            for threads in (1, 2):
                result, counts = kernels.round_array(
                    source, TEST_FORMATS["fp_4_3_4"], policy, random_bits=stream, threads=threads
                )
                assert_same_bits(result, wanted, source)
                assert np.array_equal(counts, wanted_counts)


@pytest.mark.parametrize(("size", "first"), [(0, 0), (1, 0), (3, 2), (64, 1), (1000, 17), (5, 2**34 - 5)])
def test_random_bits(backend: str, size: int, first: int) -> None:
    stream = philox.Stream(seed=2**64 - 3, purpose="dropout", tensor=2**32 - 1, step=5)
    result = load(backend).random_bits(stream, size, first, threads=2)
    assert_same_bits(result, philox.random_bits(stream, size, first))


@pytest.mark.parametrize("name", [name for name, format in TEST_FORMATS.items() if format.bits <= 16])
def test_every_code(backend: str, name: str) -> None:
    """decode, then encode, over all codes, float32 and float64, against the definition."""
    kernels, format = load(backend), TEST_FORMATS[name]
    codes = np.arange(1 << format.bits).astype(f"uint{format.code_bits}")
    checked = codes if format.bits <= 10 else codes[::7]
    for dtype in ("float32", "float64") if format.fits_float32 else ("float64",):
        values = kernels.decode_array(codes, format, np.dtype(dtype), threads=2)
        wanted = np.array([spec_codes.decode(code, format) for code in checked.tolist()]).astype(dtype)
        assert_same_bits(values[checked], wanted, checked)
        assert_same_bits(values, REFERENCE.decode_array(codes, format, dtype), codes)
        again = kernels.encode_array(values, format, threads=2)
        wanted_codes = np.array([spec_codes.encode(value, format) for value in wanted.tolist()])
        assert_same_bits(again[checked], wanted_codes.astype(codes.dtype), values[checked])
        assert_same_bits(again, REFERENCE.encode_array(values, format), values)


@pytest.mark.parametrize(("name", "dtype"), [("float32", "float32"), ("float32", "float64"), ("float64", "float64")])
def test_wide_codes(backend: str, name: str, dtype: str) -> None:
    """32- and 64-bit codes are IEEE 754's own patterns."""
    kernels, format = load(backend), TEST_FORMATS[name]
    unsigned = UNSIGNED[name]
    x = random_patterns(name, 2000, seed=4)
    with np.errstate(invalid="ignore"):
        held = REFERENCE.canonical_nan(np.concatenate([x, corpus("float8_e5m2", name)])).astype(dtype)
    codes = kernels.encode_array(held, format)
    assert_same_bits(codes, held.astype(name).view(unsigned), held)
    assert_same_bits(kernels.decode_array(codes, format, np.dtype(dtype)), held, codes)


@pytest.mark.parametrize(("dtype", "quiet"), [("float32", 0x7FC00000), ("float64", 0x7FF8000000000000)])
def test_canonical_nan(backend: str, dtype: str, quiet: int) -> None:
    x, unsigned = np.concatenate([random_patterns(dtype, 1003), corpus("float8_e5m2", dtype)]), UNSIGNED[dtype]
    patterns = x.view(unsigned)
    wanted = np.where(np.isnan(x), patterns & ~(~unsigned(0) >> 1) | unsigned(quiet), patterns)
    result = load(backend).canonical_nan(x, threads=2)
    assert_same_bits(result, wanted.astype(unsigned).view(dtype))
    assert np.shares_memory(result, x)


@pytest.mark.parametrize("where", [0, 6, 64, 1002])
@pytest.mark.parametrize("what", [np.inf, -np.inf, np.nan])
def test_all_finite(backend: str, where: int, what: float) -> None:
    kernels = load(backend)
    x = np.full(1003, np.finfo(np.float32).max, np.float32)
    assert kernels.all_finite(x, threads=2) is True
    x[where] = what
    assert kernels.all_finite(x, threads=2) is False
    assert kernels.all_finite(x[:0], threads=1) is True


def test_arrays_pass_through(backend: str) -> None:
    kernels = load(backend)
    x = random_patterns("float32", 24).reshape(2, 3, 4)
    assert_same_bits(kernels.to_numpy(kernels.from_numpy(x)), x)
    assert_same_bits(kernels.to_numpy(kernels.zeros((2, 3))), np.zeros((2, 3), np.float32))
