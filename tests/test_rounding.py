"""Public rounding functions: valid arguments, results, and rejected arguments."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from samples import TEST_FORMATS, assert_same_bits, corpus, policies, random_words

from mpsim.errors import UsageTypeError
from mpsim.formats import FORMATS
from mpsim.kernels import load, spec
from mpsim.kernels.philox import Stream, random_bits
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import Counts, available_threads, decode, encode, round_to

E4M3 = "float8_e4m3fn"


def test_example(backend: str) -> None:
    result = round_to(np.float64(-431.99999999999994), E4M3, backend=backend)
    assert str(result) == "-416.0"
    assert type(result) is np.float64


@pytest.mark.parametrize("name", TEST_FORMATS)
def test_is_the_kernel(backend: str, name: str) -> None:
    """The public function gives the definition's results: one policy of each mode, from float64."""
    format, x = TEST_FORMATS[name], corpus(name, "float64")[::5]
    words = random_words(x.size)
    for policy in policies(format, "float64")[::3]:
        bits = words if policy.mode.needs_random_bits else None
        wanted, counts = load("reference").round_array(x, format, policy, random_bits=bits)
        result = round_to(x, format, policy.mode, policy.overflow, random_bits=bits, backend=backend, counts=True,
                          random_bit_count=policy.random_bit_count)  # fmt: skip
        assert_same_bits(result[0], wanted, x, policy)
        assert result[1] == Counts(*counts.tolist())


@pytest.mark.parametrize(
    ("x", "kind", "value"),
    [
        (0.3, np.float64, 0.3125),
        (np.float64(0.3), np.float64, 0.3125),
        (np.float32(0.3), np.float32, 0.3125),
        (np.float16(0.3), np.float32, 0.3125),
        (ml_dtypes.bfloat16(0.3), np.float32, 0.3125),
    ],
)
def test_scalars(backend: str, x: Any, kind: type, value: float) -> None:
    result, counts = round_to(x, E4M3, backend=backend, counts=True)
    assert type(result) is kind and result == value
    assert counts == Counts(0, 0, 0, 1, 0)
    code = encode(x, E4M3, backend=backend)
    assert type(code) is np.uint8 and code == 0x2A
    assert type(decode(code, E4M3, np.float64, backend=backend)) is np.float64


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 5)])
def test_shapes(backend: str, shape: tuple[int, ...]) -> None:
    x = np.full(shape, 0.3, np.float32)
    result = round_to(x, E4M3, backend=backend)
    assert isinstance(result, np.ndarray) and result.shape == shape and result.dtype == np.float32
    assert (result == np.float32(0.3125)).all()
    codes = encode(x, E4M3, backend=backend)
    assert isinstance(codes, np.ndarray) and codes.shape == shape and codes.dtype == np.uint8
    again = decode(codes, E4M3, backend=backend)
    assert isinstance(again, np.ndarray) and again.shape == shape
    assert_same_bits(again, result)


def test_any_memory_layout(backend: str) -> None:
    """Strided, transposed, reversed, byte-swapped, misaligned and read-only arrays; the input is left alone."""
    x = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    wanted = round_to(x, E4M3, backend="reference")
    original = x.copy()
    assert_same_bits(round_to(x.T, E4M3, backend=backend), np.ascontiguousarray(wanted.T))
    assert_same_bits(round_to(x[::2, ::-3], E4M3, backend=backend), np.ascontiguousarray(wanted[::2, ::-3]))
    assert_same_bits(round_to(x.astype(">f4"), E4M3, backend=backend), wanted)
    raw = np.zeros(x.nbytes + 1, np.uint8)
    raw[1:] = x.reshape(-1).view(np.uint8)
    assert_same_bits(round_to(raw[1:].view(np.float32), E4M3, backend=backend), wanted.reshape(-1))
    x.setflags(write=False)
    assert_same_bits(round_to(x, E4M3, backend=backend), wanted)
    assert_same_bits(x, original)
    codes = encode(x.T, E4M3, backend=backend)
    codes.setflags(write=False)
    assert_same_bits(decode(codes.T, E4M3, backend=backend), wanted)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e5m2", "float8_e8m0fnu", "float4_e2m1fn"])
