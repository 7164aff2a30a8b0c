"""MMA-Sim's simulators of NVIDIA's matrix instructions as subjects: each is equal to the accumulator that is due.

MMA-Sim 2.1.1 (Xie et al. 2025, arXiv:2511.10909) is an independent implementation of the published tensor cores, in
PyTorch. A form is an instruction (mma, wgmma, tcgen05.mma) of one architecture, with both operands of one type, without
block scales, and with a type of sums. The sizes m and n do not affect a dot product. float64 is left out (see
test_mmasim_presets.py). Counted with every k, type of c and spelling, there are 96 forms; counted by architecture,
instruction, operands and sums, 60. Without the 6 float6 and float4 forms of RTX Blackwell's mma, which sum as
tcgen05.mma does, 54 remain. All 96 are tested.

A NaN is equal to any NaN, as an accumulator does not define the code of a NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from mmasim_simulators import INPUTS, dots, of_nvidia, one_thread, product

from mpsim.formats import as_format
from mpsim.products.accumulators import Accumulator
from mpsim.products.tensor_cores import TENSOR_CORES, described
from mpsim.validate.dot.inputs.edges import edge_rows
from mpsim.validate.dot.inputs.matrices import random_matrices
from mpsim.validate.dot.orders.candidates import beside, effective
from mpsim.validate.dot.orders.separability import inseparable
from mpsim.validate.dot.orders.separation import adversarial_rows
from mpsim.validate.dot.report import text
from mpsim.validate.dot.subjects import SIDE, Model, as_inputs, same
from mpsim.validate.dot.validation import validate_dot
from mpsim.validate.subjects.worker import as_array

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")
pytest.importorskip("torch", reason="the peers extra is not installed")
pytest.importorskip("mmasim", reason="the peers extra is not installed")

Array = np.ndarray[Any, Any]

#: What is due, from MMA-Sim's description of each instruction. terms: products added at once; bits: fraction bits below
#: the largest exponent; least: the exponent of a zero; sums: the type of the result, for which float16 is rounded to
#: nearest even and the others toward zero (e8m13: float32 with 13 fraction bits); name: mpsim's, where it has one.
DUE = """
simulator  architecture  operands  sums   k   terms bits least name
MMA        Volta         f16       f32    4   4     23   -131  volta_float16
MMA        Volta         f16       f16    4   4     23   -19   volta_float16_to_float16
MMA        Turing        f16       f32    4   4     23   -131  volta_float16
MMA        Turing        f16       f16    4   4     23   -19   volta_float16_to_float16
MMA        Turing        f16       f32    8   8     24   -132  turing_float16
MMA        Turing        f16       f16    8   8     24   -20   turing_float16_to_float16
MMA        Ampere        tf32      f32    4   4     24   -132  ampere_tf32
MMA        Ampere        tf32      f32    8   4     24   -132  ampere_tf32
MMA        Ampere        bf16      f32    8   8     24   -132  ampere_bfloat16
MMA        Ampere        bf16      f32    16  8     24   -132  ampere_bfloat16
MMA        Ampere        f16       f32    8   8     24   -132  ampere_float16
MMA        Ampere        f16       f32    16  8     24   -132  ampere_float16
MMA        Ampere        f16       f16    8   8     24   -20   ampere_float16_to_float16
MMA        Ampere        f16       f16    16  8     24   -20   ampere_float16_to_float16
MMA        Ada_Lovelace  tf32      f32    4   4     24   -132  ada_tf32
MMA        Ada_Lovelace  tf32      f32    8   4     24   -132  ada_tf32
MMA        Ada_Lovelace  bf16      f32    8   8     24   -132  ada_bfloat16
MMA        Ada_Lovelace  bf16      f32    16  8     24   -132  ada_bfloat16
MMA        Ada_Lovelace  f16       f32    8   8     24   -132  ada_float16
MMA        Ada_Lovelace  f16       f32    16  8     24   -132  ada_float16
MMA        Ada_Lovelace  f16       f16    8   8     24   -20   ada_float16_to_float16
MMA        Ada_Lovelace  f16       f16    16  8     24   -20   ada_float16_to_float16
MMA        Ada_Lovelace  e4m3      e8m13  16  16    13   -132  ada_float8_e4m3fn
MMA        Ada_Lovelace  e4m3      e8m13  32  16    13   -132  ada_float8_e4m3fn
MMA        Ada_Lovelace  e4m3      f16    16  16    13   -20   ada_float8_e4m3fn_to_float16
MMA        Ada_Lovelace  e4m3      f16    32  16    13   -20   ada_float8_e4m3fn_to_float16
MMA        Ada_Lovelace  e5m2      e8m13  16  16    13   -132  ada_float8_e5m2
MMA        Ada_Lovelace  e5m2      e8m13  32  16    13   -132  ada_float8_e5m2
MMA        Ada_Lovelace  e5m2      f16    16  16    13   -20   ada_float8_e5m2_to_float16
MMA        Ada_Lovelace  e5m2      f16    32  16    13   -20   ada_float8_e5m2_to_float16
MMA        Hopper        tf32      f32    4   4     25   -133  -
MMA        Hopper        tf32      f32    8   8     25   -133  hopper_tf32
MMA        Hopper        bf16      f32    8   8     25   -133  -
MMA        Hopper        bf16      f32    16  16    25   -133  hopper_bfloat16
MMA        Hopper        f16       f32    8   8     25   -133  -
MMA        Hopper        f16       f32    16  16    25   -133  hopper_float16
MMA        Hopper        f16       f16    8   8     25   -21   -
MMA        Hopper        f16       f16    16  16    25   -21   hopper_float16_to_float16
WGMMA      Hopper        tf32      f32    8   8     25   -133  hopper_tf32
WGMMA      Hopper        bf16      f32    16  16    25   -133  hopper_bfloat16
WGMMA      Hopper        f16       f32    16  16    25   -133  hopper_float16
WGMMA      Hopper        f16       f16    16  16    25   -21   hopper_float16_to_float16
WGMMA      Hopper        e4m3      e8m13  32  32    13   -133  hopper_float8_e4m3fn
WGMMA      Hopper        e4m3      f16    32  32    13   -21   hopper_float8_e4m3fn_to_float16
WGMMA      Hopper        e5m2      e8m13  32  32    13   -133  hopper_float8_e5m2
WGMMA      Hopper        e5m2      f16    32  32    13   -21   hopper_float8_e5m2_to_float16
MMA        Blackwell     tf32      f32    4   4     25   -133  -
MMA        Blackwell     tf32      f32    8   8     25   -133  blackwell_tf32
MMA        Blackwell     bf16      f32    8   8     25   -133  -
MMA        Blackwell     bf16      f32    16  16    25   -133  blackwell_bfloat16
MMA        Blackwell     f16       f32    8   8     25   -133  -
MMA        Blackwell     f16       f32    16  16    25   -133  blackwell_float16
MMA        Blackwell     f16       f16    8   8     25   -21   -
MMA        Blackwell     f16       f16    16  16    25   -21   blackwell_float16_to_float16
TCGen05MMA Blackwell     tf32      f32    8   8     25   -133  blackwell_tf32
TCGen05MMA Blackwell     bf16      f32    16  16    25   -133  blackwell_bfloat16
TCGen05MMA Blackwell     f16       f32    16  16    25   -133  blackwell_float16
TCGen05MMA Blackwell     f16       f16    16  16    25   -21   blackwell_float16_to_float16
TCGen05MMA Blackwell     e4m3      f32    32  32    25   -133  blackwell_float8_e4m3fn
TCGen05MMA Blackwell     e4m3      f16    32  32    25   -21   blackwell_float8_e4m3fn_to_float16
TCGen05MMA Blackwell     e5m2      f32    32  32    25   -133  blackwell_float8_e5m2
TCGen05MMA Blackwell     e5m2      f16    32  32    25   -21   blackwell_float8_e5m2_to_float16
TCGen05MMA Blackwell     e3m2      f32    32  32    25   -133  blackwell_float6_e3m2fn
TCGen05MMA Blackwell     e3m2      f16    32  32    25   -21   blackwell_float6_e3m2fn_to_float16
TCGen05MMA Blackwell     e2m3      f32    32  32    25   -133  blackwell_float6_e2m3fn
TCGen05MMA Blackwell     e2m3      f16    32  32    25   -21   blackwell_float6_e2m3fn_to_float16
TCGen05MMA Blackwell     e2m1      f32    32  32    25   -133  blackwell_float4_e2m1fn
TCGen05MMA Blackwell     e2m1      f16    32  32    25   -21   blackwell_float4_e2m1fn_to_float16
MMA        RTX_Blackwell tf32      f32    4   4     25   -133  -
MMA        RTX_Blackwell tf32      f32    8   8     25   -133  blackwell_tf32
MMA        RTX_Blackwell bf16      f32    8   8     25   -133  -
MMA        RTX_Blackwell bf16      f32    16  16    25   -133  blackwell_bfloat16
MMA        RTX_Blackwell f16       f32    8   8     25   -133  -
MMA        RTX_Blackwell f16       f32    16  16    25   -133  blackwell_float16
MMA        RTX_Blackwell f16       f16    8   8     25   -21   -
MMA        RTX_Blackwell f16       f16    16  16    25   -21   blackwell_float16_to_float16
MMA        RTX_Blackwell e4m3      f32    16  16    25   -133  -
MMA        RTX_Blackwell e4m3      f32    32  32    25   -133  blackwell_float8_e4m3fn
MMA        RTX_Blackwell e4m3      f16    16  16    25   -21   -
MMA        RTX_Blackwell e4m3      f16    32  32    25   -21   blackwell_float8_e4m3fn_to_float16
MMA        RTX_Blackwell e5m2      f32    16  16    25   -133  -
MMA        RTX_Blackwell e5m2      f32    32  32    25   -133  blackwell_float8_e5m2
MMA        RTX_Blackwell e5m2      f16    16  16    25   -21   -
MMA        RTX_Blackwell e5m2      f16    32  32    25   -21   blackwell_float8_e5m2_to_float16
MMA        RTX_Blackwell e3m2      f32    32  32    25   -133  blackwell_float6_e3m2fn
MMA        RTX_Blackwell e3m2      f16    32  32    25   -21   blackwell_float6_e3m2fn_to_float16
MMA        RTX_Blackwell e2m3      f32    32  32    25   -133  blackwell_float6_e2m3fn
MMA        RTX_Blackwell e2m3      f16    32  32    25   -21   blackwell_float6_e2m3fn_to_float16
MMA        RTX_Blackwell e2m1      f32    32  32    25   -133  blackwell_float4_e2m1fn
MMA        RTX_Blackwell e2m1      f16    32  32    25   -21   blackwell_float4_e2m1fn_to_float16
"""
SUMS = {"f32": "float32", "f16": "float16", "e8m13": "fp_8_13_0"}
#: k of the probes of the search.
LENGTH = 72


@dataclass(frozen=True)
class Form:
    """A row of DUE."""

    simulator: str
    architecture: str
    operands: str
    sums: str
    k: int
    terms: int
    bits: int
    least: int
    name: str

    @classmethod
    def of(cls, row: str) -> Form:
        simulator, architecture, operands, sums, *numbers, name = row.split()
        return cls(simulator, architecture.replace("_", " "), operands, sums, *map(int, numbers), name)

    def __str__(self) -> str:
        return f"{self.simulator}-{self.architecture}-{self.operands}-{self.sums}-k{self.k}"

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What identifies the instruction in MMA-Sim."""
        return self.simulator, self.architecture, self.operands, "f16" if self.sums == "f16" else "f32", self.k

    @property
    def inputs(self) -> str:
        return INPUTS[self.operands]

    @property
    def output(self) -> str:
        return "float16" if self.sums == "f16" else "float32"

    @property
    def due(self) -> Accumulator:
        """The accumulator, by its fields."""
        return Accumulator(
            SUMS[self.sums], None, True, "aligned", self.terms, self.bits,
            "nearest_even" if self.sums == "f16" else "toward_zero", self.inputs, self.least,
        )  # fmt: skip

    @property
    def length(self) -> int:
        """Three instructions and a part of a fourth; of float6_e3m2fn, enough that float32 has to round their sum."""
        return 520 if (self.operands, self.sums) == ("e3m2", "f32") else max(40, 3 * self.k + 2)


