"""Networks of the later families of ops, trained and checked as any other: what derives from an op's declaration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from families import FAMILIES, NextToken

from mpsim import Trainer, kernels, ops
from mpsim.assignment import SCHEMES, assign, measure_sensitivity, uniform
from mpsim.assignment.liveness import peak_memory
from mpsim.engine.tape import Tape
from mpsim.files.tensors import TensorFile
from mpsim.ops import primitive_of
from mpsim.recording.steps import record_step
from mpsim.testing.gradients import check_gradients
from mpsim.trace import trace
from mpsim.training.sensitivity import steps
from mpsim.validate import teacher_forced

RANDOM = np.random.default_rng(1)
IMAGES, LABELS = RANDOM.standard_normal((4, 3, 8, 8)).astype(np.float32), np.array([0, 2, 1, 1])
each_family = pytest.mark.parametrize("family", FAMILIES)


def trained(family: str, backend: str, threads: int, **settings: Any) -> str:
    model = FAMILIES[family]()
    plan = assign(trace(model, batch=4), "largest_first", ratio=0.8)
    trainer = Trainer(model, plan, backend=backend, threads=threads, **settings)
    for _ in range(2):
        trainer.step(IMAGES, LABELS)
    return trainer.digest()


@each_family
def test_one_digest_on_every_backend(family: str, backends: list[str]) -> None:
    found = {trained(family, backend, threads) for backend in backends for threads in (1, 2)}
    assert len(found) == 1
    assert found != {trained(family, "compiled", 1, rounding="stochastic", random_bit_count=8)}


@each_family
def test_the_network_is_differentiated(family: str) -> None:
    model = FAMILIES[family]()

    def function(x: Any) -> Any:
        return ops.cross_entropy(model(x), LABELS)

    check_gradients(function, [IMAGES], model.parameters().values(), tolerance=1e-6)


@each_family
def test_plans_memory_and_sensitivity(family: str) -> None:
    model = FAMILIES[family]()
    traced = trace(model, batch=4)
    products = [op for op in traced.ops if primitive_of(op.kind).is_product]
    assert len(traced.groups) == 1 + len(products)
    plan = assign(traced, "operator_based")
    low = {traced.ops[id.op].kind for id, format in plan.formats.items()
           if id.role == "parameter" and format.name == "fp_4_3_4"}  # fmt: skip
    assert low == {op.kind for op in products[1:-1] if op.parameters}
    for scheme in ("uniform_low", "operator_based", "operator_based_extended"):
        assert scheme in SCHEMES and peak_memory(assign(traced, scheme)).bytes > 0
    assert peak_memory(uniform(traced, "low")).bytes < peak_memory(uniform(traced, "high")).bytes
    measured = measure_sensitivity(steps(model, [(IMAGES, LABELS)], threads=1))
    assert len(measured.loss) == len(traced.groups) and np.isfinite(measured.loss_first_order).all()


@each_family
def test_a_recorded_step_is_equal_op_by_op(family: str) -> None:
    model = FAMILIES[family]()
    plan = assign(trace(model, batch=4), "largest_first", ratio=0.8)
    step = record_step(Trainer(model, plan, threads=1), IMAGES, LABELS)
    report = teacher_forced(TensorFile(step.tensors, step.index), FAMILIES[family](), plan, "standard", threads=1)
    assert report.equal, report.suspects()
    name = next(name for name in step.tensors if name.startswith("Y/") and step.tensors[name].size > 9)
    step.tensors[name] = step.tensors[name] * np.float32(1.25)
    report = teacher_forced(TensorFile(step.tensors, step.index), FAMILIES[family](), plan, "standard", threads=1)
    assert not report.equal


def test_a_later_step_draws_its_own_dropout_and_is_replayed() -> None:
    model = FAMILIES["transformer"]()
    trainer = Trainer(model, threads=1, seed=5)
    records = [record_step(trainer, IMAGES, LABELS) for _ in range(2)]
    (mask,) = [f"Y/{op['index']}/0" for op in records[0].index["ops"] if op["name"] == "drop"]
    zeros = [record.tensors[mask] == 0 for record in records]
    assert not np.array_equal(*zeros)
    for record in records:
        file = TensorFile(record.tensors, record.index)
        assert teacher_forced(file, FAMILIES["transformer"](), None, "standard", threads=1).equal
        file = TensorFile(record.tensors, {**record.index, "seed": 6})
        assert not teacher_forced(file, FAMILIES["transformer"](), None, "standard", threads=1).equal


def test_attention_is_its_formula() -> None:
    random = np.random.default_rng(2)
    q, k, v = (random.standard_normal((2, 3, 5, 4)) for _ in range(3))
    tape = Tape(kernels.bind("compiled"))
    y = ops.attention(*(tape.input(x.astype(np.float32)) for x in (q, k, v)), causal=True)
    scores = np.where(np.tri(5, dtype=bool), q @ np.swapaxes(k, -1, -2) / 2, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    assert np.allclose(y.value, weights / weights.sum(-1, keepdims=True) @ v, rtol=1e-5, atol=1e-6)
    assert [op.name.partition(".")[2] for op in tape.ops[3:]] == ["products", "scaled", "masked", "weights", "values"]


TOKENS = (np.arange(7) * 2 + np.arange(4)[:, None]) % 5  # each token is the one before plus 2


def gradients_of(model: Any, backend: str, threads: int = 1) -> tuple[float, dict[Any, np.ndarray]]:
    """The loss of every next token, and the gradients as arrays."""
    bound = kernels.bind(backend, threads)
    model.move(bound)
    tape = Tape(bound)
    logits = model(tape.input(TOKENS[:, :-1]))
    loss = ops.cross_entropy(ops.reshape(logits, (-1, 5)), TOKENS[:, 1:].reshape(-1))
    return float(loss.value[0]), tape.backward(loss)


def test_next_tokens_have_equal_gradients_on_every_backend(backends: list[str]) -> None:
    found = set()
    for backend in backends:
        for threads in (1, 2):
            model = NextToken()
            _, gradients = gradients_of(model, backend, threads)
            assert len(gradients) == len(model.parameters()) == 8
            found.add(tuple(gradients[parameter].tobytes() for parameter in model.parameters().values()))
    assert len(found) == 1


def test_next_tokens_are_differentiated() -> None:
    model = NextToken()

    def function(x: Any) -> Any:
        tokens = x.tape.input(TOKENS[:, :-1])
        loss = ops.cross_entropy(ops.reshape(model(tokens), (-1, 5)), TOKENS[:, 1:].reshape(-1))
        return ops.add(loss, ops.scale(x, 0.5))

    check_gradients(function, [np.zeros(1)], model.parameters().values(), tolerance=1e-6)


def test_next_tokens_are_learned() -> None:
    model, losses = NextToken(), []
    for _ in range(60):
        loss, gradients = gradients_of(model, "compiled")
        losses.append(loss)
        for parameter, gradient in gradients.items():
            parameter.replace(parameter.master - np.float32(0.3) * gradient)
    assert losses[0] > 1 and losses[-1] < 0.1


def test_tokens_are_not_stored_and_open_no_group_of_their_own() -> None:
    stored = []
    tape = Tape(kernels.bind("compiled"), lambda id, value: stored.append(id) or value)
    NextToken()(tape.input(TOKENS[:, :-1]))
    assert tape.ops[0].kind == "Embedding" and tape.ops[0].producers == (-1,)
    assert tape.ops[0].primitive.opens_group and [id.op for id in stored] == list(range(len(tape.ops)))
