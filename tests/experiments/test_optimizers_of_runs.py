"""Optimizers as settings of a run and options of the command."""

from __future__ import annotations

from typing import Any

import pytest

from mpsim.errors import UsageError
from mpsim.experiments.settings import RunSettings
from mpsim.training.optimizer import SGD, AdamW, Lion
from mpsim.training.schedule import Cosine
from mpsim.training.trainer import Trainer

QUICK = ("--epochs", "1", "--train-images", "64", "--batch", "32", "--width", "0.25")


def test_settings_that_are_not_given_are_those_of_the_optimizer() -> None:
    assert RunSettings(optimizer="adamw", epochs=3).plain_recipe().optimizer == AdamW(schedule=Cosine(3))
    assert RunSettings(optimizer="lion", lr=1, epochs=3).plain_recipe().optimizer == Lion(1.0, schedule=Cosine(3))
    assert RunSettings(nesterov=True, epochs=3).plain_recipe().optimizer == SGD(schedule=Cosine(3), nesterov=True)
    settings = RunSettings(optimizer="adamw")
    assert (settings.lr, settings.momentum, settings.beta2, settings.dampening) == (1e-3, None, 0.999, None)


def test_a_given_default_is_the_same_run() -> None:
    assert RunSettings(lr=0.1, momentum=0.9, weight_decay=5e-4, dampening=0).key == RunSettings().key
    adam = RunSettings(optimizer="adam")
    assert RunSettings(optimizer="adam", beta1=0.9, lr=1e-3).key == adam.key
    keys = {adam.key, RunSettings().key, RunSettings(nesterov=True).key, RunSettings(optimizer="adam", beta1=0.8).key}
    assert len(keys) == 4


def test_plain_sgd_has_no_settings_in_its_key_that_older_versions_lack() -> None:
    later = {"optimizer", "dampening", "nesterov", "beta1", "beta2", "epsilon"}
    assert not later & RunSettings().to_dict().keys()
    assert RunSettings(optimizer="adamw").to_dict().keys() & later == later - {"nesterov"}


@pytest.mark.parametrize(
    "wrong,message",
    [
        (
            {"optimizer": "adamw", "momentum": 0.9},
            "momentum is not a setting of optimizer 'adamw', which has lr",
        ),
        ({"beta1": 0.9}, "beta1 is not a setting of optimizer 'sgd'"),
        ({"optimizer": "lion", "nesterov": True}, "nesterov is not a setting of optimizer 'lion'"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm'; did you mean adam"),
    ],
)
def test_settings_that_the_optimizer_does_not_have_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        RunSettings(**wrong)


def test_the_command_trains_by_the_optimizer(call_json, tmp_path) -> None:  # type: ignore[no-untyped-def]
    options = ("--optimizer", "adamw", "--beta2", "0.99", *QUICK, "--results", tmp_path)
    row = call_json("train", *options, "--save", tmp_path / "state")
    assert (row["optimizer"], row["lr"], row["beta2"], row["momentum"]) == ("adamw", 1e-3, 0.99, None)
    assert Trainer.load(tmp_path / "state").recipe.optimizer == AdamW(beta2=0.99, schedule=Cosine(1))
    other = call_json("train", "--optimizer", "lion", *QUICK, "--results", tmp_path)
    assert other["digest"] != row["digest"] and other["lr"] == 1e-4
