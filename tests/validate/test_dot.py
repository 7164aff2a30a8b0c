"""validate_dot: every accumulator is found as itself from its answers alone; others are distinguished or measured."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mpsim.cli import app
from mpsim.contraction import matmul
from mpsim.kernels.spec_dot import dot as definition
from mpsim.products.accumulators import Accumulator
from mpsim.products.stages import Groups, Lanes, Product, Rising, Sums, Whole
from mpsim.products.tensor_cores import TENSOR_CORES, accumulator_of, described
from mpsim.products.text import text_of
from mpsim.validate import Calling, SubjectError
from mpsim.validate.dot.orders import candidates as dot_candidates
from mpsim.validate.dot.report import text
from mpsim.validate.dot.results import DotReport
from mpsim.validate.dot.shapes import wide_product
from mpsim.validate.dot.subjects import open_dot
from mpsim.validate.dot.validation import validate_dot

Array = np.ndarray[Any, Any]
pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")
pytest.importorskip("ml_dtypes", reason="the test extra is not installed")


def cut(**fields: Any) -> Accumulator:
    return Accumulator(**{"kind": "aligned", "rounding": "toward_zero", "chunk": None} | fields)


#: accumulator, inputs, length of the probes, how many others cannot be distinguished from it
OWN = (
    (Accumulator(), "float32", 1030, 0),
    (Accumulator(chunk=None), "float32", 300, 0),
    (Accumulator(chunk=7), "float32", 40, 0),
    (Accumulator(chunk=129, fma=False), "float32", 530, 0),
    (Accumulator(chunk=None, fma=False), "float32", 300, 0),
    (Accumulator(format="fp_6_9_0", chunk=64), "float32", 260, 0),
    (Accumulator(format="bfloat16", chunk=None), "bfloat16", 60, 1),  # fp_8_7_0 is bfloat16
    (Accumulator(format="float16", chunk=16), "float16", 70, 0),
    (Accumulator(format="float8_e4m3fn", chunk=None), "float8_e4m3fn", 60, 0),
    (Accumulator(kind="exact"), "float32", 60, 0),
    (Accumulator(kind="pairwise", chunk=1), "float32", 60, 1),
    (Accumulator(kind="pairwise", chunk=5), "float32", 60, 0),
    (Accumulator(kind="pairwise", chunk=8, fma=False), "float32", 60, 0),
    # 19 bits: no rounding of the sum shows; float16 products are too large for the least alignment to matter
    (cut(terms=12, fraction_bits=19, inputs="float16"), "float16", 60, 2 * 5 - 1),
    (cut(terms=5, fraction_bits=27, chunk=50, inputs="bfloat16"), "bfloat16", 260, 0),
    (cut(terms=3, fraction_bits=21, chunk=7, format="fp_8_21_0"), "float32", 40, 0),
    (cut(terms=2, fraction_bits=24), "float32", 60, 0),
    (cut(terms=2, fraction_bits=24, chunk=2), "float32", 60, 0),
    (cut(terms=16, fraction_bits=24, chunk=16), "float32", 80, 0),
    (cut(terms=1, fraction_bits=23), "float32", 60, 4),  # of one term, the least alignment decides nothing
    (cut(terms=4, inputs="tf32"), "float32", 60, 0),  # truncates operands that it is given whole
    (cut(terms=8, fraction_bits=23, rounding="nearest_even"), "float32", 60, 0),
    (cut(terms=64, fraction_bits=30), "float32", 200, 0),
    (cut(terms=32, fraction_bits=35, inputs="float8_e4m3fn"), "float8_e4m3fn", 100, 57),  # wider than the inputs' sums
)


@pytest.mark.parametrize("accumulator, inputs, length, others", OWN, ids=lambda x: getattr(x, "kind", None))
def test_an_accumulator_is_found_as_itself(
    accumulator: Accumulator, inputs: str, length: int, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By measuring: no list of known ones helps."""
    monkeypatch.setattr(dot_candidates, "KNOWN", ())
    monkeypatch.setattr(dot_candidates, "TENSOR_CORES", {})
    report = validate_dot(accumulator, inputs=inputs, length=length)
    found = [match.accumulator for match in report.matches]
    assert accumulator in found and len(found) <= 1 + others, text(report)
    assert report.equal and report.matches[0].names is not None


#: float6 and float4: every sum is exact, in any order, unless its type is narrow.
EXACT = [name for name, row in TENSOR_CORES.items() if row.inputs.startswith(("float6", "float4"))]


