"""Philox4x32-10 against Random123's known answers; streams; uniform and normal numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from mpsim.kernels import load
from mpsim.kernels.philox import PURPOSES, Stream, inverse_normal, normal, philox4x32, random_bits, random_rows, uniform

#: Random123's kat_vectors: counter, key, answer.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    def words(text: str) -> list[int]:
        return [int(word, 16) for word in text.split()]

    first, second = words(key)
    result = philox4x32(np.array([words(counter)], np.uint32), (first, second))
    assert result[0].tolist() == words(answer)


def test_counter_and_key() -> None:
    """Element i is word i % 4 of counter (i // 4, step, tensor, purpose) under key (seed low, seed high)."""
    stream = Stream(seed=0x0123456789ABCDEF, purpose="augmentation", tensor=17, step=5)
    blocks = [[i, 5, 17, 3] for i in (0, 1, 2**32 - 1)]
    wanted = philox4x32(np.array(blocks, np.uint32), (0x89ABCDEF, 0x01234567))
    assert random_bits(stream, 8).tolist() == wanted[:2].reshape(-1).tolist()
    assert random_bits(stream, 4, 2**34 - 4).tolist() == wanted[2].tolist()


@given(first=st.integers(0, 2**34 - 40), size=st.integers(0, 40), cut=st.integers(0, 40))
def test_any_split_gives_the_same_words(first: int, size: int, cut: int) -> None:
    stream, cut = Stream(1, "data_order"), min(cut, size)
    parts = [random_bits(stream, cut, first), random_bits(stream, size - cut, first + cut)]
    assert np.array_equal(np.concatenate(parts), random_bits(stream, size, first))


def test_streams_differ() -> None:
    streams = [Stream(0, purpose) for purpose in PURPOSES]
    streams += [Stream(seed, "rounding") for seed in (1, 1 << 32)]
    streams += [Stream(0, "rounding", tensor=1), Stream(0, "rounding", step=1)]
    assert len({random_bits(stream, 4).tobytes() for stream in streams}) == len(streams)
    assert len(set(PURPOSES.values())) == len(PURPOSES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, "weights"), "unknown purpose of a random stream 'weights'; did you mean initial_weights"),
        ((-1, "rounding"), "seed must be a whole number from 0 to 2.* - 1, got"),
        ((2**64, "rounding"), "seed must be a whole number from 0 to 2.* - 1, got"),
        ((0, "rounding", 2**32), "tensor must be a whole number from 0 to 2.*32 - 1"),
        ((0, "rounding", 0, -1), "step must be a whole number from 0 to 2.*32 - 1, got -1"),
    ],
)
def test_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Stream(*arguments)


def test_end_of_a_stream() -> None:
    with pytest.raises(ValueError, match=r"2\*\*34 elements"):
        random_bits(Stream(0, "rounding"), 2, 2**34 - 1)


@pytest.mark.parametrize("first", [2**34, 2**34 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -1])
def test_every_backend_ends_alike(backend: str, first: int) -> None:
    stream, kernels = Stream(0, "rounding"), load(backend)
    with pytest.raises(ValueError, match=r"2\*\*34 elements|first must be"):
        kernels.random_bits(stream, 2, first)
    for wrong in (1.5, "1", None, True):
        with pytest.raises(TypeError, match="first must be a whole number"):
            kernels.random_bits(stream, 2, wrong)
    assert kernels.random_bits(stream, 4, np.uint64(2**34 - 4)).tolist() == random_bits(stream, 4, 2**34 - 4).tolist()


def test_rows_of_a_stream() -> None:
    stream = Stream(3, "augmentation", step=2)
    words, rows = random_bits(stream, 44 * 30), np.array([7, 0, 29, 7])
    assert np.array_equal(random_rows(stream, rows, 44), words.reshape(30, 44)[rows])
    last = random_rows(stream, np.array([2**32 - 1]), 4)
    assert np.array_equal(last[0], random_bits(stream, 4, 2**34 - 4))
    assert random_rows(stream, np.array([], int), 4).shape == (0, 4)
    for wrong, per_row in (([2**32], 4), ([-1], 4), ([2**31], 12)):
        with pytest.raises(ValueError, match=r"2\*\*34 elements"):
            random_rows(stream, np.array(wrong), per_row)
    for per_row in (0, 2, 6):
        with pytest.raises(ValueError, match="a multiple of 4"):
            random_rows(stream, rows, per_row)


def test_uniform() -> None:
    stream = Stream(5, "initial_weights")
    unit = uniform(stream, 10_000)
    assert unit.dtype == np.float32
    assert np.array_equal(unit * 2.0**24, random_bits(stream, 10_000) >> 8)
    wide = uniform(stream, 10_000, -3.0, 1.0)
    assert wide.min() >= -3 and wide.max() < 1 and abs(wide.mean() + 1) < 0.05


def test_normal() -> None:
    stream = Stream(5, "initial_weights")
    drawn = normal(stream, 20_000, 2.0)
    assert drawn.dtype == np.float32
    probability = (random_bits(stream, 20_000) + 0.5) / 2.0**32
    assert np.allclose(drawn, 2 * special.ndtri(probability), rtol=1e-7, atol=0)
    assert np.array_equal(normal(stream, 10, 2.0, first=7), drawn[7:17])


def test_inverse_normal() -> None:
    """AS 241's three regions and their seams, against SciPy; symmetric."""
    tail = np.concatenate([np.logspace(-300, -1, 400), [2.0**-33, 0.075, np.nextafter(0.075, 0), 0.0749999]])
    p = np.concatenate([np.linspace(0.01, 0.99, 999), tail])
    assert np.allclose(inverse_normal(p), special.ndtri(p), rtol=1e-13, atol=1e-15)
    exact = np.arange(1, 64) / 64
    assert np.array_equal(inverse_normal(exact), -inverse_normal(1 - exact))
