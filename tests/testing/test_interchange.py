"""Arrays and dtypes of other libraries are read by their bits wherever mpsim takes an array or a format."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mpsim
import reference_models
from mpsim import Trainer, arithmetic, blocks, integers
from mpsim.formats import FORMATS, as_format
from mpsim.interchange import as_array, name_of, words_of
from mpsim.testing import assert_rounds_like, assert_same_bits, assert_within_codes

ml_dtypes = pytest.importorskip("ml_dtypes", reason="the test extra is not installed")

#: Types of eight and sixteen bits that ml_dtypes has.
NARROW = [name for name in FORMATS if hasattr(ml_dtypes, name) and FORMATS[name].bits in (8, 16)]
TYPES = [*NARROW, "float16", "float32", "float64"]


def every_code(name: str) -> np.ndarray:
    """All patterns of a type, as its ml_dtypes (or NumPy) array."""
    bits = FORMATS[name].bits
    dtype = np.float16 if name == "float16" else getattr(ml_dtypes, name)
    return np.arange(1 << bits).astype(f"uint{bits}").view(dtype)


class OnlyArray:
    """An array of a library that has ``__array__`` alone."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        assert dtype is None
        return self.array


#: A library whose arrays have ``__array__`` alone, and whose dtypes are those of ml_dtypes and NumPy.
ANY = SimpleNamespace(__name__="any", **{name: getattr(ml_dtypes, name, None) or getattr(np, name) for name in TYPES})


@pytest.fixture(params=["any", "torch", "jax"])
def library(request: pytest.FixtureRequest) -> Any:
    if request.param == "any":
        return ANY
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


def other(library: Any, array: np.ndarray) -> Any:
    """The same bits as an array of the library, or a skipped test where it lacks the type."""
    name = array.dtype.name
    if library is ANY:
        return OnlyArray(array)
    if library.__name__ == "jax":
        if not hasattr(library.numpy, name):
            pytest.skip(f"JAX has no {name}")
        return library.numpy.asarray(array)
    if not hasattr(library, name):
        pytest.skip(f"PyTorch has no {name}")
    if name in ("float16", "float32"):
        return library.from_numpy(array.copy())
    words = {1: np.uint8, 2: np.int16}[array.dtype.itemsize]
    return library.from_numpy(array.view(words).copy()).view(getattr(library, name))


@pytest.mark.parametrize("name", [*NARROW, "float16"])
def test_every_pattern_arrives(library: Any, name: str) -> None:
    array = every_code(name)
    foreign = other(library, array)
    words = words_of(foreign)
    assert words.type == name
    assert np.array_equal(words.words, array.view(words.words.dtype))
    assert as_array(foreign).dtype == array.dtype
    assert_same_bits(foreign, array)
    assert_within_codes(foreign, array, 0)


@pytest.mark.parametrize("name", TYPES)
def test_formats_of_dtypes(name: str) -> None:
    dtype = getattr(ml_dtypes, name, None) or getattr(np, name)
    assert as_format(dtype) is as_format(np.dtype(dtype)) is FORMATS[name]


def test_formats_of_dtypes_of_libraries(library: Any) -> None:
    space = library.numpy if library.__name__ == "jax" else library
    found = [name for name in FORMATS if hasattr(space, name)]
    assert {"float8_e4m3fn", "float8_e5m2", "bfloat16", "float16", "float32"} <= set(found)
    for name in found:
        assert name_of(getattr(space, name)) == name and as_format(getattr(space, name)) is FORMATS[name]


@pytest.mark.parametrize("wrong", [int, float, 5, None, object(), np.int8, np.dtype("V3")])
def test_what_is_not_a_format(wrong: object) -> None:
    with pytest.raises((ValueError, TypeError), match="format"):
        as_format(wrong)


X = np.arange(-32, 32, dtype=np.float32).reshape(2, 32) / 8

#: Public functions, each called with arrays that ``of`` converts and dtypes by name.
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "round_to": lambda of, dtype: mpsim.round_to(of(X), dtype("float8_e5m2")),
    "encode": lambda of, dtype: mpsim.encode(of(X), dtype("bfloat16")),
    "decode": lambda of, dtype: mpsim.decode(of(np.arange(256, dtype=np.uint8)), dtype("float8_e4m3fn")),
    "matmul": lambda of, dtype: mpsim.matmul(of(X), of(X.T.copy()), bias=of(X[0, :2].copy())),
    "round_to_blocks": lambda of, dtype: blocks.round_to_blocks(of(X), "mxfp4"),
    "quantize": lambda of, dtype: blocks.quantize(of(X), "nvfp4", tensor_scale=0.5).codes,
    "operate": lambda of, dtype: arithmetic.operate(
        "add", of(np.uint8([1, 2])), of(np.uint8([3, 4])), formats=dtype("float8_e5m2"), mode="up"
    ),
    "step": lambda of, dtype: (
        Trainer(reference_models.build("small_cnn", 0.0625), None, backend="reference")
        .step(of(np.ones((2, 1, 8, 8), np.float32)), of(np.array([0, 1], np.int32)))
        .logits
    ),
    "to_integer": lambda of, dtype: integers.to_integer(of(X), "int8"),
    "from_integer": lambda of, dtype: integers.from_integer(of(np.int8([-1, 2])), "int8"),
}


@pytest.mark.parametrize("name", CALLS)
def test_public_functions(library: Any, name: str) -> None:
    space = library.numpy if library.__name__ == "jax" else library
    of = {"any": OnlyArray, "jax": lambda x: library.numpy.asarray(x), "torch": lambda x: library.from_numpy(x)}
    of = of[library.__name__]
    expected = CALLS[name](lambda x: x, lambda text: text)
    assert_same_bits(CALLS[name](of, lambda text: getattr(space, text)), expected)


def test_tensors_with_gradients_views_and_lazy_signs() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = torch.tensor([[1.0, 2.0], [3.0, -0.0]], dtype=torch.bfloat16, requires_grad=True)
    assert as_array(x.T).astype(float).tolist() == [[1, 3], [2, 0]]
    assert words_of(torch.nn.Parameter(x.detach())[1]).words.tolist() == [0x4040, 0x8000]
    assert as_array(torch.imag(torch.tensor([1 + 2j]).conj())).tolist() == [-2.0]
    for wrong in (torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)):
        with pytest.raises(TypeError, match="dense|two numbers"):
            as_array(wrong)


def test_a_torch_cast_as_a_subject() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert_rounds_like(lambda x: torch.from_numpy(x).to(torch.bfloat16), torch.bfloat16, backend="reference")


def test_tensors_are_read_without_ml_dtypes() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    program = (
        "import sys; sys.modules['ml_dtypes'] = None\n"
        "import torch, mpsim\n"
        "from mpsim.interchange import as_array, words_of\n"
        "x = torch.tensor([0.3, -448.0]).to(torch.float8_e4m3fn)\n"
        "print(as_array(x).tolist(), words_of(x).words.tolist(), mpsim.encode(x, torch.bfloat16).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[0.3125, -448.0] [42, 254] [16032, 50144]"


def test_dlpack_alone_is_enough() -> None:
    class OnlyDlpack:
        def __init__(self, array: np.ndarray) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    assert mpsim.round_to(OnlyDlpack(np.float32([0.3])), "float8_e5m2", backend="reference").tolist() == [0.3125]
