"""Compares the declaration of a primitive with its results on a sample."""

from __future__ import annotations

from itertools import chain

import numpy as np

from mpsim import kernels
from mpsim.engine.primitive import Primitive, Sample


def check_promises(primitive: Primitive, sample: Sample) -> None:
    """Asserts that forward and backward agree with the primitive's declaration.

    They run on float32 arrays of the reference backend. Results must be float32 arrays in C order of the shapes that
    follow from ``output_shape``. They must not share memory with the inputs, with saved arrays or with each other. The
    inputs must not change. If an input is saved, ``reads_input_again`` must be set.

    >>> from mpsim.ops import PRIMITIVES
    >>> check_promises(PRIMITIVES["ReLU"], Sample(((2, 3),)))
    """
    random = np.random.default_rng(0)
    needs = tuple(isinstance(shape, tuple) for shape in sample.inputs)
    inputs = tuple(_normal(random, shape) if isinstance(shape, tuple) else shape for shape in sample.inputs)
    parameters = tuple(_normal(random, shape) for shape in sample.parameters)
    before = [np.array(array) for array in (*inputs, *parameters)]
    bound = kernels.bind("reference")
    shape = primitive.output_shape([np.shape(x) for x in inputs], [x.shape for x in parameters], **sample.attributes)
    output, saved = primitive.forward(bound, inputs, parameters, **sample.attributes)
    _check_array("the output", output, tuple(shape))
    _check_apart("the output", output, (*inputs, *parameters, *saved))
    again = any(_share(x, kept) for x, need in zip(inputs, needs, strict=True) if need for kept in saved)
    assert primitive.reads_input_again or not again, "it saves an input but does not set reads_input_again"
    saved = (*saved, output) if primitive.saves_output else tuple(saved)
    given = primitive.backward(bound, _normal(random, output.shape), saved, needs)
    wanted = [(f"input {i}", inputs[i].shape, needs[i]) for i in range(len(inputs))]
    wanted += [(f"parameter {i}", parameters[i].shape, True) for i in range(len(parameters))]
    gradients = list(chain(*given))
    assert len(gradients) == len(wanted), f"it returned {len(gradients)} gradients, expected {len(wanted)}"
    for at, (name, shape, need) in enumerate(wanted):
        if need:
            others = (*inputs, *parameters, *saved, *gradients[:at])
            _check_array(f"the gradient of {name}", gradients[at], shape)
            _check_apart(f"the gradient of {name}", gradients[at], others)
    for was, array in zip(before, (*inputs, *parameters), strict=True):
        assert np.array_equal(was, array), "it changes its inputs"


def _normal(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def _check_array(what: str, found: object, shape: tuple[int, ...]) -> None:
    assert isinstance(found, np.ndarray), f"{what} is a {type(found).__name__}, not an array"
    assert found.dtype == np.float32, f"{what} is {found.dtype}, not float32"
    assert found.shape == shape, f"{what} has shape {found.shape}, expected {shape}"
    assert found.flags.c_contiguous, f"{what} is not in C order"


def _check_apart(what: str, found: object, others: tuple[object, ...]) -> None:
    assert not any(_share(found, other) for other in others), (
        f"{what} shares memory with an input, a saved array or another result; the store would overwrite both"
    )


def _share(x: object, y: object) -> bool:
    return isinstance(x, np.ndarray) and isinstance(y, np.ndarray) and np.shares_memory(x, y)
