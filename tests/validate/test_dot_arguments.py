"""Products that take C, alpha, beta, a bias and scales: certified against a declared description, found, or refused."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim import matmul
from mpsim.validate import SubjectError, validate_dot
from mpsim.validate.answers import Verdict
from mpsim.validate.dot import report as presentation
from mpsim.validate.subjects.opening import Calling

pytest.importorskip("mpsim._kernels", reason="mpsim._kernels is not built: run 'pip install -e .'")

Array = np.ndarray[Any, Any]
f = np.float32
SUM = "products=float32, order=rising()"


def total(a: Array, b: Array, t: Array | None = None) -> Array:
    t = np.zeros((len(a), b.shape[1]), f) if t is None else t
    for k in range(a.shape[1]):
        t = t + a[:, k : k + 1] * b[k][None]
    return t


def rounded(a: Array, b: Array, c: Array, alpha: float, beta: float) -> Array:
    return f(alpha) * total(a, b) + f(beta) * c


def from_c(a: Array, b: Array, c: Array) -> Array:
    return total(a, b, c)


def added(a: Array, b: Array, c: Array) -> Array:
    return total(a, b) + c


def finished(a: Array, b: Array, left_scale: Array, right_scale: Array, bias: Array) -> Array:
    return (total(a, b) * left_scale * right_scale + bias).astype(np.float16)


def of_blocks(a: Array, b: Array, left_scale: Array, right_scale: Array) -> Array:
    """Sums of 8 k, times the rounded product of their scales."""
    found = np.zeros((len(a), b.shape[1]), f)
    for j in range(-(-a.shape[1] // 8)):
        k = slice(8 * j, 8 * (j + 1))
        found = found + total(a[:, k], b[k]) * (left_scale[:, j : j + 1] * right_scale[j : j + 1])
    return found


def with_default(a: Array, b: Array, c: Array | None = None, bias: Array | None = None) -> Array:
    found = total(a, b) if c is None else total(a, b) + c
    return found if bias is None else found + bias


def verdict(subject: Callable[..., Any], declared: str | None, **options: Any) -> Any:
    with np.errstate(all="ignore"):
        return validate_dot(subject, declared, length=24, side=8, **options)


ROUNDED = f"product({SUM}, epilogue=(scale(alpha), addc(products=float32)))"
FUSED = f"product({SUM}, epilogue=(scale(alpha, none), addc(products=float32)))"
SCALED = f"product({SUM}, epilogue=(scale(left), scale(right), bias()))"
BLOCKS = "product(products=float32, order=groups(blocks(8), scaled(rising(), scale(both), 8), rising()), epilogue=())"


@pytest.mark.parametrize(
    "subject,equal,different",
    [
        (rounded, ROUNDED, FUSED),
        (from_c, f"product({SUM}, start=c)", f"product({SUM}, epilogue=(addc(),))"),
        (finished, SCALED, f"product({SUM}, epilogue=(scale(both), bias()))"),
        (of_blocks, BLOCKS, BLOCKS.replace("scale(both)", "scale(both, none)")),
    ],
)
def test_a_declared_description_is_certified(subject: Callable[..., Any], equal: str, different: str) -> None:
    report = verdict(subject, equal)
    assert report.equal and report.verdict is Verdict.EQUAL
    assert "on 26,953 results with random and edge values of" in presentation.text(report), presentation.text(report)
    assert "told apart from" in presentation.text(report) and len(report.apart) > 4
    assert [each.text for each in report.matches][1:] == (
        ["product(products=float32, order=rising(), epilogue=(scale(left), scale(right), bias(float16)))"
         ", then rounded once to float16"] if subject is finished else []
    )  # fmt: skip
    other = verdict(subject, different)
    assert not other.equal and other.verdict is Verdict.DIFFERENT
    shown = presentation.text(other)
    assert "different from the declared accumulator" in shown and "for example (" in shown
    assert all(f"{name} = " in shown for name in report.arguments)


@pytest.mark.parametrize(
    "subject,expected",
    [(rounded, ROUNDED), (from_c, f"product({SUM}, epilogue=(), start=c)")],
)
def test_how_arguments_take_part_is_found(subject: Callable[..., Any], expected: str) -> None:
    report = verdict(subject, None)
    assert report.equal
    assert report.matches[0].text.removesuffix(", then rounded once to float16") == expected
    assert "descriptions were compared of" in report.notes[-1]


def test_an_epilogue_that_is_none_of_those_is_not_named() -> None:
    """C is multiplied by itself."""
    report = verdict(lambda a, b, c: total(a, b) + c * c, None)
    assert report.verdict is Verdict.DIFFERENT and not report.matches
    assert "equal to no description of what is done with c that was compared" in presentation.text(report)


def test_an_unknown_order_is_said_and_its_arguments_are_not_looked_at() -> None:
    def unknown(a: Array, b: Array, c: Array) -> Array:
        return np.sin(total(a, b)).astype(f) + c

    report = verdict(unknown, None)
    assert not report.equal
    assert "what is done with c was not looked at: the order of the sums is not known" in report.notes


@pytest.mark.parametrize(
    "subject,declared,message",
    [
        (
            added,
            "chunk=none,fma=false",
            r"takes c, which the declared accumulator .* does not use: declare how, as prod",
        ),
        (rounded, f"product({SUM}, epilogue=(addc(),))", "takes alpha, which"),
        (total, f"product({SUM}, epilogue=(scale(left),))", "multiplies by left_scale, which total does not take"),
        (finished, f"product({SUM}, epilogue=(bias(),))", "takes left_scale, which"),
    ],
)
def test_what_the_description_cannot_use_is_refused(subject: Callable[..., Any], declared: str, message: str) -> None:
    with pytest.raises(SubjectError, match=message):
        verdict(subject, declared)


def test_an_argument_with_a_default_is_passed_where_the_description_uses_it() -> None:
    report = verdict(with_default, f"product({SUM}, epilogue=(addc(),))")
    assert report.equal and report.arguments == ("c",)
    assert report.notes == ("not given, and not looked at: bias",)
    plain = verdict(with_default, "chunk=none,fma=false")  # by the usual search, without arguments
    assert plain.matches and "not given, and not looked at: c, bias" in plain.notes


def test_scales_of_a_format_arrive_as_its_codes() -> None:
    seen = set()

    def nvfp4(a: Array, b: Array, left_scale: Array, right_scale: Array) -> Array:
        seen.update((each.dtype.name, each.shape[1 - place]) for place, each in enumerate((left_scale, right_scale)))
        return matmul(a, b, "rtx_blackwell_mma_sync_nvfp4", left_scale=left_scale, right_scale=right_scale, threads=1)

    declared = "rtx_blackwell_mma_sync_nvfp4"
    with np.errstate(all="ignore"):
        assert validate_dot(nvfp4, declared, inputs="float4_e2m1fn", length=100, side=8).equal
    assert ("float8_e4m3fn", 7) in seen and {name for name, _ in seen} == {"float8_e4m3fn"}


C_SOURCE = """
#include <stddef.h>
void gemm(const float *a, const float *b, const float *c, float *d, float alpha, float beta,
          size_t m, size_t n, size_t k) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            volatile float t = 0, p;
            for (size_t l = 0; l < k; l++) { p = a[i * k + l] * b[l * n + j]; t = t + p; }
            p = alpha * t; t = beta * c[i * n + j];
            d[i * n + j] = p + t;
        }
}
void blas(size_t m, size_t n, size_t k, float alpha, const float *a, const float *b, float beta, float *c) {
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            volatile float t = 0, p;
            for (size_t l = 0; l < k; l++) { p = a[i * k + l] * b[l * n + j]; t = t + p; }
            p = alpha * t; t = beta * c[i * n + j];
            c[i * n + j] = p + t;
        }
}
void wide(const float *a, const float *b, const double *bias, float *d, size_t m, size_t n, size_t k) { (void)bias; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_c_functions_take_arguments_by_their_names(tmp_path: Path) -> None:
    source, library = tmp_path / "kernels.c", tmp_path / "kernels.so"
    source.write_text(C_SOURCE)
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    assert verdict(f"{library}:gemm", ROUNDED).equal  # type: ignore[arg-type]
    assert not verdict(f"{library}:gemm", FUSED).equal  # type: ignore[arg-type]
    assert verdict(f"{library}:blas", ROUNDED).equal  # type: ignore[arg-type]
    with pytest.raises(SubjectError, match="an array of float cannot hold bias"):
        verdict(f"{library}:wide", f"product({SUM})")  # type: ignore[arg-type]


def test_tensors_are_passed_to_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="the peers extra is not installed")
    (tmp_path / "kernel.py").write_text(
        "import torch\n"
        "def gemm(a, b, c, alpha):\n"
        "    t = torch.zeros(a.shape[0], b.shape[1])\n"
        "    for k in range(a.shape[1]):\n"
        "        t = t + torch.outer(a[:, k].float(), b[k].float())\n"
        "    return (alpha * t + c).bfloat16()\n"
    )
    declared = f"product({SUM}, epilogue=(scale(alpha), addc()), output=bfloat16)"
    calling = Calling(arguments="torch", in_process=True)
    subject: Any = f"{tmp_path / 'kernel.py'}:gemm"
    assert verdict(subject, declared, inputs="bfloat16", calling=calling).equal
    other = declared.replace("addc()", "addc(bfloat16)")
    assert not verdict(subject, other, inputs="bfloat16", calling=calling).equal


