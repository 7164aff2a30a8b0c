"""A stored run is found by what its data are, wherever they lie: changed data are a new run, the old ones are found."""

import os
import shutil
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mpsim import data
from mpsim.data import DATASETS, Augmentation, Source, cifar, digits, image_folder, synthetic
from mpsim.data.digests import digest_of_splits, file_digest
from mpsim.data.synthetic import synthetic_digest
from mpsim.experiments import run as runs
from mpsim.experiments.keeping import keeping_data, keys_of
from mpsim.experiments.results import Results
from mpsim.experiments.run import run
from mpsim.experiments.settings import DATA_OF_OLD_KEYS, RunSettings
from mpsim.experiments.sweep import sweep

BACKEND = {"backend": "compiled", "threads": 1}


def picture(path: Path, seed: int) -> None:
    """A bitmap, whose size does not depend on what it shows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (36, 36, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, two pictures each for training and one each for the test."""
    for number, (split, name, file) in enumerate(
        [("train", name, f"{place}.bmp") for place in "01" for name in "ab"] + [("val", name, "0.bmp") for name in "ab"]
    ):
        picture(tmp_path / "pictures" / split / name / file, number)
    return tmp_path / "pictures"


def on(folder: Path, **settings) -> RunSettings:
    usual = {"model": "squeezenet", "width": 0.1, "data": "images32", "epochs": 2, "batch": 4}
    return RunSettings("uniform_low", data_path=str(folder), **usual | settings)


def epochs_trained(settings, results, **options) -> int:
    trained = []
    run(settings, results, on_epoch=trained.append, **BACKEND, **options)
    return len(trained)


# -- digests --------------------------------------------------------------------------------------------------------


def test_a_file_changed_in_place_has_another_digest(tmp_path, monkeypatch):
    """Same name, same size; also within one tick of the file system's clock, and with its old time of modification."""
    file = tmp_path / "file"
    with monkeypatch.context() as standing:
        standing.setattr("mpsim.data.digests._stat", lambda _: (0,))  # a clock so coarse that no change shows
        for number in range(300):
            file.write_bytes(content := b"%03d" % number)
            assert file_digest(file) == sha256(content).hexdigest()
    monkeypatch.setattr("mpsim.data.digests.SETTLED", -1)  # remember the digest at once, as of an old file
    os.utime(file, ns=(0, 0))
    assert file_digest(file) == sha256(b"299").hexdigest()
    time.sleep(0.05)
    file.write_bytes(b"one")
    os.utime(file, ns=(0, 0))
    assert file_digest(file) == sha256(b"one").hexdigest()


def test_a_settled_file_is_read_once(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    monkeypatch.setattr("mpsim.data.digests.SETTLED", -1)
    first = file_digest(file)
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("read again"))
    assert file_digest(file) == first


def test_bundled_data_are_those_of_the_old_keys():
    assert {name: data.digest(name) for name in DATA_OF_OLD_KEYS} == DATA_OF_OLD_KEYS
    assert set(DATA_OF_OLD_KEYS) | {"grammar"} == {name for name, row in DATASETS.items() if not row.needs_path}


def test_the_digest_of_an_array_is_of_every_part_of_it():
    one = digits("test")
    other = one.images.copy()
    other[-1, 0, -1, -1] = np.nextafter(other[-1, 0, -1, -1], np.float32(9))
    labels = one.labels.copy()
    labels[-1] = 1 - labels[-1] if labels[-1] < 2 else 0
    changed = [
        replace(one, images=other), replace(one, labels=labels), replace(one, classes=11), one.first(359),
        replace(one, black=(0.0,)), replace(one, images=one.images.reshape(360, 1, 4, 16)),
    ]  # fmt: skip
    assert len({dataset.digest() for dataset in [one, *changed]}) == 1 + len(changed)
    assert one.digest() == replace(one).digest() == replace(one, name="other name").digest()


def test_a_changed_generator_shows(monkeypatch):
    """In the digest of the sample, as in the images."""
    before = synthetic_digest(10)
    assert before != synthetic_digest(100)
    images = synthetic("test", size=2).images
    monkeypatch.setattr(sys.modules["mpsim.data.synthetic"], "MEAN", (0.5, 0.5, 0.51))
    assert not np.array_equal(synthetic("test", size=2).images, images)
    assert synthetic_digest.__wrapped__(10) != before


