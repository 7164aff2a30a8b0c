"""What the ops compute, on whole numbers (so that float32 is exact), against plain NumPy written here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mpsim import kernels, ops
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Parameter, TensorId

KERNELS = kernels.bind("reference")


def whole(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def on_tape(array: np.ndarray, **options: Any) -> Any:
    return Tape(KERNELS, **options).input(array)


def equal(tensor: Any, expected: np.ndarray) -> bool:
    return tensor.shape == expected.shape and np.array_equal(tensor.value, expected.astype(np.float32))


@pytest.mark.parametrize(
    "stride,padding,groups,bias",
    [((1, 1), (0, 0), 1, False), ((2, 3), (1, 2), 1, True), ((1, 2), (0, 1), 2, True), ((2, 1), (1, 0), 4, False)],
)
def test_conv2d(stride: tuple, padding: tuple, groups: int, bias: bool) -> None:
    x, weight, shift = whole(2, 4, 6, 7), whole(8, 4 // groups, 3, 2, seed=1), whole(8, seed=2)
    y = ops.conv2d(
        on_tape(x),
        Parameter(weight),
        Parameter(shift) if bias else None,
        stride=stride,
        padding=padding,
        groups=groups,
    )
    padded = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    expected = np.zeros(y.shape)
    for n, o, i, j in np.ndindex(*y.shape):
        first = o // (8 // groups) * (4 // groups)
        window = padded[n, first : first + 4 // groups, i * stride[0] :, j * stride[1] :][:, :3, :2]
        expected[n, o, i, j] = np.sum(window * weight[o]) + (shift[o] if bias else 0)
    assert y.shape[2:] == ((6 + 2 * padding[0] - 3) // stride[0] + 1, (7 + 2 * padding[1] - 2) // stride[1] + 1)
    assert equal(y, expected)


def test_linear() -> None:
    x, weight, bias = whole(3, 5), whole(4, 5, seed=1), whole(4, seed=2)
    assert equal(ops.linear(on_tape(x), Parameter(weight), Parameter(bias)), x @ weight.T + bias)
    assert equal(ops.linear(on_tape(x), Parameter(weight)), x @ weight.T)


def test_relu_add_cat_split() -> None:
    x, other = whole(2, 4, 3, 3), whole(2, 4, 3, 3, seed=1)
    tape = Tape(KERNELS)
    a, b = tape.input(x), tape.input(other)
    assert equal(ops.relu(a), np.maximum(x, 0))
    assert equal(ops.add(a, b), x + other)
    assert equal(ops.cat([b, a, b]), np.concatenate([other, x, other], axis=1))
    first, second = ops.split_half(a, name="halves")
    assert equal(first, x[:, :2]) and equal(second, x[:, 2:])
    assert [op.name for op in tape.ops[-2:]] == ["halves.first", "halves.second"]
    assert [op.kind for op in tape.ops[-2:]] == ["SplitHalf"] * 2


def test_pools() -> None:
    x = 4 * whole(2, 3, 6, 4)
    blocks = x.reshape(2, 3, 3, 2, 2, 2)
    assert equal(ops.max_pool2d(on_tape(x), 2), blocks.max(axis=(3, 5)))
    assert equal(ops.avg_pool2d(on_tape(x), 2), blocks.mean(axis=(3, 5)))
    assert ops.avg_pool2d(on_tape(x)).shape == (2, 3, 1, 1)
    assert equal(ops.avg_pool2d(on_tape(x[:, :, :4])), x[:, :, :4].mean(axis=(2, 3), keepdims=True))
    assert ops.max_pool2d(on_tape(x), 3, stride=(2, 1), padding=1).shape == (2, 3, 3, 4)
    padded = ops.avg_pool2d(on_tape(np.ones((1, 1, 2, 2), np.float32)), 2, stride=2, padding=1)
    assert equal(padded, np.full((1, 1, 2, 2), 0.25))  # zeros of the padding count


def test_views() -> None:
    x = whole(2, 6, 3, 4)
    assert equal(ops.reshape(on_tape(x), (3, -1, 4)), x.reshape(3, 12, 4))
    assert equal(ops.flatten(on_tape(x)), x.reshape(2, -1))
    assert equal(ops.permute(on_tape(x), (3, 0, 2, 1)), x.transpose(3, 0, 2, 1))
    assert equal(ops.channel_shuffle(on_tape(x), 2), x[:, [0, 3, 1, 4, 2, 5]])
    shuffled = ops.channel_shuffle(on_tape(x), 3)
    assert equal(shuffled, x[:, [0, 2, 4, 1, 3, 5]])
    assert len(shuffled.tape.ops) == 1 and shuffled.producer == 0
    empty = ops.reshape(on_tape(np.zeros((0, 3), np.float32)), (3, -1))
    assert empty.shape == (3, 0)


def test_batch_norm_in_training_and_evaluation() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 5, 2)).astype(np.float32)
    scale, shift = Parameter(np.float32([1, 2, -1])), Parameter(np.float32([0, 1, 5]))
    running = np.full(3, 0.5, np.float32), np.full(3, 2.0, np.float32)
    y = ops.batch_norm(on_tape(x), scale, shift, *running, momentum=0.1)
    wide = x.astype(np.float64)
    mean, variance = wide.mean(axis=(0, 2, 3)), wide.var(axis=(0, 2, 3))

    def normalized(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
        unit = (wide - mean[:, None, None]) / np.sqrt(variance[:, None, None] + 1e-5)
        return unit * scale.master[:, None, None] + shift.master[:, None, None]

    np.testing.assert_allclose(y.value, normalized(mean, variance), atol=1e-5)
    np.testing.assert_allclose(running[0], 0.9 * 0.5 + 0.1 * mean, rtol=1e-6)
    np.testing.assert_allclose(running[1], 0.9 * 2 + 0.1 * variance * 40 / 39, rtol=1e-6)
    before = [statistics.tobytes() for statistics in running]
    y = ops.batch_norm(on_tape(x, training=False), scale, shift, *running)
    np.testing.assert_allclose(y.value, normalized(*running), atol=1e-5)
    assert [statistics.tobytes() for statistics in running] == before


def test_batch_norm_of_one_value_per_channel_keeps_its_variance() -> None:
    running = np.zeros(2, np.float32), np.ones(2, np.float32)
    parameters = Parameter(np.ones(2, np.float32)), Parameter(np.zeros(2, np.float32))
    ops.batch_norm(on_tape(np.ones((1, 2, 1, 1), np.float32)), *parameters, *running)
    assert np.array_equal(running[1], np.float32([1, 1]) * (np.float32(1) - np.float32(0.1)))


def test_loss() -> None:
    logits, labels = np.float32([[1, 2, 3], [0, 0, 0]]), np.array([2, 0])
    tape = Tape(KERNELS)
    loss = ops.cross_entropy(tape.input(logits), labels)
    wide = logits.astype(np.float64)
    expected = -(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)))[[0, 1], labels].mean()
    assert loss.shape == (1,) and np.isclose(loss.value[0], expected, rtol=1e-6)
    assert [op.name for op in tape.ops] == ["input", "criterion.logsoftmax", "criterion.nllloss"]


def gradient_at(tape: Tape, op: int, loss: Any, seen: dict) -> np.ndarray:
    tape.backward(loss)
    return seen[TensorId(op, "activation_gradient")]


def test_masks_and_indices_are_those_of_the_stored_input() -> None:
    """The store replaces what relu and max pool read; had they kept the unrounded input, the mask would differ."""
    replaced = {1: np.float32([[[[-1, 2], [3, -1]]]])}
    seen: dict[TensorId, np.ndarray] = {}

    def store(id: TensorId, value: np.ndarray) -> np.ndarray:
        seen[id] = value
        return replaced.get(id.op, value) if id.role == "activation" else value

    for op, expected in (
        (ops.relu, [[0, 1], [1, 0]]),
        (lambda x: ops.max_pool2d(x, 2), [[0, 0], [1, 0]]),
    ):
        tape = Tape(KERNELS, store)
        x = tape.input(np.ones((1, 1, 2, 2), np.float32))
        x = ops.conv2d(x, Parameter(np.ones((1, 1, 1, 1), np.float32)))
        x = op(x)
        tape.pull_back(x, np.ones(x.shape, np.float32))
        assert np.array_equal(seen[TensorId(1, "activation_gradient")][0, 0], np.float32(expected))


def test_log_softmax_is_differentiated_with_its_stored_output() -> None:
    stored = np.float32([[0, -np.inf]])  # probabilities 1 and 0
    seen: dict[TensorId, np.ndarray] = {}

    def store(id: TensorId, value: np.ndarray) -> np.ndarray:
        seen[id] = value
        return stored if id == TensorId(2, "activation") else value

    tape = Tape(KERNELS, store)
    x = ops.linear(tape.input(np.ones((1, 1), np.float32)), Parameter(np.ones((2, 1), np.float32)))
    tape.backward(ops.cross_entropy(x, np.array([1])))
    assert np.array_equal(seen[TensorId(1, "activation_gradient")], np.float32([[1, -1]]))


X, MATRIX = np.ones((2, 3, 4, 4), np.float32), np.ones((2, 3), np.float32)


def parameter(*shape: int) -> Parameter:
    return Parameter(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    "call,message",
    [
        (
            lambda: ops.conv2d(on_tape(X), parameter(2, 16, 3, 3), name="layer1.0.conv1"),
            "Conv2d 'layer1.0.conv1': input has 3 channels, weight expects 16",
        ),
        (lambda: ops.conv2d(on_tape(MATRIX), parameter(2, 3, 3, 3)), r"must be \(N, C, H, W\).*got \(2, 3\)"),
        (lambda: ops.conv2d(on_tape(X), parameter(2, 3, 5, 5)), "5x5 kernel does not fit in a 4x4 padded input"),
        (lambda: ops.conv2d(on_tape(X), parameter(2, 3, 3, 3), parameter(3)), r"bias must have shape \(2,\)"),
        (lambda: ops.conv2d(on_tape(X), parameter(2, 1, 3, 3), groups=3), "2 output channels cannot be split into 3"),
        (
            lambda: ops.conv2d(on_tape(X), parameter(2, 3, 3, 3), stride=0),
            r"stride must be .* got 0",
        ),
        (
            lambda: ops.conv2d(on_tape(X), parameter(2, 3, 3, 3), padding=(0, -1)),
            r"padding\[1\] must be .* got -1",
        ),
        (lambda: ops.conv2d(on_tape(X), parameter(2, 3, 3, 3), stride=(1, 2, 3)), "one number or"),
        (lambda: ops.linear(on_tape(X), parameter(2, 3)), "flatten images first"),
        (lambda: ops.linear(on_tape(MATRIX), parameter(2, 4), name="fc"), "Linear 'fc': input has 3 .* expects 4"),
        (lambda: ops.linear(on_tape(MATRIX), parameter(2, 3), parameter(3)), r"bias must have shape \(2,\)"),
        (lambda: ops.batch_norm(on_tape(X), parameter(4), parameter(3)), "3 channels, scale has shape"),
        (lambda: ops.batch_norm(on_tape(X[..., None]), parameter(3), parameter(3)), "got"),
        (
            lambda: ops.batch_norm(on_tape(X), parameter(3), parameter(3), np.zeros(3), np.zeros(2)),
            "running variance has shape",
        ),
        (
            lambda: ops.batch_norm(on_tape(X, training=False), parameter(3), parameter(3)),
            "evaluation needs running statistics",
        ),
        (lambda: ops.max_pool2d(on_tape(X), 2, padding=2), "at most half of the kernel"),
        (lambda: ops.max_pool2d(on_tape(MATRIX), 2), r"must be \(N, C, H, W\)"),
        (lambda: ops.avg_pool2d(on_tape(MATRIX)), r"must be \(N, C, H, W\)"),
        (lambda: ops.avg_pool2d(on_tape(X), 5), "5x5 kernel does not fit"),
        (lambda: ops.split_half(on_tape(X), name="half"), "SplitHalf 'half.first': .* even number of channels"),
        (lambda: ops.cat([]), "at least one tensor"),
        (lambda: ops.reshape(on_tape(X), (5, -1)), "96 elements of shape"),
        (lambda: ops.reshape(on_tape(X), (-1, -1)), "do not fill"),
        (lambda: ops.permute(on_tape(X), (0, 1, 1, 2)), "must be an order of 0..3"),
        (lambda: ops.channel_shuffle(on_tape(X), 2), "3 channels cannot be split into 2 groups"),
        (lambda: ops.log_softmax(on_tape(X)), "flatten images first"),
        (lambda: ops.nll_loss(on_tape(MATRIX), np.array([0, 3])), r"0\.\.2, got 3"),
        (lambda: ops.nll_loss(on_tape(MATRIX), np.array([0, -1])), r"0\.\.2, got -1"),
        (lambda: ops.nll_loss(on_tape(MATRIX), np.array([0])), r"\(N,\) labels are wanted, got \(2, 3\) and \(1,\)"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_add_and_cat_of_shapes_that_do_not_fit() -> None:
    tape = Tape(KERNELS)
    x, y = tape.input(X), tape.input(X[:, :, :2])
    with pytest.raises(
        ValueError,
        match=r"Add 'sum': both inputs must have one shape, or sizes of 1 where they differ, got \(2, 3, 4, 4\) and",
    ):
        ops.add(x, y, name="sum")
    with pytest.raises(ValueError, match="may differ in axis 1"):
        ops.cat([x, y])


def test_labels_must_be_integers() -> None:
    with pytest.raises(TypeError, match="labels must be integers, got an array of float64"):
        ops.nll_loss(on_tape(MATRIX), np.zeros(2))


def test_constants_as_first_operands_and_clamps_with_one_bound() -> None:
    x = on_tape(np.float32([-4, -1, 2]))
    assert equal(ops.divide(np.float32([4]), x), np.array([-1, -4, 2]))
    assert equal(ops.subtract(np.float32([1, 2, 3]), x), np.array([5, 3, 1]))
    assert equal(ops.clamp(x, None, 0), np.array([-4, -1, 0]))
    assert equal(ops.clamp(x, -2, None), np.array([-2, -1, 2]))
    infinite = on_tape(np.float32([-np.inf, np.inf]))
    assert equal(ops.clamp(infinite, None, None), infinite.value)
    with pytest.raises(TypeError, match="one of the operands must be a tensor, got ndarray and ndarray"):
        ops.add(np.ones(2), np.ones(2))  # type: ignore[arg-type]


def test_interpolation_to_a_size() -> None:
    x = on_tape(np.float32([[[[0, 8, 16]]]]))
    assert equal(ops.upsample_nearest(x, size=(2, 4)), np.array([[[[0, 0, 8, 16]] * 2]]))
    assert equal(ops.upsample_nearest(x, size=(1, 2)), np.array([[[[0, 8]]]]))
    # 3 elements to 4 are at -1/8 (0), 5/8, 11/8 and 17/8, and to 2 at 1/4 and 7/4
    assert equal(ops.upsample_bilinear(x, size=(1, 4)), np.array([[[[0, 5, 11, 16]]]]))
    assert equal(ops.upsample_bilinear(x, size=(1, 2)), np.array([[[[2, 14]]]]))
    assert equal(ops.upsample_bilinear(x, align_corners=True, size=(1, 5)), np.array([[[[0, 4, 8, 12, 16]]]]))
    for given in ({}, {"factor": 2, "size": (2, 2)}):
        with pytest.raises(ValueError, match="one of factor and size must be given"):
            ops.upsample_nearest(x, **given)


def test_attention_drops_weights_in_training() -> None:
    q = np.random.default_rng(0).standard_normal((2, 4, 3)).astype(np.float32)
    tape = Tape(KERNELS, seed=3)
    x = tape.input(q)
    y = ops.attention(x, x, x, dropout=0.5, name="a")
    assert [op.name for op in tape.ops] == ["input", "a.products", "a.scaled", "a.weights", "a.dropped", "a.values"]
    other = Tape(KERNELS, seed=3)
    x = other.input(q)
    scores = ops.scale(ops.matmul(x, ops.permute(x, (0, 2, 1))), 3**-0.5)
    dropped = ops.dropout(ops.softmax(scores), 0.5)
    assert equal(y, ops.matmul(dropped, x).value) and 0 < (dropped.value == 0).sum() < dropped.value.size