def test_narrow_arrays_widen_exactly(backend: str, dtype: str) -> None:
    format = FORMATS[dtype]
    codes = np.arange(1 << format.bits).astype(f"uint{format.code_bits}")
    kind: Any = np.float16 if dtype == "float16" else getattr(ml_dtypes, dtype)
    x = codes.view(kind)
    wanted = load("reference").round_array(decode(codes, dtype, backend="reference"), FORMATS["fp_4_3_4"], Policy())[0]
    result = round_to(x, "fp_4_3_4", backend=backend)
    number = ~np.isnan(wanted)
    assert_same_bits(result[number], wanted[number])
    assert np.isnan(result[~number]).all()


def test_out(backend: str) -> None:
    x = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    wanted = round_to(x, E4M3, backend="reference")
    out = np.empty_like(x)
    assert round_to(x, E4M3, out=out, backend=backend) is out
    assert_same_bits(out, wanted)
    strided = np.zeros((40, 60), np.float32)[:, ::2]
    assert round_to(x, E4M3, out=strided, backend=backend) is strided
    assert_same_bits(np.ascontiguousarray(strided), wanted)
    overlapping = np.concatenate([x.reshape(-1), np.zeros(7, np.float32)])
    round_to(overlapping[:-7], E4M3, out=overlapping[7:], backend=backend)
    assert_same_bits(overlapping[7:], wanted.reshape(-1))
    assert round_to(x, E4M3, out=x, backend=backend) is x
    assert_same_bits(x, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("out_at", "words_at"), [(0, 0), (0, 8), (8, 0), (64, 8), (800, 0)])
def test_out_may_overlap_the_random_bits(backend: str, dtype: type, out_at: int, words_at: int) -> None:
    size = 5000
    memory = np.zeros(16 * size, np.uint8)
    x = (np.random.default_rng(0).standard_normal(size) * 10).astype(dtype)
    words = memory[words_at : words_at + 4 * size].view(np.uint32)
    words[:] = np.random.default_rng(1).integers(0, 2**32, size, dtype=np.uint32)
    wanted = round_to(x, "float8_e5m2", "stochastic", random_bits=words.copy(), random_bit_count=8, backend=backend)
    out = memory[out_at : out_at + x.nbytes].view(dtype)
    round_to(x, "float8_e5m2", "stochastic", random_bits=words, random_bit_count=8, out=out, backend=backend, threads=2)
    assert_same_bits(out, wanted)


@pytest.mark.parametrize("call", [round_to, encode])
def test_a_mask_is_not_lost(call: Callable[..., object]) -> None:
    with pytest.raises(UsageTypeError, match="without a mask"):
        call(np.ma.array([1.0, 2.0], mask=[0, 1]), E4M3)


@pytest.mark.parametrize("threads", [1, 2, 3, None])
def test_threads_change_nothing(backend: str, threads: int | None) -> None:
    x = np.random.default_rng(0).normal(size=100_003).astype(np.float32)
    wanted = round_to(x, "float8_e5m2", backend="reference", counts=True)
    result = round_to(x, "float8_e5m2", backend=backend, threads=threads, counts=True)
    assert_same_bits(result[0], wanted[0], x)
    assert result[1] == wanted[1]


