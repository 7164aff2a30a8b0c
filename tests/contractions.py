"""Inputs, an independent reading of the contract's index formulas, and comparisons for the contraction tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from mpsim.kernels.spec_dot import dot
from mpsim.products.accumulators import Accumulator

Array = np.ndarray[Any, Any]
Place = tuple[int, ...]
Terms = Iterator[tuple[Any, Any]]  # (a_k, b_k) in the written order


class Convolution(NamedTuple):
    """The sizes of a convolution, in the order of the contract."""

    batch: int
    channels: int
    height: int
    width: int
    outputs: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    dilation: tuple[int, int] = (1, 1)

    @property
    def x_shape(self) -> tuple[int, int, int, int]:
        return self.batch, self.channels, self.height, self.width

    @property
    def w_shape(self) -> tuple[int, int, int, int]:
        return self.outputs, self.channels // self.groups, *self.kernel

    @property
    def y_shape(self) -> tuple[int, int, int, int]:
        beyond = [self.dilation[i] * (self.kernel[i] - 1) + 1 for i in (0, 1)]
        rows = (self.height + 2 * self.padding[0] - beyond[0]) // self.stride[0] + 1
        columns = (self.width + 2 * self.padding[1] - beyond[1]) // self.stride[1] + 1
        return self.batch, self.outputs, rows, columns

    def draw(self, kind: str, seed: int = 0) -> tuple[Array, Array, Array]:
        """x, w, gy."""
        shapes = self.x_shape, self.w_shape, self.y_shape
        x, w, gy = (draw(kind, shape, seed + number) for number, shape in enumerate(shapes))
        return x, w, gy


#: Odd sizes, strides, paddings (also larger than kernel - 1), groups, depthwise, kernels larger than the image.
CONVOLUTIONS = (
    Convolution(2, 3, 7, 5, 5, (3, 3), padding=(1, 1)),
    Convolution(2, 5, 9, 8, 13, (3, 3), (2, 2), (1, 1)),
    Convolution(1, 4, 8, 8, 6, (3, 3), (2, 2)),
    Convolution(3, 3, 5, 7, 17, (1, 1)),
    Convolution(2, 7, 6, 6, 4, (1, 1), (2, 2)),
    Convolution(1, 2, 3, 3, 3, (1, 1), padding=(3, 3)),
    Convolution(2, 3, 11, 9, 4, (7, 7), (2, 2), (3, 3)),
    Convolution(1, 3, 2, 3, 2, (7, 7), padding=(3, 3)),
    Convolution(2, 4, 5, 5, 6, (3, 3), (1, 1), (1, 1), 2),
    Convolution(2, 6, 9, 9, 6, (3, 3), (1, 1), (1, 1), 6),
    Convolution(2, 6, 9, 9, 6, (3, 3), (2, 2), (1, 1), 6),
    Convolution(1, 3, 6, 6, 6, (3, 3), (1, 1), (3, 3), 3),
    Convolution(1, 2, 9, 4, 3, (3, 1), (2, 1), (1, 0)),
    Convolution(1, 5, 12, 20, 33, (1, 3), (1, 2), (0, 1)),
    Convolution(2, 31, 6, 6, 19, (3, 3), padding=(1, 1)),
    Convolution(8, 2, 8, 9, 3, (3, 3), padding=(1, 1)),  # k of the weight gradient crosses two chunks
    Convolution(2, 4, 9, 8, 6, (3, 2), padding=(2, 3), groups=2, dilation=(2, 3)),
    Convolution(1, 3, 9, 9, 3, (3, 3), (2, 1), (2, 0), 3, (2, 4)),  # depthwise, with a stride
    Convolution(2, 31, 7, 6, 3, (3, 3), padding=(2, 2), dilation=(2, 2)),  # k of forward crosses two chunks
)


def draw(kind: str, shape: tuple[int, ...], seed: int = 0) -> Array:
    """float32 numbers of a kind of difficulty."""
    random = np.random.default_rng([seed, *map(ord, kind)])
    if kind == "normal":
        return random.standard_normal(shape).astype(np.float32)
    if kind == "bits":  # any pattern: infinities, NaN, overflow and underflow
        return random.integers(0, 1 << 32, shape, np.uint32).view(np.float32)
    if kind == "specials":
        array = random.standard_normal(shape).astype(np.float32)
        chosen = random.random(shape)
        array[chosen < 0.3] = 0.0
        array[chosen < 0.2] = -0.0
        array[chosen < 0.02] = np.inf
        array[chosen < 0.012] = -np.inf
        array[chosen < 0.004] = np.nan
        return array
    signs, powers = random.integers(-4, 5, shape), {
        "cancellation": (-12, 12),  # few bits, far apart: sums that need more bits than float32 or float64 has, ties
        "subnormal": (-76, -70),  # products around float32's subnormals, where sums round to -0 too
        "overflow": (61, 64),
        "wide": (-60, 60),
    }[kind]  # fmt: skip
    array = signs * 2.0 ** random.integers(*powers, shape)
    if kind in ("cancellation", "wide"):
        array *= 1 + random.integers(-1, 2, shape) * 2.0**-23
    return array.astype(np.float32)


KINDS = ("normal", "bits", "specials", "cancellation", "subnormal", "overflow", "wide")


def padded(image: Array, row: int, column: int) -> Any:
    """image[row, column], and +0 outside."""
    rows, columns = image.shape
    return image[row, column] if 0 <= row < rows and 0 <= column < columns else np.float32(0)


def terms_of_forward(case: Convolution, x: Array, w: Array, at: Place) -> Terms:
    n, o, i, j = at
    first = o // (case.outputs // case.groups) * w.shape[1]
    for c, r, s in np.ndindex(*w.shape[1:]):
        row = i * case.stride[0] - case.padding[0] + r * case.dilation[0]
        column = j * case.stride[1] - case.padding[1] + s * case.dilation[1]
        yield w[o, c, r, s], padded(x[n, first + c], row, column)


def terms_of_input_gradient(case: Convolution, gy: Array, w: Array, at: Place) -> Terms:
    n, channel, h, v = at
    group, c = divmod(channel, w.shape[1])
    members, (rows, columns) = case.outputs // case.groups, case.kernel
    for o, r, s in np.ndindex(members, rows, columns):
        row, row_rest = divmod(h + case.padding[0] - (rows - 1 - r) * case.dilation[0], case.stride[0])
        column, column_rest = divmod(v + case.padding[1] - (columns - 1 - s) * case.dilation[1], case.stride[1])
        image = gy[n, group * members + o]
        inside = row_rest == 0 and column_rest == 0
        yield (
            w[group * members + o, c, rows - 1 - r, columns - 1 - s],
            padded(image, row, column) if inside else np.float32(0),
        )


def terms_of_weight_gradient(case: Convolution, x: Array, gy: Array, at: Place) -> Terms:
    o, c, r, s = at
    channel = o // (case.outputs // case.groups) * case.w_shape[1] + c
    for n in range(case.batch):
        for i, j in np.ndindex(*gy.shape[2:]):
            row = i * case.stride[0] - case.padding[0] + r * case.dilation[0]
            column = j * case.stride[1] - case.padding[1] + s * case.dilation[1]
            yield gy[n, o, i, j], padded(x[n, channel], row, column)


def all_of(kernels: Any, case: Convolution, arrays: Sequence[Array], bias: Any = None, **keywords: Any) -> list[Array]:
    """The forward convolution, the gradient by input and the one by weight, of x, w, gy."""
    x, w, gy = arrays
    geometry = (case.stride, case.padding, case.groups, case.dilation)
    return [
        kernels.conv2d(x, w, bias, *geometry, **keywords),
        kernels.conv2d_input_gradient(gy, w, x.shape, *geometry, **keywords),
        kernels.conv2d_weight_gradient(x, gy, w.shape, *geometry, **keywords),
    ]


def defined(case: Convolution, arrays: Sequence[Array], which: int, at: Place, accumulator: Accumulator) -> np.float32:
    """Element ``at`` of result ``which`` of ``all_of`` by the definition."""
    x, w, gy = arrays
    terms = (
        lambda: terms_of_forward(case, x, w, at),
        lambda: terms_of_input_gradient(case, gy, w, at),
        lambda: terms_of_weight_gradient(case, x, gy, at),
    )[which]()
    return define(terms, accumulator)


def define(terms: Iterable[tuple[Any, Any]], accumulator: Accumulator) -> np.float32:
    """The dot product of (a_k, b_k) by the definition."""
    a, b = [], []
    for left, right in terms:
        a.append(float(left))
        b.append(float(right))
    return np.float32(dot(a, b, accumulator))


def some_places(shape: tuple[int, ...], count: int) -> set[Place]:
    """The first and the last element and ``count`` drawn ones."""
    random = np.random.default_rng(3)
    drawn = {tuple(int(random.integers(size)) for size in shape) for _ in range(count)}
    return drawn | {(0,) * len(shape), tuple(size - 1 for size in shape)}


def assert_same(actual: Array, expected: Array, what: object = "") -> None:
    """Equal bits; NaN at the same places, whatever their payload."""
    assert actual.dtype == expected.dtype == np.float32 and actual.shape == expected.shape, what
    wrong = actual.view(np.uint32) != expected.view(np.uint32)
    wrong &= ~(np.isnan(actual) & np.isnan(expected))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        count = f"{wrong.sum()} of {wrong.size}"
        raise AssertionError(f"{what}: {count} differ; at {at} {actual[at]!r}, not {expected[at]!r}")
