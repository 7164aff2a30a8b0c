"""Saving and loading: the same bits go on; foreign, broken and other networks' files are refused."""

import io
import os
import zipfile

import numpy as np
import pytest

import reference_models
from mpsim.files import checkpoint
from mpsim.files.checkpoint import CheckpointError
from mpsim.training.optimizer import SGD
from mpsim.training.schedule import Cosine
from mpsim.training.trainer import Trainer


def run_on(trainer, batches):
    reports = [trainer.step(*batch) for batch in batches]
    facts = [(r.loss, r.logits.tobytes(), r.promoted, r.loss_scale, r.skipped, r.low_share) for r in reports]
    return trainer.digest(), facts, trainer.evaluate(batches[:1])


@pytest.mark.parametrize(
    "scheme,semantics,settings",
    [
        (None, "standard", {}),
        ("uniform_low", "lee2023", {}),
        ("largest_first", "standard", {"levels": "four_bit", "ratio": 1.0}),
        ("uniform_low", "standard", {"rounding": "stochastic", "random_bit_count": 11, "seed": 9}),
    ],
)
def test_a_loaded_trainer_goes_on_with_the_same_bits(tmp_path, scheme, semantics, settings, make, batches):
    trainer = make(scheme, semantics, optimizer=SGD(schedule=Cosine(3)), **settings)
    trainer.train_epoch(batches[:3])
    trainer.save(tmp_path / "state.mpsim")
    loaded = Trainer.load(tmp_path / "state.mpsim")
    assert loaded.digest() == trainer.digest()
    assert (loaded.epoch, loaded.steps, loaded.loss_scale) == (1, 3, trainer.loss_scale)
    assert loaded.plan == trainer.plan
    assert run_on(loaded, batches[3:6]) == run_on(trainer, batches[3:6])
    assert loaded.plan == trainer.plan


def test_a_checkpoint_moves_between_backends(tmp_path, fast_backend, make, batches):
    trainer = make("uniform_low")
    trainer.step(*batches[0])
    trainer.save(tmp_path / "state")
    loaded = Trainer.load(tmp_path / "state", backend=fast_backend, threads=2)
    assert run_on(loaded, batches[1:3]) == run_on(trainer, batches[1:3])


def test_equal_states_are_equal_files_and_an_old_file_is_replaced(tmp_path, make, batches):
    trainer = make("uniform_low")
    trainer.save(tmp_path / "a")
    make("uniform_low").save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    trainer.step(*batches[0])
    trainer.save(tmp_path / "a")
    assert Trainer.load(tmp_path / "a").steps == 1
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch, make):
    trainer = make()
    trainer.save(tmp_path / "state")
    content = (tmp_path / "state").read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        trainer.save(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == content
    assert os.listdir(tmp_path) == ["state"]


@pytest.fixture
def saved(tmp_path, make):
    make("uniform_low").save(tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, share):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(share * len(content))])
    with pytest.raises(CheckpointError, match="is incomplete"):
        Trainer.load(saved)


def test_a_changed_byte_is_noticed(saved):
    content = bytearray(saved.read_bytes())
    where = content.find(b"model/conv2.weight.npy") + 400
    content[where] ^= 1
    saved.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match="CRC"):
        Trainer.load(saved)


def test_foreign_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(CheckpointError, match="not an mpsim checkpoint"):
        Trainer.load(tmp_path / "other.npz")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(CheckpointError, match="not an mpsim checkpoint"):
        Trainer.load(tmp_path / "text")
    with pytest.raises(FileNotFoundError):
        Trainer.load(tmp_path / "nothing")


def test_a_newer_version_is_refused(saved):
    archive = io.BytesIO()
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(archive, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b'"version": 1', b'"version": 2'))
    saved.write_bytes(archive.getvalue())
    with pytest.raises(CheckpointError, match="version 2"):
        Trainer.load(saved)


def test_a_missing_field_is_told(saved):
    header, arrays = checkpoint.read(saved)
    header.pop("state")
    saved.write_bytes(checkpoint.pack(header, arrays))
    with pytest.raises(CheckpointError, match="does not fit.*state"):
        Trainer.load(saved)


def test_another_network_is_refused(saved):
    with pytest.raises(CheckpointError, match=r"width 0.25.*width 0.5"):
        Trainer.load(saved, model=reference_models.build("small_cnn", width=0.5))