FORMS = [Form.of(row) for row in DUE.strip().splitlines()[1:]]
#: One k of each instruction.
LARGEST = list({form.key[:4]: form for form in sorted(FORMS, key=lambda form: form.k)}.values())


@pytest.fixture(scope="module")
def simulators() -> Iterator[dict[tuple[str, str, str, str, int], list[Any]]]:
    """Every simulator of equal operands without scales, by its form's key: one of each spelling and type of c."""
    found: dict[tuple[str, str, str, str, int], dict[str, Any]] = {}
    with one_thread():
        for kind, architecture, spelling, one in of_nvidia():
            if one.a_type_ptx == one.b_type_ptx != "f64":
                key = kind, architecture, one.a_type_ptx, {2: "f16", 4: "f32"}[one.d_type.itemsize], one.k
                found.setdefault(key, {}).setdefault(spelling.partition(".")[2], one)
        yield {key: list(spelled.values()) for key, spelled in found.items()}


def rows_of(form: Form, length: int) -> Iterator[tuple[Array, Array]]:
    """Operands of dot products: rows made by rule, random ones where sums turn, and every row with every column of
    random matrices: of usual numbers, of numbers far apart, of large, small and special ones."""
    inputs = as_format(form.inputs)
    yield edge_rows(inputs, length)
    yield adversarial_rows(inputs, length, 2048, 0, {"f32": -149, "f16": -24, "e8m13": -139}[form.sums])
    for _, x, y in random_matrices(form.inputs, length, (SIDE, SIDE), 1):
        x, y = (np.pad(each[:, :length], [(0, 0), (0, max(0, length - each.shape[1]))]) for each in (x, y.T))
        yield np.repeat(x, SIDE, axis=0), np.tile(y, (SIDE, 1))


