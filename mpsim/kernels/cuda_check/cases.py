"""Generates arguments for every kernel, on shapes that fill a device."""

from __future__ import annotations

from functools import cache

import numpy as np

from mpsim.formats import FORMATS
from mpsim.kernels import load
from mpsim.kernels.contract import Array, Pair
from mpsim.kernels.elementary.functions import FUNCTIONS
from mpsim.kernels.philox import Stream
from mpsim.policies import Mode, Policy
from mpsim.products.accumulators import Accumulator

Case = tuple[tuple[object, ...], dict[str, object]]

SPECIALS = np.array(
    [0x0, 0x80000000, 0x1, 0x807FFFFF, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000], np.uint32
).view(np.float32)

#: Different ways to sum a dot product.
ACCUMULATORS = (
    Accumulator(chunk=None),
    Accumulator(chunk=64, fma=False),
    Accumulator(kind="pairwise", chunk=32),
    Accumulator(format="fp_6_9_0", chunk=64),
    Accumulator(kind="aligned", chunk=None, terms=16, fraction_bits=24, rounding="toward_zero"),
    Accumulator(kind="exact"),
)


@cache
def numbers(seed: int, *shape: int) -> Array:
    """Returns numbers of many magnitudes, so that a different order of a sum changes bits. Do not write to them."""
    generator = np.random.default_rng(seed)
    return generator.standard_normal(shape, np.float32) * np.exp2(generator.integers(-6, 7, shape)).astype(np.float32)


