"""Products in stages, contractions and block quantisers of every backend against their definitions."""

from __future__ import annotations

from functools import partial

import numpy as np
from backends import that_run as backends
from contractions import KINDS, Convolution, all_of, defined, draw, some_places
from hypothesis import assume
from hypothesis import strategies as st
from products import cases, compare
from products import same as same_number
from quantizing import COMPARED, matrix, narrowed
from quantizing import compare as compare_blocks

from mpsim import Accumulator
from mpsim.blocks import Quantizer, quantizer_of
from mpsim.errors import UsageError
from mpsim.kernels import load
from mpsim.kernels.philox import Stream, random_bits
from mpsim.kernels.spec_dot import dot
from tests.fuzz.calls import THREADS, changed, same, states

#: Products with kernels of their own, and one that runs in steps.
ACCUMULATORS: tuple[Accumulator, ...] = (
    Accumulator(), Accumulator(chunk=None), Accumulator(chunk=8), Accumulator(fma=False), Accumulator(kind="exact"),
    Accumulator(kind="pairwise", chunk=4), Accumulator(kind="aligned"), Accumulator(format="bfloat16"),
)  # fmt: skip


def products(data: st.DataObject) -> None:
    """Any product in stages, on every kind of numbers."""
    case, threads, state = data.draw(cases(), label="case"), data.draw(THREADS), data.draw(states(), label="state")
    with np.errstate(all="ignore"):
        compare(case, backends(), threads, partial(changed, state))


def contractions(data: st.DataObject) -> None:
    """Matrix products of all sizes around those of tiles, and convolutions, some elements against the definition."""
    accumulator = data.draw(st.sampled_from(ACCUMULATORS), label="accumulator")
    kind, seed = data.draw(st.sampled_from(KINDS), label="kind"), data.draw(st.integers(0, 99), label="seed")
    case = matrices if data.draw(st.booleans(), label="matmul") else convolution
    with np.errstate(all="ignore"):
        case(data, accumulator, kind, seed, data.draw(THREADS), data.draw(states(), label="state"))


def matrices(
    data: st.DataObject, accumulator: Accumulator, kind: str, seed: int, threads: int, state: str | None
) -> None:
    side = st.one_of(st.integers(1, 9), st.integers(1, 70))
    rows, columns, terms = data.draw(side), data.draw(side), data.draw(st.one_of(side, st.integers(250, 300)))
    a, b = draw(kind, (rows, terms), seed), draw(kind, (terms, columns), seed + 1)
    bias = draw(kind, (columns,), seed + 2) if data.draw(st.booleans(), label="bias") else None
    flipped = data.draw(st.booleans(), label="a transposed"), data.draw(st.booleans(), label="b transposed")
    given = tuple(np.ascontiguousarray(x.T) if flip else x for x, flip in zip((a, b), flipped, strict=True))
    found = []
    for backend in backends():
        with changed(state):
            found.append(load(backend).matmul(*given, *flipped, bias, threads=threads, accumulator=accumulator))
    for i, j in some_places((rows, columns), 4):
        added = None if bias is None else float(bias[j])
        wanted = dot(a[i].tolist(), b[:, j].tolist(), accumulator, bias=added)
        for backend, result in zip(backends(), found, strict=True):
            assert same_number(float(result[i, j]), wanted), (backend, accumulator, (i, j), result[i, j], wanted)
    for backend, result in zip(backends(), found, strict=True):
        same(result, found[0], (backend, accumulator, a.shape, b.shape, flipped, threads, state))


def convolution(
    data: st.DataObject, accumulator: Accumulator, kind: str, seed: int, threads: int, state: str | None
) -> None:
    small, pair = st.integers(1, 3), st.tuples(st.integers(1, 2), st.integers(1, 2))
    groups = data.draw(st.integers(1, 3), label="groups")
    kernel = data.draw(small), data.draw(small)
    case = Convolution(
        data.draw(small), groups * data.draw(small), data.draw(st.integers(3, 12)), data.draw(st.integers(3, 20)),
        groups * data.draw(st.integers(1, 6)), kernel, data.draw(pair), data.draw(st.tuples(small, small)),
        groups, data.draw(pair),
    )  # fmt: skip
    assume(min(case.y_shape) > 0)
    arrays = list(case.draw(kind, seed))
    found = []
    for backend in backends():
        with changed(state):
            found.append(all_of(load(backend), case, arrays, threads=threads, accumulator=accumulator))
    for which, results in enumerate(zip(*found, strict=True)):
        for at in some_places(results[0].shape, 3):
            wanted = float(defined(case, arrays, which, at, accumulator))
            for backend, result in zip(backends(), results, strict=True):
                assert same_number(float(result[at]), wanted), (backend, case, which, at, result[at], wanted)
        for backend, result in zip(backends(), results, strict=True):
            same(result, results[0], (backend, case, which))


GROUPS = ("block(5)", "block(8)", "block(16)", "tile(3, 8)", "row()", "column()", "tensor()")
SCALES = (
    "scale(arithmetic=float32)", "scale(format=bfloat16, rounding=up)", "scale(cover, format=float32)", "scale(floor)",
    "scale(format=float8_e5m2, least=0.25)", "scale(ratio, float32, target=3.0)", "scale(format=float8_e4m3fn)",
    "scale(arithmetic=float32, overflow=nan)",
)  # fmt: skip
ELEMENTS = (
    "element(float4_e2m1fn)", "element(float8_e4m3fn, nearest_away)", "element(float16, up)", "integer(8)",
    "integer(4, mode=nearest_away)", "element(float6_e2m3fn, zeros=positive)", "element(float8_e5m2, to_odd)",
)  # fmt: skip
OTHERS = ("", ", quotient=quotient(float32)", ", quotient=quotient(float32_reciprocal, bfloat16)",
          ", rotation=hadamard(4)", ", specials=specials(divide)")  # fmt: skip


@st.composite
def quantizers(draw: st.DrawFn) -> Quantizer:
    """The presets with small groups, and any combination of some stages."""
    if draw(st.booleans()):
        return narrowed(draw(st.sampled_from(COMPARED)))
    parts = [draw(st.sampled_from(each)) for each in (GROUPS, SCALES, ELEMENTS, OTHERS)]
    try:
        return quantizer_of("quantizer(statistic({}), scale={}, element={}{})".format(*parts))
    except UsageError:
        assume(False)
        raise


def blocks(data: st.DataObject) -> None:
    """Codes, scales, zero points and numbers of quantisers."""
    quantizer = data.draw(quantizers(), label="quantizer")
    shape = data.draw(st.integers(4, 9), label="rows"), 16 * data.draw(st.integers(1, 2), label="columns")
    x = matrix(shape, data.draw(st.integers(0, 1 << 32), label="seed"), data.draw(st.integers(1, 60), label="spread"))
    for value in data.draw(st.lists(st.sampled_from([np.inf, -np.inf, np.nan, 2.0**-149, 3e38]), max_size=3)):
        x[data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))] = value
    options = {}
    if quantizer.statistic.source == "given":
        options["statistic"] = data.draw(st.sampled_from([3.0, 1e-30, 448.0]), label="statistic")
    if quantizer.element.policy.mode.needs_random_bits:
        options["random_bits"] = random_bits(Stream(3, "rounding"), x.size).reshape(x.shape)
    for backend in backends():
        with np.errstate(all="ignore"):
            compare_blocks(x, quantizer, backend, **options)
