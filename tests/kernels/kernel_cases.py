"""Arguments for every kernel of the contract, on which each backend must equal the reference in every bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mpsim.formats import FORMATS
from mpsim.kernels.elementary.functions import FUNCTIONS
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy
from mpsim.products.accumulators import Accumulator

Array = np.ndarray[Any, Any]
SPECIALS = np.array([0x0, 0x80000000, 0x1, 0x807FFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000],
                    np.uint32).view(np.float32)  # fmt: skip

#: Image shapes: one element, areas that lanes do not divide, blocks that end inside a plane and beyond one.
IMAGES = ((1, 1, 1, 1), (2, 3, 1, 1), (3, 2, 7, 7), (1, 2, 4, 8), (90, 2, 7, 7), (5, 3, 32, 32), (2, 2, 66, 65))
#: Enough elements for threads to start.
LARGE = (9, 5, 32, 33)


def numbers(seed: int, *shape: int) -> Array:
    """Numbers of many magnitudes, so that another order of a sum shows."""
    generator = np.random.default_rng(seed)
    return (generator.standard_normal(shape) * np.exp2(generator.integers(-6, 7, shape))).astype(np.float32)


def with_specials(seed: int, *shape: int) -> Array:
    """Half of the numbers replaced by zeros, subnormals, the largest, infinities, NaN."""
    generator = np.random.default_rng(seed)
    return np.where(generator.random(shape) < 0.5, numbers(seed, *shape), generator.choice(SPECIALS, shape))


def with_ties(seed: int, *shape: int) -> Array:
    """Few different numbers, zeros of both signs among them."""
    return np.random.default_rng(seed).choice(np.float32([-1, -0.0, 0, 1, -np.inf]), shape)


def arrays(seed: int, *shape: int) -> list[Array]:
    return [numbers(seed, *shape), with_specials(seed, *shape)]


def _elementwise(operands: int) -> list[tuple[Any, ...]]:
    shapes = ((1,), (33,), (2, 3, 5), LARGE)
    kinds: list[Callable[..., Array]] = [numbers, with_specials, with_ties]
    return [tuple(kind(i, *shape) for i in range(operands)) for shape in shapes for kind in kinds]


def _encodings() -> list[tuple[Any, ...]]:
    names = "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e8m0fnu float8_e5m3fnu float16 bfloat16 float32 tf32"
    policies = [Policy(mode, "saturate") for mode in ("nearest_even", "toward_zero")]
    policies.append(Policy("stochastic", "saturate", random_bit_count=8))
    kinds = [
        *(("float8_e4m3fn", dtype, with_specials(43, 2, 5)) for dtype in (np.float32, np.float64)),
        *((name, np.float32, with_specials(44, 33, 70)) for name in f"{names} p3109_k8p3 p3109_k8p3u".split()),
        *((name, np.float64, with_specials(45, 33, 70)) for name in f"{names} float64 p3109_k6p4".split()),
        *((name, np.float32, numbers(46, 33, 70)) for name in ("float6_e2m3fn", "float4_e2m1fn", "fp_4_3_4")),
        *((name, np.float64, numbers(47, 33, 70)) for name in ("float6_e3m2fn", "fp_4_3_4", "fp_9_4_0", "ue4m3")),
        ("float8_e4m3fn", np.float32, with_specials(48, 300, 333)),
        ("float16", np.float64, with_specials(49, 300, 333)),
    ]
    return [
        (x.astype(dtype), FORMATS[name], policy, Stream(2, "rounding"))
        for name, dtype, x in kinds
        for policy in policies
    ]


def _sgd() -> list[tuple[Any, ...]]:
    plain = [(*three, 0.1, 0.9, 5e-4, 1 / 3) for three in _elementwise(3)]
    others = ((0.7, False), (1.0, True), (0.3,))
    return [*plain, *((*case, *other) for case in plain[:6] for other in others)]


def _adam() -> list[tuple[Any, ...]]:
    coupled, decoupled = (0.01, 1.0, 5e-4), (0.02, 0.9995, 0.0)
    return [
        (*three, np.abs(second), *decay, 0.9, 0.999, 0.0316, 1e-8, 1 / 3)
        for *three, second in _elementwise(4)
        for decay in (coupled, decoupled)
    ]


def _lion() -> list[tuple[Any, ...]]:
    return [(*three, 1e-3, 0.9999, 0.9, 0.99, 1 / 3) for three in _elementwise(3)]


def _channel_vectors(channels: int) -> tuple[Array, Array, Array, Array]:
    mean, scale, shift = (numbers(seed, channels) for seed in (1, 2, 3))
    return mean, np.abs(numbers(4, channels)), scale, shift


def _batch_norm() -> list[tuple[Any, ...]]:
    cases = []
    for shape in (*IMAGES, LARGE):
        _, _, scale, shift = _channel_vectors(shape[1])
        cases += [(x, scale, shift, 1e-5) for x in (*arrays(5, *shape), np.ones(shape, np.float32))]
    return cases


def _batch_norm_inference() -> list[tuple[Any, ...]]:
    cases = []
    for shape in (*IMAGES, LARGE):
        mean, variance, scale, shift = _channel_vectors(shape[1])
        cases += [(x, mean, variance, scale, shift, 1e-5) for x in arrays(6, *shape)]
    return cases


def _batch_norm_gradient() -> list[tuple[Any, ...]]:
    cases = []
    for shape in (*IMAGES, LARGE):
        mean, inverse, scale, _ = _channel_vectors(shape[1])
        cases += [(gy, numbers(8, *shape), mean, inverse, scale) for gy in arrays(7, *shape)]
    return cases


#: (image, kernel, stride, padding): overlapping, tiling, leftover rows, padding, gaps, whole planes, over a block.
POOLINGS = (
    ((2, 3, 8, 8), (2, 2), (2, 2), (0, 0)),
    ((1, 2, 7, 9), (2, 2), (2, 2), (0, 0)),
    ((2, 2, 9, 40), (3, 3), (2, 2), (1, 1)),
    ((1, 2, 6, 37), (3, 3), (1, 1), (1, 1)),
    ((2, 1, 7, 36), (3, 2), (1, 1), (0, 0)),
    ((1, 1, 5, 7), (3, 2), (2, 1), (1, 1)),
    ((2, 1, 11, 11), (3, 3), (3, 3), (0, 0)),
    ((1, 2, 10, 70), (2, 2), (3, 4), (0, 0)),
    ((1, 1, 10, 50), (5, 6), (2, 2), (0, 0)),
    ((1, 2, 8, 8), (4, 4), (4, 4), (0, 0)),
    ((3, 2, 4, 4), (4, 4), (4, 4), (0, 0)),
    ((2, 2, 7, 7), (7, 7), (7, 7), (0, 0)),
    ((1, 1, 9, 6), (4, 6), (2, 1), (0, 0)),
    ((1, 1, 16, 16), (8, 8), (4, 4), (0, 0)),
    ((1, 1, 70, 70), (70, 70), (1, 1), (0, 0)),
    ((1, 1, 68, 67), (66, 65), (1, 1), (0, 0)),
    ((1, 1, 1, 1), (1, 1), (1, 1), (0, 0)),
    ((4, 11, 32, 32), (2, 2), (2, 2), (0, 0)),
    ((4, 11, 32, 32), (3, 3), (2, 2), (1, 1)),
)


def pooled(case: tuple[Any, ...]) -> tuple[int, int, int, int]:
    """The shape of a pooling's result."""
    (count, channels, *sizes), kernel, stride, padding = case
    rows, columns = ((sizes[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return count, channels, rows, columns


def _pooling(kinds: list[Callable[..., Array]]) -> list[tuple[Any, ...]]:
    return [(kind(9, *shape), *window) for shape, *window in POOLINGS for kind in kinds]


def _max_pool_gradient() -> list[tuple[Any, ...]]:
    generator = np.random.default_rng(10)
    cases = []
    for case in POOLINGS:  # more than the forward kernel's indices: any place may come again and again
        shape, plane = pooled(case), case[0][2] * case[0][3]
        cases += [(gy, generator.integers(0, plane, shape, dtype=np.int32), case[0]) for gy in arrays(11, *shape)]
    return cases


def _avg_pool_gradient() -> list[tuple[Any, ...]]:
    return [(gy, *case) for case in POOLINGS for gy in arrays(12, *pooled(case))]


MATRICES = ((1, 1), (3, 10), (7, 33), (2, 5000), (400, 100))


def _log_softmax() -> list[tuple[Any, ...]]:
    kinds: list[Callable[..., Array]] = [numbers, with_specials, with_ties]
    cases = [(kind(13, *shape),) for shape in MATRICES for kind in kinds]
    equal = np.zeros((1, 77), np.float32)  # the logarithm of a whole number
    places = []  # the largest element, a NaN or a zero at every place of a row
    for largest in (3.0, np.nan, -0.0):
        rows = -np.abs(numbers(13, 77, 77)) - 1
        np.fill_diagonal(rows, np.float32(largest))
        places.append((rows,))
    rows = places[-1][0].copy()
    rows[:, 40] = 0.0  # zeros of both signs: the first one counts
    masked = numbers(13, 77, 77)  # numbers at the end of a row whose exponential is 0, or that are next to them
    masked[np.triu_indices(77, 1)] = -np.inf
    drawn = np.random.default_rng(13).choice([-95, -104, -109, -150, -np.inf, np.nan], 77)
    near = np.where(masked == -np.inf, drawn, 0)
    return [*cases, (equal,), (equal - np.float32(np.inf),), (-equal,), *places, (rows,), (masked,),
            (near.astype(np.float32),)]  # fmt: skip


def _log_softmax_gradient() -> list[tuple[Any, ...]]:
    cases = [(gy, y) for shape in MATRICES for gy, y in zip(arrays(14, *shape), arrays(15, *shape), strict=True)]
    exponents = np.random.default_rng(16).uniform(-105, 90, (1, 20000)).astype(np.float32)
    one = np.zeros_like(exponents)
    one[0, -1] = 1  # then the gradient is 0 - exp(y)
    return [*cases, (one, exponents)]


#: Where functions of one argument change their formula, overflow or underflow, and numbers of many magnitudes.
TURNS = np.float32(
    [0.25, 0.03125, 3, 6, 0.5, 1.5, 88.8, 104, 87.4, 9.2, 13.6, 30, 700, 746, 1e19, 1e30, 2**-26, 2**-13]
)
ARGUMENTS = np.concatenate(
    [SPECIALS, *(sign * np.nextafter(TURNS, np.float32(far)) for sign in (1, -1) for far in (0, np.inf)), TURNS, -TURNS,
     np.random.default_rng(38).uniform(-4, 4, 100).astype(np.float32), numbers(39, 60)]
)  # fmt: skip


def _unary() -> list[tuple[Any, ...]]:
    cases: list[tuple[Any, ...]] = [(ARGUMENTS, name, -0.5, 1.5) for name in FUNCTIONS]
    return [*cases, (numbers(40, *LARGE), "gelu"), (numbers(41, 2, 3, 5), "shift", 1 / 3)]


def _take() -> list[tuple[Any, ...]]:
    cases = []
    for shape, index in TAKEN:
        cases.append((with_specials(42, *shape), np.array(index, np.int64)))
    return cases


def _take_gradient() -> list[tuple[Any, ...]]:
    return [
        (gy, np.array(index, np.int64), shape[1])
        for shape, index in TAKEN
        for gy in arrays(43, shape[0], len(index), shape[2])
    ]


#: (shape, index): runs of one and more elements, repeated places in any order, places left out, -1.
TAKEN: tuple[tuple[tuple[int, int, int], list[int]], ...] = (
    ((3, 5, 4), [4, -1, 0, 0, 2, 4, 4]),
    ((7, 6, 1), [-1, -1, 0, 1, 2, 3, 4, 5, -1]),
    ((1, 4, 9), [3, 1, 3, 3, 0]),
    ((2, 3, 2), []),
    ((400, 30, 1), [*range(29, -1, -1), 3, 3, 3]),
    ((4, 60, 70), [*range(0, 60, 2), 59, 59, 1]),
    ((1, 50, 33), np.random.default_rng(44).integers(0, 50, 999).tolist()),
)

LABELS = np.random.default_rng(17).integers(0, 10, 5000)
E4M3 = FORMATS["float8_e4m3fn"]
CONVOLUTION = ((2, 1), (1, 0), 2)  # stride, padding, groups

#: kernel -> cases, each a tuple of positional arguments. Kernels may change arrays among them.
CASES: dict[str, list[tuple[Any, ...]]] = {
    "from_numpy": [(with_specials(0, 3, 4),), (with_specials(0, 3, 4).T,), (np.array(1.5, np.float32),)],
    "to_numpy": [(with_specials(0, 3, 4),)],
    "zeros": [((2, 3),), ((0, 3),)],
    "permute": [(x, (0, 2, 1, 3)) for x in arrays(18, 3, 4, 5, 6)] + [(numbers(18, 2, 3, 4, 5, 6), (0, 2, 1, 3, 4))],
    "concatenate": [([with_specials(i, 2, i + 1, 3, 3) for i in range(3)],), ([numbers(1, 4, 2)],)],
    "slice_channels": [(with_specials(19, 2, 5, 3, 3), 1, 4)],
    "place_channels": [(with_specials(20, 2, 2, 3, 3), 1, 5)],
    "round_array": [(x, E4M3, Policy()) for x in arrays(21, 5, 33)]
    + [(numbers(22, 100), E4M3, Policy("stochastic", random_bit_count=8), Stream(1, "rounding"))],
    "encode_array": [(np.float32([0, -0.0, 1.5, -448, np.nan]), E4M3)],
    "encode_rounded": _encodings(),
    "decode_array": [(np.arange(256, dtype=np.uint8), E4M3, np.float32)],
    "random_bits": [(Stream(1, "rounding", 2, 3), 101, 7)],
    "canonical_nan": [(with_specials(23, 5, 33),)],
    "all_finite": [(x,) for x in arrays(24, 5, 33)] + [tuple(arrays(24, 5, 33)), (numbers(0, 9), numbers(1, 3, 3)), ()],
    "stack_counts": [([np.arange(5), np.arange(5) + 2**40],), ([],)],
    "add": _elementwise(2),
    "scale": [(x, factor) for (x,) in _elementwise(1) for factor in (1 / 3, 2.0**-140)],
    "relu": _elementwise(1),
    "positive": _elementwise(1),
    "relu_gradient": _elementwise(2) + [(gy, x > 0) for gy, x in _elementwise(2)],
    "sgd_update": _sgd(),
    "adam_update": _adam(),
    "lion_update": _lion(),
    "subtract": _elementwise(2),
    "multiply": _elementwise(2),
    "divide": _elementwise(2),
    "unary": _unary(),
    "softmax": _log_softmax(),
    "softmax_gradient": [(gy, np.abs(y)) for gy, y in _log_softmax_gradient()[:-1]],
    "take": _take(),
    "take_gradient": _take_gradient(),
    "matmul": [(numbers(25, 5, 300), numbers(26, 300, 7)), (*arrays(27, 6, 6), True, True, numbers(28, 6))],
    "conv2d": [
        (numbers(29, 2, 4, 7, 8), numbers(30, 6, 2, 3, 3), numbers(31, 6), *CONVOLUTION),
        (numbers(29, 2, 4, 7, 8), numbers(30, 6, 2, 3, 3), numbers(31, 6), *CONVOLUTION, (1, 2)),
    ],
    "conv2d_input_gradient": [
        (numbers(32, 2, 6, 4, 6), numbers(30, 6, 2, 3, 3), (2, 4, 7, 8), *CONVOLUTION),
        (numbers(32, 2, 6, 4, 4), numbers(30, 6, 2, 3, 3), (2, 4, 7, 8), *CONVOLUTION, (1, 2)),
    ],
    "conv2d_weight_gradient": [
        (numbers(29, 2, 4, 7, 8), numbers(32, 2, 6, 4, 6), (6, 2, 3, 3), *CONVOLUTION),
        (numbers(29, 2, 4, 7, 8), numbers(32, 2, 6, 4, 4), (6, 2, 3, 3), *CONVOLUTION, (1, 2)),
    ],
    "channel_sum": [
        (x,) for shape in (*IMAGES, LARGE, (1, 4), (5000, 3), (4200, 70), (3, 2, 5)) for x in arrays(33, *shape)
    ],
    "total_sum": [(x,) for n in (1, 31, 32, 33, 4096, 4097, 20000) for x in arrays(34, n)] + [(numbers(1, 0),)],
    "batch_norm": _batch_norm(),
    "batch_norm_inference": _batch_norm_inference(),
    "batch_norm_gradient": _batch_norm_gradient(),
    "update_running": [(numbers(35, 9), x, 0.1, 1.01) for x in arrays(36, 9)],
    "max_pool2d": _pooling([numbers, with_specials, with_ties]),
    "max_pool2d_gradient": _max_pool_gradient(),
    "avg_pool2d": _pooling([numbers, with_specials, with_ties]),
    "avg_pool2d_gradient": _avg_pool_gradient(),
    "log_softmax": _log_softmax(),
    "log_softmax_gradient": _log_softmax_gradient(),
    "nll_loss": [(x[:n], LABELS[:n]) for n in (1, 37, 5000) for x in arrays(37, 5000, 10)],
    "nll_loss_gradient": [(np.float32([g]), LABELS[:n], (n, 10)) for n in (1, 37) for g in (1024.0, -np.inf, 0.0)],
}

ACCUMULATORS = (Accumulator(), Accumulator(chunk=None), Accumulator(fma=False))