def mixed(seed: int, *shape: int) -> Array:
    """Returns ``numbers`` with one in a thousand replaced by a zero, subnormal, largest number, infinity or NaN."""
    generator, x = np.random.default_rng(seed), numbers(seed, *shape).copy()
    places = generator.integers(0, max(1, x.size), max(1, x.size // 1000))
    x.reshape(-1)[places] = generator.choice(SPECIALS, places.size)
    return x


class Cases:
    """Collects the arguments of each kernel. ``quick`` selects shapes that are small enough for the simulator."""

    def __init__(self, quick: bool) -> None:
        self.quick, self.found = quick, dict[str, list[Case]]()
        self.flat, self.few = ((300,), 40) if quick else ((1 << 24,), 1 << 20)
        self.image = (2, 4, 5, 5) if quick else (128, 96, 32, 32)

    def add(self, name: str, *arguments: object, **options: object) -> None:
        """Adds a call of a kernel."""
        self.found.setdefault(name, []).append((arguments, options))

    def moving(self) -> None:
        """Kernels that copy elements."""
        image, channels = self.image, self.image[1]
        half = (image[0], channels // 2, *image[2:])
        self.add("permute", numbers(0, image[0], 2, channels // 2, *image[2:]), (0, 2, 1, 3, 4))
        self.add("concatenate", [numbers(0, *half), numbers(1, *half)])
        self.add("slice_channels", mixed(0, *image), 1, channels)
        index = np.random.default_rng(6).integers(-1, channels, channels + 3)
        self.add("take", mixed(0, image[0], channels, image[2] * image[3]), index)
        self.add("take_gradient", numbers(0, image[0], channels + 3, image[2] * image[3]), index, channels)
        self.add("place_channels", mixed(0, *half), 1, channels)

    def rounding(self) -> None:
        """Rounding, codes, random bits, and detection of infinities and NaNs."""
        flat, e4m3 = self.flat, FORMATS["float8_e4m3fn"]
        codes = np.random.default_rng(0).integers(0, 256, flat, dtype=np.uint8)
        stochastic = Policy(Mode.STOCHASTIC, random_bit_count=8)
        self.add("round_array", mixed(0, *flat), e4m3, Policy())
        self.add("round_array", mixed(1, *flat), e4m3, stochastic, Stream(1, "rounding"))
        self.add("decode_array", codes, e4m3, np.float32)
        self.add("encode_array", load("reference").decode_array(codes, e4m3, np.float32), e4m3)
        self.add("random_bits", Stream(1, "rounding", 2, 3), flat[0], 7)
        self.add("canonical_nan", mixed(0, *flat))
        self.add("all_finite", numbers(0, *flat))
        self.add("all_finite", numbers(0, *flat), mixed(0, *flat))

    def elementwise(self) -> None:
        """Elementwise functions."""
        flat = self.flat
        self.add("add", mixed(0, *flat), mixed(1, *flat))
        self.add("scale", mixed(0, *flat), 1 / 3)
        self.add("relu", mixed(0, *flat))
        self.add("positive", mixed(0, *flat))
        self.add("relu_gradient", mixed(0, *flat), mixed(1, *flat))
        for name in ("subtract", "multiply", "divide"):
            self.add(name, mixed(0, *flat), mixed(1, *flat))
        for name in FUNCTIONS:
            self.add("unary", mixed(0, *(flat if name == "gelu" else (self.few,))), name, -0.5, 1.5)
        three = [numbers(seed, *flat) for seed in range(3)]
        self.add("sgd_update", *three, 0.1, 0.9, 5e-4, 1 / 3)
        self.add("sgd_update", *three, 0.1, 0.9, 5e-4, 1 / 3, 0.7, True)
        self.add("adam_update", *three, np.abs(numbers(3, *flat)), 0.1, 0.99, 5e-4, 0.9, 0.999, 0.3, 1e-8, 1 / 3)
        self.add("lion_update", *three, 0.1, 0.99, 0.9, 0.99, 1 / 3)

    def layers(self) -> None:
        """Sums, normalization, pooling and the loss."""
        image, rows = self.image, (3, 10) if self.quick else (4096, 1000)
        vector, window = numbers(9, image[1]), ((3, 3), (2, 2), (1, 1))
        labels = np.random.default_rng(8).integers(0, rows[1], rows[0])
        pooled = (*image[:2], *((size - 1) // 2 + 1 for size in image[2:]))
        index = np.random.default_rng(7).integers(0, image[2] * image[3], pooled).astype(np.int32)
        self.add("channel_sum", numbers(0, *image))
        self.add("channel_sum", numbers(0, *rows))
        self.add("total_sum", numbers(0, *self.flat))
        self.add("batch_norm", numbers(0, *image), vector, vector, 1e-5)
        self.add("batch_norm_inference", numbers(0, *image), vector, np.abs(vector), vector, vector, 1e-5)
        self.add("batch_norm_gradient", numbers(0, *image), numbers(1, *image), vector, vector, vector)
        self.add("update_running", numbers(0, image[1]), vector, 0.1, 1.01)
        self.add("max_pool2d", mixed(0, *image), *window)
        self.add("max_pool2d_gradient", numbers(0, *pooled), index, image)
        self.add("avg_pool2d", numbers(0, *image), *window)
        self.add("avg_pool2d", numbers(0, *image), image[2:], image[2:], (0, 0))
        self.add("avg_pool2d_gradient", numbers(0, *pooled), image, *window)
        self.add("log_softmax", numbers(0, *rows))
        self.add("log_softmax_gradient", numbers(0, *rows), -np.abs(numbers(1, *rows)))
        self.add("softmax", numbers(0, *rows))
        self.add("softmax_gradient", numbers(0, *rows), np.abs(numbers(1, *rows)))
        self.add("nll_loss", numbers(0, *rows), labels)
        self.add("nll_loss_gradient", np.full(1, 1024, np.float32), labels, rows)

    def products(self) -> None:
        """Matrix products with every transposition, then with every accumulator."""
        rows, length, columns = (5, 300, 7) if self.quick else (1000, 2111, 1500)
        for left in (False, True):
            for right in (False, True):
                a = numbers(0, *((length, rows) if left else (rows, length)))
                b = numbers(1, *((columns, length) if right else (length, columns)))
                self.add("matmul", a, b, left, right, numbers(2, columns))
        short = 3 if self.quick else 8
        for accumulator in ACCUMULATORS:
            a, b = numbers(3, rows // short + 1, length), numbers(4, length, columns // short + 1)
            self.add("matmul", a, b, accumulator=accumulator)

    def convolutions(self) -> None:
        """Convolutions and their gradients, with strides, 1 x 1, dilated and depthwise kernels, and groups."""
        batch, size, wide = (1, 6, 4) if self.quick else (64, 32, 64)
        geometries: list[tuple[int, int, int, Pair, Pair, int, Pair]] = [
            (wide, wide, 3, (1, 1), (1, 1), 1, (1, 1)),
            (wide, 2 * wide, 3, (2, 2), (1, 1), 1, (1, 1)),
            (wide, 2 * wide, 1, (2, 2), (0, 0), 1, (1, 1)),
            (wide, wide, 3, (1, 1), (1, 1), wide, (1, 1)),
            (wide, wide, 3, (2, 2), (1, 1), wide, (1, 1)),
            (wide, wide, 3, (2, 1), (1, 0), 2, (1, 1)),
            (wide, wide, 3, (1, 1), (2, 2), 1, (2, 2)),
        ]
        for channels, outputs, kernel, stride, padding, groups, dilation in geometries:
            x = numbers(5, batch, channels, size, size)
            w = numbers(6, outputs, channels // groups, kernel, kernel)
            beyond = [dilation[i] * (kernel - 1) + 1 for i in (0, 1)]
            shape = tuple((size + 2 * padding[i] - beyond[i]) // stride[i] + 1 for i in (0, 1))
            gy, geometry = numbers(7, batch, outputs, *shape), (stride, padding, groups, dilation)
            self.add("conv2d", x, w, numbers(8, outputs), *geometry)
            self.add("conv2d_input_gradient", gy, w, x.shape, *geometry)
            self.add("conv2d_weight_gradient", x, gy, w.shape, *geometry)


def cases(quick: bool) -> dict[str, list[Case]]:
    """Returns the arguments of each kernel by its name."""
    made = Cases(quick)
    made.moving()
    made.rounding()
    made.elementwise()
    made.layers()
    made.products()
    made.convolutions()
    return made.found
