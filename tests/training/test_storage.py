"""Masters, states and sums of gradients in other formats, by an update that is written anew here."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import mpsim
from mpsim.errors import UsageError
from mpsim.files.tensors import TensorFile
from mpsim.kernels.philox import Stream, random_bits
from mpsim.training.optimizer import SGD, AdamW, Lion
from mpsim.training.recipe import Recipe
from mpsim.training.trainer import Trainer
from mpsim.validate import record_step, teacher_forced

Array = np.ndarray[Any, Any]
F = np.float32


def bfloat16(x: Array, words: Array | None = None) -> Array:
    """x in bfloat16 by its bits: to nearest even, or stochastic by the 16 upper ones of 32 random bits."""
    bits = x.view(np.uint32).astype(np.uint64)
    if words is None:
        added = 0x7FFF + (bits >> 16 & 1)
    else:
        added = words.reshape(x.shape).astype(np.uint64) >> 16
    return np.asarray((bits + added >> 16 << 16).astype(np.uint32)).view(np.float32)


def gradients_of(trainer: Trainer, batch: Any) -> dict[str, Array]:
    """The stored gradients of the next step by parameter, of a copy of the trainer."""
    record = record_step(Trainer.restore(trainer.dump(), "here", model=None, backend="reference", threads=1), *batch)
    return {
        name: record.tensors[f"GP/{op['index']}/{place}"]
        for op in record.index["ops"]
        for place, name in enumerate(op["parameters"])
    }


def masters(trainer: Trainer) -> dict[str, Array]:
    return {name: np.array(trainer.kernels.to_numpy(p.master)) for name, p in trainer.model.parameters().items()}


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_a_velocity_in_bfloat16_is_its_written_order(rounding, make, batches, backend) -> None:  # type: ignore[no-untyped-def]
    trainer = make(storage=f"velocity=bfloat16/{rounding}", loss_scale=16.0, seed=5, backend=backend)
    names = list(trainer._ids)
    expected = {name: np.zeros_like(array) for name, array in masters(trainer).items()}
    for step, batch in enumerate(batches[:3]):
        before, gradients = masters(trainer), gradients_of(trainer, batch)
        trainer.step(*batch)
        after = masters(trainer)
        for place, name in enumerate(names):
            g = gradients[name] * F(1 / 16) + F(5e-4) * before[name]
            velocity = F(0.9) * expected[name] + g
            assert after[name].tobytes() == (before[name] - F(0.1) * velocity).tobytes(), name  # not yet rounded
            words = None
            if rounding == "stochastic":  # kinds: masters, gradients, velocity
                words = random_bits(Stream(5, "storage", place + 2 * len(names), step), velocity.size)
            expected[name] = bfloat16(velocity, words)
            assert np.array_equal(trainer.kernels.to_numpy(trainer.states["velocity"][name]), expected[name]), name


def test_masters_in_bfloat16_are_rounded_after_the_update(make, batches, backend) -> None:  # type: ignore[no-untyped-def]
    plain = masters(make())
    trainer = make(storage="masters=bfloat16/stochastic", optimizer=SGD(momentum=0), loss_scale=16.0, backend=backend)
    start, names = masters(trainer), list(trainer._ids)
    assert all(array.tobytes() == bfloat16(plain[name]).tobytes() for name, array in start.items())
    gradients = gradients_of(trainer, batches[0])
    trainer.step(*batches[0])
    for name, array in masters(trainer).items():
        exact = start[name] - F(0.1) * (gradients[name] * F(1 / 16) + F(5e-4) * start[name])
        words = random_bits(Stream(0, "storage", names.index(name), 0), exact.size)
        assert np.array_equal(array, bfloat16(exact, words)), name


def test_kahan_keeps_what_rounding_discards(make, batches, backend) -> None:  # type: ignore[no-untyped-def]
    plain = masters(make())
    trainer = make(storage="masters=bfloat16/kahan", optimizer=SGD(momentum=0), loss_scale=16.0, backend=backend)
    lost = {name: bfloat16(plain[name] - bfloat16(plain[name])) for name in plain}
    for batch in batches[:2]:
        start, gradients = masters(trainer), gradients_of(trainer, batch)
        trainer.step(*batch)
        for name, array in masters(trainer).items():
            whole = start[name] + lost[name]
            exact = whole - F(0.1) * (gradients[name] * F(1 / 16) + F(5e-4) * whole)
            assert np.array_equal(array, bfloat16(exact)), name
            lost[name] = bfloat16(exact - bfloat16(exact))
    found = trainer._updater.compensation
    assert all(np.array_equal(trainer.kernels.to_numpy(found[name]), array) for name, array in lost.items())


def test_small_steps_are_lost_to_nearest_alone(make, batches, fast_backend) -> None:  # type: ignore[no-untyped-def]
    """Steps of about 2^-13 of a number: bfloat16 to nearest stays, Kahan and stochastic rounding follow float32."""
    far = {}
    start = {name: bfloat16(array) for name, array in masters(make()).items()}
    optimizer = Lion(lr=2e-6)
    for storage in ("", "masters=bfloat16", "masters=bfloat16/kahan", "masters=bfloat16/stochastic"):
        trainer = make(storage=storage, optimizer=optimizer, backend=fast_backend)
        trainer.model.load_state(start, strict=False)
        for _ in range(20):
            trainer.step(*batches[0])
        far[storage] = masters(trainer)
    weight = "linear.weight"
    large = np.abs(start[weight]) > 2.0**-6  # half a quantum is 2^-15 there
    exact = far[""][weight][large] - start[weight][large]
    moved = {name: (found[weight] - start[weight])[large] for name, found in far.items()}
    assert np.all(moved["masters=bfloat16"] == 0) and np.all(np.abs(exact) > 1e-5)
    for name in ("masters=bfloat16/kahan", "masters=bfloat16/stochastic"):
        direction = np.sign(exact)
        assert 0.3 < np.sum(moved[name] * direction) / np.sum(np.abs(exact)) < 1.7, name


def test_a_sum_of_gradients_in_bfloat16(make, batches, backend) -> None:  # type: ignore[no-untyped-def]
    """Each micro-batch's gradient is added and rounded; the two halves are steps of other trainers."""
    images, labels = batches[0]
    settings = {"optimizer": SGD(momentum=0, weight_decay=0)}
    trainer = make(micro_batches=2, storage="gradients=bfloat16", loss_scale=32.0, backend=backend, **settings)
    start = masters(trainer)
    half = make(loss_scale=16.0, **settings)
    first, second = gradients_of(half, (images[:6], labels[:6])), gradients_of(half, (images[6:], labels[6:]))
    trainer.step(images, labels)
    for name, array in masters(trainer).items():
        total = bfloat16(bfloat16(first[name]) + second[name])
        assert np.array_equal(array, start[name] - F(0.1) * (total * F(1 / 32))), name


