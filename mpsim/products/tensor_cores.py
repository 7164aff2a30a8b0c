"""Tensor cores' accumulators, as data: what was measured and published of each instruction.

Source: Xie et al. 2025, "MMA-Sim", arXiv:2511.10909, where a row names no other. A row is one instruction; a longer
dot product is a chain of them, which is what an Accumulator of kind "aligned" describes. Block scales are not part of
these models.

>>> from mpsim import Accumulator
>>> accumulator_of("ampere_float16").terms, accumulator_of("chunk=64,format=fp_6_9_0").format
(8, 'fp_6_9_0')
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mpsim.errors import UsageError
from mpsim.products.accumulators import Accumulator, Summation, in_short
from mpsim.products.stages import Product
from mpsim.products.text import product_of, text_of

XIE = "Xie et al. 2025, arXiv:2511.10909; MMA-Sim 2.1.1"
H200 = "an H200's wgmma, docs/hardware.md; MMA-Sim 2.1.1"
#: architecture -> least exponent of alignment of float32 sums and of float16 sums: the exponent that MMA-Sim 2.1.1
#: gives to a zero. -133 is measured on an H200, whose recordings cannot tell -21 from -133 for float16 sums
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
    promoted: int | None = None  # every so many k, into a float32 accumulator
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


#: name -> products of instructions that no accumulator describes: ``mma.sync`` on float8 adds in two halves, k mod 4 in
#: {0, 1} and then {2, 3}, starts at +0 and adds C at the end, in the format of the result. Source: Khattak and
#: Mikaitis, "Accurate Models of NVIDIA Tensor Cores", ACM TACO, doi 10.1145/3830409; equal to their recordings of an
#: H100, an H200 and a B200 in every bit (tests/validate/test_recorded_products.py). Their operands do not separate 20
#: or more fraction bits, nor the halves of float32 results.
PRODUCTS = {
    f"{core}_mma_sync_{inputs}{'_to_float16' * (sums == 'float16')}": (
        f"product(operand({inputs}, truncate), operand({inputs}, truncate), order=groups(blocks(32), "
        f"reordered(lanes(2, 2), aligned(16, 25, {sums})), rising({output})), output={output})"
    )
    for core, sums, output in (
        ("hopper", "float16", "float16"),
        ("blackwell", "float16", "float16"),
        ("blackwell", "sums(float32, toward_zero)", "float32"),
    )
    for inputs in _FLOAT8
}


def accumulator_of(text: str) -> Summation:
    """The accumulator of a tensor core's name, of a kind ("exact"), or of fields: "chunk=64,fma=false"; or the product
    of stages written as calls (``mpsim.products.text.product_of``): "groups(lanes(8), rising(), folding())".

    Raises ValueError for anything else.
    """
    if text in TENSOR_CORES:
        return TENSOR_CORES[text].accumulator
    text = PRODUCTS.get(text, text)
    if "(" in text:
        return in_short(product_of(text))
    defaults = {field.name: field.default for field in fields(Accumulator)}
    given: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "kind", name
        if name not in defaults:
            raise UsageError(
                f"accumulator {text!r}: {name!r} is no field; expected {', '.join(defaults)}, "
                f"or a tensor core: {', '.join([*TENSOR_CORES, *PRODUCTS])}"
            )
        given[name] = _value(name, value, defaults[name])
    return Accumulator(**given)  # type: ignore[arg-type]


def _value(name: str, value: str, default: object) -> object:
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise UsageError(f"{name} is true or false, not {value!r}")
        return value.lower() == "true"
    if name in ("chunk", "least_alignment") and value.lower() == "none":
        return None
    if isinstance(default, int):
        if not value.removeprefix("-").isdecimal():
            raise UsageError(f"{name} is a whole number, not {value!r}")
        return int(value)
    return value


def described(accumulator: Summation) -> str:
    """The fields that count, or the stages, as ``accumulator_of`` reads them.

    >>> described(Accumulator(chunk=None, fma=False))
    'sequential,format=float32,chunk=none,fma=false'
    """
    if isinstance(accumulator, Product):
        return text_of(accumulator)
    used = {
        "sequential": ("format", "chunk", "fma") if accumulator.format == "float32" else ("format", "chunk"),
        "pairwise": ("chunk", "fma"),
        "aligned": ("terms", "fraction_bits", "format", "rounding", "chunk", "inputs", "least_alignment"),
    }.get(accumulator.kind, ())
    return ",".join([accumulator.kind, *(f"{name}={str(getattr(accumulator, name)).lower()}" for name in used)])