def test_what_determines_pictures(folder, tmp_path):
    first = data.digest("images32", folder)
    assert first != data.digest("images", folder)  # the size
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    assert data.digest("images32", moved) == first
    (moved / "train" / "b" / "notes.txt").write_text("not a picture")
    assert data.digest("images32", moved) == first
    (moved / "train" / "b").rename(moved / "train" / "c")
    (moved / "val" / "b").rename(moved / "val" / "c")
    assert data.digest("images32", moved) != first  # a class's name
    listed = image_folder(folder, size=32)
    assert replace(listed, labels=1 - listed.labels).digest() != listed.digest() == replace(listed).digest()
    swapped = shutil.copytree(folder, tmp_path / "swapped")
    for one, other in (("a/0", "x"), ("b/0", "a/0"), ("x", "b/0")):
        (swapped / "train" / f"{one}.bmp").rename(swapped / "train" / f"{other}.bmp")
    assert data.digest("images32", swapped) != first  # the same files with other labels
    (folder / "val" / "a" / "0.bmp").unlink()
    picture(folder / "val" / "a" / "0.bmp", 99)
    assert data.digest("images32", folder) != first  # a test image


def test_a_dataset_of_a_users_own(monkeypatch):
    """Without a digest of its own both splits are asked; how images are augmented counts."""
    shown = {"train": synthetic("train", size=8), "test": synthetic("test", size=4)}
    own = Source("own", "of a user", lambda split: shown[split])
    monkeypatch.setitem(DATASETS, "own", own)
    settings = RunSettings(data="own", batch=8)
    keys = [settings.key]
    shown["train"] = synthetic("train", size=8, seed=1)
    keys.append(settings.key)
    shown["test"] = synthetic("test", size=4, seed=1)
    keys.append(settings.key)
    for padding in (1, 2):
        monkeypatch.setitem(DATASETS, "own", replace(own, augmentation=Augmentation(padding=padding)))
        keys.append(settings.key)
    monkeypatch.setitem(DATASETS, "own", replace(own, digest=lambda: "mine"))
    keys.append(settings.key)
    assert len(set(keys)) == 6


# -- keys -----------------------------------------------------------------------------------------------------------


def test_replacing_settings_leaves_no_digest_of_what_they_were(folder, tmp_path):
    settings = on(folder)
    assert replace(settings, data="digits", data_path=None).to_dict().get("data_sha256") is None
    assert replace(settings, data="images").key != settings.key
    other = shutil.copytree(folder, tmp_path / "other")
    picture(other / "train" / "a" / "0.bmp", 99)
    assert replace(settings, data_path=str(other)).key != settings.key
    assert keys_of([settings, replace(settings, seed=1)]) == {
        settings: settings.key, replace(settings, seed=1): replace(settings, seed=1).key,
    }  # fmt: skip


@dataclass(frozen=True)
class OfFewImages(RunSettings):
    """Settings that load other data than their name says."""

    def load(self):
        return digits("train", 7).first(64), digits("test", 7).first(32)


def test_settings_that_load_their_own_data_have_their_digest():
    plain, own = RunSettings(batch=32), OfFewImages(batch=32)
    assert own.contents().data_sha256 == digest_of_splits(*own.load())
    assert own.key != plain.key
    load = keeping_data()
    assert [len(load(settings)[0]) for settings in (plain, own, plain)] == [1437, 64, 1437]


# -- runs -----------------------------------------------------------------------------------------------------------


def test_a_replaced_picture_is_trained_on_and_the_old_one_is_found(folder, tmp_path):
    file = folder / "train" / "b" / "1.bmp"
    before, size = file.read_bytes(), file.stat().st_size
    settings = on(folder)
    with Results.in_folder(tmp_path) as results:
        assert epochs_trained(settings, results) == 2
        assert epochs_trained(settings, results) == 0
        first = run(settings, results, **BACKEND)
        picture(file, 99)
        assert file.stat().st_size == size
        assert epochs_trained(settings, results) == 2
        second = run(settings, results, **BACKEND)
        assert second["digest"] != first["digest"] and second["data_sha256"] != first["data_sha256"]
        file.write_bytes(before)
        assert epochs_trained(settings, results) == 0
        assert run(settings, results, **BACKEND) == first
        moved = folder.rename(tmp_path / "moved")
        assert epochs_trained(on(moved), results) == 0


def test_a_stopped_run_does_not_go_on_with_other_pictures(folder, tmp_path):
    file, settings = folder / "train" / "a" / "0.bmp", on(folder)
    before = file.read_bytes()

    def stop(metrics):
        raise KeyboardInterrupt

    with Results.in_folder(tmp_path) as results:
        with pytest.raises(KeyboardInterrupt):
            run(settings, results, on_epoch=stop, **BACKEND)
        picture(file, 99)
        assert epochs_trained(settings, results) == 2  # from the first epoch
        file.write_bytes(before)
        assert epochs_trained(settings, results) == 1


