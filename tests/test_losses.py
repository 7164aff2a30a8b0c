"""Losses against formulas in float64, against PyTorch, and through trainers, files and commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_models
from mpsim import Trainer, kernels, ops
from mpsim.assignment import assign, measure_sensitivity
from mpsim.engine.tape import Tape
from mpsim.files.checkpoint import CheckpointError
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.losses import BCE, MSE, CrossEntropy, Custom, Loss, described, loss_of
from mpsim.recording.steps import record_step
from mpsim.testing.gradients import check_gradients
from mpsim.trace import trace
from mpsim.training.recipe import Recipe
from mpsim.training.sensitivity import steps
from mpsim.validate import teacher_forced

RANDOM = np.random.default_rng(0)
N, C = 6, 4
X = (3 * RANDOM.standard_normal((N, C))).astype(np.float32)
CLASSES, IGNORED = np.array([0, 3, 1, 1, 2, 0]), np.array([0, -100, 1, -100, 2, 0])
SHARES = RANDOM.dirichlet(np.ones(C), N).astype(np.float32)
WEIGHTS, TRUE = (1.0, 2.5, 0.5, 3.0), (RANDOM.random((N, C)) < 0.5).astype(np.float32)
VALUES = RANDOM.standard_normal((N, C)).astype(np.float32)

#: name -> (loss, labels, arguments of the formula below)
CASES: dict[str, tuple[Loss, np.ndarray]] = {
    "plain": (CrossEntropy(), CLASSES),
    "smoothing": (CrossEntropy(0.1), CLASSES),
    "all smoothed": (CrossEntropy(1.0), CLASSES),
    "weights": (CrossEntropy(weights=WEIGHTS), CLASSES),
    "ignored": (CrossEntropy(ignore_index=-100), IGNORED),
    "everything": (CrossEntropy(0.2, WEIGHTS, -100), IGNORED),
    "shares": (CrossEntropy(), SHARES),
    "shares smoothed and weighted": (CrossEntropy(0.2, WEIGHTS), SHARES),
    "mse": (MSE(), VALUES),
    "mse of classes": (MSE(), CLASSES),
    "bce": (BCE(), TRUE),
    "bce of shares": (BCE(), SHARES),
    "bce of classes, weighted": (BCE(WEIGHTS), CLASSES),
}
each_case = pytest.mark.parametrize("case", CASES)


def formula(case: str, x: np.ndarray) -> float:
    """The loss in float64, term by term, as its definition in words."""
    loss, labels = CASES[case]
    x, classes = np.asarray(x, np.float64), labels.dtype.kind == "i"
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    total = divisor = 0.0
    for row in range(N):
        target = np.array([float(labels[row] == c) for c in range(C)]) if classes else labels[row].astype(float)
        if isinstance(loss, MSE):
            total, divisor = total + ((x[row] - target) ** 2).sum(), divisor + C
        elif isinstance(loss, BCE):
            p = 1 / (1 + np.exp(-x[row]))
            factors = np.array(loss.positive or [1.0] * C)
            total -= (factors * target * np.log(p) + (1 - target) * np.log(1 - p)).sum()
            divisor += C
        else:
            assert isinstance(loss, CrossEntropy)
            if classes and labels[row] == loss.ignore_index:
                continue
            weights = np.array(loss.weights or [1.0] * C)
            smoothed = (1 - loss.smoothing) * target + loss.smoothing / C
            total -= (weights * smoothed * logs[row]).sum()
            divisor += weights[labels[row]] if classes else 1.0
    return total / divisor


def slope(case: str) -> np.ndarray:
    """The gradient by x as difference quotients of the formula."""
    found = np.zeros((N, C))
    for place in np.ndindex(N, C):
        moved = np.zeros((N, C))
        moved[place] = 1e-5
        x = X.astype(np.float64)
        found[place] = (formula(case, x + moved) - formula(case, x - moved)) / 2e-5
    return found


def computed(case: str, backend: str = "compiled", threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """mpsim's loss and gradient by x, in float32."""
    from mpsim.engine.tensor import Parameter
    from mpsim.testing.gradients import LEAF

    loss, labels = CASES[case]
    bound = kernels.bind(backend, threads)
    tape, leaf = Tape(bound), Parameter(X.copy(), "x")
    result = loss(tape.bind(LEAF, (), (leaf,)), labels)
    value = np.array(result.value)
    return value, np.array(tape.backward(result)[leaf])


@each_case
def test_the_formula_in_float64(case: str) -> None:
    value, gradient = computed(case)
    assert value.dtype == np.float32 and value.shape == (1,)
    assert float(value[0]) == pytest.approx(formula(case, X), rel=1e-6)
    assert np.abs(gradient - slope(case)).max() < 2e-7


