"""Labels and loss scale of a recorded step: given, from the file, or inferred from the gradient of the loss."""

from __future__ import annotations

import numpy as np

from mpsim.files.tensors import TensorFile, TensorFileError
from mpsim.kernels.contract import Array
from mpsim.losses import CrossEntropy, Loss, checked_labels, described
from mpsim.trace import Trace


def labels_of(file: TensorFile, traced: Trace, loss: Loss, given: Array | None, notes: list[str]) -> Array:
    """The labels, by argument, from the file, or where the loss's gradient is not zero (which goes to ``notes``)."""
    if given is None and "labels" in file.tensors:
        given = file.tensors["labels"]
    if given is not None:
        return checked_labels(loss, np.asarray(given), [traced.label_shape], traced.classes)
    if loss != CrossEntropy():
        raise TensorFileError(f"{file.source} has no labels, and the loss is {described(loss)}; pass labels=")
    name, gradient = _loss_gradient(file, traced, "labels")
    found = (gradient > 0).sum(axis=1) == 1
    if not found.all():
        row = int(np.argmin(found))
        raise TensorFileError(f"{file.source} has no labels, and row {row} of {name} does not tell one; pass labels=")
    notes.append(f"labels inferred from {name}, the gradient of the log-probabilities")
    return np.argmax(gradient, axis=1).astype(np.int64).reshape(traced.label_shape)


def loss_scale_of(file: TensorFile, traced: Trace, given: float | None, labels: Array, notes: list[str]) -> float:
    """The scale, by argument, from the file's index or tensors, or the power of two that explains the gradient."""
    if given is None:
        given = file.index.get("loss_scale")
    if given is None and "loss_scale" in file.tensors:
        numbers = file.tensors["loss_scale"].reshape(-1)
        if not (numbers.size == 1 and 0 < numbers[0] < np.inf):
            raise TensorFileError(f"{file.source}: loss_scale is one number above 0, got {numbers[:4].tolist()}")
        given = float(numbers[0])
    if given is not None:
        return float(given)
    if labels.shape != traced.label_shape or traced.ops[-1].kind != "NLLLoss":
        raise TensorFileError(f"{file.source} has no loss scale, which only the plain cross-entropy tells; pass it")
    name, gradient = _loss_gradient(file, traced, "loss scale")
    seen = float(gradient[0, labels.flat[0]])
    if not 0 < seen < np.inf:
        raise TensorFileError(f"{file.source} has no loss scale, and {seen} in {name} tells none; pass loss_scale=")
    scale = 2.0 ** round(np.log2(seen * labels.size))  # rounding to 2 mantissa bits moves it by an eighth
    notes.append(f"loss scale {scale:g}, a power of two, inferred from {name}, the gradient of the log-probabilities")
    return scale


def _loss_gradient(file: TensorFile, traced: Trace, what: str) -> tuple[str, Array]:
    """Name and magnitudes of the gradient of the log-probabilities: what the loss contributes, or the sum."""
    loss = len(traced.ops) - 1
    shape, names = traced.ops[-2].output_shape, (f"GX/{loss}/0", f"G/{loss - 1}/0")
    for name in names:
        if name in file.tensors and file.tensors[name].shape == shape:
            return name, np.abs(file.tensors[name])
    raise TensorFileError(f"{file.source} has no {what}, and no {names[0]} of shape {shape} that tells")