def test_pictures_replaced_while_a_run_trains_stop_it(folder, tmp_path):
    file, settings = folder / "train" / "a" / "0.bmp", on(folder, epochs=3)
    before = file.read_bytes()
    expected = run(settings, **BACKEND)

    def replace_picture(metrics):
        if metrics["epoch"] == 0:
            picture(file, 99)

    with Results.in_folder(tmp_path) as results:
        key = settings.key
        with pytest.raises(ValueError, match=f"{folder}.* changed during epoch 1, which is not stored"):
            run(settings, results, on_epoch=replace_picture, **BACKEND)
        assert [epoch["epoch"] for epoch in results.history(key)] == [0]
        file.write_bytes(before)
        assert epochs_trained(settings, results) == 2
        assert run(settings, results, **BACKEND)["digest"] == expected["digest"]


def test_data_replaced_while_a_run_is_set_up_stop_it(folder, tmp_path, monkeypatch):
    def load_and_replace(settings):
        loaded = settings.load()
        picture(folder / "train" / "a" / "0.bmp", 99)
        return loaded

    with Results.in_folder(tmp_path) as results, pytest.raises(ValueError, match="changed after the run was set up"):
        run(on(folder), results, load=load_and_replace, **BACKEND)
    monkeypatch.setattr(runs, "_epochs", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="changed after the run was set up; restart the command"):
        run(on(folder), key=on(folder, seed=5).key, **BACKEND)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_sweep_sees_replaced_pictures(folder, tmp_path, processes):
    jobs = [on(folder, seed=seed, epochs=1) for seed in (0, 1)]
    with Results.in_folder(tmp_path) as results:
        first = sweep(jobs, results, processes=processes, **BACKEND)
        picture(folder / "train" / "a" / "0.bmp", 99)
        second = sweep(jobs, results, processes=processes, **BACKEND)
        assert len(results.runs()) == 4
    assert all(one["digest"] != other["digest"] for one, other in zip(first, second, strict=True))


@pytest.fixture
def cifar_files(tmp_path, monkeypatch):
    """Files of CIFAR-10's binary version with 4 images each, which the reader takes for published ones."""

    def write(path: Path, seed: int) -> None:
        rows = np.random.default_rng(seed).integers(0, 256, (4, 1 + 3072), dtype=np.uint8)
        rows[:, 0] = range(4)
        path.write_bytes(rows.tobytes())

    version = cifar.COLLECTIONS["cifar10"].versions[1]
    place = tmp_path / version.folder
    place.mkdir()
    for number, file in enumerate([*version.train, *version.test]):
        write(place / file, number)
    unverified = replace(DATASETS["cifar10"], read=partial(cifar.cifar10, verify=False))
    monkeypatch.setitem(DATASETS, "cifar10", unverified)
    return place, write


@pytest.mark.parametrize("packed", [False, True])
def test_a_replaced_cifar_file_is_trained_on_and_the_old_one_is_found(cifar_files, tmp_path, packed):
    place, write = cifar_files
    file = place / "data_batch_3.bin"
    before, size = file.read_bytes(), file.stat().st_size

    def pack() -> Path:
        if not packed:
            return place
        made = shutil.make_archive(str(tmp_path / "own name"), "gztar", tmp_path, place.name)
        return Path(made)

    settings = RunSettings(
        "uniform_low", model="squeezenet", width=0.1, data="cifar10", data_path=str(pack()), epochs=1, batch=20
    )
    with Results.in_folder(tmp_path / "results") as results:
        assert [epochs_trained(settings, results), epochs_trained(settings, results)] == [1, 0]
        kept = Path(settings.data_path).read_bytes() if packed else b""
        write(file, 99)
        assert file.stat().st_size == size
        pack()
        assert [epochs_trained(settings, results), epochs_trained(settings, results)] == [1, 0]
        file.write_bytes(before)
        if packed:
            Path(settings.data_path).write_bytes(kept)
        assert epochs_trained(settings, results) == 0
        assert len({stored.result["digest"] for stored in results.runs()}) == 2


def test_pictures_that_are_gone_are_named(folder):
    listed = image_folder(folder, size=32)
    (folder / "train" / "a" / "1.bmp").unlink()
    with pytest.raises(FileNotFoundError, match=r"1\.bmp cannot be read"):
        listed.digest()