# -- tests --------------------------------------------------------------------------------------------------------


def test_the_forms_are_all_that_mma_sim_has(simulators: dict[Any, list[Any]]) -> None:
    assert {form.key for form in FORMS} == set(simulators)
    assert sum(map(len, simulators.values())) == 96
    assert len(LARGEST) == 60
    narrow = [form for form in LARGEST if form.simulator == "MMA" and form.inputs.startswith(("float6", "float4"))]
    assert len(LARGEST) - len(narrow) == 54


def neighbours(due: Accumulator, k: int) -> list[Accumulator]:
    """What a form must not be equal to: the due accumulator with one field changed."""
    leasts = () if due.least_alignment is None else (due.least_alignment - 1, due.least_alignment + 1, None)
    changed = [replace(due, least_alignment=least) for least in leasts]
    changed += [replace(due, fraction_bits=due.fraction_bits + more) for more in (-1, 1)]
    changed += [replace(due, rounding="nearest_even" if due.rounding == "toward_zero" else "toward_zero")]
    changed += [replace(due, format=format) for format in SUMS.values()]
    changed += [replace(due, terms=terms) for terms in (due.terms // 2, 2 * due.terms)]
    changed += [replace(due, chunk=chunk) for chunk in (k, 2 * k)]
    return [each for each in dict.fromkeys([*changed, *beside(due, due.operands[0])]) if each != due]


def test_mma_sim_has_one_code_of_nan(simulators: dict[Any, list[Any]]) -> None:
    """0x7fffffff and 0x7fff; an accumulator says that a result is NaN, and not which."""
    for key, codes in {
        ("WGMMA", "Hopper", "bf16", "f32", 16): (np.uint32, 0x7FFFFFFF),
        ("WGMMA", "Hopper", "f16", "f16", 16): (np.uint16, 0x7FFF),
    }.items():
        (simulator,) = simulators[key]
        inputs = INPUTS[key[2]]
        a, b = np.zeros((2, 2, 16), np.float32)
        a[:, 0], b[:, 0] = (np.nan, -np.inf), (1, 0)
        found = dots(simulator, *(as_array(as_inputs(each, inputs)) for each in (a, b)))
        assert found.view(codes[0]).tolist() == [codes[1]] * 2


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_equal_to_what_is_due_and_to_no_neighbour(form: Form, simulators: dict[Any, list[Any]]) -> None:
    """In every bit of some 10,000 dot products. A neighbour that is equal, too, is one that no input distinguishes."""
    assert form.name == "-" or TENSOR_CORES[form.name].accumulator == form.due
    for simulator in simulators[form.key]:
        length = form.length if simulator.c_type == simulator.d_type else form.k  # else its result is no c of the next
        others = neighbours(form.due, form.k)
        equal = others
        for a, b in rows_of(form, length):
            x, y = (as_array(as_inputs(each, form.inputs)) for each in (a, b))
            found = dots(simulator, x, y).astype(np.float64)
            wrong = np.flatnonzero(~same(found, Model(form.due, form.output).dots(a, b)))
            assert not wrong.size, (wrong.size, a[wrong[0]], b[wrong[0]])
            equal = [other for other in equal if same(found, Model(other, form.output).dots(a, b)).all()]
        assert equal == [other for other in others if inseparable(form.due, other, form.inputs, length)]


@pytest.mark.parametrize("form", LARGEST, ids=str)
def test_the_search_names_what_is_due(form: Form, simulators: dict[Any, list[Any]]) -> None:
    """validate_dot on the simulator alone: its matches are what is due, and everything beside that no input tells apart
    from it, and nothing else."""
    simulator = simulators[form.key][0]
    report = validate_dot(lambda a, b: product(simulator, a, b), inputs=form.inputs, length=LENGTH)
    found = [match.accumulator for match in report.matches]
    assert form.due in found, text(report)
    assert [each for each in found if not inseparable(form.due, each, form.inputs, LENGTH)] == []
    named = {effective(each, LENGTH) for each in found}
    alike = [each for each in beside(form.due, form.inputs) if inseparable(form.due, each, form.inputs, LENGTH)]
    assert [described(each) for each in alike if effective(each, LENGTH) not in named] == []
