"""Optimizers: the definitions, on every backend; PyTorch's; training, checkpoints and the command."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mpsim import kernels
from mpsim.files import checkpoint
from mpsim.training.optimizer import SGD, Adam, AdamW, Lion, Optimizer
from mpsim.training.optimizer.base import Update, power
from mpsim.training.schedule import Cosine
from mpsim.training.trainer import Trainer

Array = np.ndarray[Any, Any]

OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(lr=0.1),
    "nesterov": SGD(lr=0.05, momentum=0.8, weight_decay=0.01, nesterov=True),
    "dampening": SGD(lr=0.1, dampening=0.3),
    "no momentum": SGD(lr=0.1, momentum=0.0, dampening=0.5),
    "adam": Adam(lr=0.01, weight_decay=0.05),
    "adamw": AdamW(lr=0.01, weight_decay=0.05, beta2=0.99),
    "epsilon": Adam(lr=0.01, epsilon=0.1, beta1=0.5),
    "lion": Lion(lr=0.003, weight_decay=0.1),
}
STEPS = 100


def restated(optimizer: Optimizer, start: Array, gradient: Callable[[int, Array], Array]) -> Iterator[Array]:
    """The parameters after every step in float64, written from the papers and PyTorch's documentation."""
    w, first, second = start.astype(np.float64), np.zeros(start.shape), np.zeros(start.shape)
    for t in range(1, STEPS + 1):
        g, rate, decay = gradient(t, w), optimizer.lr, optimizer.weight_decay
        if isinstance(optimizer, SGD):
            g = g + decay * w
            first = g if t == 1 else optimizer.momentum * first + (1 - optimizer.dampening) * g
            w = w - rate * (g + optimizer.momentum * first if optimizer.nesterov else first)
        elif isinstance(optimizer, Adam):
            if type(optimizer) is AdamW:
                w = w * (1 - rate * decay)
            else:
                g = g + decay * w
            first = optimizer.beta1 * first + (1 - optimizer.beta1) * g
            second = optimizer.beta2 * second + (1 - optimizer.beta2) * g**2
            first_hat, second_hat = first / (1 - optimizer.beta1**t), second / (1 - optimizer.beta2**t)
            w = w - rate * first_hat / (np.sqrt(second_hat) + optimizer.epsilon)
        elif isinstance(optimizer, Lion):
            sign = np.sign(optimizer.beta1 * first + (1 - optimizer.beta1) * g)
            first = optimizer.beta2 * first + (1 - optimizer.beta2) * g
            w = w - rate * (sign + decay * w)
        yield w


def task() -> tuple[Array, Callable[[int, Array], Array]]:
    """Parameters of many magnitudes, and gradients with noise that draw them to other numbers."""
    generator = np.random.default_rng(5)
    start = (generator.standard_normal(300) * np.exp2(generator.integers(-4, 3, 300))).astype(np.float32)
    noise = (generator.standard_normal((STEPS + 1, 300)) * np.exp2(generator.integers(-9, 5, 300))).astype(np.float32)

    def gradient(step: int, w: Array) -> Array:
        return np.asarray(noise[step] + (w - 1).astype(w.dtype) * w.dtype.type(0.125), w.dtype)

    return start, gradient


def trained(optimizer: Optimizer, backend: str) -> list[Array]:
    """The parameters after every step, by the kernels. The gradient is scaled by 2^10, which is exact."""
    bound, (start, gradient) = kernels.bind(backend, 2), task()
    master = bound.from_numpy(start.copy())
    states = {name: bound.zeros(start.shape) for name in optimizer.states}
    found = []
    for step in range(1, STEPS + 1):
        scaled = gradient(step, bound.to_numpy(master)) * np.float32(1024)
        optimizer.update(bound, master, bound.from_numpy(scaled), states, Update(optimizer.lr, step, 1 / 1024))
        found.append(np.array(bound.to_numpy(master)))
    return found


