"""What a primitive says of its kind is what its functions do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpsim import kernels
from mpsim.errors import UsageError
from mpsim.ops import PRIMITIVES, primitive_of

CASES = [(kind, i) for kind, primitive in PRIMITIVES.items() for i in range(len(primitive.samples))]


def forward(kind: str, i: int) -> tuple[tuple, np.ndarray, list[Any]]:
    """(inputs, output, what is saved of arrays with more than one axis)."""
    primitive, sample, random = PRIMITIVES[kind], PRIMITIVES[kind].samples[i], np.random.default_rng(i)

    def drawn(shape: Any) -> np.ndarray:
        return shape if isinstance(shape, np.ndarray) else random.standard_normal(shape).astype(np.float32)

    inputs, parameters = tuple(map(drawn, sample.inputs)), tuple(map(drawn, sample.parameters))
    output, saved = primitive.forward(kernels.bind("reference"), inputs, parameters, **sample.attributes)
    arrays = [each for each in saved if isinstance(each, np.ndarray) and each.ndim > 1]
    constants = (*parameters, *sample.attributes.values(), *sample.inputs)  # labels are arrays of the sample
    return inputs, output, [each for each in arrays if not any(each is constant for constant in constants)]


@pytest.mark.parametrize(("kind", "i"), CASES)
def test_what_is_kept(kind: str, i: int) -> None:
    inputs, output, saved = forward(kind, i)
    own = [each for each in saved if not any(each is given for given in inputs)]
    assert primitive_of(kind).reads_input_again == (len(own) < len(saved))
    assert (primitive_of(kind).kept_bits > 0) == bool(own)
    assert all(each.shape == output.shape for each in own)


@pytest.mark.parametrize(("kind", "i"), CASES)
def test_which_ops_choose(kind: str, i: int) -> None:
    inputs, output, _ = forward(kind, i)
    known = np.concatenate([[0.0], *(given.ravel() for given in inputs)])
    assert primitive_of(kind).chooses == bool(np.isin(output, known).all())


def test_products_open_groups_and_the_losses_are_these() -> None:
    products = {kind for kind, primitive in PRIMITIVES.items() if primitive.is_product}
    assert products == {"Conv1d", "Conv2d", "ConvTranspose2d", "Linear", "MatMul"}
    opening = {kind for kind, primitive in PRIMITIVES.items() if primitive.opens_group}
    assert opening == {"Input", "Embedding", *products}
    assert [kind for kind, primitive in PRIMITIVES.items() if primitive.is_loss] == [
        "NLLLoss", "SoftNLLLoss", "MSELoss", "BCELoss",
    ]  # fmt: skip


def test_an_unknown_kind() -> None:
    with pytest.raises(UsageError, match="unknown kind of op 'Gelu'. Known: Input, Conv1d, Conv2d"):
        primitive_of("Gelu")
