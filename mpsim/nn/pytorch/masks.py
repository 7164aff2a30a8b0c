"""Rules of random masks that are multiplied: the parts of a dropout that a module writes out itself."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from mpsim import ops
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Tensor
from mpsim.errors import UsageError
from mpsim.nn.pytorch.values import Call, need, tensor


class Blank(NamedTuple):
    """A new array without values."""

    shape: tuple[int, ...]


class Uniform(NamedTuple):
    """Numbers from 0 to 1 plus ``added``, not drawn yet."""

    shape: tuple[int, ...]
    added: float


class Draws:
    """A mask that has ``value`` with the probability ``keep``, else 0. It is drawn when it is multiplied first."""

    def __init__(self, shape: tuple[int, ...], keep: float, value: np.float32 = np.float32(1)) -> None:
        need(0 < keep <= 1, f"a random mask that keeps with the probability {keep}")
        self.shape, self.keep, self.value = shape, float(keep), value
        self._mask: np.ndarray | None = None

    def mask(self, tape: Tape) -> np.ndarray:
        """Returns the mask, drawn as ops.dropout of the next op draws it. On a tape without values it is 0."""
        if self._mask is None:
            kept = np.zeros(prod(self.shape), bool)
            if not tape.shape_only:
                words = tape.kernels.to_numpy(tape.kernels.random_bits(tape.stream("dropout"), kept.size))
                kept = words >= np.uint64(round((1 - self.keep) * 2**32))
            self._mask = np.where(kept, self.value, np.float32(0)).reshape(self.shape)
        return self._mask


def multiplied(call: Call, x: Any, draws: Draws) -> Tensor:
    """Returns the tensor x times a mask."""
    return ops.multiply(tensor(x, "a product with a random mask"), draws.mask(call.tape), name=call.name)


def _blank(call: Call, a: SimpleNamespace) -> Blank:
    return Blank(_shape(getattr(a, "size", None) or a.self.shape))


def _uniform(call: Call, a: SimpleNamespace) -> Uniform:
    return Uniform(_shape(getattr(a, "size", None) or a.self.shape), 0.0)


def _shape(sizes: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


def _bernoulli(call: Call, a: SimpleNamespace) -> Draws:
    need(isinstance(a.self, Blank | Tensor), "bernoulli of a computed tensor or constant")
    return Draws(_shape(a.self.shape), a.p)


def _floor(call: Call, a: SimpleNamespace) -> Draws:
    need(isinstance(a.self, Uniform), "floor of anything but random numbers plus a probability")
    return Draws(a.self.shape, a.self.added)


def _below(call: Call, a: SimpleNamespace) -> Draws:
    need(isinstance(a.self, Uniform) and a.self.added == 0, "a comparison of anything but random numbers")
    return Draws(a.self.shape, a.other)


def _above(call: Call, a: SimpleNamespace) -> Draws:
    need(isinstance(a.self, Uniform) and a.self.added == 0, "a comparison of anything but random numbers")
    return Draws(a.self.shape, 1 - a.other)


def of_mask(function: str, first: Any, second: Any) -> Any:
    """Returns the sum or quotient of random numbers and a number, or None if neither is random."""
    given = next((each for each in (first, second) if isinstance(each, Uniform | Draws | Blank)), None)
    if given is None:
        return None
    other = second if given is first else first
    if function == "add" and isinstance(given, Uniform) and isinstance(other, int | float):
        return Uniform(given.shape, given.added + other)
    if function == "divide" and isinstance(first, Draws) and isinstance(other, int | float):
        return Draws(given.shape, first.keep, np.float32(first.value / np.float32(other)))
    raise UsageError("random numbers are supported as masks that are multiplied, and this use of them is not supported")


#: Functions that draw.
DRAWS = {f"aten.{name}" for name in ("bernoulli_.float", "bernoulli.p", "rand.default", "rand_like.default")}
RANDOM: dict[str, Callable[[Call, SimpleNamespace], Any]] = {
    "aten.empty.memory_format": _blank, "aten.new_empty.default": _blank, "aten.empty_like.default": _blank,
    "aten.bernoulli.float": _bernoulli, "aten.bernoulli.p": _bernoulli,
    "aten.rand.default": _uniform, "aten.rand_like.default": _uniform, "aten.floor.default": _floor,
    "aten.lt.Scalar": _below, "aten.le.Scalar": _below, "aten.gt.Scalar": _above, "aten.ge.Scalar": _above,
}  # fmt: skip
