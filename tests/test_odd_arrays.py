"""Arrays that are not plain: taken as the plain array is, or refused in words, by every public function of arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import pytest

import reference_models
from mpsim import Trainer, arithmetic, blocks, decode, encode, integers, matmul, round_to
from mpsim.errors import MpsimError
from mpsim.testing import assert_dot_within_bound, assert_rounds_like, assert_within_codes, dot_bound

E4M3 = "float8_e4m3fn"
NUMBERS = np.float32([[1.5, 2.0], [3.0, -0.25]])


class Subclass(np.ndarray):
    """Adds nothing."""


def matrix(x: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.matrix(x) if x.ndim == 2 else x.view(Subclass)


def unaligned(x: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)


def read_only(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x.setflags(write=False)
    return x


#: Taken, with the result of the plain array.
SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "subclass": lambda x: x.view(Subclass),
    "matrix": matrix,
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "columns first": np.asfortranarray,
    "not contiguous": lambda x: np.repeat(x, 2, axis=0)[::2],
    "unaligned": unaligned,
    "read-only": read_only,
    "memoryview": memoryview,
}
#: Refused: they have no float or integer of at most 64 bits in each element, or more than that.
REFUSED: dict[str, Callable[[np.ndarray], Any]] = {
    "masked": lambda x: np.ma.masked_array(x, np.eye(*x.shape) if x.ndim == 2 else np.arange(x.size) == 1),
    "the masked constant": lambda x: np.ma.masked,
    "Decimal": lambda x: [[Decimal("1.5"), Decimal(2)]] * 2,
    "a Decimal": lambda x: Decimal("1.5"),
    "Fraction": lambda x: np.array([[Fraction(3, 2)] * 2] * 2),
    "complex": lambda x: x.astype(complex),
    "object": lambda x: x.astype(object),
    "void": lambda x: np.zeros(x.shape, "V4"),
    "fields": lambda x: np.zeros(x.shape, [("a", "f4")]),
    "text": lambda x: np.full(x.shape, "1"),
    "bytes": lambda x: np.full(x.shape, b"1"),
    "dates": lambda x: np.zeros(x.shape, "M8[s]"),
    "times": lambda x: np.zeros(x.shape, "m8[s]"),
    "rows of different length": lambda x: [[1.0], [2.0, 3.0]],
    "a set": lambda x: {1.0},
    "a large integer": lambda x: [[10**30, 1], [1, 1]],
    "half a text": lambda x: "1.5",
}


@cache
def trainer() -> Trainer:
    return Trainer(reference_models.build("small_cnn", 0.0625), backend="reference")


IMAGES, LABELS = np.random.default_rng(0).random((2, 1, 8, 8), np.float32), np.array([1, 2])


def logits(images: Any, labels: Any) -> Any:
    return trainer().step(images, labels).loss


def stochastic(words: Any) -> Any:
    return round_to(NUMBERS, E4M3, "stochastic", random_bits=words, random_bit_count=8, backend="reference")


def codes_of_blocks(x: Any) -> Any:
    return blocks.quantize(x, "mxfp8_e4m3", backend="reference").codes


#: (function, plain argument)
CALLS: dict[str, tuple[Callable[[Any], Any], np.ndarray]] = {
    "round_to": (lambda x: round_to(x, E4M3, backend="compiled"), NUMBERS),
    "encode": (lambda x: encode(x, E4M3, backend="reference"), NUMBERS),
    "decode": (lambda x: decode(x, E4M3, backend="compiled"), np.uint8([[1, 2], [3, 4]])),
    "random_bits": (stochastic, np.uint32([[0, 1], [2, 3]])),
    "matmul": (lambda x: matmul(x, x, backend="compiled"), NUMBERS),
    "quantize": (codes_of_blocks, NUMBERS),
    "to_integer": (lambda x: integers.to_integer(x, "int8"), NUMBERS),
    "operate": (lambda x: arithmetic.operate("add", x, x, formats=E4M3), np.uint8([[1, 2], [3, 4]])),
    "assert_rounds_like": (lambda x: assert_rounds_like(lambda v: round_to(v, E4M3), E4M3, x=x), NUMBERS),
    "assert_within_codes": (lambda x: assert_within_codes(x, x, 1), NUMBERS),
    "dot_bound": (lambda x: dot_bound(x, x), NUMBERS),
    "assert_dot_within_bound": (lambda x: assert_dot_within_bound(NUMBERS @ NUMBERS, NUMBERS, x), NUMBERS),
    "step images": (lambda x: logits(x, LABELS), IMAGES),
}


#: Of those that others take: words and images have one type, in the machine's byte order.
ONE_TYPE = {("random_bits", "other byte order"), ("step images", "other byte order")}


def fresh(name: str, argument: Any) -> Any:
    """The result of a call; that of a step by a new trainer."""
    trainer.cache_clear()
    return CALLS[name][0](argument)


@pytest.mark.parametrize("name", CALLS)
def test_the_result_is_that_of_the_plain_array(name: str) -> None:
    plain = CALLS[name][1].reshape(-1) if name == "assert_rounds_like" else CALLS[name][1]  # of memory, in one axis
    wanted = fresh(name, plain)
    for kind, made in SAME.items():
        if (name, kind) in ONE_TYPE:
            with pytest.raises(MpsimError, match="must be"):
                fresh(name, made(plain))
            continue
        found = fresh(name, made(plain))
        assert type(found) is type(wanted), kind
        assert np.asarray(found).tobytes() == np.asarray(wanted).tobytes(), kind


@pytest.mark.parametrize("name", CALLS)
def test_others_are_refused_in_words(name: str) -> None:
    for kind, made in REFUSED.items():
        with pytest.raises(MpsimError) as refused:
            CALLS[name][0](made(CALLS[name][1]))
        assert len(str(refused.value)) > 10, kind


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("assert_rounds_like", "step images")])
def test_longdouble_is_refused_where_it_would_be_rounded_twice(name: str) -> None:
    call, plain = CALLS[name]
    if plain.dtype.kind == "f":
        with pytest.raises(MpsimError):
            call(plain.astype(np.longdouble))


def test_results_are_written_to_subclasses_and_not_behind_masks() -> None:
    for backend in ("reference", "numba", "compiled"):
        for out in (matrix(NUMBERS.copy()), NUMBERS.copy().view(Subclass), np.asfortranarray(NUMBERS)):
            out[...] = 7
            found = round_to(NUMBERS * np.float32(1.01), E4M3, out=out, backend=backend)
            assert found is out and np.asarray(out).tolist() == NUMBERS.tolist()
    with pytest.raises(TypeError, match="out must be a NumPy array without a mask"):
        round_to(NUMBERS, E4M3, out=np.ma.masked_array(NUMBERS.copy(), NUMBERS > 2))