@pytest.mark.parametrize("name", EXACT)
def test_sums_that_are_exact_in_any_order_are_not_told_apart(name: str) -> None:
    row = TENSOR_CORES[name]
    report = validate_dot(row.accumulator, inputs=row.inputs, length=72)
    names = [each for match in report.matches for each in match.names]
    assert name in names, text(report)
    if row.output == "float32":
        assert {"exact", "sequential", "aligned"} <= {match.accumulator.kind for match in report.matches}
        assert "none tells these apart" in text(report)


@pytest.mark.parametrize("name", [name for name in TENSOR_CORES if name not in EXACT])
def test_a_tensor_core_is_found_by_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = TENSOR_CORES[name]
    monkeypatch.setattr(dot_candidates, "TENSOR_CORES", {})
    report = validate_dot(row.accumulator, inputs=row.inputs, length=3 * row.promoted if row.promoted else 72)
    names = [each for match in report.matches for each in match.names]
    assert name in names, text(report)
    for other in names:  # all that is left is the same model, or promotes further on than the probes reach
        assert TENSOR_CORES[other].accumulator == row.accumulator or TENSOR_CORES[other].promoted
    value = {m.name: m.value for m in report.measurements}
    assert value["terms"] == row.k // row.halves and value["alignment_bits"] == row.fraction_bits


def test_measurements_say_what_was_found() -> None:
    report = validate_dot(accumulator_of("hopper_float8_e5m2_promoted_128"), inputs="float8_e5m2", length=300)
    value = {m.name: m.value for m in report.measurements}
    assert value["terms"] == 32 and value["chunk"] == 128 and value["rounding"] == "toward_zero"
    assert value["sum_bits"] == value["alignment_bits"] == 13 and value["fma"] is None
    value = {m.name: m.value for m in validate_dot(Accumulator(chunk=9, fma=False), length=40).measurements}
    assert value["range"] == (-149, 127) and value["fma"] is False and value["rounding"] == "nearest_even"


def test_the_definition_as_a_function_of_two_vectors() -> None:
    """A subject that shares no code with the kernels: Python integers and fractions."""
    model = cut(terms=4, fraction_bits=23, inputs="float16")

    def subject(x: Array, y: Array) -> float:
        return definition(x.tolist(), y.tolist(), model)

    report = validate_dot(subject, "volta_float16", inputs="float16", length=20, side=4, form="dot")
    assert report.declared is not None and report.declared.equal and report.subject == "subject"


# -- others -----------------------------------------------------------------------------------------------------


