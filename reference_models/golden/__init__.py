"""Golden digests of three training steps of every reference network.

``python -m reference_models.golden`` rewrites them with the compiled backend. mpsim must give the same digests on every
backend, machine and number of threads. A changed file means changed arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import reference_models
from mpsim.assignment import assign
from mpsim.files import semantics
from mpsim.kernels import DEFAULT_BACKEND
from mpsim.kernels.philox import Stream, random_bits, uniform
from mpsim.trace import trace
from mpsim.training.trainer import Trainer
from reference_models.network import Network

FOLDER = Path(__file__).parent
BATCH, STEPS, SEED = 2, 3, 0
#: The narrowest form of each network.
WIDTHS = {
    "small_cnn": 0.125,
    "squeezenet": 0.1,
    "shufflenet_v2": 0.1,
    "mobilenet_v2": 0.1,
    "resnet18": 0.1,
    "vit_tiny": 0.25,
    "gpt_tiny": 0.25,
}
#: Name in the files -> scheme and ratio.
PLANS: dict[str, tuple[str, float | None]] = {
    "float32": ("float32", None),
    "uniform_low": ("uniform_low", None),
    "largest_first_0.5": ("largest_first", 0.5),
}
SEMANTICS = ("standard", "lee2023")


class Case(NamedTuple):
    """One golden run."""

    model: str
    plan: str
    semantics: str


def cases(model: str) -> Iterator[Case]:
    """The runs of a network's file."""
    return (Case(model, plan, semantics) for semantics in SEMANTICS for plan in PLANS)


def compute(case: Case, backend: str = DEFAULT_BACKEND, threads: int | None = 1) -> dict[str, Any]:
    """Runs three steps with batch 2. Returns each step's loss (hexadecimal float32), skip, promotions and SHA-256 of
    the logits' little-endian bytes, and the SHA-256 of masters and buffers at the end."""

    model = reference_models.build(case.model, WIDTHS[case.model], seed=SEED)
    scheme, ratio = PLANS[case.plan]
    plan = assign(trace(model, BATCH, case.semantics), scheme, ratio=ratio)
    trainer = Trainer(model, plan, semantics=case.semantics, backend=backend, threads=threads, seed=SEED)
    steps = []
    for number in range(STEPS):
        report = trainer.step(*images_and_labels(model, number))
        steps.append(
            {
                "loss": float(np.float32(report.loss)).hex(),
                "logits": _sha(report.logits),
                "skipped": bool(report.skipped),
                "promoted": len(report.promoted),
            }
        )
    buffers = model.buffers()
    state = model.state()
    return {
        "plan": case.plan,
        "semantics": case.semantics,
        "steps": steps,
        "masters": trainer.digest(),
        "buffers": _sha(*(state[name] for name in buffers)),
    }


def images_and_labels(model: Network, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns float32 images (2, C, H, W), uniform in [-2, 2), and labels of a step, drawn by counter.

    The images of step 1 are 20 times as large. They overflow the low format, so that tensors are promoted. For a
    network that reads tokens, these are (2, T), and the labels are the next tokens.
    """
    shape, stream = model.input_shape, Stream(SEED, "synthetic_data", tensor=0, step=step)
    if model.vocabulary is not None:
        words = random_bits(stream, BATCH * (shape[0] + 1)).reshape(BATCH, -1).astype(np.uint64)
        tokens = (words * np.uint64(model.vocabulary) >> np.uint64(32)).astype(np.int64)
        return tokens[:, :-1], tokens[:, 1:]
    count, largest = BATCH * int(np.prod(shape)), 40.0 if step == 1 else 2.0
    images = uniform(stream, count, -largest, largest)
    return images.reshape(BATCH, *shape), (np.arange(BATCH) * 3 + step) % 10


def stored(model: str) -> dict[str, Any]:
    """Reads a network's file. Raises UsageError if its version of the definition is newer than this mpsim's."""
    path = FOLDER / f"{model}.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    semantics.warn_if_older(found.get(semantics.FIELD), str(path))
    return found


def file_content(model: str, backend: str = DEFAULT_BACKEND) -> dict[str, Any]:
    """Computes the content of a network's file."""
    about = {
        semantics.FIELD: semantics.SEMANTICS,
        "model": model,
        "width": WIDTHS[model],
        "classes": 10,
        "batch": BATCH,
        "seed": SEED,
    }
    return about | {"runs": [compute(case, backend) for case in cases(model)]}


def write(folder: Path = FOLDER) -> list[Path]:
    """Writes every network's file, and returns the paths."""
    files = []
    for model in WIDTHS:
        file = folder / f"{model}.json"
        file.write_text(json.dumps(file_content(model), indent=1) + "\n", encoding="utf-8")
        files.append(file)
    return files


def _sha(*arrays: np.ndarray) -> str:
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return sha.hexdigest()
