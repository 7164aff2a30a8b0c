"""Networks that read tokens, through trainers, checkpoints, plans, sensitivities, step files and commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reference_models
from mpsim import Trainer, networks
from mpsim.assignment import assign, measure_sensitivity
from mpsim.assignment.liveness import peak_memory
from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.nn.inputs import shape_of_input
from mpsim.recording.steps import network_of, record_step
from mpsim.trace import trace
from mpsim.training.batches import fitting_batch
from mpsim.training.sensitivity import steps
from mpsim.validate import teacher_forced

RANDOM = np.random.default_rng(3)
TEXT = RANDOM.integers(0, 6, (4, 9))
TOKENS, LABELS = TEXT[:, :-1], TEXT[:, 1:]


def model() -> Any:
    return reference_models.build("gpt_tiny", width=0.125, classes=6, input_shape=(8,))


def trainer(backend: str = "compiled", threads: int = 1, ratio: float = 0.8) -> Trainer:
    network = model()
    plan = assign(trace(network, batch=4), "largest_first", ratio=ratio)
    return Trainer(network, plan, backend=backend, threads=threads)


def test_one_digest_on_every_backend(backends: list[str]) -> None:
    found = set()
    for backend in backends:
        for threads in (1, 2):
            trained = trainer(backend, threads)
            reports = [trained.step(TOKENS, LABELS) for _ in range(2)]
            assert reports[0].logits.shape == (4, 8, 6) and not reports[0].skipped
            found.add(trained.digest())
    assert len(found) == 1


def test_the_trace_has_no_input_and_a_label_for_each_token() -> None:
    traced = trace(model(), batch=4)
    assert traced.ops[0].kind == "Embedding" and traced.ops[0].producers == (-1,)
    assert traced.label_shape == (4, 8) and traced.classes == 6
    logits, logs, loss = traced.ops[-3:]
    assert logits.output_shape == (4, 8, 6) and logs.output_shape == (32, 6) and loss.output_shape == (1,)
    assert "head.weight" not in traced.parameter_ids and "embedding.weight" in traced.parameter_ids
    assert peak_memory(assign(traced, "uniform_low")).bytes > 0
    assert fitting_batch(model(), 1 << 20) > 1


def test_evaluation_counts_tokens() -> None:
    trained = Trainer(model(), threads=1)
    found = trained.evaluate((TOKENS, LABELS), batch=3)
    logits = trained.step(TOKENS, LABELS).logits.astype(np.float64)
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    assert found.images == 4
    assert found.loss == pytest.approx(-np.take_along_axis(logs, LABELS[..., None], -1).mean(), rel=1e-5)
    assert found.accuracy == np.mean(logits.argmax(-1) == LABELS)
    epoch = Trainer(model(), threads=1).train_epoch([(TOKENS, LABELS)])
    assert epoch.accuracy == found.accuracy and epoch.loss == pytest.approx(found.loss, rel=1e-5)


def test_the_past_alone_decides() -> None:
    changed = TOKENS.copy()
    changed[:, 5:] = (changed[:, 5:] + 1) % 6
    one, other = (Trainer(model(), threads=1).step(tokens, LABELS).logits for tokens in (TOKENS, changed))
    assert np.array_equal(one[:, :5], other[:, :5]) and not np.array_equal(one[:, 5:], other[:, 5:])


def test_checkpoints_continue_with_the_same_bits(tmp_path: Path) -> None:
    first = trainer()
    first.step(TOKENS, LABELS)
    first.save(tmp_path / "state")
    second = Trainer.load(tmp_path / "state", threads=1)
    assert second.model.vocabulary == 6 and second.model.input_shape == (8,)
    for each in (first, second):
        each.step(TOKENS, LABELS)
    assert first.digest() == second.digest()


def test_sensitivity() -> None:
    measured = measure_sensitivity(steps(model(), [(TOKENS, LABELS)], threads=1))
    assert len(measured.loss) == len(trace(model(), batch=4).groups) and np.isfinite(measured.loss).all()


@pytest.mark.parametrize("without", [(), ("labels",)])
def test_a_recorded_step_is_equal_op_by_op(without: tuple[str, ...]) -> None:
    recorded = trainer()
    plan = recorded.plan
    step = record_step(recorded, TOKENS, LABELS)
    index = {**step.index, "loss_scale": None} if without else step.index
    index.pop("loss_scale") if without else None
    tensors = {name: array for name, array in step.tensors.items() if name not in without}
    assert "Y/0/0" in tensors and tensors["images"].dtype.kind == "i"
    report = teacher_forced(TensorFile(tensors, index), model(), plan, "standard", threads=1)
    assert report.equal and np.array_equal(report.labels, LABELS), report.suspects()
    assert json.loads(json.dumps(report.to_dict()))["labels"] == LABELS.tolist()
    tensors["images"] = (TOKENS + 1) % 6
    assert not teacher_forced(TensorFile(tensors, index), model(), plan, "standard", threads=1).equal
    network = network_of(TensorFile(step.tensors, json.loads(json.dumps(step.index))))
    assert network.model.vocabulary == 6


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (TOKENS[:, :4], r"images, the tokens, has shape \(4, 4\)"),
        (TOKENS + 6, r"must be integers in 0\.\.5"),
        (None, "no tensor images, the tokens"),
    ],
)
def test_files_without_these_tokens(images: np.ndarray | None, said: str) -> None:
    step = record_step(trainer(), TOKENS, LABELS)
    tensors = {**step.tensors, "images": images}
    if images is None:
        del tensors["images"]
    with pytest.raises(TensorFileError, match=said):
        teacher_forced(TensorFile(tensors, step.index), model(), None, "standard", threads=1)


@pytest.mark.parametrize(
    ("tokens", "labels", "said"),
    [
        (TOKENS.astype(np.float32), LABELS, "tokens must be integers, got float32; GPTTiny has a vocabulary"),
        (TOKENS[:, :7], LABELS, r"tokens must have shape \(N, 8\) with N >= 1, got \(4, 7\)"),
        (TOKENS[:0], LABELS[:0], r"got \(0, 8\)"),
        (TOKENS + 1, LABELS, r"tokens must be in 0\.\.5, got 1 to 6"),
        (TOKENS - 1, LABELS, r"tokens must be in 0\.\.5, got -1 to 4"),
        (TOKENS, LABELS[:, :7], r"4 images or rows of tokens need labels of shape \(4,\) or \(4, 8\), got \(4, 7\)"),
        (TOKENS, LABELS + 1, r"labels must be in 0\.\.5, got 1 to 6"),
    ],
)
def test_batches_that_do_not_fit(tokens: np.ndarray, labels: np.ndarray, said: str) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        Trainer(model(), threads=1).step(tokens, labels)


def test_shapes_and_vocabularies_that_do_not_fit() -> None:
    assert shape_of_input((3,), 5) == (3,)
    for shape, vocabulary in (((3, 4), None), ((1, 8, 8), 5), ((0,), 5)):
        with pytest.raises(ValueError, match="input_shape"):
            shape_of_input(shape, vocabulary)
    with pytest.raises(ValueError, match="vocabulary"):
        networks.build("gpt_tiny", input_shape=(8,), vocabulary=0)
    with pytest.raises(ValueError, match=r"input_shape must be \(tokens,\)"):
        networks.build("gpt_tiny", input_shape=(3, 8, 8))


NETWORK = """
from mpsim import nn, ops