def loop(a: Array, b: Array) -> Array:
    """Rising k in plain NumPy: products rounded, then added."""
    total = np.zeros((a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        total += np.outer(a[:, k], b[k])
    return total


def double(a: Array, b: Array) -> Array:
    total = np.zeros((a.shape[0], b.shape[1]))
    for k in range(a.shape[1]):
        total += np.outer(a[:, k].astype(np.float64), b[k])
    return total.astype(np.float32)


def test_a_loop_in_numpy_is_sequential_without_fma() -> None:
    report = validate_dot(loop, Accumulator(chunk=None, fma=False), length=60)
    assert report.equal and described(report.matches[0].accumulator) == "sequential,format=float32,chunk=none,fma=false"


def test_float64_sums_are_found() -> None:
    """Products of float32 numbers are exact in float64."""
    report = validate_dot(double, length=60)
    assert report.equal and report.error.correct == 1 and report.error.largest == 0
    found = [each.accumulator for each in report.matches]
    assert any("float64" in text_of(each) for each in found if isinstance(each, Product))


def lanes(a: Array, b: Array) -> Array:
    """Eight sums side by side, then added."""
    sums = np.zeros((8, a.shape[0], b.shape[1]), np.float32)
    for k in range(a.shape[1]):
        sums[k % 8] += np.outer(a[:, k], b[k])
    return loop(np.ones((1, 8), np.float32), sums.reshape(8, -1)).reshape(sums.shape[1:])


def test_lanes_are_found() -> None:
    report = validate_dot(lanes, length=70)
    expected = Product(products=Sums(), order=Groups(Lanes(8), Rising(), Rising(start="first")))
    assert report.equal and expected in [each.accumulator for each in report.matches]
    assert {m.name: m.value for m in report.measurements}["order"] == text_of(report.matches[0].accumulator)


def test_numpy_is_told_honestly() -> None:
    """What its matrix product does depends on the machine; whatever it is, a match is one in every bit."""
    report = validate_dot("numpy:matmul", length=60)
    random = np.random.default_rng(5)
    a, b = (random.standard_normal(shape).astype(np.float32) for shape in ((16, 60), (60, 16)))
    alike = a.shape[0] * b.shape[1] if report.places is None else report.places.parts[0][0]
    for match in report.matches:
        assert (matmul(a, b, match.accumulator) == a @ b).sum() >= alike
    if not report.matches:
        assert "equal to no accumulator that was tried" in text(report) and report.nearest is not None


def planted(bug: str) -> Any:
    """A matrix product in the default order with one defect."""

    def subject(a: Array, b: Array) -> Array:
        a, b, k = a.copy(), b.copy(), a.shape[1]
        if bug == "last k of an odd length is left out" and k % 2 and k > 1:
            return matmul(a[:, :-1], b[:-1], threads=1)
        if bug == "k = 17 is read as float16" and k > 17:
            a[:, 17] = a[:, 17].astype(np.float16).astype(np.float32)
        if bug == "chunks of 8 for the last rows":
            return np.concatenate([matmul(a[:12], b, threads=1), matmul(a[12:], b, Accumulator(chunk=8), threads=1)])
        if bug == "two neighbours are swapped":
            a[:, [20, 21]], b[[20, 21]] = a[:, [21, 20]], b[[21, 20]]
        out = matmul(a, b, threads=1)
        if bug == "subnormals are flushed":
            out[np.abs(out) < 2.0**-126] = 0
        if bug == "NaN becomes zero":
            out[np.isnan(out)] = 0
        return out

    return subject if "swapped" not in bug else lambda a, b: subject(a, b) if a.shape[1] > 21 else matmul(a, b)


@pytest.mark.parametrize(
    "bug",
    [
        "last k of an odd length is left out",
        "k = 17 is read as float16",
        "chunks of 8 for the last rows",
        "two neighbours are swapped",
        "subnormals are flushed",
        "NaN becomes zero",
    ],
)
def test_a_planted_bug_is_told_apart(bug: str) -> None:
    report = validate_dot(planted(bug), Accumulator(), length=60)
    assert not report.equal and report.declared is not None and not report.declared.equal
    if "swapped" in bug:  # an order that the report draws
        assert all(each.drawn for each in report.matches)
    else:  # what gives most elements, not all
        assert not report.matches or report.places is not None
    difference = report.declared.difference
    assert difference is not None
    a, b = (np.float32(x) for x in (difference.a, difference.b))
    assert np.array_equal(matmul(a[None], b[:, None]).ravel(), [difference.expected], equal_nan=True)
    assert "different from the declared accumulator" in text(report)


def test_another_sign_of_zero_is_named_as_such() -> None:
    report = validate_dot(lambda a, b: matmul(a, b, threads=1) + np.float32(0), length=60)
    found = report.matches[0].accumulator
    assert report.equal and isinstance(found, Product)
    assert found.order == Groups(Whole(), Rising(), Rising())  # one chunk holds all terms


def test_another_sign_of_zero_for_some_lengths_is_named_too() -> None:
    """Fewer than 60 terms end in +0. The number is found by asking for numbers of terms in between."""
    report = validate_dot(
        lambda a, b: matmul(a, b, threads=1) + (np.float32(0) if a.shape[1] < 60 else np.float32(-0.0)), length=60
    )
    assert report.equal and report.matches[0].text == "upto(59, groups(whole(), rising(), rising()), rising())"
    assert "number of terms" not in text(report)


def test_sums_that_depend_on_the_number_of_terms() -> None:
    def pairs_of_halves(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.shape[1] == 60:
            return matmul(a, b, threads=1)
        half = a.shape[1] // 2
        return matmul(a[:, :half], b[:half], threads=1) + matmul(a[:, half:], b[half:], threads=1)

    report = validate_dot(pairs_of_halves, length=60)
    halves = "groups(splits(2), reordered(descending(), rising()), rising(start=first))"
    expected = f"upto(59, reordered(descending(), {halves}), rising())"
    assert report.equal and expected in report.matches[0].text, text(report)


def test_no_dot_product_at_all() -> None:
    report = validate_dot(lambda a, b: np.zeros((a.shape[0], b.shape[1]), np.float32), length=20)
    assert not report.equal and "this is not a dot product" in text(report)


# -- subjects that cannot be run, C, the command ------------------------------------------------------------------


@pytest.mark.parametrize(
    "subject, options, message",
    [
        ("nosuch:thing", {}, "cannot import nosuch"),
        ("numpy:pi", {}, "not a function"),
        ("matmul", {}, "names no subject"),
        (lambda a, b: a, {}, "answered shape"),
        (lambda a, b: 1 / 0, {}, "ZeroDivisionError"),
        (lambda a, b: (a @ b).astype(int), {}, "answered int64"),
    ],
)
def test_what_cannot_be_run(subject: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        validate_dot(subject, length=20, **options)


@pytest.mark.parametrize(
    "of,words",
    [
        (lambda k: max(1, k // 4 * 4), "k = 36 to 38 of K = 39; k = 32 of K = 33; k = 1, 2 of K = 3"),
        (lambda k: max(1, k - 1), "k = 39 of K = 40; k = 38 of K = 39; k = 32 of K = 33; k = 2 of K = 3"),
    ],
)
def test_products_that_a_loop_forgets_are_named(of: Callable[[int], int], words: str) -> None:
    report = validate_dot(lambda a, b: a[:, : of(a.shape[1])] @ b[: of(a.shape[1])], length=40)
    assert not report.equal and f"these products do not reach the result: {words}" in report.notes


@pytest.mark.parametrize("declared", [None, "chunk=none,fma=false"])
def test_a_rare_error_is_not_taken_for_another_order_of_large_matrices(declared: str | None) -> None:
    """One result of the largest product is wrong, and it is as wrong in every other product."""

    def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found = matmul(np.ascontiguousarray(a), np.ascontiguousarray(b), "chunk=none,fma=false")
        return np.where(found == rare, np.nextafter(found, np.float32(np.inf)), found)

    rare = np.float32(np.nan)
    opened = open_dot(multiply)
    wide = wide_product(opened, 0)
    assert wide is not None
    rare = np.float32(wide.found[100, 7])
    report = validate_dot(multiply, declared, length=40)
    assert not report.equal and not report.large and report.shapes is None and not report.terms
    tried = report.declared if declared else report.nearest
    assert tried is not None and tried.probes_differ == 1 and "132 x 132, K = 33" in text(report)


def test_wrong_arguments() -> None:
    for options, message in (
        ({"length": 4}, "length must be a whole number from 16"),
        ({"inputs": "float7"}, "unknown inputs 'float7'"),
        ({"inputs": "float64"}, "inputs format 'float64' has values that float32 cannot hold"),
        ({"inputs": "float8_e8m0fnu"}, "inputs format 'float8_e8m0fnu' has no sign or no zero"),
        ({"form": "row"}, "unknown form 'row'"),
        ({"side": 0}, "side must be a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=message):
            validate_dot(np.matmul, **{"length": 20, **options})
    with pytest.raises(ValueError, match="promises no bits"):
        validate_dot(np.matmul, "blas", length=20)
    for wrong in ("foo=1", "chunk=x", "fma=yes", "hopper"):
        with pytest.raises(ValueError):
            accumulator_of(wrong)


SOURCE = """
#include <stddef.h>
float chunks_of_4(const float *a, const float *b, size_t n) {
    float total = 0;
    for (size_t start = 0; start < n; start += 4) {
        float sum = 0;
        for (size_t k = start; k < n && k < start + 4; k++) sum += a[k] * b[k];
        total = start ? total + sum : sum;
    }
    return total;
}
void product(const float *a, const float *b, float *c, size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float sum = 0;
            for (size_t l = 0; l < k; l++) sum += a[i * k + l] * b[l * n + j];
            c[i * n + j] = sum;
        }
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")
def test_c_functions(tmp_path: Path) -> None:
    source, library = tmp_path / "sums.c", tmp_path / "sums.so"
    source.write_text(SOURCE)
    flags = ["-O1", "-ffp-contract=off", "-shared", "-fPIC", "-o"]
    subprocess.run(["cc", *flags, str(library), str(source)], check=True)
    for symbol, chunk in (("chunks_of_4", 4), ("product", None)):
        report = validate_dot(f"{library}:{symbol}", length=40)
        assert report.matches and report.matches[0].accumulator == Accumulator(chunk=chunk, fma=False)
    with pytest.raises(SubjectError, match="exports no"):
        validate_dot(f"{library}:nothing", length=40)
    with pytest.raises(SubjectError, match=r"product\(int\) has 0 arrays; expected 3"):
        validate_dot(f"{library}:product", length=40, calling=Calling(signature="int product(int)"))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["validate", "dot", *arguments])
    return result.exit_code, result.output


def test_command() -> None:
    own = ("accumulator:chunk=7", "--length", "40")
    code, output = run(*own)
    assert code == 0 and "equal to sequential,format=float32,chunk=7,fma=true" in output
    code, output = run(*own, "--accumulator", "chunk=8")
    assert code == 1 and "different from the declared accumulator" in output and "at k = 7" in output
    code, output = run(*own, "--json")
    row = json.loads(output)
    assert code == 0 and row["equal"] and row["matches"][0]["accumulator"].startswith("sequential")
    assert row["measurements"]["chunk"]["value"] == 7
    for wrong in (("nosuch:thing",), ("accumulator:foo=1",), ("numpy:matmul", "--length", "3")):
        assert run(*wrong)[0] == 2


def test_report_is_json() -> None:
    report = validate_dot(double, "exact", length=20)
    assert isinstance(report, DotReport) and json.loads(json.dumps(report.to_dict()))["declared"]["difference"]["terms"]
