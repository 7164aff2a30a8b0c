"""Epilogues: a store that gives them meets the same tensors, and every bit and count is the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from networks import Branching, batch, loss_of

from mpsim import kernels, ops
from mpsim.engine.primitive import Primitive
from mpsim.engine.tape import Tape
from mpsim.engine.tensor import Parameter, TensorId
from mpsim.formats import as_format
from mpsim.kernels.contract import CONTRACT
from mpsim.kernels.epilogue import Epilogue
from mpsim.ops import PRIMITIVES
from mpsim.policies import Policy

LOW, POLICY = as_format("fp_4_3_4"), Policy("nearest_even", "saturate")


class Store:
    """Rounds every tensor, through epilogues where ``gives`` says so; notes ids, elements and counts."""

    def __init__(self, bound: Any, gives: bool) -> None:
        self.bound, self.gives = bound, gives
        self.stored: list[tuple[TensorId, int]] = []
        self.given: Counter[str] = Counter()
        self.rounded: dict[TensorId, list[Epilogue]] = {}

    def __call__(self, id: TensorId, value: np.ndarray) -> np.ndarray:
        value, counts = self.bound.round_array(value, LOW, POLICY, out=value)
        self._note(id, value.size, Epilogue(LOW, POLICY, counts=counts))
        return value

    def epilogue(self, id: TensorId, elements: int) -> Epilogue | None:
        if not self.gives:
            return None
        epilogue = Epilogue(LOW, POLICY)
        self.given[id.role] += 1
        self._note(id, elements, epilogue)
        return epilogue

    def _note(self, id: TensorId, elements: int, epilogue: Epilogue) -> None:
        self.stored.append((id, elements))
        self.rounded.setdefault(id, []).append(epilogue)

    def seen(self) -> Any:
        return Counter(self.stored), {
            id: sum(epilogue.counts for epilogue in epilogues).tolist() for id, epilogues in self.rounded.items()
        }


def step(backend: str, gives: bool, each: bool, **options: Any) -> tuple[list[bytes], Store]:
    bound = kernels.bind(backend, 2)
    store, model = Store(bound, gives), Branching()
    model.move(bound)
    tape = Tape(bound, store, store_each_contribution=each, **options)
    gradients = tape.backward(loss_of(tape, model, *batch()), 64.0)
    return [np.asarray(gradients[p]).tobytes() for p in model.parameters().values()], store


@pytest.mark.parametrize("each", [False, True])
def test_epilogues_change_no_bit_no_count_and_no_tensor(backend: str, each: bool) -> None:
    calm, plain = step(backend, False, each)
    fused, store = step(backend, True, each)
    assert fused == calm and store.seen() == plain.seen()
    # outputs of 3 convolutions, 2 norms, 2 relus, 2 halves, cat and add; gradients that one op makes alone, and a sum
    assert (store.given["activation"], store.given["activation_gradient"]) == (11, 5 if each else 6)


@pytest.mark.parametrize("each", [False, True])
def test_who_sees_contributions_sees_them_as_without_epilogues(each: bool) -> None:
    seen: list[list[bytes]] = []
    for gives in (False, True):
        parts: list[bytes] = []
        results = step(
            "reference",
            gives,
            each,
            on_contribution=lambda c, part, parts=parts: (parts.append(part.tobytes()), part)[1],
        )
        seen.append([*parts, *results[0]])
    assert seen[0] == seen[1]


def test_a_sum_of_contributions_is_stored_by_the_last_addition() -> None:
    tape_store = Store(kernels.bind("reference"), True)
    tape = Tape(tape_store.bound, tape_store)
    model = Branching()
    tape.backward(loss_of(tape, model, *batch()))
    pool = next(op.index for op in tape.ops if op.kind == "MaxPool2d")  # read by both halves of the split and by add
    assert [id for id, _ in tape_store.stored].count(TensorId(pool, "activation_gradient")) == 1
    assert Counter(tape_store.stored)[TensorId(pool, "activation_gradient"), tape.ops[pool].output_size] == 1


def test_no_part_of_a_sum_is_stored_before_the_sum() -> None:
    """x is read by two relus, each of which could finish its own part."""
    results = []
    for gives in (False, True):
        store = Store(kernels.bind("reference"), gives)
        tape = Tape(store.bound, store)
        scale, shift = (Parameter(np.float32([value])) for value in (1, 3))
        x = ops.batch_norm(tape.input(np.float32([[[[0.3, -0.7, 1.9]]]])), scale, shift)
        loss = ops.avg_pool2d(ops.add(ops.relu(x), ops.relu(x)), (1, 3))
        gradients = tape.backward(loss, 1.3)
        results.append((store.seen(), gradients[scale].tobytes(), gradients[shift].tobytes()))
    assert results[0] == results[1]


def test_kernels_that_primitives_name_take_an_epilogue() -> None:
    for primitive in PRIMITIVES.values():
        for name in (*primitive.output_kernels, *primitive.gradient_kernels):
            assert CONTRACT[name].epilogue, (primitive.kind, name)


def test_a_primitive_that_names_the_wrong_kernel_is_found_out() -> None:
    wrong = Primitive(
        "Wrong",
        lambda kernels, inputs, parameters: (kernels.scale(inputs[0], 2.0), ()),
        lambda *_: ((None,), ()),
        lambda inputs, parameters: inputs[0],
        output_kernels=("relu",),
    )
    tape = Tape(kernels.bind("reference"), Store(kernels.bind("reference"), True))
    with pytest.raises(RuntimeError, match="Wrong: one call of relu was promised, 0 came"):
        tape.bind(wrong, (tape.input(np.ones(3, np.float32)),))


def test_evaluation_uses_epilogues_too() -> None:
    bound = kernels.bind("reference")
    outputs = []
    for gives in (False, True):
        tape = Tape(bound, Store(bound, gives), training=False)
        outputs.append(ops.log_softmax(Branching()(tape.input(batch()[0]))).value.tobytes())
    assert outputs[0] == outputs[1]
