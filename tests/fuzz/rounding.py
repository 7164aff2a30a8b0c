"""Rounding, codes and random words of every backend against the definition."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from backends import that_run as backends
from hypothesis import assume
from hypothesis import strategies as st
from oracles import fraction
from samples import assert_same_bits, policies, random_words

from mpsim import decode, encode, round_to
from mpsim.errors import UsageError
from mpsim.formats import SPECIALS, Format
from mpsim.kernels import load, spec, spec_codes
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy
from mpsim.testing import large_arrays
from mpsim.testing.strategies import arrays_near_ties, bit_patterns
from mpsim.testing.strategies import formats as usual_formats
from tests.fuzz.calls import SIZES, THREADS, Array, changed, placed, states

SOURCES = st.sampled_from(["float32", "float32", "float64", "float16", "bfloat16"])
#: The largest number of different inputs of an example, each of which the definition rounds.
POOL = 40


@st.composite
def formats(draw: st.DrawFn, dtype: str) -> Format:
    """Named ones, similar ones, and any declaration, also at the ends of the range of float64."""
    if draw(st.integers(0, 2)):
        return draw(usual_formats(source=dtype, max_bits=32))
    bias = st.none() | st.integers(-1100, 1100) | st.sampled_from([-1023, -126, 126, 1022, 1073, 1074])
    parts = (
        draw(st.integers(1, 11)), draw(st.integers(0, 52)), draw(bias), draw(st.sampled_from(list(SPECIALS))),
        draw(st.booleans()), draw(st.booleans()),
    )  # fmt: skip
    try:
        format = Format("drawn", *parts)
    except UsageError:
        assume(False)
    assume(format.fits_float64 and (dtype == "float64" or format.fits_float32))
    return format


@st.composite
def chosen_policies(draw: st.DrawFn, format: Format, dtype: str) -> Policy:
    policy = draw(st.sampled_from(policies(format, dtype)))
    if policy.mode.takes_bit_count:
        count = draw(st.sampled_from([1, 8, 31, 32, 32, 32]) | st.integers(1, 32))
        policy = Policy(policy.mode, policy.overflow, count)
    return policy


def words_for(x: Array, format: Format, policy: Policy, seed: int) -> Array:
    """Random words. Half of the finite numbers get the word from which they go up, or the one below it."""
    words, random = random_words(x.size, seed), np.random.default_rng(seed)
    if policy.random_bit_count is None:
        return words
    one = 1 << policy.random_bit_count
    for i in random.permutation(x.size)[: x.size // 2]:
        if np.isfinite(x[i]) and x[i] != 0:
            magnitude = abs(Fraction(float(x[i])))
            lower, upper = fraction.neighbours(magnitude, format)
            least = one - math.floor((magnitude - lower) / (upper - lower) * one)  # StochasticA's
            low = min(max(least - int(random.integers(2)), 0), one - 1)
            words[i] = low | int(random.integers(1 << 32)) // one * one
    return words


def pool(draw: Any, format: Format, source: str) -> Array:
    """Turning points of the format, and any patterns: some drawn one by one, more by a seed."""
    dtype = "float64" if source == "float64" else "float32"
    near = draw(arrays_near_ties(format, source, max_size=POOL // 4, specials=True), label="near ties")
    patterns = draw(st.lists(bit_patterns(dtype), min_size=1, max_size=POOL // 4), label="patterns")
    more = draw(large_arrays(format, source, shape=st.sampled_from([0, POOL // 2])), label="more")
    return np.concatenate([near.astype(dtype), np.array(patterns).view(dtype), more.astype(dtype)])


def defined(x: Array, format: Format, policy: Policy, words: Array) -> tuple[Array, Array]:
    """Results and counts of each number, by integers and, for the first, by fractions."""
    source = x.dtype.name
    rows = [
        spec.round_value(value, source, format, policy, word)
        for value, word in zip(x.tolist(), words.tolist(), strict=True)
    ]
    counts = [spec.counts(value, row, format) for value, row in zip(x.tolist(), rows, strict=True)]
    by_fractions = format.signed or format.specials in ("p3109", "p3109_finite", "e8m0")
    if by_fractions and not policy.mode.is_legacy and not spec.same_layout(source, format):
        word, k = int(words[0]), policy.random_bit_count or 32
        other = fraction.round_value(float(x[0]), format, policy.mode, policy.overflow, word, k)
        assert_same_bits(np.float64(rows[0]), np.float64(fraction.as_float(other)), x[0], "two definitions")
    return np.array(rows, np.float64).astype(x.dtype), np.array(counts, np.int64).reshape(-1, 5)


def rounding(data: st.DataObject) -> None:
    """round_to: results and counts, for arrays of any size and place that repeat a few numbers in any order."""
    draw = data.draw
    source = draw(SOURCES, label="source")
    dtype = "float64" if source == "float64" else "float32"
    format = draw(formats(dtype), label="format")
    chosen = draw(st.lists(chosen_policies(format, dtype), min_size=1, max_size=6), label="policies")
    with np.errstate(all="ignore"):
        few = pool(draw, format, source)
    size, seed = draw(SIZES, label="size"), draw(st.integers(0, 1 << 32), label="order")
    random = np.random.default_rng(seed)
    index = random.integers(0, few.size, size)
    place, threads, state = draw(st.integers(-1, 5), label="place"), draw(THREADS), draw(states(), label="state")
    in_place = draw(st.booleans(), label="in place")
    for policy in chosen:
        with np.errstate(all="ignore"):
            words = words_for(few, format, policy, seed)
            rows, counts = defined(few, format, policy, words)
        bits = words[index] if policy.mode.needs_random_bits else None
        for backend in backends():
            x = placed(few[index], place)
            with changed(state):
                found, numbers = round_to(
                    x, format, policy.mode, policy.overflow, random_bits=bits, backend=backend, threads=threads,
                    random_bit_count=policy.random_bit_count, out=x if in_place else None, counts=True,
                )  # fmt: skip
            what = (backend, format, policy, source, threads, state)
            assert_same_bits(found, rows[index], few[index], what)
            assert tuple(numbers) == tuple(counts[index].sum(axis=0)), (what, few[index], numbers)


def codes(data: st.DataObject) -> None:
    """encode and decode: the code of each result, the numbers of codes, and refusals."""
    draw = data.draw
    dtype = draw(st.sampled_from(["float32", "float64"]), label="source")
    format = draw(formats(dtype), label="format")
    policy = draw(chosen_policies(format, dtype), label="policy")
    with np.errstate(all="ignore"):
        few = pool(draw, format, dtype)
        words = random_words(few.size, draw(st.integers(0, 1 << 32), label="words"))
        rows, _ = defined(few, format, policy, words)
    kept = [i for i, row in enumerate(rows.tolist()) if _has_code(row, format)]
    threads, state, place = draw(THREADS), draw(states(), label="state"), draw(st.integers(-1, 5), label="place")
    any_codes = draw(st.lists(st.integers(0, 2**format.bits - 1), min_size=1, max_size=POOL), label="codes")
    numbers = np.array([spec_codes.decode(code, format) for code in any_codes]).astype(dtype)
    wanted = [spec_codes.encode(float(rows[i]), format) for i in kept]
    for backend in backends():
        what = (backend, format, policy, threads, state)
        for index in (kept, range(len(few))):
            x, bits = placed(few[index], place), words[index] if policy.mode.needs_random_bits else None
            options: dict[str, Any] = {
                "random_bits": bits, "random_bit_count": policy.random_bit_count, "backend": backend,
                "threads": threads,
            }  # fmt: skip
            try:
                with changed(state):
                    found = encode(x, format, policy.mode, policy.overflow, **options)
            except UsageError as error:
                assert len(kept) < len(few) and index is not kept and "no code for" in str(error), (what, error)
            else:
                assert len(index) == len(kept) and found.tolist() == wanted, (what, few[kept], found, wanted)
        given = placed(np.array(any_codes, f"uint{format.code_bits}"), place)
        with changed(state):
            found = decode(given, format, dtype, backend=backend, threads=threads)
        assert_same_bits(found, numbers, given, what)


def _has_code(number: float, format: Format) -> bool:
    return not (number != number and not format.has_nan) and not (abs(number) == np.inf and not format.has_infinity)


def streams(data: st.DataObject) -> None:
    """Random words of every backend, from any first element, against Philox in Python's integers."""
    draw = data.draw
    stream = Stream(
        draw(st.integers(0, (1 << 64) - 1), label="seed"), "rounding", draw(st.integers(0, (1 << 32) - 1)),
        draw(st.integers(0, (1 << 32) - 1), label="step"),
    )  # fmt: skip
    size, threads = draw(SIZES, label="size"), draw(THREADS)
    edge = draw(st.sampled_from([0, 1 << 32, 1 << 33, (1 << 34) - size]), label="edge")
    first = min(max(0, edge + draw(st.integers(-9, 9), label="beside")), (1 << 34) - size)
    places = {place for place in (0, 255, size // 2, 2047, 2048, 65535, size - 1) if 0 <= place < size}
    for backend in backends():
        found = load(backend).random_bits(stream, size, first, threads=threads)
        assert found.dtype == np.uint32 and found.shape == (size,)
        for place in places:
            wanted = philox_word(stream, first + place)
            assert int(found[place]) == wanted, (backend, stream, first, place, int(found[place]), wanted)


def philox_word(stream: Stream, element: int) -> int:
    """A word of a stream, by the definition's multiplications and exclusive ors (Salmon et al. 2011)."""
    word = 0xFFFFFFFF
    counter = [element // 4, stream.step, stream.tensor, 4]
    key = [stream.seed & word, stream.seed >> 32]
    for _ in range(10):
        one, other = counter[0] * 0xD2511F53, counter[2] * 0xCD9E8D57
        counter = [other >> 32 ^ counter[1] ^ key[0], other & word, one >> 32 ^ counter[3] ^ key[1], one & word]
        key = [(key[0] + 0x9E3779B9) & word, (key[1] + 0xBB67AE85) & word]
    return counter[element % 4]