class Net(nn.Module):
    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        self.embedding, self.head = nn.Embedding(vocabulary, 4), nn.Linear(4, vocabulary)

    def __call__(self, tokens):
        return self.head(self.embedding(tokens))


def build(vocabulary=5, input_shape=(7,)):
    return Net(vocabulary)
"""


def test_a_network_of_a_file_gets_vocabulary_and_shape(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK)
    found = networks.build(f"{tmp_path / 'net.py'}:build", vocabulary=9, input_shape=(3,))
    assert (found.vocabulary, found.classes, found.input_shape) == (9, 9, (3,))
    assert found.head.weight.master.any()
    default = networks.build(f"{tmp_path / 'net.py'}:build")
    assert (default.vocabulary, default.input_shape) == (5, (7,))


def test_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, call_json: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    common = ["net.py:build", "--data", "grammar", "--batch", "32", "--train-images", "64", "--epochs", "1"]
    run = call_json("train", *common, "--scheme", "largest_first", "--ratio", "0.5")
    assert run["steps"] == 2 and 0 < run["test_accuracy"] < 1 and np.isfinite(run["train_loss"])
    code, _, errors = call("train", *common[:2], "digits")
    assert code == 2 and "its network failed on tokens of (1, 8, 8)" in errors
    code, _, errors = call("train", "gpt_tiny", "--data", "digits")
    assert code == 2 and "input_shape must be (tokens,), whole numbers of at least 1; got (1, 8, 8)" in errors
    code, _, errors = call("train", "small_cnn", *common[1:])
    assert code == 2 and "input_shape must be (channels, height, width)" in errors
    recorded = ["gpt_tiny", "--width", "0.0625", "--scheme", "largest_first", "--ratio", "0.5", "--out", "s.npz"]
    assert call("trace-step", *recorded)[0] == 0
    assert call("validate", "step", "s.npz", "--against", "s.npz", "--teacher-forced")[0] == 0
    assert call("validate", "step", "s.npz", "--against", "s.npz")[0] == 0
    assert "operator" in call("plan", "gpt_tiny", "--width", "0.25", "--batch", "4", "--scheme", "operator_based")[1]


def test_a_torch_module_that_reads_tokens() -> None:
    torch = pytest.importorskip("torch")
    from mpsim.nn import from_torch

    module = torch.nn.Sequential(torch.nn.Embedding(9, 4), torch.nn.Linear(4, 7))
    network = from_torch(module, torch.zeros(2, 5, dtype=torch.int64))
    assert network.vocabulary == 9 and network.input_shape == (5,) and trace(network, batch=3).label_shape == (3, 5)