@each_case
def test_equal_bits_on_every_backend(case: str, backends: list[str]) -> None:
    found = {
        tuple(array.tobytes() for array in computed(case, backend, threads))
        for backend in backends
        for threads in (1, 2)
    }
    assert len(found) == 1


@each_case
def test_derivatives(case: str) -> None:
    loss, labels = CASES[case]
    check_gradients(lambda x: loss(x, labels), [X])


@each_case
def test_pytorch_has_the_same_loss(case: str) -> None:
    torch = pytest.importorskip("torch")
    loss, labels = CASES[case]
    x, given = torch.tensor(X, requires_grad=True), torch.tensor(labels)
    one_hot = (
        torch.nn.functional.one_hot(given, C).float() if given.dtype == torch.int64 and given.min() >= 0 else given
    )
    if isinstance(loss, MSE):
        theirs = torch.nn.functional.mse_loss(x, one_hot)
    elif isinstance(loss, BCE):
        positive = torch.tensor(loss.positive) if loss.positive else None
        theirs = torch.nn.functional.binary_cross_entropy_with_logits(x, one_hot, pos_weight=positive)
    else:
        assert isinstance(loss, CrossEntropy)
        weights = torch.tensor(loss.weights) if loss.weights else None
        options = {} if loss.ignore_index is None else {"ignore_index": loss.ignore_index}
        theirs = torch.nn.functional.cross_entropy(x, given, weight=weights, label_smoothing=loss.smoothing, **options)
    theirs.backward()
    value, gradient = computed(case)
    assert float(value[0]) == pytest.approx(theirs.item(), rel=1e-6)
    assert np.abs(gradient - x.grad.numpy()).max() < 2e-7


def test_the_plain_cross_entropy_is_the_op_of_before() -> None:
    tape = Tape(kernels.bind("compiled"))
    x = tape.input(X)
    assert CrossEntropy()(x, CLASSES).value == ops.cross_entropy(x, CLASSES).value
    assert [op.kind for op in tape.ops[1:]] == ["LogSoftmax", "NLLLoss"] * 2


def test_the_order_of_the_sum_is_the_one_written() -> None:
    x = Tape(kernels.bind("compiled")).input(X)
    y, shares = ops.log_softmax(x).value, CrossEntropy(0.1).shares(CLASSES, C)[0].astype(np.float32)
    products = (y * shares).ravel()
    total = np.float32(0)
    for product in products:  # fewer terms than a chunk: from the first to the last
        total += product
    assert np.array_equal(CrossEntropy(0.1)(x, CLASSES).value, [-(total / np.float32(N))])


def test_small_losses_of_bce_keep_their_precision() -> None:
    x = np.float32([[30, -30]])
    value = BCE()(Tape(kernels.bind("compiled")).input(x), np.float32([[1, 0]])).value
    assert float(value[0]) == pytest.approx(np.exp(-30.0), rel=1e-6)


def test_labels_that_do_not_count_and_none_that_does() -> None:
    tape = Tape(kernels.bind("compiled"))
    loss = CrossEntropy(ignore_index=-1)
    assert np.isnan(loss(tape.input(X), np.full(N, -1)).value).all()
    some = loss(tape.input(X), np.array([0, -1, -1, -1, -1, 2])).value
    assert np.allclose(some, CrossEntropy()(tape.input(X[[0, 5]]), np.array([0, 2])).value)


def test_tokens_have_a_label_each() -> None:
    tape = Tape(kernels.bind("compiled"))
    rows, folded = tape.input(X), tape.input(X.reshape(2, 3, C))
    for loss, labels in CASES.values():
        shape = (2, 3, *labels.shape[1:])
        assert np.array_equal(loss(rows, labels).value, loss(folded, labels.reshape(shape)).value)


