"""Every CUDA kernel compiled to PTX, without a device: no instruction that would give other bits."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: pip install -e '.[test-cuda]'")

import mpsim.kernels.cuda  # noqa: E402
from mpsim.kernels.cuda.device.intrinsics import SIMULATED  # noqa: E402
from mpsim.kernels.cuda.device.launch import Kernel, every_kernel  # noqa: E402

if SIMULATED:
    pytest.skip("the CUDA simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM", allow_module_level=True)

for _, _name, _ in pkgutil.walk_packages(mpsim.kernels.cuda.__path__, "mpsim.kernels.cuda."):
    if not _name.endswith(".simulated"):
        importlib.import_module(_name)

#: Arithmetic whose bits depend on an option or on the device: without .rn a multiply and an add may become one fma.
INEXACT = re.compile(
    r"\.ftz|\.approx|\.full|^(add|sub|mul|mad|div|sqrt|rcp)\.f(32|64)$|^(ex2|lg2|tanh|rsqrt|sin|cos)\."
)
CAPABILITIES = ((8, 0), (9, 0))
KERNELS = {kernel.name: kernel for kernel in every_kernel()}


#: One of each family whose members differ in a mode, a source of random bits or a tile. The others run with --slow.
ALWAYS = (
    "rounding.kernels.nearest_even23[0]", "rounding.kernels.stochastic23[1]", "rounding.kernels.wide23[2]",
    "rounding.kernels.wide52[0]", "rounding.kernels.qpytorch_stochastic23[1]",
    "contraction.tile.32x32x16x4x4x4x2_fused_a_along_k", "contraction.tile.128x128x8x8x8x4x2_b_along_k",
)  # fmt: skip
FAMILIES = ("rounding.kernels.", "contraction.tile.")


def signature_of(parts: Any) -> Any:
    """A numba signature from what Kernel.signatures holds: text, or a tuple of texts and types."""
    from numba.cuda import types
    from numba.cuda.core import sigutils

    arguments: list[Any] = []
    for part in (parts,) if isinstance(parts, str) else parts:
        arguments += sigutils.normalize_signature(f"void({part})")[0] if isinstance(part, str) else [part]
    return types.void(*arguments)


def instructions(kernel: Kernel, signature: Any) -> Iterator[tuple[tuple[int, int], Counter[str]]]:
    """How often each instruction stands in the kernel's PTX, by compute capability; numba's part is done once."""
    from numba.cuda import compiler

    first = CAPABILITIES[0]
    types = signature_of(signature)
    library, _ = compiler._compile_pyfunc_with_fixup(kernel.function, types, device=False, abi="numba", cc=first)
    for capability in CAPABILITIES:
        (ptx,) = library.get_asm_strs(cc=capability)
        assert f".target sm_{capability[0]}{capability[1]}" in ptx
        yield capability, Counter(re.findall(r"^\s+(?:@!?%p\d+ )?([a-z][\w.:]*)\s", ptx, re.MULTILINE))


def is_fused(name: str) -> bool:
    """Whether the definition of what the kernel computes has a fused multiply-add."""
    if "add_parts" in name:  # which adds what was summed
        return False
    depthwise = name.startswith("contraction.depthwise") and name.endswith("True)")
    return "fused" in name or depthwise or name == "contraction.strided.sum_again"


def test_every_file_s_kernels_are_there() -> None:
    files: dict[str, set[str]] = {}
    for name in KERNELS:
        room, file = name.split(".")[:2]
        files.setdefault(room, set()).add(file)
    assert files == {
        "contraction": {"depthwise", "each", "placing", "strided", "tile"},
        "layers": {
            "elementwise",
            "functions",
            "loss",
            "moving",
            "normalization",
            "not_finite",
            "pooling",
            "sums",
            "updates",
        },
        "rounding": {"codes", "kernels", "philox"},
    }


def test_names_are_unique() -> None:
    """A compiled kernel is found on disk by its name (mpsim/kernels/cuda/device/cubins.py)."""
    assert len(KERNELS) == len({id(kernel) for kernel in every_kernel()})


def marked(name: str) -> Any:
    return pytest.param(name, marks=pytest.mark.slow if name.startswith(FAMILIES) and name not in ALWAYS else ())


def test_the_kernels_of_each_family_that_always_run_are_there() -> None:
    assert set(ALWAYS) <= set(KERNELS)


@pytest.mark.parametrize("name", [marked(name) for name in KERNELS])
def test_no_instruction_gives_other_bits(name: str) -> None:
    kernel = KERNELS[name]
    for signature in kernel.signatures:
        for capability, found in instructions(kernel, signature):
            assert [i for i in found if INEXACT.search(i)] == [], (signature, capability)
            fused = {i for i in found if i.startswith(("fma", "mad.f"))}
            assert fused == ({"fma.rn.f32"} if is_fused(name) else set()), (signature, capability)


def test_a_plain_multiply_and_add_would_be_contracted() -> None:
    """So the tests above see what they look for."""

    def plain(x, y):  # type: ignore[no-untyped-def]
        x[0] = x[0] * y[0] + x[1]

    found = dict(instructions(Kernel(plain, (), "plain"), "float32[::1], float32[::1]"))
    assert all("fma.rn.f32" in counts for counts in found.values())