def test_a_tensor_of_another_device_is_fetched(tmp_path: Path) -> None:
    """A stand-in for a GPU's tensor: a class of its own, says it is on cuda, and gives its numbers to .cpu() alone."""
    pytest.importorskip("torch", reason="the peers extra is not installed")
    (tmp_path / "kernel.py").write_text(
        "import torch\n\n\n"
        "class Far(torch.Tensor):\n"
        "    def __new__(cls, near):\n"
        "        return torch.Tensor._make_wrapper_subclass(cls, near.shape, dtype=near.dtype, device='cuda')\n"
        "    def __init__(self, near):\n"
        "        self.near = near\n"
        "    @classmethod\n"
        "    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):\n"
        "        near = args[0].near\n"
        "        if function is torch.ops.aten._to_copy.default and kwargs['device'].type == 'cpu':\n"
        "            return near\n"
        "        assert function is torch.ops.aten.detach.default, function\n"
        "        return Far(near)\n\n\n"
        "def last_first(a, b):\n"
        "    total = torch.zeros(a.shape[0], b.shape[1])\n"
        "    for k in reversed(range(a.shape[1])):\n"
        "        total = total + torch.outer(a[:, k].float(), b[k].float())\n"
        "    return Far(total.bfloat16())\n"
        "def without_numbers(a, b):\n"
        "    return torch.zeros(a.shape[0], b.shape[1], device='meta')\n"
    )
    subject: Any = f"{tmp_path / 'kernel.py'}:last_first"
    calling = Calling(arguments="torch", in_process=True)
    expected = "product(products=float32, order=reordered(descending(), rising()), output=bfloat16)"
    assert validate_dot(subject, expected, inputs="bfloat16", length=16, calling=calling).equal
    subject = f"{tmp_path / 'kernel.py'}:without_numbers"
    with pytest.raises(SubjectError, match="Cannot copy out of meta tensor"):
        validate_dot(subject, length=16, calling=calling)