# -- texts ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "loss"),
    [
        ("cross_entropy", CrossEntropy()),
        ("cross_entropy(0.1)", CrossEntropy(0.1)),
        ("cross_entropy(smoothing=0.1, weights=(1, 2.5), ignore_index=-100)", CrossEntropy(0.1, (1, 2.5), -100)),
        (" mse ", MSE()),
        ("bce(positive=(1, 2))", BCE((1, 2))),
    ],
)
def test_texts(text: str, loss: Loss) -> None:
    assert loss_of(text) == loss and loss_of(described(loss)) == loss
    assert Recipe.from_dict(Recipe(loss=text).to_dict()).loss == loss


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("hinge", "unknown loss 'hinge'. Known: cross_entropy, mse, bce"),
        ("cross_entropy(0.1, 2)", "weights of cross_entropy cannot be 2"),
        ("cross_entropy(1.5)", "smoothing must be"),
        ("cross_entropy(weights=(1, -1))", r"weights\[1\] must be"),
        ("cross_entropy(share=1)", "takes smoothing, weights, ignore_index"),
        ("cross_entropy(", "not written as"),
        (3, "must be a loss, its text or a function, got 3"),
    ],
)
def test_what_is_no_loss(given: object, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Recipe(loss=given)  # type: ignore[arg-type]


# -- training ---------------------------------------------------------------------------------------------------
IMAGES = RANDOM.standard_normal((N, 1, 8, 8)).astype(np.float32)
MIXED = RANDOM.dirichlet(np.ones(10), N).astype(np.float32)


def absolute(outputs: Any, labels: np.ndarray) -> Any:
    distance = ops.subtract(outputs, np.eye(10, dtype=np.float32)[labels])
    return ops.mean(ops.add(ops.relu(distance), ops.relu(ops.scale(distance, -1.0))))


def trainer(loss: Any, backend: str = "compiled", threads: int = 1, semantics: str = "standard") -> Trainer:
    model = reference_models.build("small_cnn", width=0.125)
    traced = trace(model, N, semantics, loss=loss_of(loss))
    plan = assign(traced, "largest_first", ratio=0.8)
    return Trainer(model, plan, loss=loss, backend=backend, threads=threads, semantics=semantics)


@pytest.mark.parametrize("loss", ["cross_entropy(smoothing=0.1)", "mse", "bce", absolute])
def test_a_step_is_equal_on_every_backend_and_op_by_op(loss: Any, backends: list[str]) -> None:
    labels = CLASSES
    found = {}
    for backend in backends:
        trained = trainer(loss, backend)
        trained.step(IMAGES, labels)
        found[backend] = trained.digest()
    assert len(set(found.values())) == 1 and found["reference"] != trained_digest("cross_entropy")
    step = record_step(trained := trainer(loss), IMAGES, labels)
    plan = trainer(loss).plan
    file = TensorFile(step.tensors, json.loads(json.dumps(step.index)))
    again = {} if isinstance(loss, str) else {"loss": loss}
    model = reference_models.build("small_cnn", width=0.125)
    assert teacher_forced(file, model, plan, "standard", threads=1, **again).equal
    if again:
        with pytest.raises(ValueError, match="'absolute' is a function of one's own; pass it as loss="):
            teacher_forced(file, model, plan, "standard", threads=1)


def trained_digest(loss: Any) -> str:
    trained = trainer(loss)
    trained.step(IMAGES, CLASSES)
    return trained.digest()


@pytest.mark.parametrize("semantics", ["standard", "lee2023"])
def test_traces_have_the_ops_of_the_loss(semantics: str) -> None:
    model = reference_models.build("small_cnn", width=0.125)
    for loss, kind in ((CrossEntropy(), "NLLLoss"), (MSE(), "MSELoss"), (Custom(absolute), "Mean")):
        traced = trace(model, N, semantics, loss=loss)
        assert traced.ops[-1].kind == kind
        (elements,) = [each.elements for each in traced.tensors if each.id == (len(traced.ops) - 1, "activation", 0)]
        assert elements == (N if semantics == "lee2023" else 1)
    with pytest.raises(ValueError, match="plan"):
        Trainer(model, assign(trace(model, N), "uniform_low"), loss="mse")


def test_mixed_labels_train_and_are_recorded() -> None:
    trained = trainer("cross_entropy")
    step = record_step(trained, IMAGES, MIXED)
    assert step.tensors["labels"].dtype == np.float32
    model, plan = reference_models.build("small_cnn", width=0.125), trainer("cross_entropy").plan
    assert teacher_forced(TensorFile(step.tensors, step.index), model, plan, "standard", threads=1).equal
    without = {name: array for name, array in step.tensors.items() if name != "labels"}
    with pytest.raises(TensorFileError, match="pass labels="):
        teacher_forced(TensorFile(without, step.index), model, plan, "standard", threads=1)
    epoch = trainer("cross_entropy").train_epoch([(IMAGES, MIXED)])
    assert 0 <= epoch.accuracy <= 1 and np.isfinite(epoch.loss)


def test_evaluation_has_the_loss_of_the_recipe() -> None:
    labels = np.array([1, 2, 3, -1, 5, -1])
    plain = Trainer(reference_models.build("small_cnn", width=0.125), threads=1)
    trained = Trainer(
        reference_models.build("small_cnn", width=0.125), loss=CrossEntropy(0.1, ignore_index=-1), threads=1
    )
    found = trained.evaluate((IMAGES, labels), batch=2)  # the last batch has one label that counts
    kept = labels >= 0
    one = trained.evaluate((IMAGES[kept], labels[kept]))
    assert found.accuracy == one.accuracy == plain.evaluate((IMAGES[kept], labels[kept])).accuracy
    assert found.images == 6 and found.loss == pytest.approx(one.loss, rel=1e-6)
    assert trained.train_epoch([(IMAGES, labels)]).loss == pytest.approx(one.loss, rel=0.5)


def test_sensitivity_of_another_loss() -> None:
    model = reference_models.build("small_cnn", width=0.125)
    measured = measure_sensitivity(steps(model, [(IMAGES, CLASSES)], loss="mse", threads=1))
    assert np.isfinite(measured.loss).all()


def test_checkpoints(tmp_path: Path) -> None:
    for loss, again in (("cross_entropy(smoothing=0.1)", None), (absolute, Custom(absolute))):
        first = trainer(loss)
        first.step(IMAGES, CLASSES)
        first.save(tmp_path / "state")
        if again is not None:
            with pytest.raises(CheckpointError, match="'absolute' is a function of one's own; pass it as loss="):
                Trainer.load(tmp_path / "state")
        second = Trainer.load(tmp_path / "state", loss=again, threads=1)
        for each in (first, second):
            each.step(IMAGES, CLASSES)
        assert first.digest() == second.digest()


@pytest.mark.parametrize(
    ("loss", "labels", "said"),
    [
        ("cross_entropy", CLASSES.astype(float), "labels must be integers, got float64; or values"),
        ("cross_entropy", MIXED[:, :4], r"must have shape \(6, 10\), got \(6, 4\)"),
        ("mse", np.full((N, 10), np.nan), "labels must be finite"),
        ("cross_entropy(ignore_index=-1)", np.full(N, -2), r"labels must be in 0\.\.9, got -2 to -2"),
        ("cross_entropy(weights=(1, 2))", CLASSES, "weights of the loss must be 10 numbers, one for each class; got 2"),
        (lambda outputs, labels: outputs, CLASSES, "must return a tensor of one element, got shape"),
        (lambda outputs, labels: 3.0, CLASSES, "must return a tensor of one element, got float"),
        (absolute, CLASSES[:3], r"labels must have shape \(6, ...\), got \(3,\)"),
    ],
)
def test_labels_and_losses_that_do_not_fit(loss: Any, labels: np.ndarray, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Trainer(reference_models.build("small_cnn", width=0.125), loss=loss, threads=1).step(IMAGES, labels)


OWN = """
from mpsim import ops


def halved(outputs, labels):
    return ops.scale(ops.cross_entropy(outputs, labels), 0.5)
"""


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Any], call_json: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    common = ["train", "small_cnn", "--width", "0.125", "--epochs", "1", "--train-images", "128"]
    plain = call_json(*common)
    for loss in ("cross_entropy(smoothing=0.1)", "mse", "own.py:halved"):
        run = call_json(*common, "--loss", loss)
        assert run["digest"] != plain["digest"] and run["key"] != plain["key"]
    assert call_json(*common, "--loss", "cross_entropy")["key"] == plain["key"]
    stored = call_json(*common, "--loss", "own.py:halved")
    assert stored["stored_on"] and stored["train_loss"] == pytest.approx(plain["train_loss"] / 2, rel=0.1)
    (tmp_path / "own.py").write_text(OWN.replace("0.5", "0.25"))
    assert call_json(*common, "--loss", "own.py:halved")["key"] != stored["key"]
    code, _, errors = call(*common, "--loss", "hinge")
    assert code == 2 and "unknown loss 'hinge'" in errors
    code, _, errors = call(*common, "--loss", "none.py:f")
    assert code == 2 and "cannot be read" in errors
    ops_of = call_json("plan", "small_cnn", "--width", "0.125", "--scheme", "uniform_low", "--loss", "bce")
    assert "BCELoss" in json.dumps(ops_of)
    assert call("trace-step", "small_cnn", "--width", "0.125", "--loss", "mse", "--out", "s.npz")[0] == 0
    assert call("validate", "step", "s.npz", "--against", "s.npz", "--teacher-forced")[0] == 0


def test_a_batch_without_labels_that_count_is_left_out_of_the_mean() -> None:
    loss = CrossEntropy(ignore_index=-1)
    none, some = np.full(N, -1), CLASSES
    both, one = (Trainer(reference_models.build("small_cnn", width=0.125), loss=loss, threads=1) for _ in range(2))
    found = both.train_epoch([(IMAGES, some), (IMAGES, none)])
    assert found.loss == one.train_epoch([(IMAGES, some)]).loss and found.skipped_steps == 1
    assert np.isnan(one.train_epoch([(IMAGES, none)]).loss)
