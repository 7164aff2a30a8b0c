"""Training with other sums by pass and by layer: each product of a step is the one that its description says.

The expected tensors are computed from those that the step stored, by kernels of one order or by exact fractions, not
by the tape.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import reference_models
from mpsim import nn, ops
from mpsim.engine.primitive import Primitive
from mpsim.engine.tape import Tape
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile
from mpsim.kernels import bind
from mpsim.kernels.contractions.lowering import significand_mask
from mpsim.products.passes import Accumulators, accumulators_of
from mpsim.products.tensor_cores import accumulator_of
from mpsim.recording.steps import network_of
from mpsim.training.trainer import Trainer
from mpsim.validate import record_step, teacher_forced

#: Three orders that differ on most sums of a few terms.
FORWARD = "product(products=bfloat16, order=pairwise())"
BY_INPUT = "aligned,terms=4,fraction_bits=8,inputs=tf32"
BY_WEIGHT = "format=float16,chunk=8"
TEXT = f"forward={FORWARD};input_gradient={BY_INPUT};weight_gradient={BY_WEIGHT}"
#: Truncates the left operand to three mantissa bits and the right one to two, and adds exactly.
THREE, TWO = "float8_e4m3fn", "float8_e5m2"
MIXED = f"product(operand({THREE}, truncate), operand({TWO}, truncate), order=exact())"


class Small(nn.Module):
    """A convolution with padding, stride and groups, and a linear layer after a first convolution."""

    name, width, classes, input_shape = "small", 1.0, 3, (1, 5, 6)

    def __init__(self, seed: int = 0) -> None:
        self.first, self.conv = nn.Conv2d(1, 4, 2), nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.head = nn.Linear(36, 3)
        random = np.random.default_rng(seed)
        for parameter in self.parameters().values():
            parameter.replace(random.standard_normal(parameter.shape).astype(np.float32))

    def __call__(self, x):
        return self.head(ops.flatten(self.conv(self.first(x))))


def batch():
    random = np.random.default_rng(1)
    return random.standard_normal((5, 1, 5, 6)).astype(np.float32), np.array([0, 1, 2, 1, 0])


def step_of(accumulator, backend="reference", model=None):
    trainer = Trainer(model or Small(), accumulator=accumulator, loss_scale=1.0, backend=backend, threads=2)
    return record_step(trainer, *batch())


CONV = ((2, 2), (1, 1), 2)


def products(t, kernels=None):
    """The tensors that products make, from the others of the step, by kernels for each pass: ops are 0 the input,
    1 first, 2 conv, 3 head."""
    forward, by_input, by_weight = kernels
    gradient_of_first, gradient_of_conv, gradient_of_head = (t[f"G/{op}/0"] for op in (1, 2, 3))
    flat = t["Y/2/0"].reshape(5, -1)
    return {
        "Y/1/0": forward.conv2d(t["Y/0/0"], t["P/1/0"], t["P/1/1"], (1, 1), (0, 0), 1),
        "Y/2/0": forward.conv2d(t["Y/1/0"], t["P/2/0"], t["P/2/1"], *CONV),
        "Y/3/0": forward.matmul(flat, t["P/3/0"], transpose_b=True, bias=t["P/3/1"]),
        "GX/3/0": by_input.matmul(gradient_of_head, t["P/3/0"]).reshape(5, 6, 2, 3),
        "GX/2/0": by_input.conv2d_input_gradient(gradient_of_conv, t["P/2/0"], (5, 4, 4, 5), *CONV),
        "GP/3/0": by_weight.matmul(gradient_of_head, flat, transpose_a=True),
        "GP/2/0": by_weight.conv2d_weight_gradient(t["Y/1/0"], gradient_of_conv, (6, 2, 3, 3), *CONV),
        "GP/1/0": by_weight.conv2d_weight_gradient(t["Y/0/0"], gradient_of_first, (4, 1, 2, 2), (1, 1), (0, 0), 1),
    }


def same(left, right):
    return left.shape == right.shape and left.tobytes() == right.tobytes()


def test_operands_of_products_of_two_tensors_and_of_transposed_convolutions() -> None:
    """Forward the first tensor, or the activation, is on the left, and in every gradient of an input the gradient."""
    kernels, random = bind("reference", 1, accumulator_of(MIXED)), np.random.default_rng(3)

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    a, b, g = drawn(4, 5), drawn(5, 6), drawn(4, 6)
    y, saved = ops.PRIMITIVES["MatMul"].forward(kernels, (a, b), ())
    assert same(y, kernels.matmul(a, b)) and not same(y, kernels.swapped.matmul(a, b))
    (of_a, of_b), _ = ops.PRIMITIVES["MatMul"].backward(kernels, g, saved, (True, True))
    assert same(of_a, kernels.matmul(g, b, transpose_b=True))
    assert same(of_b, kernels.swapped.matmul(a, g, transpose_a=True))
    x, w = drawn(1, 3, 2, 2), drawn(3, 4, 1, 1)  # 1 x 1: products of (2 * 2, 3) and (3, 4)
    attributes = {"stride": (1, 1), "padding": (0, 0), "groups": 1, "dilation": (1, 1), "output_padding": (0, 0)}
    y, saved = ops.PRIMITIVES["ConvTranspose2d"].forward(kernels, (x,), (w,), **attributes)
    rows, weight, g = x.reshape(3, 4).T.copy(), w.reshape(3, 4), drawn(1, 4, 2, 2)
    assert same(y.reshape(4, 4).T.copy(), kernels.matmul(rows, weight))
    (of_x,), (of_w,) = ops.PRIMITIVES["ConvTranspose2d"].backward(kernels, g, saved, (True,))
    columns = g.reshape(4, 4).T.copy()
    assert same(of_x.reshape(3, 4).T.copy(), kernels.matmul(columns, weight, transpose_b=True))
    assert same(of_w.reshape(3, 4), kernels.matmul(rows, columns, transpose_a=True))


@pytest.mark.parametrize("backend", ["reference", "numba", "compiled"])
def test_each_pass_has_its_own_sums(backend):
    tensors = step_of(TEXT, backend).tensors
    of_passes = [bind("reference", 1, accumulator_of(text)) for text in (FORWARD, BY_INPUT, BY_WEIGHT)]
    expected = products(tensors, of_passes)
    assert [name for name, array in expected.items() if not same(array, tensors[name])] == []
    for wrong in ((0, 0, 0), (1, 1, 1), (2, 2, 2)):  # each order shows in each tensor of another pass
        others = products(tensors, [of_passes[place] for place in wrong])
        differ = {name for name, array in others.items() if not same(array, tensors[name])}
        kinds = {"Y": 0, "GX": 1, "GP": 2}
        assert differ == {name for name in others if kinds[name.split("/")[0]] != wrong[0]}


@pytest.mark.parametrize("backend", ["reference", "numba", "compiled"])
def test_left_is_the_activation_and_right_what_it_meets(backend):
    """Forward: activation times weight; by input: gradient times weight; by weight: activation times gradient. The
    left operand keeps three bits of its significand, the right one two; sums are exact."""

    def cut(x, format):
        return (x.view(np.uint32) & significand_mask(format)).view(np.float32)

    tensors = step_of(MIXED, backend).tensors
    exact = bind("reference", 1, accumulator_of("exact"))
    t = dict(tensors)
    flat = t["Y/2/0"].reshape(5, -1)
    first, conv, head = (t[f"G/{op}/0"] for op in (1, 2, 3))
    expected = {
        "Y/1/0": exact.conv2d(cut(t["Y/0/0"], THREE), cut(t["P/1/0"], TWO), t["P/1/1"], (1, 1), (0, 0), 1),
        "Y/2/0": exact.conv2d(cut(t["Y/1/0"], THREE), cut(t["P/2/0"], TWO), t["P/2/1"], *CONV),
        "Y/3/0": exact.matmul(cut(flat, THREE), cut(t["P/3/0"], TWO), transpose_b=True, bias=t["P/3/1"]),
        "GX/3/0": exact.matmul(cut(head, THREE), cut(t["P/3/0"], TWO)).reshape(5, 6, 2, 3),
        "GX/2/0": exact.conv2d_input_gradient(cut(conv, THREE), cut(t["P/2/0"], TWO), (5, 4, 4, 5), *CONV),
        "GP/3/0": exact.matmul(cut(head, TWO), cut(flat, THREE), transpose_a=True),
        "GP/2/0": exact.conv2d_weight_gradient(cut(t["Y/1/0"], THREE), cut(conv, TWO), (6, 2, 3, 3), *CONV),
        "GP/1/0": exact.conv2d_weight_gradient(
            cut(t["Y/0/0"], THREE), cut(first, TWO), (4, 1, 2, 2), (1, 1), (0, 0), 1
        ),
    }
    assert [name for name, array in expected.items() if not same(array, tensors[name])] == []
    mirrored = step_of(f"product(operand({TWO}, truncate), operand({THREE}, truncate), order=exact())", backend).tensors
    assert not same(mirrored["Y/1/0"], tensors["Y/1/0"])


@pytest.mark.parametrize("backend", ["reference", "numba", "compiled"])
def test_operands_of_instructions_are_the_right_way_round(backend):
    text = "aligned,terms=8,fraction_bits=12,inputs={}"
    tensors = step_of(text.format(f"{THREE}/{TWO}"), backend).tensors
    kernels, swapped = (
        bind("reference", 1, accumulator_of(text.format(inputs))) for inputs in (f"{THREE}/{TWO}", f"{TWO}/{THREE}")
    )
    gradient, flat = tensors["G/3/0"], tensors["Y/2/0"].reshape(5, -1)
    expected = products(tensors, [kernels] * 3) | {"GP/3/0": swapped.matmul(gradient, flat, transpose_a=True)}
    assert [name for name, array in expected.items() if not same(array, tensors[name])] == []
    others = products(tensors, [swapped] * 3) | {"GP/3/0": kernels.matmul(gradient, flat, transpose_a=True)}
    assert [name for name, array in others.items() if same(array, tensors[name])] == []


def test_one_weight_gradient_in_fractions():
    """The sum over the batch of activation (three bits) times gradient (two bits), rounded once: by hand."""
    tensors = step_of(MIXED).tensors

    def cut(x, bits):
        return Fraction(
            float((np.float32(x).view(np.uint32) & np.uint32(-1 << (23 - bits) & 0xFFFFFFFF)).view(np.float32))
        )

    flat, gradient = tensors["Y/2/0"].reshape(5, -1), tensors["G/3/0"]
    total = sum(cut(flat[n, 7], 3) * cut(gradient[n, 2], 2) for n in range(5))
    assert tensors["GP/3/0"][2, 7] == np.float32(float(total)) != 0


def test_a_layer_has_its_own_sums():
    """Only the tensors of that layer's products differ from those that the other order gives."""
    tensors = step_of(f"{BY_WEIGHT};conv:exact;h*:backward=exact").tensors
    usual, exact = (bind("reference", 1, accumulator_of(text)) for text in (BY_WEIGHT, "exact"))
    everywhere_usual, everywhere_exact = (products(tensors, [each] * 3) for each in (usual, exact))
    is_exact = {"Y/2/0", "GX/2/0", "GP/2/0", "GX/3/0", "GP/3/0"}
    for name, array in tensors.items():
        if name in everywhere_usual:
            assert same(array, (everywhere_exact if name in is_exact else everywhere_usual)[name]), name
            assert not same(everywhere_exact[name], everywhere_usual[name]), name