def test_a_sum_beyond_the_format_skips_the_step(make, batches) -> None:  # type: ignore[no-untyped-def]
    trainer = make(micro_batches=2, storage="gradients=float8_e4m3fn", loss_scale=2.0**20)
    before = trainer.digest()
    assert trainer.step(*batches[0]).skipped and trainer.digest() == before


EVERYTHING = (
    "masters=bfloat16/kahan;gradients=bfloat16/stochastic;first_moment=float8_e4m3fn/stochastic;second_moment=bfloat16"
)


def test_storage_has_one_digest_and_goes_on_from_a_checkpoint(make, batches, fast_backend) -> None:  # type: ignore[no-untyped-def]
    settings = {"optimizer": AdamW(), "micro_batches": 2, "storage": EVERYTHING, "seed": 4, "ema": 0.5}
    trainers = [make("uniform_low", backend=backend, **settings) for backend in ("reference", fast_backend)]
    for batch in batches[:2]:
        for trainer in trainers:
            trainer.step(*batch)
    trainers.append(Trainer.restore(trainers[1].dump(), "here", model=None, backend=None, threads=None))
    assert trainers[2].recipe.storage == EVERYTHING
    for trainer in trainers:
        trainer.step(*batches[2])
    assert len({trainer.digest() for trainer in trainers}) == 1
    for kind, found in trainers[0]._updater.arrays().items():
        for name, array in found.items():
            others = [trainer._updater.arrays()[kind][name] for trainer in trainers[1:]]
            assert all(other.tobytes() == array.tobytes() for other in others), (kind, name)
    moment = trainers[0].states["first_moment"]["conv1.weight"]
    assert np.array_equal(mpsim.round_to(moment, "float8_e4m3fn", backend="reference"), moment) and moment.any()


@pytest.mark.parametrize(
    "wrong,message",
    [
        ("velocity", "is not of the form NAME=FORMAT"),
        ("velocity=bfloat16;velocity=float16", "each name once"),
        ("velocity=bfloat16/kahan", "kahan is for masters"),
        ("velocity=bfloat16/up", "unknown rounding of storage 'up'"),
        ("velocity=float64", "float32 cannot hold"),
        ("velocity=bfloat", "bfloat"),
        ("first_moment=bfloat16", "unknown name in storage 'first_moment'"),
        ("gradients=bfloat16", "use micro_batches above 1"),
    ],
)
def test_storage_that_makes_no_sense_is_refused(wrong: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(storage=wrong)


def test_storage_comes_back_from_json_in_its_usual_form() -> None:
    recipe = Recipe(storage=" masters=bfloat16/nearest ; velocity=float16/stochastic")
    assert recipe.storage == "masters=bfloat16;velocity=float16/stochastic"
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_updates_are_recomputed_where_states_are_stored(make, batches) -> None:  # type: ignore[no-untyped-def]
    trainer = make(storage="velocity=bfloat16/stochastic")
    trainer.step(*batches[0])
    step = record_step(trainer, *batches[1])
    report = teacher_forced(TensorFile(step.tensors, step.index, "theirs"), make().model, None, "standard", threads=1)
    assert report.equal and not report.notes
    assert any(tensor.name.startswith("next_master") for tensor in report.tensors)
