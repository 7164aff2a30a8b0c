"""The kernel contract: every function of a backend, with its arguments, result and written order.

A backend is a module that defines every method of ``Kernels`` as a function on its own contiguous arrays: NumPy's on
the CPU; on a GPU device arrays, of which ``shape``, ``size``, ``dtype`` and ``reshape`` are used outside. Every float
array is float32 in C order; images are NCHW. ``mpsim.kernels.load`` compares the module's signatures with these.
"Written order" means: the float32 operations below, each rounded once to nearest even, in the order given,
no contraction of a multiply and an add unless ``fma`` is written, no flush to zero. Every backend gives the
same bits, for any ``threads``. NaN payloads are free here (the store makes them canonical).
Inputs were validated at the public door; a kernel checks nothing.

Further arguments, by keyword, that ``mpsim.kernels.bind`` gives: ``threads`` (int >= 1) of every function, and
``accumulator`` of the contractions.

``out``: an array of the result's shape that gets the (first) result; an argument of that shape may be it.

CONTRACTION (``Contractions``), Accumulator(format="float32", chunk=256, fma=True): within a chunk of
256 consecutive k, acc = fma(a_k, b_k, acc) in rising k from +0; chunk results are added to the total in rising
order (the first chunk is the total). Zeros of padding and dilation take part. An empty sum is +0.

REDUCTION ``sum(v)`` of a flattened vector v_0 .. v_{n-1}: blocks of 4096 consecutive elements; in a block 32
lanes start at +0, lane j adds elements j, j+32, ... in rising order; lanes combine by halving
(lane j += lane j+16 for j < 16, then 8, 4, 2, 1); block results are added in rising order (the first block is
the total). Written sum over n, h, w of channel c for an NCHW array: the elements in the order n, h, w.

EXP, LOG: exp32(x) and log32(x), docs/semantics.md: one algorithm in float64 with + - * / only, rounded once.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike

from mpsim.formats import Format
from mpsim.kernels.contractions.beside import NOTHING, Beside
from mpsim.kernels.philox import Stream
from mpsim.policies import Policy
from mpsim.products.passes import Choice

#: A backend's array; NumPy's type stands for all.
Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Pair = tuple[int, int]


class Arrays(Protocol):
    """Arrays brought in and out, and moved without arithmetic."""

    def from_numpy(self, array: np.ndarray) -> Array:
        """A copy of the same bits, or the array itself on the CPU."""

    def to_numpy(self, array: Array) -> np.ndarray:
        """The same bits."""

    def zeros(self, shape: Shape) -> Array:
        """Float32, +0."""

    def permute(self, x: Array, axes: Sequence[int]) -> Array:
        """A contiguous transposed copy."""

    def concatenate(self, arrays: Sequence[Array]) -> Array:
        """Joined along axis 1."""

    def slice_channels(self, x: Array, start: int, stop: int) -> Array:
        """Contiguous x[:, start:stop]."""

    def place_channels(self, gy: Array, start: int, channels: int) -> Array:
        """A +0 array of `channels` channels with gy from start on."""


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
        """(out, counts): x float32 or float64, any shape, contiguous; out has its dtype; random_bits a uint32 array of
        x.size or a kernels.philox.Stream; counts int64 (overflowed, underflowed, nan, inexact, subnormal) in the order
        of mpsim.rounding.Counts, on the device if x is."""

    def encode_array(self, x: Array, format: Format) -> Array:
        """uint8/16/32/64 codes of representable x; NaN: one code per sign."""

    def decode_array(self, codes: Array, format: Format, dtype: DTypeLike) -> Array:
        """Float32 or float64 values, exact; NaN canonical with its sign."""

    def random_bits(self, stream: Stream, size: int, first: int = 0) -> Array:
        """uint32; element i = word (first+i) % 4 of Philox4x32-10(counter=((first+i)//4, step, tensor, purpose),
        key=seed)."""

    def canonical_nan(self, x: Array) -> Array:
        """x, in place: every NaN becomes 0x7fc00000 | its sign."""

    def all_finite(self, *arrays: Array) -> bool:
        """Whether no element is an infinity or NaN."""

    def stack_counts(self, counts: Sequence[Array]) -> np.ndarray:
        """Counts of round_array as a NumPy int64 array (n, 5)."""


class Elementwise(Protocol):
    """Each element by itself; two arrays have one shape."""

    def add(self, a: Array, b: Array, *, out: Array | None = None) -> Array:
        """a + b."""

    def scale(self, x: Array, factor: float, *, out: Array | None = None) -> Array:
        """x * float32(factor)."""

    def relu(self, x: Array, *, out: Array | None = None) -> Array:
        """x if not (x <= 0) else +0: NaN stays."""

    def positive(self, x: Array) -> Array:
        """bool, x > 0: what relu_gradient needs of x, in a quarter of its memory."""

    def relu_gradient(self, gy: Array, x: Array, *, out: Array | None = None) -> Array:
        """gy if x > 0 else +0; x, or positive(x) in its place."""

    def sgd_update(
        self,
        master: Array,
        gradient: Array,
        velocity: Array,
        learning_rate: float,
        momentum: float,
        weight_decay: float,
        inverse_scale: float,
    ) -> None:
        """In place: g = gradient*inverse_scale; g = g + weight_decay*master; velocity = momentum*velocity + g;
        master = master - learning_rate*velocity; each * and + rounded; the scalars are float32."""


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
        """(M, N): op(a) is (M, K), op(b) is (K, N); k rises over K; bias (N,) is added to the total, one rounding.
        beside: C, scales and random bits, of products in stages that take them."""

    def conv2d(
        self,
        x: Array,
        w: Array,
        bias: Array | None,
        stride: Pair,
        padding: Pair,
        groups: int,
    ) -> Array:
        """x (N,C,H,W), w (O,C/groups,R,S), bias (O,) or None -> (N,O,OH,OW): k over (c, r, s) of the group, a_k = w,
        b_k = x zero-padded; then bias is added to the total."""

    def conv2d_input_gradient(
        self,
        gy: Array,
        w: Array,
        x_shape: Shape,
        stride: Pair,
        padding: Pair,
        groups: int,
    ) -> Array:
        """gy (N,O,OH,OW), w -> (N,C,H,W): k over (o of the group, r, s) with r, s rising over the flipped kernel:
        a_k = w[o, c, R-1-r, S-1-s], b_k = zero-dilated, zero-padded gy at (h + r, w + s), padding R-1-padding
        (negative: cropped)."""

    def conv2d_weight_gradient(
        self, x: Array, gy: Array, w_shape: Shape, stride: Pair, padding: Pair, groups: int
    ) -> Array:
        """(O,C/groups,R,S): k over (n, i, j) of the output positions: a_k = gy[n, o, i, j], b_k = zero-padded x at
        (i*stride + r, j*stride + s)."""


class Normalization(Protocol):
    """Sums, and batch normalization."""

    def channel_sum(self, x: Array) -> Array:
        """x (N,C,...) -> (C,): sum over n, then the trailing axes."""

    def total_sum(self, x: Array) -> float:
        """Sum over the flattened array: a float32 number."""

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
        variance = sum((x-mean)*(x-mean)) / n (the product rounded, then added);
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
        """y as batch_norm's with the given mean and variance."""

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
        """(C,), in place: running = (1 - momentum)*running + momentum*(batch*correction); the scalars are float32,
        1 - momentum computed in float32; correction is n/(n-1) for the variance (1 if n = 1), 1 for the mean."""


class Pooling(Protocol):
    """Windows of images."""

    def max_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> tuple[Array, Array]:
        """(y, index int32): windows in (r, s) order; a later element replaces the largest so far if it is greater, or
        if it is NaN and the largest so far is not; index = h*W + w; padding takes no part."""

    def max_pool2d_gradient(self, gy: Array, index: Array, x_shape: Shape) -> Array:
        """gx starts at +0; gy[n,c,i,j] is added at its index in rising (i, j)."""

    def avg_pool2d(self, x: Array, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """Sum of the window's R*S elements in (r, s) order, padding zeros included, by the REDUCTION rule; divided by
        float32(R*S)."""

    def avg_pool2d_gradient(self, gy: Array, x_shape: Shape, kernel: Pair, stride: Pair, padding: Pair) -> Array:
        """t = gy / float32(R*S); gx starts at +0; t[n,c,i,j] is added to each element of its window, in rising
        (i, j)."""


class Loss(Protocol):
    """From logits to a loss."""

    def log_softmax(self, x: Array) -> Array:
        """x (N,C); per row: m = the first of the largest (the first NaN if any); d_c = x_c - m;
        y_c = d_c - log32(sum_c exp32(d_c))."""

    def log_softmax_gradient(self, gy: Array, y: Array) -> Array:
        """Per row: s = sum_c gy_c; gx_c = gy_c - exp32(y_c) * s."""

    def nll_loss(self, log_probabilities: Array, labels: Array) -> Array:
        """(N,C), int64 (N,) -> (1,): (sum over n of -lp[n, label_n]) / float32(N)."""

    def nll_loss_gradient(self, g: Array, labels: Array, shape: Pair) -> Array:
        """g (1,) -> (N,C): -(g / float32(N)) at (n, label_n), +0 elsewhere."""


class Kernels(Arrays, Rounding, Elementwise, Contractions, Normalization, Pooling, Loss, Protocol):
    """A backend's functions, as ``mpsim.kernels.bind`` gives them: ``backend`` its name; ``threads`` and
    ``accumulator`` as given there.

    Where accumulators differ by layer or pass: ``of_layer(name)`` gives the kernels of a layer's forward function and
    of its derivative. A derivative multiplies by ``by_input`` for the gradient of an input and by ``by_weight`` for the
    gradient of a weight. The first argument of a contraction is read as the left operand of the description, the second
    as the right one; ``swapped`` exchanges the two. Of kernels with one accumulator, all of these are the kernels."""

    backend: str
    threads: int
    accumulator: Choice
    by_input: Kernels
    by_weight: Kernels
    swapped: Kernels
    of_layer: Callable[[str], tuple[Kernels, Kernels]]


class Kernel(NamedTuple):
    """What is known of one function: its signature without ``self``, the written order, and whether it takes an
    accumulator."""

    name: str
    signature: inspect.Signature
    order: str
    contraction: bool  # takes ``accumulator``

    @property
    def arguments(self) -> str:
        """The arguments with their defaults, without types."""
        plain = [
            parameter.replace(annotation=inspect.Parameter.empty) for parameter in self.signature.parameters.values()
        ]
        return str(inspect.Signature(plain))


def _kernel(room: type, name: str) -> Kernel:
    found = inspect.signature(getattr(room, name))
    signature = found.replace(parameters=list(found.parameters.values())[1:])
    order = " ".join((getattr(room, name).__doc__ or "").split())
    return Kernel(name, signature, order, room is Contractions)


#: Every function by name, in the order of the protocol.
CONTRACT = {
    name: _kernel(room, name)
    for room in Kernels.__bases__
    for name, member in vars(room).items()
    if inspect.isfunction(member) and not name.startswith("_")
}


_BEGIN, _END = "<!-- kernels: begin -->\n", "<!-- kernels: end -->\n"


def markdown() -> str:
    """The contract as the Markdown list that docs/semantics.md holds."""
    return "\n".join(f"- **`{row.name}`** `{row.arguments}`\\\n  {row.order}" for row in CONTRACT.values()) + "\n"


def write_into(document: str) -> str:
    """The document with its list of kernels brought up to date."""
    head, _, rest = document.partition(_BEGIN)
    return head + _BEGIN + "\n" + markdown() + "\n" + _END + rest.partition(_END)[2]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    path = Path(sys.argv[1])
    path.write_text(write_into(path.read_text()))
