"""mpsim train on a folder of pictures: the ImageNet form at 224 x 224, and the CIFAR form at 32 x 32."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from picture_folders import tree

from mpsim.cli import main
from mpsim.data import DataLoader, digits, image_folder
from mpsim.experiments.run import run
from mpsim.experiments.settings import RunSettings
from mpsim.training.trainer import Trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("pictures"), ending="jpg", count=2)


def call(capsys: pytest.CaptureFixture, *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    output = capsys.readouterr()
    return stopped.value.code, output.out, output.err


def test_train_a_network_of_224(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--width", 0.1, "--epochs", 1, "--batch", 3, "--scheme", "uniform_low", "--results", tmp_path]
    code, output, errors = call(capsys, "train", "resnet18", "--data", "images", "--data-path", folder, *options,
                                "--save", tmp_path / "state", "--json")  # fmt: skip
    assert code == 0, errors
    result = json.loads(output)
    assert (result["model"], result["steps"], len(result["history"])) == ("resnet18", 2, 1)
    trainer = Trainer.load(tmp_path / "state")
    assert trainer.model.input_shape == (3, 224, 224) and trainer.model.classes == 3
    assert trainer.digest() == result["digest"]
    test = image_folder(folder, "test")
    assert trainer.evaluate(test).accuracy == result["test_accuracy"]
    by_batches = trainer.evaluate(DataLoader(test, 256, shuffle=False, workers=2))
    assert by_batches == trainer.evaluate(test)


def test_workers_change_no_bit_of_a_run(folder: Path) -> None:
    settings = RunSettings(
        "largest_first", 0.5, model="squeezenet", width=0.1, data="images32", data_path=str(folder), epochs=2, batch=4
    )
    results = [run(settings, workers=workers, threads=1) for workers in (0, 1, 3)]
    assert len({result["digest"] for result in results}) == 1
    assert len({(result["test_accuracy"], result["train_loss"]) for result in results}) == 1
    assert results[0]["digest"] != run(replace(settings, seed=1), threads=1)["digest"]


def test_a_run_evaluates_as_the_trainer_does_by_itself(tmp_path: Path) -> None:
    """Stochastic rounding takes its bits by batch and place, so that every image stands where it stood."""
    seen: list[dict] = []
    settings = RunSettings("uniform_low", width=0.0625, epochs=1, batch=479, rounding="stochastic", random_bit_count=4)
    run(settings, on_epoch=seen.append, save=str(tmp_path / "state"))
    evaluation = Trainer.load(tmp_path / "state").evaluate(digits("test"))
    assert (seen[0]["test_accuracy"], seen[0]["test_loss"]) == (evaluation.accuracy, evaluation.loss)


def test_mistakes_have_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = ["train", "resnet18", "--width", 0.1, "--epochs", 1, "--results", tmp_path / "results"]
    code, _, errors = call(capsys, *arguments, "--data", "images")
    assert code == 2 and "needs the path" in errors
    code, _, errors = call(capsys, *arguments, "--data", "images", "--data-path", tmp_path / "nowhere")
    assert code == 1 and "--data-path" in errors and "nowhere does not exist. It should contain train/CLASS" in errors
    broken = tree(tmp_path / "broken", count=1)
    (broken / "train" / "dog" / "dog_0.png").write_bytes(b"broken")
    code, _, errors = call(capsys, *arguments, "--data", "images32", "--data-path", broken)
    assert code == 2 and "batch is 128 examples, but there are only 3 training examples of images32" in errors
    arguments += ["--batch", 3]
    code, _, errors = call(capsys, *arguments, "--data", "images32", "--data-path", broken)
    assert code == 2 and "dog_0.png: not a readable picture" in errors and "Traceback" not in errors
    code, _, errors = call(capsys, "train", "squeezenet", "--data", "images", "--data-path", folder, "--batch", 6)
    assert code == 2 and "needs images of shape (3, 32, 32), but images has (3, 224, 224)" in errors