def far(found: Array, exact: Array, sizes: Array) -> float:
    """The largest distance, in roundings of float32 of the largest number on the way."""
    return float(np.max(np.abs(found - exact) / sizes) * 2**24)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_its_definition_in_float64_but_for_roundings(name: str) -> None:
    start, gradient = task()
    ours = trained(OPTIMIZERS[name], "reference")
    exact = list(restated(OPTIMIZERS[name], start, gradient))
    if name == "lion":  # a sign turns where a sum is near 0, so only the first steps are near
        ours, exact = ours[:8], exact[:8]
    sizes = np.max(np.abs(exact), axis=0)
    assert far(ours[0], exact[0], sizes) < 4
    assert far(ours[-1], exact[-1], sizes) < 100
    assert far(ours[-1], exact[-2], sizes) > 10000


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_backend_updates_to_the_same_bits(name: str, fast_backend: str) -> None:
    ours, theirs = (trained(OPTIMIZERS[name], backend) for backend in ("reference", fast_backend))
    assert all(one.tobytes() == other.tobytes() for one, other in zip(ours, theirs, strict=True))


def torch_trained(optimizer: Optimizer, dtype: str) -> list[Array]:
    """The parameters after every step by torch.optim."""
    torch = pytest.importorskip("torch")
    start, gradient = task()
    parameter = torch.nn.Parameter(torch.tensor(start, dtype=getattr(torch, dtype)))
    common = {"lr": optimizer.lr, "weight_decay": optimizer.weight_decay}
    if isinstance(optimizer, SGD):
        theirs = torch.optim.SGD(
            [parameter], **common, momentum=optimizer.momentum, dampening=optimizer.dampening,
            nesterov=optimizer.nesterov,
        )  # fmt: skip
    else:
        assert isinstance(optimizer, Adam)
        kind = torch.optim.AdamW if type(optimizer) is AdamW else torch.optim.Adam
        theirs = kind([parameter], **common, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.epsilon)
    found = []
    for step in range(1, STEPS + 1):
        parameter.grad = torch.tensor(gradient(step, parameter.detach().numpy()))
        theirs.step()
        found.append(parameter.detach().numpy().copy())
    return found


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("lion", "no momentum")])
def test_an_optimizer_is_pytorchs_within_the_roundings_of_float32(name: str) -> None:
    """PyTorch's float64 is the definition above, and ours is about as near to it as PyTorch's float32."""
    wide, narrow = torch_trained(OPTIMIZERS[name], "float64"), torch_trained(OPTIMIZERS[name], "float32")
    exact, ours = list(restated(OPTIMIZERS[name], *task())), trained(OPTIMIZERS[name], "reference")
    sizes = np.max(np.abs(exact), axis=0)
    assert max(far(one, other, sizes) for one, other in zip(wide, exact, strict=True)) < 1e-3
    assert far(ours[-1], exact[-1], sizes) <= 2 * far(narrow[-1], exact[-1], sizes) + 2


def test_a_power_by_squaring_is_near_the_exact_one() -> None:
    for base in (0.9, 0.999, 0.0, 1.0):
        for exponent in (1, 2, 3, 10, 1001):
            assert math.isclose(power(base, exponent), base**exponent, rel_tol=1e-13)
    assert power(0.9, 0) == 1


