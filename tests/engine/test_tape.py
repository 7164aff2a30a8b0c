"""The tape: the order of sums, which tensors meet the store, what is freed, what is refused."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from networks import Branching, batch, loss_of

from mpsim import kernels, ops
from mpsim.engine.primitive import Primitive
from mpsim.engine.tape import Tape, identity_store
from mpsim.engine.tensor import Parameter, TensorId
from mpsim.kernels.binding import in_one_order
from mpsim.kernels.contract import CONTRACT

KERNELS = kernels.bind("reference")


def _weigh(kernels: Any, inputs: tuple, parameters: tuple, *, factors: tuple[float, ...]) -> tuple[Any, tuple]:
    return sum(kernels.scale(x, f) for x, f in zip(inputs, factors, strict=True)), factors


def _weigh_back(kernels: Any, gradient: Any, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
    return tuple(
        kernels.scale(gradient, factor) if needed else None for factor, needed in zip(saved, needs, strict=True)
    ), ()


def _same(inputs: list, parameters: list, **attributes: Any) -> tuple[int, ...]:
    return inputs[0]


#: factors[0] * first input + factors[1] * second input + ...
WEIGHTED = Primitive("Weighted", _weigh, _weigh_back, _same)

#: Input plus a parameter, so that what follows needs a gradient.
SHIFT = Primitive(
    "Shift",
    lambda kernels, inputs, parameters: (kernels.add(inputs[0], parameters[0]), ()),
    lambda kernels, gradient, saved, needs: (
        (kernels.scale(gradient, 1.0) if needs[0] else None,),
        (gradient,),
    ),
    _same,
)


def weighted(*tensors: Any, factors: tuple[float, ...]) -> Any:
    return tensors[0].tape.bind(WEIGHTED, tensors, factors=factors)


def start(tape: Tape, value: float = 0.0) -> tuple[Any, Parameter]:
    parameter = Parameter(np.float32([value]), "p")
    return tape.bind(SHIFT, (tape.input(np.zeros(1, np.float32)),), (parameter,)), parameter


class Recorder:
    """A store that notes what it is called with, and gives back what ``change`` makes of it."""

    def __init__(self, change: Any = None) -> None:
        self.ids: list[TensorId] = []
        self.values: dict[TensorId, list[np.ndarray]] = {}
        self.change = change or (lambda id, value: value)

    def __call__(self, id: TensorId, value: np.ndarray) -> np.ndarray:
        self.ids.append(id)
        self.values.setdefault(id, []).append(np.array(value))
        return self.change(id, value)

    def gradients(self) -> list[TensorId]:
        return [id for id in self.ids if id.role.endswith("gradient")]


def activation_gradients(*indices: int) -> list[TensorId]:
    return [TensorId(index, "activation_gradient") for index in indices]


# (last + middle) + first: 1e8 - 1e8 + 1 = 1, while the other orders give 0 in float32.
ORDERED = (1.0, -1e8, 1e8)


def test_contributions_are_added_in_reverse_order_of_execution() -> None:
    tape = Tape(KERNELS)
    x, parameter = start(tape)
    readers = [weighted(x, factors=(factor,)) for factor in ORDERED]
    loss = ops.add(ops.add(readers[0], readers[1]), readers[2])
    assert tape.backward(loss)[parameter] == np.float32(1)


def test_an_op_that_reads_a_tensor_several_times_adds_by_rising_input() -> None:
    tape = Tape(KERNELS)
    x, parameter = start(tape)
    loss = weighted(x, x, x, factors=ORDERED[::-1])
    assert tape.backward(loss)[parameter] == np.float32(1)
    tape = Tape(KERNELS)
    x, parameter = start(tape)
    loss = weighted(x, x, x, factors=ORDERED)
    assert tape.backward(loss)[parameter] == np.float32(0)


def test_views_are_consumers_in_the_order_of_the_ops_that_read_them() -> None:
    tape = Tape(KERNELS)
    x, parameter = start(tape)
    views = [ops.reshape(x, (1, 1)) for _ in ORDERED]
    readers = [weighted(view, factors=(factor,)) for view, factor in zip(views, reversed(ORDERED), strict=True)]
    loss = ops.add(readers[2], ops.add(readers[1], readers[0]))
    assert tape.ops[2].producers == (1,)
    assert tape.backward(loss)[parameter] == np.float32(0)  # readers ran as 1e8, -1e8, 1: (1 - 1e8) + 1e8 = 0


def test_standard_stores_each_finished_gradient_once() -> None:
    store = Recorder(lambda id, value: np.round(value))
    tape = Tape(KERNELS, store)
    x, parameter = start(tape)
    first, second = weighted(x, factors=(0.4,)), weighted(x, factors=(0.3,))
    loss = ops.add(first, second)
    tape.backward(loss, scale=1.0)
    # ops: 0 Input, 1 Shift, 2 and 3 Weighted, 4 Add (the loss)
    assert store.gradients() == [*activation_gradients(3, 2, 1), TensorId(1, "parameter_gradient")]
    unrounded = np.float32(0.3) + np.float32(0.4)
    assert store.values[TensorId(1, "activation_gradient")] == [unrounded]
    assert store.values[TensorId(1, "parameter_gradient")] == [np.round(unrounded)]


def test_each_contribution_is_stored_and_the_sum_is_not() -> None:
    store = Recorder(lambda id, value: np.round(value))
    tape = Tape(KERNELS, store, store_each_contribution=True)
    x, parameter = start(tape)
    first, second = weighted(x, factors=(0.4,)), weighted(x, factors=(1.3,))
    tape.backward(ops.add(first, second), scale=1.0)
    assert store.gradients() == [*activation_gradients(2, 3, 1, 1), TensorId(1, "parameter_gradient")]
    assert store.values[TensorId(1, "activation_gradient")] == [np.float32(1.3), np.float32(0.4)]
    assert store.values[TensorId(1, "parameter_gradient")] == [np.float32(1)]


def test_what_the_store_gives_back_is_what_flows_on() -> None:
    tape = Tape(KERNELS, lambda id, value: np.full_like(value, id.op))
    x, parameter = start(tape)
    y = weighted(x, factors=(10.0,))
    assert (x.value, y.value) == (1, 2)
    gradients = tape.backward(ops.add(y, y))  # gradient of y: 2 (its op), of x: 1, of the parameter: 1
    assert gradients[parameter] == 1


@pytest.mark.parametrize("each", [False, True])
def test_every_tensor_of_a_network_meets_the_store_and_no_other(each: bool) -> None:
    model, store = Branching(), Recorder()
    tape = Tape(KERNELS, store, store_each_contribution=each)
    gradients = tape.backward(loss_of(tape, model, *batch()), 8.0)
    last = len(tape.ops) - 1
    assert store.ids[: last + 1] == [TensorId(index, "activation") for index in range(last + 1)]
    stored = store.gradients()
    readers = [sum(op.producers.count(index) for op in tape.ops) for index in range(last)]
    for index in range(1, last):
        times = readers[index] if each else 1
        assert stored.count(TensorId(index, "activation_gradient")) == times
    own = [TensorId(op.index, "parameter_gradient", i) for op in tape.ops for i in range(len(op.parameters))]
    assert sorted(id for id in stored if id.role == "parameter_gradient") == own
    assert not {TensorId(0, "activation_gradient"), TensorId(last, "activation_gradient")} & set(stored)
    assert max(readers) == 3 and set(gradients) == set(model.parameters().values())


def test_the_gradient_of_the_input_is_not_computed() -> None:
    called: list[str] = []

    def counted(name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            called.append(name)
            return getattr(KERNELS, name)(*arguments, **keywords)

        return call

    tape = Tape(in_one_order({name: counted(name) for name in CONTRACT}))
    tape.backward(loss_of(tape, Branching(), *batch()))
    assert called.count("conv2d") == called.count("conv2d_weight_gradient") == 3
    assert called.count("conv2d_input_gradient") == 2


def test_a_store_may_overwrite_whatever_it_is_given() -> None:
    def hostile(id: TensorId, value: np.ndarray) -> np.ndarray:
        stored = np.array(value)
        value.fill(np.nan)
        return stored

    model, (images, labels) = Branching(), batch()
    untouched = images.copy()
    for each in (False, True):
        results = []
        for store in (identity_store, hostile):
            tape = Tape(KERNELS, store, store_each_contribution=each)
            results.append(tape.backward(loss_of(tape, model, images, labels)))
        calm, attacked = results
        for parameter in model.parameters().values():
            assert calm[parameter].tobytes() == attacked[parameter].tobytes(), parameter.name
    assert images.tobytes() == untouched.tobytes()


def test_saved_values_and_gradients_are_freed_on_the_way() -> None:
    alive: list[tuple[int, list[bool]]] = []
    saved_values: list[weakref.ref] = []
    gradients: list[weakref.ref] = []

    def forward(kernels: Any, inputs: tuple, parameters: tuple, *, place: int) -> tuple[Any, tuple]:
        saved = np.zeros(3, np.float32)
        saved_values.append(weakref.ref(saved))
        return kernels.scale(inputs[0], 1.0), (place, saved)

    def backward(kernels: Any, gradient: Any, saved: tuple, needs: tuple[bool, ...]) -> tuple[tuple, tuple]:
        gc.collect()
        alive.append((saved[0], [reference() is not None for reference in saved_values]))
        assert not [reference for reference in gradients if reference() is not None]
        contribution = kernels.scale(gradient, 1.0)
        gradients.extend([weakref.ref(gradient), weakref.ref(contribution)])
        return (contribution,), ()

    keeper = Primitive("Keeper", forward, backward, _same)
    tape = Tape(KERNELS, lambda id, value: value.copy())
    x, _ = start(tape)
    for place in range(3):
        x = tape.bind(keeper, (x,), place=place)
    tape.backward(x)
    assert alive == [(2, [True] * 3), (1, [True, True, False]), (0, [True, False, False])]


def test_activations_nobody_needs_are_freed_in_evaluation() -> None:
    tape = Tape(KERNELS, training=False)
    x = tape.input(np.ones((1, 2, 2, 2), np.float32))
    reference = weakref.ref(x.value)
    x = ops.relu(x)
    gc.collect()
    assert reference() is None
    with pytest.raises(RuntimeError, match="not in training"):
        tape.pull_back(x, x.value)


def test_backward_is_possible_once() -> None:
    tape = Tape(KERNELS)
    x, _ = start(tape)
    tape.backward(x)
    with pytest.raises(RuntimeError, match="backward was called before"):
        tape.backward(x)


def test_the_gradient_of_the_loss_is_the_scale_in_float32() -> None:
    tape = Tape(KERNELS)
    x, parameter = start(tape)
    gradient = tape.backward(x, 0.1)[parameter]
    assert gradient.dtype == np.float32 and gradient == np.float32(0.1)


def test_backward_refuses_a_loss_of_several_elements() -> None:
    tape = Tape(KERNELS)
    with pytest.raises(ValueError, match=r"one element; got shape \(2,\)"):
        tape.backward(tape.input(np.ones(2, np.float32)))


def test_a_tensor_of_another_tape_is_refused() -> None:
    x = Tape(KERNELS).input(np.ones(1, np.float32))
    with pytest.raises(ValueError, match="another tape"):
        Tape(KERNELS).bind(WEIGHTED, (x,), factors=(1.0,))


def test_a_parameter_of_two_ops_gets_the_sum_stored_at_its_first_use() -> None:
    store = Recorder()
    tape = Tape(KERNELS, store)
    parameter = Parameter(np.float32([0]))
    x = tape.bind(SHIFT, (tape.input(np.zeros(1, np.float32)),), (parameter,))
    y = tape.bind(SHIFT, (weighted(x, factors=(3.0,)),), (parameter,))
    assert tape.parameter_ids == {parameter: TensorId(1, "parameter")}
    assert tape.backward(y) == {parameter: np.float32(4)}
    assert [id for id in store.ids if id.role == "parameter_gradient"] == [TensorId(1, "parameter_gradient")]


def test_ops_that_do_not_reach_the_loss_get_no_gradient() -> None:
    store = Recorder()
    tape = Tape(KERNELS, store)
    x, used = start(tape)
    unused = Parameter(np.float32([0]))
    tape.bind(SHIFT, (x,), (unused,))
    assert list(tape.backward(weighted(x, factors=(2.0,)))) == [used]
    assert TensorId(2, "activation_gradient") not in store.ids


def test_ops_before_the_first_parameter_get_no_gradient() -> None:
    store = Recorder()
    tape = Tape(KERNELS, store)
    x = ops.relu(tape.input(np.ones(1, np.float32)))
    loss = tape.bind(SHIFT, (x,), (Parameter(np.float32([0])),))
    tape.backward(loss)
    assert store.gradients() == [TensorId(2, "parameter_gradient")]


def test_shapes_alone_call_no_kernel_and_take_no_memory() -> None:
    model = Branching()
    tape = Tape(None, shape_only=True)
    logits = model(tape.input(np.broadcast_to(np.float32(0), (1000, 3, 8, 8))))
    real = Tape(KERNELS)
    model(real.input(batch(1)[0]))
    shapes = [(op.name, op.output_shape[1:]) for op in tape.ops]
    assert shapes == [(op.name, op.output_shape[1:]) for op in real.ops]
    assert logits.shape == (1000, 3) and logits.value.strides == (0, 0)
    assert model.bn1.num_batches_tracked == 1  # of the real pass


def test_records_say_what_ran() -> None:
    tape = Tape(KERNELS)
    loss_of(tape, Branching(), *batch())
    rows = {op.name: op for op in tape.ops}
    assert rows["input"].producers == (-1,) and rows["input"].input_sizes == (4 * 3 * 64,)
    assert [p.name for p in rows["conv1"].parameters] == ["conv1.weight", "conv1.bias"]
    assert rows["add"].producers == (rows["conv2"].index, rows["pool1"].index)
    assert rows["conv2"].producers == (rows["cat"].index,)  # through the shuffle, a view
    assert rows["criterion.nllloss"].producers == (rows["criterion.logsoftmax"].index, -1)
    assert rows["criterion.nllloss"].input_sizes == (12, 4) and rows["criterion.nllloss"].output_size == 1
    assert [op.index for op in tape.ops] == list(range(len(tape.ops)))