def test_stochastic(backend: str) -> None:
    stream = Stream(seed=3, purpose="rounding", tensor=2, step=1)
    x = np.random.default_rng(0).normal(size=(8, 9)).astype(np.float32)
    words = random_bits(stream, x.size).reshape(x.shape)
    given = {"random_bit_count": 20, "backend": backend}
    result = round_to(x, E4M3, "stochastic", random_bits=words, **given)  # type: ignore[arg-type]
    assert_same_bits(result, round_to(x, E4M3, "stochastic", random_bits=stream, **given))  # type: ignore[arg-type]
    policy = Policy(Mode.STOCHASTIC, Overflow.INFINITY, 20)
    wanted = [spec.round_value(float(value), "float32", FORMATS[E4M3], policy, int(word))
              for value, word in zip(x.flat, words.flat, strict=True)]  # fmt: skip
    assert_same_bits(result.reshape(-1), np.float32(wanted))


def test_stochastic_is_unbiased(backend: str) -> None:
    """Over all 2**16 words the share that goes up is the discarded part, exactly."""
    x = np.full(1 << 16, 16 + 2 * 12345 / 65536, np.float32)  # neighbours 16 and 18
    words = np.arange(1 << 16, dtype=np.uint32)
    result = round_to(x, E4M3, "stochastic", random_bits=words, random_bit_count=16, backend=backend)
    assert np.count_nonzero(result == 18) == 12345 and np.count_nonzero(result == 16) == 65536 - 12345


def test_counts_add_up() -> None:
    x = np.float32([0.0, 1.0, 1.1, 500, np.inf, np.nan, 2.0**-10, 2.0**-11, 2.0**-9, -(2.0**-6), 464, 449])
    _, counts = round_to(x, E4M3, backend="reference", counts=True)
    assert counts == Counts(overflowed=3, underflowed=2, nan=1, inexact=7, subnormal=1)


