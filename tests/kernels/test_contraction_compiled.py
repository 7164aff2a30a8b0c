"""The compiled contractions: each way of reading and writing, on every instruction set and for any threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from contractions import Array, Convolution, all_of, assert_same, draw

from mpsim.kernels import reference

_kernels = pytest.importorskip("mpsim._kernels", reason="the extension is not built")
compiled = pytest.importorskip("mpsim.kernels.compiled")


@pytest.fixture(autouse=True)
def threads_for_small_contractions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing here would be large enough for a second thread."""
    module = pytest.importorskip("mpsim.kernels.compiled.contraction")
    monkeypatch.setattr(module, "WORTH_THREADS", 0)


@pytest.fixture(params=_kernels.variants())
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each variant that runs on this machine, forced."""
    _kernels.force_variant(request.param)
    yield request.param
    _kernels.force_variant(None)


#: What each is for: rows as long as vectors; runs of 8, 4, 2, 1 lanes; several images or a part of one in a block;
#: phases of a stride; places left out; outputs and channels around a tile; k around a chunk; many blocks of chunks.
WAYS = (
    Convolution(2, 3, 32, 32, 14, (3, 3), padding=(1, 1)),
    Convolution(2, 29, 16, 16, 13, (3, 3), padding=(1, 1)),
    Convolution(1, 2, 40, 48, 3, (3, 3), padding=(1, 1)),
    Convolution(1, 1, 6, 1040, 2, (2, 3)),
    Convolution(9, 30, 8, 8, 27, (3, 3), padding=(1, 1)),
    Convolution(35, 9, 4, 4, 17, (3, 3), padding=(1, 1)),
    Convolution(3, 4, 10, 10, 5, (3, 3), padding=(1, 1)),
    Convolution(5, 6, 7, 7, 40, (3, 3), padding=(1, 1)),
    Convolution(3, 30, 16, 16, 16, (3, 3), (2, 2), (1, 1)),
    Convolution(2, 5, 32, 32, 33, (3, 3), (2, 2), (1, 1)),
    Convolution(2, 5, 17, 16, 33, (4, 5), (3, 2), (2, 1)),
    Convolution(3, 20, 16, 16, 9, (1, 1), (2, 2)),
    Convolution(3, 20, 15, 12, 9, (1, 1), (2, 3), (1, 2)),
    Convolution(2, 300, 4, 4, 17, (1, 1)),
    Convolution(2, 20, 16, 16, 60, (1, 1)),
    Convolution(3, 5, 7, 6, 60, (1, 1)),
    Convolution(17, 3, 12, 12, 4, (3, 3), padding=(1, 1)),
    Convolution(2, 3, 12, 12, 4, (3, 3), (3, 3), (1, 1)),
    Convolution(2, 3, 32, 32, 21, (1, 1)),
    Convolution(1, 2, 3, 3, 3, (1, 1), (2, 2), (1, 1)),
    Convolution(3, 37, 16, 16, 37, (3, 3), padding=(1, 1), groups=37),
    Convolution(3, 20, 9, 8, 20, (3, 3), (2, 2), (1, 1), 20),
    Convolution(1, 3, 20, 21, 3, (17, 16), (1, 1), (2, 3), 3),
    Convolution(2, 6, 8, 8, 4, (3, 3), padding=(1, 1), groups=2),
)


@pytest.mark.parametrize("case", WAYS, ids=str)
def test_every_variant_gives_the_bits_of_the_reference(case: Convolution) -> None:
    arrays, bias = case.draw("normal"), draw("normal", (case.outputs,), 4)
    expected = all_of(reference, case, arrays, bias)
    for name in _kernels.variants():
        _kernels.force_variant(name)
        try:
            for threads in (1, 2, 3):
                for which, actual in enumerate(all_of(compiled, case, arrays, bias, threads=threads)):
                    assert_same(actual, expected[which], (name, threads, which))
        finally:
            _kernels.force_variant(None)


#: Groups that are matrix products (outputs, channels) @ (channels, positions): tiles, chunks, few columns or rows.
PRODUCTS = (
    Convolution(1, 5 * 16, 1, 64, 5 * 64, (1, 1), groups=5),
    Convolution(1, 4 * 300, 3, 5, 4 * 33, (1, 1), groups=4),
    Convolution(1, 3 * 2, 20, 30, 3, (1, 1), groups=3),
    Convolution(1, 7, 1, 3, 7 * 40, (1, 1), groups=7),
    Convolution(1, 2 * 257, 1, 1, 2 * 13, (1, 1), groups=2),
)


@pytest.mark.parametrize("case", PRODUCTS, ids=str)
@pytest.mark.parametrize("special", [False, True])
def test_groups_that_are_products(variant: str, case: Convolution, special: bool) -> None:
    arrays = case.draw("normal")
    if special:
        for array in arrays:
            some = array.reshape(-1)[::7]
            some[:] = np.resize(np.float32([0.0, -0.0, np.inf, np.nan, 1e-40, -3e38]), some.size)
    with np.errstate(all="ignore"):
        expected = all_of(reference, case, arrays, None)
    for threads in (1, 3):
        for actual, wanted in zip(all_of(compiled, case, arrays, None, threads=threads), expected, strict=True):
            assert_same(actual, wanted)


#: Few rows or columns; an edge of chunks and tiles; operands that are packed; rows that are divided among threads.
PANELS = (
    (3, 1100, 300), (1100, 3, 300), (90, 13, 20), (27, 33, 257), (64, 64, 600), (1, 16, 9), (31, 140, 261),
    (260, 40, 258),
)  # fmt: skip


@pytest.mark.parametrize("kind", ["wide", "normal"])
@pytest.mark.parametrize("rows, columns, length", PANELS)
def test_matmul_of_many_panels(variant: str, rows: int, columns: int, length: int, kind: str) -> None:
    a, b, bias = draw(kind, (rows, length), 1), draw(kind, (length, columns), 2), draw("normal", (columns,), 3)
    expected = reference.matmul(a, b, bias=bias)
    across, down = np.ascontiguousarray(a.T), np.ascontiguousarray(b.T)
    for threads in (1, 2, 3):
        assert_same(compiled.matmul(a, b, bias=bias, threads=threads), expected)
        assert_same(compiled.matmul(across, b, True, False, bias, threads=threads), expected)
        assert_same(compiled.matmul(a, down, False, True, bias, threads=threads), expected)
        assert_same(compiled.matmul(across, down, True, True, bias, threads=threads), expected)


def hard_triples(count: int) -> tuple[Array, Array, Array]:
    """a, b, c where a*b + c is near a tie of float32, far from c, subnormal, or anything."""
    random = np.random.default_rng(5)
    a, b, c = (random.integers(0, 1 << 32, count, np.uint32).view(np.float32) for _ in range(3))
    exponents = random.integers(-60, 60, (3, count // 2))
    significands = 1 + random.integers(0, 1 << 24, (3, count // 2)) * 2.0**-23
    a[::2], b[::2], c[::2] = (significands * 2.0**exponents).astype(np.float32)
    near = slice(0, count, 4)  # c about as large as the product, or half an ulp of it
    with np.errstate(over="ignore", invalid="ignore"):
        c[near] = (a[near] * b[near] * 2.0 ** random.integers(-27, 27, c[near].size)).astype(np.float32)
        a[::3] = (a[::3].view(np.uint32) & 0xFFFFF000).view(np.float32)
    return a, b, c


def test_fma_is_rounded_once(variant: str) -> None:
    fmaf = ctypes.CDLL(None).fmaf
    fmaf.restype, fmaf.argtypes = ctypes.c_float, (ctypes.c_float,) * 3
    a, b, c = hard_triples(20000)
    expected = np.array([fmaf(*triple) for triple in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)], np.float32)
    # A depthwise kernel of two taps: fma(a, b, fma(1, c, +0)), and fma(1, c, +0) is c but for -0.
    x = np.stack([c, a], 1).reshape(1, -1, 1, 2)
    w = np.stack([np.ones_like(b), b], 1).reshape(-1, 1, 1, 2)
    actual = compiled.conv2d(x, w, None, (1, 1), (0, 0), a.size).reshape(-1)
    assert_same(actual, expected)


@pytest.mark.parametrize("kind", ("subnormal", "specials", "bits"))
@pytest.mark.parametrize("size, outputs", ((8, 9), (4, 40), (16, 3)))
def test_zeros_take_part(variant: str, kind: str, size: int, outputs: int) -> None:
    """Signs of sums that underflow, and NaN from infinity times a zero of padding or dilation."""
    for stride in ((1, 1), (2, 2)):
        case = Convolution(18, 3, size, size, outputs, (3, 3), stride, (1, 1))
        arrays = case.draw(kind, 7)
        for actual, expected in zip(all_of(compiled, case, arrays), all_of(reference, case, arrays), strict=True):
            assert_same(actual, expected, (stride, kind))


def test_the_sign_of_an_underflowed_sum_is_settled_by_the_zeros_after_it(variant: str) -> None:
    """-tiny * tiny gives -0; the zero tap that follows makes it +0 where its weight is positive."""
    tiny = np.float32(2.0**-100)
    for weights, bits in (((-tiny, 1), 0), ((-tiny, -1), 0x80000000)):
        x = np.full((16, 1, 1, 1), tiny)
        w = np.float32([[[weights]]])
        y = compiled.conv2d(x, w, None, (1, 1), (0, 1), 1)  # taps of y[..., 1]: x, then padding
        assert set(y[..., 1].reshape(-1).view(np.uint32).tolist()) == {bits}
        # gw of the last tap: x = tiny meets gy = weights[0] = -tiny, then padding meets gy = weights[1].
        gy = w.reshape(1, 1, 1, 2)
        gw = compiled.conv2d_weight_gradient(np.full((1, 1, 1, 2), tiny), gy, (1, 1, 1, 3), (1, 1), (0, 1), 1)
        assert gw[0, 0, 0, 2].view(np.uint32) == bits
        # gx between two columns of a stride: the flipped kernel's taps are w[1] and w[0], so the later one is zero.
        flipped = w[..., ::-1].copy()
        gx = compiled.conv2d_input_gradient(x, flipped, (16, 1, 1, 2), (1, 2), (0, 0), 1)
        assert_same(gx, reference.conv2d_input_gradient(x, flipped, (16, 1, 1, 2), (1, 2), (0, 0), 1))


@pytest.mark.parametrize("call", (lambda: _kernels.force_variant("sse9"), lambda: _kernels.force_variant("")))
def test_a_variant_that_does_not_run_is_refused(call: Callable[[], None]) -> None:
    with pytest.raises(ValueError, match="does not run here; these do: portable"):
        call()
    assert _kernels.variant() == _kernels.variants()[-1]


def test_empty_operands() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert compiled.matmul(empty, np.zeros((3, 4), np.float32)).shape == (0, 4)
    assert_same(compiled.matmul(empty.T.copy(), np.zeros((0, 4), np.float32)), np.zeros((3, 4), np.float32))
    images = np.zeros((0, 3, 8, 8), np.float32)
    w = np.ones((4, 3, 3, 3), np.float32)
    y = compiled.conv2d(images, w, None, (1, 1), (1, 1), 1)
    assert y.shape == (0, 4, 8, 8)
    assert compiled.conv2d_input_gradient(y, w, images.shape, (1, 1), (1, 1), 1).shape == images.shape
    assert_same(compiled.conv2d_weight_gradient(images, y, w.shape, (1, 1), (1, 1), 1), np.zeros_like(w))
