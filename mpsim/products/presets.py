"""Matrix instructions by name, as data: what was measured and published of each.

A ``TensorCore`` is a row of the table that the validator compares subjects with, and what an instruction of NVIDIA's
computes: a longer dot product is a chain of instructions, as an Accumulator of kind "aligned" describes. ``PRESETS``
has every instruction by its full name: architecture, instruction, operands, and what is not usual about the result.

>>> PRESETS["hopper_wgmma_float8_e4m3fn_float8_e5m2"].summation.inputs
'float8_e4m3fn/float8_e5m2'
>>> PRESETS["hopper_wgmma_float16"].summation == TENSOR_CORES["hopper_float16"].accumulator
True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from mpsim.products.accumulators import Accumulator, Summation, in_short, inputs_of
from mpsim.products.text import product_of

XIE = "Xie et al. 2025, arXiv:2511.10909; MMA-Sim 2.1.1"
H200 = "an H200's wgmma, docs/hardware.md; MMA-Sim 2.1.1"
#: architecture -> least exponent of alignment of float32 sums and of float16 sums: the exponent that MMA-Sim 2.1.1
#: gives to a zero. -133 is measured on an H200, whose recordings cannot distinguish -21 from -133 for float16 sums
#: (docs/hardware.md).
LEAST = {
    "volta": (-131, -19),
    "turing": (-132, -20),
    "ampere": (-132, -20),
    "ada": (-132, -20),
    "hopper": (-133, -21),
    "blackwell": (-133, -21),
}


@dataclass(frozen=True)
class TensorCore:
    """One instruction. k: terms of the instruction; halves: 2 if it is two steps, the first feeding the second."""

    architecture: str
    inputs: str
    k: int
    halves: int
    fraction_bits: int
    output: str = "float32"
    promoted: int | None = None  # the number of k after which a sum is added to a float32 accumulator
    source: str = XIE

    @property
    def name(self) -> str:
        """Architecture, inputs, and what is not usual about the output.

        >>> TensorCore("hopper", "float8_e4m3fn", 32, 1, 13, "fp_8_13_0", 128).name
        'hopper_float8_e4m3fn_promoted_128'
        """
        words = [self.architecture, self.inputs]
        words += ["to_float16"] if self.output == "float16" else []
        words += [f"promoted_{self.promoted}"] if self.promoted else []
        return "_".join(words)

    @property
    def accumulator(self) -> Accumulator:
        """The model: terms per alignment, fraction bits, output and its rounding."""
        return Accumulator(
            kind="aligned",
            format=self.output,
            chunk=self.promoted,
            terms=self.k // self.halves,
            fraction_bits=self.fraction_bits,
            rounding="nearest_even" if self.output == "float16" else "toward_zero",
            inputs=self.inputs,
            least_alignment=LEAST[self.architecture][self.output == "float16"],
        )


_FLOAT8 = ("float8_e4m3fn", "float8_e5m2")
_NARROW = (*_FLOAT8, "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn")
_ROWS = (
    TensorCore("volta", "float16", 4, 1, 23),
    TensorCore("volta", "float16", 4, 1, 23, "float16"),
    TensorCore("turing", "float16", 8, 1, 24),
    TensorCore("turing", "float16", 8, 1, 24, "float16"),
    *(TensorCore(core, inputs, 16, 2, 24) for core in ("ampere", "ada") for inputs in ("float16", "bfloat16")),
    *(TensorCore(core, "float16", 16, 2, 24, "float16") for core in ("ampere", "ada")),
    *(TensorCore(core, "tf32", 8, 2, 24) for core in ("ampere", "ada")),
    *(TensorCore("ada", inputs, 32, 2, 13, "fp_8_13_0") for inputs in _FLOAT8),
    *(TensorCore("ada", inputs, 32, 2, 13, "float16") for inputs in _FLOAT8),
    *(TensorCore(core, inputs, 16, 1, 25) for core in ("hopper", "blackwell") for inputs in ("float16", "bfloat16")),
    *(TensorCore(core, "float16", 16, 1, 25, "float16") for core in ("hopper", "blackwell")),
    *(TensorCore(core, "tf32", 8, 1, 25) for core in ("hopper", "blackwell")),
    *(TensorCore("hopper", inputs, 32, 1, 13, "fp_8_13_0") for inputs in _FLOAT8),
    *(TensorCore("hopper", inputs, 32, 1, 13, "fp_8_13_0", 128) for inputs in _FLOAT8),
    *(TensorCore("hopper", inputs, 32, 1, 13, "float16", source=H200) for inputs in _FLOAT8),
    *(TensorCore("blackwell", inputs, 32, 1, 25, output) for output in ("float32", "float16") for inputs in _NARROW),
)

#: name -> row
TENSOR_CORES = {row.name: row for row in _ROWS}


@dataclass(frozen=True)
class Preset:
    """An instruction. ``text``: its description, as ``accumulator_of`` reads one; None where ``accumulator`` is one.
    ``source``: who measured or published it."""

    source: str
    accumulator: Accumulator | None = None
    text: str = ""

    @property
    def summation(self) -> Summation:
        """The accumulator, or the product in stages."""
        return self.accumulator or in_short(product_of(self.text))


#: architecture -> the instructions that its rows are of.
INSTRUCTIONS = {
    "volta": ("mma_sync",),
    "turing": ("mma_sync",),
    "ampere": ("mma_sync",),
    "ada": ("mma_sync",),
    "hopper": ("wgmma", "mma_sync"),
    "blackwell": ("tcgen05", "mma_sync"),
    "rtx_blackwell": ("mma_sync",),  # sm_120, which sums as tcgen05 does
}
KHATTAK = (
    "Khattak and Mikaitis, ACM TACO, doi 10.1145/3830409: equal to their recordings of an H100, an H200 and a B200, "
    "which do not separate 20 or more fraction bits, nor the halves of float32 results"
)
H200_MMA_SYNC = "an H200's mma.sync, docs/hardware.md"


def _rows_of(architecture: str) -> Iterator[TensorCore]:
    family = architecture.removeprefix("rtx_")
    return (row for row in _ROWS if row.architecture == family)


def _pairs(row: TensorCore) -> Iterator[tuple[str, str]]:
    """The formats of two operands that the instruction takes: any two of the narrow ones."""
    if row.inputs not in _NARROW:
        return iter([(row.inputs, row.inputs)])
    formats = _NARROW if row.architecture == "blackwell" else _FLOAT8
    return ((row.inputs, right) for right in formats)


def _words(left: str, right: str) -> str:
    return left if left == right else f"{left}_{right}"


def _of_rows() -> Iterator[tuple[str, Preset]]:
    """Each row by its instructions, for each pair of operands; and with the shorter k that some instructions have."""
    for architecture, instructions in INSTRUCTIONS.items():
        for instruction in instructions:
            for row in _rows_of(architecture):
                if instruction == "mma_sync" and architecture in ("hopper", "blackwell") and row.inputs in _NARROW:
                    continue  # it widens float8 to float16: see _in_halves
                for left, right in _pairs(row):
                    ending = row.name.removeprefix(f"{row.architecture}_{row.inputs}")
                    whole = replace(row.accumulator, inputs=inputs_of(left, right))
                    yield f"{architecture}_{instruction}_{_words(left, right)}{ending}", Preset(row.source, whole)
                    if instruction == "mma_sync" and architecture in ("hopper", "blackwell", "rtx_blackwell"):
                        half = replace(whole, terms=whole.terms // 2)
                        name = f"{architecture}_mma_sync_k{half.terms}_{_words(left, right)}{ending}"
                        if half.terms < 16 or {left, right} <= {*_FLOAT8}:
                            yield name, Preset(row.source, half)


def _in_halves() -> Iterator[tuple[str, Preset]]:
    """``mma.sync`` on float8 where it is two instructions on float16: k mod 4 in {0, 1} and then {2, 3}, from +0; C is
    added at the end, in the format of the result, to nearest even."""
    for architecture in ("hopper", "blackwell"):
        for output, sums in (("float32", "sums(float32, toward_zero)"), ("float16", "float16")):
            for left in _FLOAT8:
                for right in _FLOAT8:
                    order = f"groups(blocks(32), reordered(lanes(2, 2), aligned(16, 25, {sums})), rising({output}))"
                    operands = f"operand({left}, truncate), operand({right}, truncate)"
                    text = f"product({operands}, order={order}, output={output})"
                    ending = "_to_float16" if output == "float16" else ""
                    source = H200_MMA_SYNC if (architecture, output) == ("hopper", "float32") else KHATTAK
                    yield f"{architecture}_mma_sync_{_words(left, right)}{ending}", Preset(source, text=text)


#: Instructions with scales by their kind: block, group, format of the scales.
_SCALED_FLOAT4 = {
    "mxf4": (32, 16, "float8_e8m0fnu"),
    "mxf4nvf4_block32": (32, 16, "float8_e8m0fnu"),
    "mxf4nvf4_block16": (16, 16, "float8_e8m0fnu"),
    "nvfp4": (16, 16, "float8_e4m3fn"),
}


def _with_scales() -> Iterator[tuple[str, Preset]]:
    """``tcgen05.mma`` and ``mma.sync`` with block scales. kind::mxf8f6f4 aligns each product with its scales; float4
    operands are added exactly in groups of 16, which are aligned by the scales alone. The scales of kind::mxf4nvf4
    with blocks of 16 may be E4M3 ("nvfp4"), whose sign is not used, or powers of two."""
    sums = "sums(float32, toward_zero)"
    for instruction in ("blackwell_tcgen05", "rtx_blackwell_mma_sync"):
        for left in _NARROW:
            for right in _NARROW:
                operands = f"operand({left}, truncate), operand({right}, truncate)"
                text = f"product({operands}, order=alignedscaled(sums={sums}))"
                yield f"{instruction}_mxf8f6f4_{_words(left, right)}", Preset(XIE, text=text)
        for kind, (block, group, scales) in _SCALED_FLOAT4.items():
            operand = "operand(float4_e2m1fn, nearest_even)"
            order = f"alignedscaled(64, 35, {block}, {group}, {scales}, {sums}, -139)"
            yield f"{instruction}_{kind}", Preset(XIE, text=f"product({operand}, {operand}, order={order})")


def _of_float64() -> Iterator[tuple[str, Preset]]:
    """Fused multiply-adds in float64, in rising k. Operands and results here are float32 numbers; the definition
    (``mpsim.kernels.spec_dot.Dot``) takes float64 operands too."""
    nvidia = (f"{core}_mma_sync" for core in ("ampere", "ada", "hopper", "blackwell", "rtx_blackwell"))
    for instruction in (*nvidia, "cdna2_mfma", "cdna3_mfma"):
        yield f"{instruction}_float64", Preset(XIE, text="rising(float64)")


_FNUZ = ("float8_e4m3fnuz", "float8_e5m2fnuz")
_FLUSH = "sums(float32, flush=true)"


def _in_pairs(inputs: str, terms: int) -> str:
    """CDNA2: subnormal numbers become zeros everywhere, and products and sums of neighbours are rounded."""
    operand = f"operand({inputs}, flush=true)"
    order = f"groups(blocks({terms}), pairwise({_FLUSH}), rising({_FLUSH}))"
    return f"product({operand}, {operand}, {_FLUSH}, {order})"


def _late(left: str, right: str, order: str) -> str:
    """CDNA3: products are aligned, and c afterwards."""
    how = ", truncate" if left == "tf32" else ""
    return f"product(operand({left}{how}), operand({right}{how}), order=alignedlate({order}))"


def _of_amd() -> Iterator[tuple[str, Preset]]:
    """The v_mfma instructions. A name has the terms that are added at once where an instruction has a choice."""
    texts = {f"cdna{number}_mfma_float32": "rising()" for number in (1, 2, 3)}
    texts |= {"cdna1_mfma_float16": "rising(together=4)", "cdna1_mfma_bfloat16": "rising(together=2)"}
    texts |= {f"cdna2_mfma_{name}": _in_pairs(name, 4) for name in ("float16", "bfloat16")}
    texts["cdna2_mfma_k2_bfloat16"] = _in_pairs("bfloat16", 2)  # without "_1k"
    texts["cdna3_mfma_tf32"] = _late("tf32", "tf32", "4")
    texts |= {f"cdna3_mfma_{name}": _late(name, name, "8") for name in ("float16", "bfloat16")}
    texts |= {f"cdna3_mfma_k4_{name}": _late(name, name, "4") for name in ("float16", "bfloat16")}
    for left in _FNUZ:
        for right in _FNUZ:
            texts[f"cdna3_mfma_{_words(left, right)}"] = _late(left, right, "16, parts=lanes(2), reach=25")
    return ((name, Preset(XIE, text=text)) for name, text in texts.items())


GAUDI = "the golden model in Intel's Gaudi 3 software, mme/mme_reference (HabanaAI/Intel_Gaudi3_Software, adff76c)"
LLVM = "LLVM review D49146, a statement of AMD's: rounds once, and flushes subnormal float32 numbers"


def _of_others() -> Iterator[tuple[str, Preset]]:
    """Gaudi 3 reads any two float8 formats as float32, so that subnormal numbers have their own exponents."""
    yield "gaudi3_mme_float8", Preset(GAUDI, text="aligned(8, 24, sums(float32, toward_zero), none)")
    yield "rdna_dot2_float16", Preset(LLVM, text=f"rising({_FLUSH}, together=2)")


NUMPY = "NumPy's C loops, numpy/_core/src/umath/loops_utils.h.src and matmul.c.src (the same on every processor)"
TORCH = "PyTorch's ReduceOpsKernel.cpp: cumulative sums of float32 are kept in double, one term after another"
REDUCTION = "docs/semantics.md, Reduction: mpsim's total_sum"


def _halved(times: int) -> str:
    """Lanes of every 2**times-th term, in rising order; lane j is added to by lane j + 2**(times - 1), and so on."""
    return "rising()" if times == 0 else f"groups(lanes(2), {_halved(times - 1)}, {_FIRST})"


_FIRST = "rising(float32, first)"


def _of_processors() -> Iterator[tuple[str, Preset]]:
    """Sums of libraries whose order does not depend on the processor: loops in C without vector instructions of their
    own, or with a number of lanes that is written in them. Those of BLAS, of ``numpy.einsum`` and of ``torch.sum`` have
    as many lanes as the processor's vectors."""
    eight = f"tail(8, groups(lanes(8), {_FIRST}, pairwise()), {_FIRST})"
    total = f"groups(whole(), halving(128, 8, {eight}), rising())"  # which is added to +0
    yield "numpy_sum_float32", Preset(NUMPY, text=total)
    yield "numpy_sum_float16", Preset(NUMPY, text=f"product(order={total}, output=float16)")
    yield "numpy_matmul_float16", Preset(NUMPY, text="product(order=rising(), output=float16)")
    yield "torch_cumsum_float32", Preset(TORCH, text="rising(float64)")
    yield "mpsim_total_sum", Preset(REDUCTION, text=f"groups(blocks(4096), {_halved(5)}, {_FIRST})")


#: name -> what the instruction computes.
PRESETS: dict[str, Preset] = {
    **dict(_of_rows()),
    **dict(_in_halves()),
    **dict(_with_scales()),
    **dict(_of_float64()),
    **dict(_of_amd()),
    **dict(_of_others()),
    **dict(_of_processors()),
}
#: How their names begin.
FAMILIES = (
    *(f"{architecture}_{name}_…" for architecture, names in INSTRUCTIONS.items() for name in names),
    *(f"cdna{number}_mfma_…" for number in (1, 2, 3)),
    *dict(_of_others()),
    *dict(_of_processors()),
)