def test_one_order_by_pass_and_layer_is_that_order():
    whole, apart = (step_of(text).tensors for text in (BY_WEIGHT, f"backward={BY_WEIGHT};*:forward={BY_WEIGHT}"))
    assert all(same(whole[name], apart[name]) for name in whole)


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match=r"no layer that multiplies is named 'cnv'; did you mean conv\?"):
        Trainer(Small(), accumulator="cnv:exact", backend="reference")
    with pytest.raises(UsageError, match=r"named 'relu1'.* Layers: conv1, conv2, conv3, linear"):
        Trainer(reference_models.build("small_cnn", width=0.25), accumulator="relu1:exact", backend="reference")


def test_a_trainer_goes_on_with_its_sums(make, batches):
    text = "forward=hopper_float8_e4m3fn;conv1:chunk=64;linear:weight_gradient=exact"
    trainer = make("uniform_low", levels="fp8_ocp", accumulator=text)
    trainer.step(*batches[0])
    restored = Trainer.restore(trainer.dump(), "here", model=None, backend="compiled", threads=2)
    assert restored.accumulator == trainer.accumulator == accumulators_of(text)
    for each in (trainer, restored):
        each.step(*batches[1])
    assert trainer.digest() == restored.digest()
    with pytest.raises(UsageError, match="no digest"):
        make(accumulator="conv1:forward=blas").digest()