ONE = np.ones(3, np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((ONE, "float8"), {}, ValueError, "unknown format 'float8'; it may mean float8_e5m2"),
        ((ONE, 8), {}, TypeError, "a name, a Format or a dtype"),
        ((ONE, E4M3, "nearest"), {}, ValueError, "unknown rounding mode 'nearest'; did you mean"),
        ((ONE, E4M3, "up", "saturated"), {}, ValueError, "unknown overflow policy 'saturated'; did you mean saturate"),
        ((3 * [2**64], E4M3), {}, TypeError, "got object"),
        ((True, E4M3), {}, TypeError, "got bool"),
        ((1j, E4M3), {}, TypeError, "got complex128"),
        (("1.5", E4M3), {}, TypeError, "got <U3"),
        ((None, E4M3), {}, TypeError, "got object"),
        ((np.ones(2, np.longdouble), E4M3), {}, TypeError, "x must be float32"),
        ((np.ones(2, ml_dtypes.int4), E4M3), {}, TypeError, "got int4"),
        ((ONE, "float64"), {}, ValueError, "float32 cannot hold; pass float64"),
        ((ONE, "fp_10_3_0"), {}, ValueError, "float32 cannot hold; pass float64"),
        ((ONE, E4M3, "stochastic"), {}, ValueError, "random_bit_count must be a whole number from 1 to 32"),
        ((ONE, E4M3, "stochastic"), {"random_bit_count": 8}, ValueError, "needs random_bits: uint32 of shape"),
        ((ONE, E4M3), {"random_bits": ONE}, ValueError, "does not use random bits"),
        ((ONE, "fp_4_3_4", "qpytorch_stochastic", "mark"), {}, ValueError, "needs random_bits"),
        (
            (ONE, "fp_4_3_4", "qpytorch_nearest", "infinity"),
            {},
            ValueError,
            "supports only overflow 'saturate' and 'mark'",
        ),
        ((ONE, E4M3, "qpytorch_nearest", "mark"), {}, ValueError, "supports fp_E_M_B"),
        ((1.0, "fp_4_3_4", "qpytorch_nearest", "mark"), {}, TypeError, "only for float32, got float64"),
        ((ONE, E4M3), {"threads": 0}, ValueError, "threads must be a whole number from 1 to 1024, or None .*got 0"),
        ((ONE, E4M3), {"threads": 1.5}, TypeError, "threads must be a whole number .*got 1.5"),
        ((ONE, E4M3), {"backend": "cuda12"}, ValueError, "unknown backend 'cuda12'; did you mean cuda"),
        ((ONE, E4M3), {"out": np.ones(4, np.float32)}, ValueError, r"shape \(3,\), got float32 of shape \(4,\)"),
        ((ONE, E4M3), {"out": np.ones(3)}, ValueError, "writable float32 array"),
        ((ONE, E4M3), {"out": [0, 0, 0]}, TypeError, "out must be a NumPy array"),
        ((1.0, E4M3), {"out": np.ones(())}, TypeError, "and x an array too"),
    ],
)
def test_refused(arguments: tuple, options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        round_to(*arguments, **({"backend": "reference"} | options))


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (np.zeros(3), TypeError, "uint32, got float64"),
        (np.zeros(3, np.int32), TypeError, "uint32, got int32"),
        (np.zeros(4, np.uint32), ValueError, r"shape \(3,\), got \(4,\)"),
        (np.zeros((1, 3), np.uint32), ValueError, r"shape \(3,\), got \(1, 3\)"),
    ],
)
def test_refused_random_bits(words: np.ndarray, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        round_to(ONE, E4M3, "stochastic", random_bits=words, random_bit_count=8, backend="reference")


def test_encode_refuses_what_has_no_code(backend: str) -> None:
    with pytest.raises(ValueError, match="fp_4_3_4 has no code for NaN, got nan at index 1"):
        encode(np.float32([1, np.nan]), "fp_4_3_4", backend=backend)
    with pytest.raises(ValueError, match=r"no code for infinity \(overflow 'mark'.* at index \(1, 0\)"):
        encode(np.float32([[1], [1e9]]), E4M3, overflow="mark", backend=backend)
    assert encode(np.float32([1e9]), "float8_e5m2", overflow="mark", backend=backend)[0] == 0x7C
    assert encode(np.float32([1e9]), E4M3, backend=backend)[0] == 0x7F


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([64], "float6_e2m3fn"), ValueError, "codes of float6_e2m3fn must be from 0 to 63, got 64 at index 0"),
        ((-1, "float6_e2m3fn"), ValueError, "must be from 0 to 63, got -1"),
        ((1.0, "float6_e2m3fn"), TypeError, "codes must be integers, got float64"),
        ((1, "float64"), ValueError, "pass dtype=np.float64"),
        ((1, "float16", np.float16), TypeError, "float32 or float64, not float16"),
    ],
)
def test_decode_refuses(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        decode(*arguments, backend="reference")


def test_widths_of_codes(backend: str) -> None:
    widths = {"float4_e2m1fn": np.uint8, "float16": np.uint16, "tf32": np.uint32, "float64": np.uint64}
    for name, kind in widths.items():
        codes = encode(np.float64([1.0, -2.5]), name, backend=backend)
        assert codes.dtype == kind
        assert decode(codes, name, np.float64, backend=backend).tolist() == [1.0, -2.0 if kind is np.uint8 else -2.5]
    assert decode(np.int64([0x3C00]), "float16", backend=backend).tolist() == [1.0]


def test_available_threads() -> None:
    assert 1 <= available_threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    "name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e8m0fnu", "float4_e2m1fn"]
)
def test_long_arrays_of_few_bits_are_rounded_as_their_float32_numbers(name: str) -> None:
    """NaNs with every payload and sign included."""
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    bits = FORMATS[name].bits
    x = np.resize(np.arange(1 << bits), 1 << 16).astype(f"uint{8 * dtype.itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float32)
    for given in (x, x[::-1], x.reshape(256, 256).T):
        same = np.require(
            wide if given is x else wide[::-1] if given.ndim == 1 else wide.reshape(256, 256).T, None, "C"
        )
        found, wanted = (round_to(each, "float8_e5m2", counts=True) for each in (given, same))
        assert found[0].tobytes() == wanted[0].tobytes() and found[1] == wanted[1]