@pytest.mark.parametrize(
    "kind,wrong,message",
    [
        (Adam, {"beta1": 1.0}, "beta1 must be a finite number of at least 0 and below 1"),
        (AdamW, {"beta2": -0.1}, "beta2"),
        (Adam, {"epsilon": float("nan")}, "epsilon"),
        (Lion, {"lr": -1}, "lr"),
        (Lion, {"schedule": 3}, "schedule must be a schedule, such as Cosine"),
        (SGD, {"nesterov": True, "momentum": 0}, "nesterov needs a momentum above 0 and dampening 0, got momentum 0"),
        (SGD, {"nesterov": True, "dampening": 0.5}, "dampening 0.5"),
        (SGD, {"nesterov": 1}, "nesterov must be True or False"),
    ],
)
def test_settings_that_make_no_sense_are_refused(kind: type[Optimizer], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        kind(**wrong)


# -- training -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nesterov", "dampening", "adam", "adamw", "lion"])
def test_training_goes_on_from_a_checkpoint_with_the_same_bits(name, make, batches, tmp_path) -> None:  # type: ignore[no-untyped-def]
    trainer = make("uniform_low", optimizer=OPTIMIZERS[name])
    for batch in batches[:2]:
        trainer.step(*batch)
    trainer.save(tmp_path / "state")
    loaded = Trainer.load(tmp_path / "state")
    assert loaded.recipe.optimizer == OPTIMIZERS[name] and loaded.updates == 2
    loaded.step(*batches[2])
    trainer.step(*batches[2])
    assert loaded.digest() == trainer.digest()
    assert all(
        loaded.states[state][parameter].tobytes() == array.tobytes()
        for state, found in trainer.states.items()
        for parameter, array in found.items()
    )


@pytest.mark.parametrize("name", ["nesterov", "adamw", "lion"])
def test_training_has_one_digest_on_every_backend(name, make, batches, fast_backend) -> None:  # type: ignore[no-untyped-def]
    digests = set()
    for backend in ("reference", fast_backend):
        trainer = make("uniform_low", optimizer=OPTIMIZERS[name], backend=backend)
        for batch in batches[:3]:
            trainer.step(*batch)
        digests.add(trainer.digest())
    assert len(digests) == 1


def test_an_optimizer_learns(make, batches) -> None:  # type: ignore[no-untyped-def]
    for name in ("nesterov", "adamw", "lion"):
        trainer = make(None, optimizer=OPTIMIZERS[name])
        losses = [trainer.step(*batches[0]).loss for _ in range(8)]
        assert losses[-1] < 0.7 * losses[0], name


def test_a_skipped_step_is_no_update(make, batches) -> None:  # type: ignore[no-untyped-def]
    """Adam's corrections count updates, so that a skipped step changes nothing."""
    images, labels = batches[0]
    skipping, plain = (make(None, optimizer=OPTIMIZERS["adam"]) for _ in range(2))
    infinite = np.full_like(images, np.inf)
    assert skipping.step(infinite, labels).skipped
    skipping.model.load_state(plain.model.state())  # the running statistics
    for trainer in (skipping, plain):
        trainer.step(images, labels)
    assert (skipping.updates, skipping.steps) == (1, 2) and skipping.digest() == plain.digest()


def test_a_checkpoint_of_an_older_version_is_read(make, batches, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """It has no number of updates and no kind of optimizer."""
    trainer = make("uniform_low", optimizer=SGD(schedule=Cosine(3)))
    trainer.step(*batches[0])
    header, arrays = checkpoint.unpack(trainer.dump(), "now")
    assert header["state"].pop("updates") == 1
    assert header["settings"]["optimizer"].keys() == {"lr", "momentum", "weight_decay", "schedule"}
    assert sum(name.startswith("velocity/") for name in arrays) == len(trainer.model.parameters())
    (tmp_path / "old").write_bytes(checkpoint.pack(header, arrays))
    loaded = Trainer.load(tmp_path / "old")
    for each in (loaded, trainer):
        each.step(*batches[1])
    assert loaded.digest() == trainer.digest()


def test_a_checkpoint_without_a_state_is_refused(make, tmp_path) -> None:  # type: ignore[no-untyped-def]
    header, arrays = checkpoint.unpack(make(None, optimizer=OPTIMIZERS["adam"]).dump(), "now")
    del arrays["second_moment/conv1.weight"]
    (tmp_path / "cut").write_bytes(checkpoint.pack(header, arrays))
    with pytest.raises(checkpoint.CheckpointError, match="conv1.weight"):
        Trainer.load(tmp_path / "cut")