def no_nan(a: Array, b: Array, left_scale: Array) -> Array:
    return total(a, b) * np.nan_to_num(left_scale)


def above_zero(a: Array, b: Array, left_scale: Array) -> Array:
    return total(a, b) * np.maximum(left_scale, f(1e-12))


def large_flushed(a: Array, b: Array, alpha: float) -> Array:
    return total(a, b) * min(f(alpha), f(1e20))


def two_rows(a: Array, b: Array, c: Array) -> Array:
    """Two rows in two splits."""
    half = a.shape[1] // 2
    return (total(a, b) if len(a) != 2 else total(a[:, :half], b[:half]) + total(a[:, half:], b[half:])) + c


@pytest.mark.parametrize(
    "subject,declared",
    [
        (no_nan, f"product({SUM}, epilogue=(scale(left),))"),
        (above_zero, f"product({SUM}, epilogue=(scale(left),))"),
        (large_flushed, f"product({SUM}, epilogue=(scale(alpha),))"),
        (two_rows, f"product({SUM}, epilogue=(addc(),))"),
    ],
)
def test_what_differs_for_few_arguments_or_shapes_is_not_equal(subject: Callable[..., Any], declared: str) -> None:
    report = verdict(subject, declared)
    assert report.verdict is Verdict.DIFFERENT and report.declared.agreeing > report.declared.results // 2


