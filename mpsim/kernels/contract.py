"""Defines the kernel contract: every function of a backend, with its arguments, result and order of operations.

A backend is a module that defines every method of ``Kernels`` as a function on its own contiguous arrays. These are
NumPy's on the CPU, and device arrays on a GPU, whose callers use only ``shape``, ``size``, ``dtype`` and ``reshape``.
Every float array is float32 in C order, and images are NCHW. ``mpsim.kernels.load`` compares the module's signatures
with these.

The docstrings below specify float32 operations, each rounded once to nearest even, and their order. A multiplication
and an addition are fused only where ``fma`` is written, and nothing is flushed to zero. Every backend gives the same
bits for any ``threads``. NaN payloads are not specified, because the store makes them canonical. Kernels check nothing:
public functions have validated the arguments.

``mpsim.kernels.bind`` passes further arguments by keyword: ``threads`` (int >= 1) to every function, and
``accumulator`` to the contractions.

``out`` is an array of the result's shape that receives the (first) result. It may be an argument of that shape.

CONTRACTION (``Contractions``) with Accumulator(format="float32", chunk=256, fma=True): within a chunk of 256
consecutive k, acc = fma(a_k, b_k, acc) in rising k from +0. The chunk results are added to the total in rising order.
The first chunk is the initial total. Zeros of padding and dilation are included. An empty sum is +0.

REDUCTION ``sum(v)`` of a flattened vector v_0 .. v_{n-1}, in blocks of 4096 consecutive elements: in a block, 32 lanes
start at +0, and lane j adds elements j, j+32, ... in rising order. Lanes are combined by halving: lane j += lane j+16
for j < 16, then 8, 4, 2, 1. The block results are added in rising order, and the first block is the initial total. The
sum of channel c of an NCHW array adds its elements in the order n, h, w.

EXP, LOG: exp32 and log32 use one float64 algorithm with only + - * /, and round once (docs/semantics.md).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from mpsim.formats import Format
from mpsim.kernels.contract_functions import Functions, Updates
from mpsim.kernels.contractions.beside import NOTHING, Beside
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy
from mpsim.products.passes import Choice

#: A backend's array. All are annotated with NumPy's type.
Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Pair = tuple[int, int]


class Arrays(Protocol):
    """Conversions to and from NumPy arrays, and copies without arithmetic."""

    def from_numpy(self, array: np.ndarray) -> Array:
        """Returns a copy with the same bits, or the array itself on the CPU."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """Returns a NumPy array with the same bits."""

    def zeros(self, shape: Shape) -> Array:
        """Returns a float32 array of +0."""

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        """Returns a contiguous transposed copy."""

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """Joins the arrays along axis 1."""

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        """Returns a contiguous copy of x[:, start:stop]."""

    def place_channels(self, gy: Array, start: int, channels: int) -> Array:
        """Returns an array with `channels` channels: gy in those from `start` on, and +0 in the others."""


class Rounding(Protocol):
    """Rounding, codes and random bits."""

    def round_array(
        self,
        x: Array,
        format: Format,
        policy: Policy,
        random_bits: Array | Stream | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Array]:
        """Returns (out, counts). x is float32 or float64, contiguous, of any shape, and out has its dtype. random_bits
        is a uint32 array of x.size elements or a kernels.philox.Stream. counts is int64 (overflowed, underflowed, nan,
        inexact, subnormal), in the order of mpsim.rounding.Counts, and on the device if x is."""

    def encode_array(self, x: Array, format: Format) -> Array:
        """Returns the uint8/16/32/64 codes of representable x. NaN has one code per sign."""

    def encode_rounded(
        self, x: Array, format: Format, policy: Policy, random_bits: Array | Stream | None = None
    ) -> tuple[Array, np.ndarray]:
        """Returns (codes, strays): x rounded as by round_array and encoded as by encode_array, and the numbers of NaNs
        and of infinities among the rounded, a NumPy int64 array."""

    def decode_array(self, codes: Array, format: Format, dtype: DTypeLike) -> Array:
        """Returns exact float32 or float64 values. NaNs are canonical and keep their sign."""

    def random_bits(self, stream: Stream, size: int, first: int = 0) -> Array:
        """Returns uint32. Element i is word (first+i) % 4 of Philox4x32-10(counter=((first+i)//4, step, tensor,
        purpose), key=seed)."""

    def canonical_nan(self, x: Array) -> Array:
        """Sets every NaN of x to 0x7fc00000 (float64: 0x7ff8000000000000) | its sign, in place, and returns x."""

    def all_finite(self, *arrays: Array) -> bool:
        """Returns whether all elements are finite."""

    def stack_counts(self, counts: Sequence[Array]) -> np.ndarray:
        """Returns the counts of n calls of round_array as a NumPy int64 array (n, 5)."""


class Elementwise(Protocol):
    """Elementwise functions. Two arrays have the same shape."""

    def add(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """a + b."""

    def scale(self, x: Array, factor: float, *, out: Array | None = None) -> Array:
        """x * float32(factor)."""

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        """x if not (x <= 0) else +0: NaN stays."""

    def positive(self, x: Array) -> Array:
        """x > 0 as bool, which relu_gradient accepts in place of x and which needs a quarter of its memory."""

    def relu_gradient(self, gy: Array, x: Array, *, out: Array | None = None) -> Array:
        """gy if x > 0 else +0. x may be positive(x)."""


class Contractions(Protocol):
    """Matrix products and convolutions, in the order of an accumulator."""

    def matmul(
        self,
        a: Array,
        b: Array,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: Array | None = None,
        beside: Beside = NOTHING,
    ) -> Array:
        """op(a) (M, K), op(b) (K, N) -> (M, N): k rises over K. Then bias (N,) is added to the total with one rounding.
        beside has C, scales and random bits for products in stages that use them."""

    def conv2d(
        self, x: Array, w: Array, bias: Array | None, stride: Pair, padding: Pair, groups: int, dilation: Pair = (1, 1)
    ) -> Array:
        """x (N,C,H,W), w (O,C/groups,R,S), bias (O,) or None -> (N,O,OH,OW): k over (c, r, s) of the group, a_k = w,
        b_k = zero-padded x at (i*stride + r*dilation, j*stride + s*dilation). Then bias is added to the total."""

    def conv2d_input_gradient(
        self, gy: Array, w: Array, x_shape: Shape, stride: Pair, padding: Pair, groups: int, dilation: Pair = (1, 1)
    ) -> Array:
        """gy (N,O,OH,OW), w -> (N,C,H,W): k over (o of the group, r, s) with r, s rising over the flipped kernel:
        a_k = w[o, c, R-1-r, S-1-s], b_k = gy, with stride-1 zeros between its elements, zero-padded, at
        (h + r*dilation, w + s*dilation), padding dilation*(R-1)-padding (negative: cropped)."""

    def conv2d_weight_gradient(
        self, x: Array, gy: Array, w_shape: Shape, stride: Pair, padding: Pair, groups: int, dilation: Pair = (1, 1)
    ) -> Array:
        """x (N,C,H,W), gy (N,O,OH,OW) -> (O,C/groups,R,S): k over (n, i, j) of the output positions:
        a_k = gy[n, o, i, j], b_k = zero-padded x at (i*stride + r*dilation, j*stride + s*dilation)."""


class Normalization(Protocol):
    """Sums and batch normalization."""

    def channel_sum(self, x: Array) -> Array:
        """x (N,C,...) -> (C,): sum over n, then over the trailing axes."""

    def total_sum(self, x: Array) -> float:
        """Sum over the flattened array, a float32 number."""

    def batch_norm(
        self,
        x: Array,
        scale: Array,
        shift: Array,
        epsilon: float,
        *,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array, Array]:
        """x (N,C,H,W) -> (y, mean, variance, inverse_deviation): n = float32(N*H*W); mean = sum(x) / n;
        variance = sum((x-mean)*(x-mean)) / n, where each product is rounded before it is added;
        inverse_deviation = 1 / sqrt(variance + epsilon); y = (x - mean) * (inverse_deviation * scale) + shift."""

    def batch_norm_inference(
        self,
        x: Array,
        mean: Array,
        variance: Array,
        scale: Array,
        shift: Array,
        epsilon: float,
        *,
        out: Array | None = None,
    ) -> Array:
        """y as in batch_norm, with the given mean and variance."""

    def batch_norm_gradient(
        self,
        gy: Array,
        x: Array,
        mean: Array,
        inverse_deviation: Array,
        scale: Array,
        *,
        out: Array | None = None,
    ) -> tuple[Array, Array, Array]:
        """(gx, gscale, gshift): xhat = (x - mean) * inverse_deviation; gshift = sum(gy); gscale = sum(gy * xhat);
        gx = (inverse_deviation * scale) * ((gy - gshift / n) - xhat * (gscale / n))."""

    def update_running(self, running: Array, batch: Array, momentum: float, correction: float) -> None:
        """(C,), in place: running = (1 - momentum)*running + momentum*(batch*correction). The scalars are float32, and
        1 - momentum is computed in float32. correction is n/(n-1) for the variance (1 if n = 1), and 1 for the mean."""


class Pooling(Protocol):
    """Maximum and average pooling."""

    def max_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Array]:
        """Returns (y, index), index = h*W + w as int32. A window is searched in (r, s) order. A later element replaces
        the largest so far if it is greater, or if it is NaN and the largest so far is not. Padding is ignored. A padded
        image of 2**31 elements or more is refused."""

    def max_pool2d_gradient(self, gy: Array, index: Array, x_shape: Shape) -> Array:
        """gx starts at +0. gy[n,c,i,j] is added at its index in rising (i, j)."""

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """Sum of the window's R*S elements in (r, s) order, including padding zeros, by the REDUCTION rule, divided by
        float32(R*S)."""

    def avg_pool2d_gradient(self, gy: Array, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """t = gy / float32(R*S). gx starts at +0. t[n,c,i,j] is added to each element of its window, in rising
        (i, j)."""


class Loss(Protocol):
    """The loss of logits, and its gradient."""

    def log_softmax(self, x: Array) -> Array:
        """x (N,C), per row: m = the first largest element (the first NaN if any); d_c = x_c - m;
        y_c = d_c - log32(sum_c exp32(d_c))."""

    def log_softmax_gradient(self, gy: Array, y: Array) -> Array:
        """Per row: s = sum_c gy_c; gx_c = gy_c - exp32(y_c) * s."""

    def nll_loss(self, log_probabilities: Array, labels: Array) -> Array:
        """(N,C), int64 (N,) -> (1,): (sum over n of -lp[n, label_n]) / float32(N)."""

    def nll_loss_gradient(self, g: Array, labels: Array, shape: Pair) -> Array:
        """g (1,) -> (N,C): -(g / float32(N)) at (n, label_n), +0 elsewhere."""


class Kernels(Arrays, Rounding, Elementwise, Updates, Functions, Contractions, Normalization, Pooling, Loss, Protocol):
    """A backend's functions, as ``mpsim.kernels.bind`` returns them. ``backend`` is its name, and ``threads`` and
    ``accumulator`` are the arguments of ``bind``.

    If accumulators differ by layer or pass, ``of_layer(name)`` returns the kernels of a layer's forward function and of
    its derivative. The derivative uses the products of ``by_input`` for an input's gradient, of ``by_weight`` for a
    weight's. The first argument of a contraction is the left operand of the description, and the second the right one.
    ``swapped`` exchanges them. ``sums`` adds biases' gradients and windows of poolings. Otherwise all are the same."""

    backend: str
    threads: int
    accumulator: Choice
    by_input: Kernels
    by_weight: Kernels
    swapped: Kernels
    sums: Kernels
    of_layer: Callable[[str], tuple[Kernels, Kernels]]


