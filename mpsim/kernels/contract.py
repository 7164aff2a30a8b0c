"""The kernel contract: every function a backend defines, with its arguments, result and written order.

A backend is a module that defines every function named in ``CONTRACT`` (below) on its own contiguous arrays
(NumPy arrays on the CPU; device arrays on a GPU, of which ``shape``, ``size``, ``dtype`` and ``reshape`` are used
outside). Every float array is float32 in C order; images are NCHW.
"Written order" means: the float32 operations below, each rounded once to nearest even, in the order given,
no contraction of a multiply and an add unless ``fma`` is written, no flush to zero. Every backend gives the
same bits, for any ``threads``. NaN payloads are free here (the store makes them canonical).

Common keyword arguments: ``threads`` (int >= 1) of every function; ``accumulator`` of the contractions.
Inputs were validated at the public door; a kernel checks nothing.

``epilogue`` (``mpsim.kernels.epilogue.Epilogue`` or None) of the kernels marked so: what is then done to the (first)
result, in the bits of a ``round_array`` after it. A backend names in ``FUSES`` those of its kernels that take the
argument themselves; for all others ``mpsim.kernels.bind`` adds it.

CONTRACTION (``matmul``, ``conv2d_*``), Accumulator(format="float32", chunk=256, fma=True): within a chunk of
256 consecutive k, acc = fma(a_k, b_k, acc) in rising k from +0; chunk results are added to the total in rising
order (the first chunk is the total). Zeros of padding and dilation take part. An empty sum is +0.

REDUCTION ``sum(v)`` of a flattened vector v_0 .. v_{n-1}: blocks of 4096 consecutive elements; in a block 32
lanes start at +0, lane j adds elements j, j+32, ... in rising order; lanes combine by halving
(lane j += lane j+16 for j < 16, then 8, 4, 2, 1); block results are added in rising order (the first block is
the total). Written sum over n, h, w of channel c for an NCHW array: the elements in the order n, h, w.

EXP, LOG: exp32(x) and log32(x), docs/semantics.md: one algorithm in float64 with + - * / only, rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """One row of the contract: the signature (without ``threads``) and the written order."""

    name: str
    signature: str
    order: str
    contraction: bool = False  # takes ``accumulator``
    epilogue: bool = False  # takes ``epilogue``


_ROWS = (
    # -- arrays ---------------------------------------------------------------------------------------------
    Kernel("from_numpy", "(array) -> array of the backend", "a copy of the same bits, or the array itself on the CPU"),
    Kernel("to_numpy", "(array) -> NumPy array", "the same bits"),
    Kernel("zeros", "(shape) -> float32 array of +0", "-"),
    Kernel("permute", "(x, axes) -> contiguous transposed copy", "-"),
    Kernel("concatenate", "(arrays) -> joined along axis 1", "-", epilogue=True),
    Kernel("slice_channels", "(x, start, stop) -> contiguous x[:, start:stop]", "-", epilogue=True),
    Kernel("place_channels", "(gy, start, channels) -> +0 array of `channels` channels with gy at start", "-"),
    # -- rounding and random bits ---------------------------------------------------------------------------
    Kernel(
        "round_array",
        "(x, format, policy, random_bits=None, out=None) -> (out, counts)",
        "x float32 or float64, any shape, contiguous; out (may be x) same dtype; random_bits a uint32 array of x.size "
        "or a kernels.philox.Stream; counts: int64 array (overflowed, underflowed, nan, inexact, subnormal) "
        "in the order of mpsim.rounding.Counts, on the device if x is",
    ),
    Kernel("encode_array", "(x, format) -> uint8/16/32/64 codes of representable x", "NaN: one code per sign"),
    Kernel("decode_array", "(codes, format, dtype) -> float32/float64 values", "exact; NaN canonical with its sign"),
    Kernel(
        "random_bits",
        "(stream, size, first=0) -> uint32 array",
        "element i = word (first+i) % 4 of Philox4x32-10(counter=((first+i)//4, step, tensor, purpose), key=seed)",
    ),
    Kernel("canonical_nan", "(x) -> x, in place", "every NaN becomes 0x7fc00000 | its sign"),
    Kernel("all_finite", "(*arrays) -> bool", "-"),
    Kernel("stack_counts", "(list of counts of round_array) -> NumPy int64 array (n, 5)", "-"),
    # -- elementwise ----------------------------------------------------------------------------------------
    Kernel("add", "(a, b) -> a + b", "same shapes", epilogue=True),
    Kernel("scale", "(x, factor) -> x * float32(factor)", "-", epilogue=True),
    Kernel("relu", "(x) -> x if not (x <= 0) else +0", "NaN stays", epilogue=True),
    Kernel("positive", "(x) -> bool array, x > 0", "what relu_gradient needs of x, in a quarter of its memory"),
    Kernel("relu_gradient", "(gy, x) -> gy if x > 0 else +0", "x, or positive(x) in its place", epilogue=True),
    Kernel(
        "sgd_update",
        "(master, gradient, velocity, learning_rate, momentum, weight_decay, inverse_scale) -> None, in place",
        "g = gradient*inverse_scale; g = g + weight_decay*master; velocity = momentum*velocity + g; "
        "master = master - learning_rate*velocity; each * and + rounded; the scalars are float32",
    ),
    # -- contractions ---------------------------------------------------------------------------------------
    Kernel(
        "matmul",
        "(a, b, transpose_a=False, transpose_b=False, bias=None) -> (M, N)",
        "op(a) is (M, K), op(b) is (K, N); k rises over K; bias (N,) is added to the total, one rounding",
        contraction=True,
    ),
    Kernel(
        "conv2d",
        "(x (N,C,H,W), w (O,C/groups,R,S), bias (O,) or None, stride (2), padding (2), groups) -> (N,O,OH,OW)",
        "k over (c, r, s) of the group, a_k = w, b_k = x zero-padded; then bias is added to the total",
        contraction=True,
        epilogue=True,
    ),
    Kernel(
        "conv2d_input_gradient",
        "(gy (N,O,OH,OW), w, x_shape, stride, padding, groups) -> (N,C,H,W)",
        "k over (o of the group, r, s) with r, s rising over the flipped kernel: a_k = w[o, c, R-1-r, S-1-s], "
        "b_k = zero-dilated, zero-padded gy at (h + r, w + s), padding R-1-padding (negative: cropped)",
        contraction=True,
        epilogue=True,
    ),
    Kernel(
        "conv2d_weight_gradient",
        "(x, gy, w_shape, stride, padding, groups) -> (O,C/groups,R,S)",
        "k over (n, i, j) of the output positions: a_k = gy[n, o, i, j], b_k = zero-padded x at (i*stride + r, "
        "j*stride + s)",
        contraction=True,
    ),
    # -- reductions and normalization -----------------------------------------------------------------------
    Kernel("channel_sum", "(x (N,C,...)) -> (C,)", "sum over n, then the trailing axes"),
    Kernel("total_sum", "(x) -> 0-d/1-element float32 as Python float", "sum over the flattened array"),
    Kernel(
        "batch_norm",
        "(x (N,C,H,W), scale, shift, epsilon) -> (y, mean, variance, inverse_deviation)",
        "n = float32(N*H*W); mean = sum(x) / n; "
        "variance = sum((x-mean)*(x-mean)) / n (the product rounded, then added); "
        "inverse_deviation = 1 / sqrt(variance + epsilon); y = (x - mean) * (inverse_deviation * scale) + shift",
        epilogue=True,
    ),
    Kernel(
        "batch_norm_inference",
        "(x, mean, variance, scale, shift, epsilon) -> y",
        "as batch_norm with the given mean and variance",
        epilogue=True,
    ),
    Kernel(
        "batch_norm_gradient",
        "(gy, x, mean, inverse_deviation, scale) -> (gx, gscale, gshift)",
        "xhat = (x - mean) * inverse_deviation; gshift = sum(gy); gscale = sum(gy * xhat); "
        "gx = (inverse_deviation * scale) * ((gy - gshift / n) - xhat * (gscale / n))",
        epilogue=True,
    ),
    Kernel(
        "update_running",
        "(running (C,), batch (C,), momentum, correction) -> None, in place",
        "running = (1 - momentum)*running + momentum*(batch*correction); the scalars are float32, 1 - momentum "
        "computed in float32; correction is n/(n-1) for the variance (1 if n = 1), 1 for the mean",
    ),
    # -- pooling --------------------------------------------------------------------------------------------
    Kernel(
        "max_pool2d",
        "(x, kernel (2), stride (2), padding (2)) -> (y, index int32)",
        "windows in (r, s) order; a later element replaces the largest so far if it is greater, or if it is NaN and "
        "the largest so far is not; index = h*W + w; padding takes no part",
    ),
    Kernel(
        "max_pool2d_gradient",
        "(gy, index, x_shape) -> gx",
        "gx starts at +0; gy[n,c,i,j] is added at its index in rising (i, j)",
    ),
    Kernel(
        "avg_pool2d",
        "(x, kernel, stride, padding) -> y",
        "sum of the window's R*S elements in (r, s) order, padding zeros included, by the REDUCTION rule; "
        "divided by float32(R*S)",
    ),
    Kernel(
        "avg_pool2d_gradient",
        "(gy, x_shape, kernel, stride, padding) -> gx",
        "t = gy / float32(R*S); gx starts at +0; t[n,c,i,j] is added to each element of its window, in rising (i, j)",
    ),
    # -- loss -----------------------------------------------------------------------------------------------
    Kernel(
        "log_softmax",
        "(x (N,C)) -> y",
        "per row: m = the first of the largest (the first NaN if any); d_c = x_c - m; "
        "y_c = d_c - log32(sum_c exp32(d_c))",
    ),
    Kernel("log_softmax_gradient", "(gy, y) -> gx", "per row: s = sum_c gy_c; gx_c = gy_c - exp32(y_c) * s"),
    Kernel(
        "nll_loss",
        "(log_probabilities (N,C), labels int64 (N,)) -> (1,)",
        "(sum over n of -lp[n, label_n]) / float32(N)",
    ),
    Kernel(
        "nll_loss_gradient",
        "(g (1,), labels, shape) -> (N,C)",
        "-(g / float32(N)) at (n, label_n), +0 elsewhere",
    ),
)

CONTRACT = {row.name: row for row in _ROWS}

_BEGIN, _END = "<!-- kernels: begin -->\n", "<!-- kernels: end -->\n"


def markdown() -> str:
    """The contract as the Markdown list that docs/semantics.md holds."""
    return "\n".join(f"- **`{row.name}`** `{row.signature}`\\\n  {row.order}" for row in _ROWS) + "\n"


def write_into(document: str) -> str:
    """The document with its list of kernels brought up to date."""
    head, _, rest = document.partition(_BEGIN)
    return head + _BEGIN + "\n" + markdown() + "\n" + _END + rest.partition(_END)[2]


if __name__ == "__main__":
    import sys
    from pathlib import Path

    path = Path(sys.argv[1])
    path.write_text(write_into(path.read_text()))