@pytest.mark.parametrize(
    "name,wrong",
    [
        ("rtx_blackwell_mma_sync_nvfp4", lambda scale: np.where(np.isnan(scale), 1, scale)),
        ("blackwell_tcgen05_mxf4", lambda scale: np.maximum(scale, f(2.0**-120))),
    ],
)
def test_scales_at_the_ends_of_their_format_are_asked(name: str, wrong: Callable[[Array], Array]) -> None:
    def product(a: Array, b: Array, left_scale: Array, right_scale: Array) -> Array:
        left, right = left_scale.astype(f), right_scale.astype(f)
        return matmul(a, b, name, left_scale=wrong(left).astype(f), right_scale=right, threads=1)

    with np.errstate(all="ignore"):
        assert not validate_dot(product, name, inputs="float4_e2m1fn", length=64, side=4).equal


def test_c_that_is_not_read_where_beta_is_zero_is_named() -> None:
    def blas(a: Array, b: Array, c: Array, alpha: float, beta: float) -> Array:
        found = f(alpha) * total(a, b)
        return found if beta == 0 else found + f(beta) * c

    def wrong(a: Array, b: Array, c: Array, alpha: float, beta: float) -> Array:
        return blas(a, b, c, alpha, beta) if alpha else f(beta) * c

    report = verdict(blas, ROUNDED)
    assert report.verdict is Verdict.DIFFERENT
    assert "cause: C is not read where beta is 0, as in BLAS" in presentation.text(report)
    skipping = ROUNDED.replace("products=float32))", "products=float32, skips_zero=true))")
    assert verdict(blas, skipping).equal and not verdict(rounded, skipping).equal
    found = verdict(blas, None)
    assert found.equal and [each.text for each in found.matches] == [skipping]
    assert "cause:" not in presentation.text(verdict(wrong, ROUNDED))
    assert "cause:" not in presentation.text(verdict(blas, FUSED))


def test_scales_of_blocks_without_a_declaration_say_what_to_declare(call: Callable[..., tuple[int, str, str]]) -> None:
    with pytest.raises(SubjectError, match=r"left_scale float32 \(8, 1\).*declare one that .* scale\(both\), 128"):
        verdict(of_blocks, None)
    name = "rtx_blackwell_mma_sync_nvfp4"
    options = "validate", "dot", f"accumulator:{name}", "--inputs", "float4_e2m1fn", "--length", "40", "--side", "4"
    code, _, errors = call(*options)
    assert code == 2 and "declare the same description" in errors
    assert call(*options, "--accumulator", name)[0] == 0


def test_another_order_for_some_shapes_is_reported_with_arguments() -> None:
    assert "the sums depend on the shape of the matrices" in presentation.text(verdict(two_rows, None))