def test_a_recorded_step_knows_its_sums(make, batches):
    record = record_step(make("uniform_low", accumulator="forward=exact;conv2:chunk=8"), *batches[0])
    file = TensorFile(record.tensors, record.index, "here")
    network = network_of(file)
    assert isinstance(network.accumulator, Accumulators) and network.accumulator == accumulators_of(
        "forward=exact;conv2:chunk=8"
    )
    assert teacher_forced(file, network.model, network.plan, "standard", accumulator=network.accumulator).equal
    other = replace(network, accumulator=accumulators_of("forward=exact"))
    report = teacher_forced(file, other.model, other.plan, "standard", accumulator=other.accumulator)
    assert not report.equal


def test_an_op_from_outside_says_which_gradient_it_multiplies():
    """Without saying it, it trains where the two have one order, and is refused where they differ."""

    def forward(kernels, inputs, parameters):
        return kernels.matmul(inputs[0], parameters[0]), (inputs[0], parameters[0])

    def silent(kernels, gradient, saved, needs):
        x, w = saved
        return (kernels.matmul(gradient, w, transpose_b=True),), (kernels.matmul(x, gradient, transpose_a=True),)

    def clear(kernels, gradient, saved, needs):
        x, w = saved
        return (kernels.by_input.matmul(gradient, w, transpose_b=True),), (
            kernels.by_weight.matmul(x, gradient, transpose_a=True),
        )

    def shape(inputs, parameters):
        return inputs[0][0], parameters[0][1]

    parameter = nn.Linear(4, 3).weight
    parameter.replace(np.arange(12, dtype=np.float32).reshape(3, 4) / 7)

    def gradients(text, derivative):
        tape = Tape(bind("reference", 1, accumulators_of(text)))
        y = tape.bind(
            Primitive("Product", forward, derivative, shape), (tape.input(np.eye(3, dtype=np.float32)),), [parameter]
        )
        return tape.pull_back(y, np.full((3, 4), 1 / 3, np.float32))[parameter]

    assert gradients("forward=exact", silent).shape == (3, 4)
    with pytest.raises(UsageError, match="which gradient a product belongs to"):
        gradients(TEXT, silent)
    assert gradients(TEXT, clear).tobytes() == gradients(BY_WEIGHT, silent).tobytes()
