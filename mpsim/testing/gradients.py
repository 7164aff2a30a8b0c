"""Compares a derivative with a difference quotient in float64, in one random direction for each argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from mpsim import checks, kernels
from mpsim.engine.primitive import Primitive, Sample, Shape
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Array, Parameter, Tensor
from mpsim.kernels import Kernels
from mpsim.process import in_default_environment


@in_default_environment
def check_gradients(
    function: Callable[..., Tensor],
    inputs: Sequence[np.ndarray] = (),
    parameters: Iterable[Parameter] = (),
    *,
    seed: int = 0,
    step: float = 1e-6,
    tolerance: float = 1e-7,
) -> None:
    """Asserts that the gradients with respect to all inputs and parameters agree with difference quotients.

    Everything runs in float64 on the reference backend, and nothing is rounded. For each argument x with a random
    direction u, and a random direction v in the output, (v . function(x + step u) - v . function(x - step u)) /
    (2 step) must equal u . gradient. Running statistics of batch norm layers change as in training.

    Args:
        function: ``function(*tensors)`` returns a tensor of any shape, computed by ops.
        inputs: The arrays of its tensors, of any shapes.
        parameters: The parameters that it reads. Their masters do not change.
        seed: The seed of the directions.
        step: The step of the difference quotient.
        tolerance: The largest difference, relative to the larger of 1 and the sum of the absolute terms of
            u . gradient.

    Raises:
        AssertionError: They disagree. The message names the arguments.

    Source: the method of autograd's check_grads.

    >>> from mpsim import ops
    >>> check_gradients(lambda x, y: ops.log_softmax(ops.add(x, y)), [np.ones((2, 3)), np.full((2, 3), 0.5)])
    """
    random = np.random.default_rng(checks.seed("seed", seed))
    step, tolerance = checks.real("step", step, above=0), checks.real("tolerance", tolerance, above=0)
    arguments = [Parameter(np.asarray(array), f"input {i}") for i, array in enumerate(inputs)]
    leaves, arguments = tuple(arguments), arguments + list(parameters)
    masters = {argument: np.asarray(argument.master, np.float64) for argument in arguments}
    direction = {argument: random.standard_normal(argument.shape) for argument in arguments}

    def run(moved: Parameter | None = None, distance: float = 0.0) -> Tensor:
        for argument in arguments:
            argument.value = masters[argument] + (distance * direction[argument] if argument is moved else 0.0)
        tape = Tape(kernels.bind("reference"))
        return function(*(tape.bind(LEAF, (), (leaf,), leaf.name) for leaf in leaves))

    def disagrees(argument: Parameter) -> bool:
        quotient = float(np.sum(v * (run(argument, step).value - run(argument, -step).value))) / (2 * step)
        terms = direction[argument] * gradients.get(argument, 0.0)
        return not abs(quotient - terms.sum()) <= tolerance * max(1.0, float(np.abs(terms).sum()))

    try:
        output = run()
        v = random.standard_normal(output.shape)
        gradients = output.tape.pull_back(output, v.copy())
        wrong = [argument.name or "a parameter without a name" for argument in arguments if disagrees(argument)]
        if wrong:
            raise AssertionError(f"gradient and difference quotient disagree for {', '.join(wrong)}")
    finally:
        for argument in arguments:
            argument.value = argument.master


@in_default_environment
def check_primitive(primitive: Primitive, sample: Sample, seed: int = 0) -> None:
    """Calls ``check_gradients`` for one op with normally distributed arrays of the sample's shapes.

    >>> from mpsim.ops import PRIMITIVES
    >>> check_primitive(PRIMITIVES["ReLU"], Sample(((2, 3),)))
    """
    random = np.random.default_rng([seed, 1])  # not the numbers of the directions

    def drawn(shape: Shape) -> np.ndarray:
        numbers = random.standard_normal(shape)
        return np.abs(numbers) + 0.5 if sample.positive else numbers

    inputs = [drawn(shape) for shape in sample.inputs if isinstance(shape, tuple)]
    parameters = [Parameter(drawn(shape), f"parameter {i}") for i, shape in enumerate(sample.parameters)]

    tensors_of_sample = len(inputs)
    if not inputs:
        inputs = [np.zeros(1)]  # for its tape

    def function(*tensors: Tensor) -> Tensor:
        given = iter(tensors[:tensors_of_sample])
        mixed = [next(given) if isinstance(shape, tuple) else shape for shape in sample.inputs]
        return tensors[0].tape.bind(primitive, mixed, parameters, **sample.attributes)

    check_gradients(function, inputs, parameters, seed=seed)


def _read(kernels: Kernels, inputs: tuple, parameters: tuple) -> tuple[Array, tuple]:
    return parameters[0], ()


def _hand_over(kernels: Kernels, gradient: Array, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return (), (gradient,)


def _shape(inputs: list[Shape], parameters: list[Shape]) -> Shape:
    return parameters[0]


#: Turns a parameter into a tensor, i.e. an input whose gradient is computed.
LEAF = Primitive("Leaf", _read, _hand_over, _shape)