class Kernel(NamedTuple):
    """A function's name, signature without ``self``, specified order, and whether it accepts an accumulator."""

    name: str
    signature: inspect.Signature
    order: str
    contraction: bool  # accepts ``accumulator``

    @property
    def arguments(self) -> str:
        """Returns the arguments with their defaults, without types."""
        plain = [
            parameter.replace(annotation=inspect.Parameter.empty) for parameter in self.signature.parameters.values()
        ]
        return str(inspect.Signature(plain))


def _kernel(protocol: type, name: str) -> Kernel:
    found = inspect.signature(getattr(protocol, name))
    signature = found.replace(parameters=list(found.parameters.values())[1:])
    order = " ".join((getattr(protocol, name).__doc__ or "").split())
    return Kernel(name, signature, order, protocol is Contractions)


#: Every function by name, in the order of the protocol.
CONTRACT = {
    name: _kernel(protocol, name)
    for protocol in Kernels.__bases__
    for name, member in vars(protocol).items()
    if inspect.isfunction(member) and not name.startswith("_")
}

_BEGIN, _END = "<!-- kernels: begin -->\n", "<!-- kernels: end -->\n"


def markdown() -> str:
    """Returns the contract as the Markdown list in docs/semantics.md."""
    return "\n".join(f"- **`{row.name}`** `{row.arguments}`\\\n  {row.order}" for row in CONTRACT.values()) + "\n"


def write_into(document: str) -> str:
    """Returns the document with an up-to-date list of kernels."""
    head, _, rest = document.partition(_BEGIN)
    return head + _BEGIN + "\n" + markdown() + "\n" + _END + rest.partition(_END)[2]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    path = Path(sys.argv[1])
    path.write_text(write_into(path.read_text()))
