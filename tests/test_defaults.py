"""One set of defaults: every command and function that has a setting of a run has RunSettings' default for it."""

import inspect
from dataclasses import fields

import pytest
import typer

import reference_models
from mpsim import SGD, Trainer, networks
from mpsim.cli import app
from mpsim.data import DataLoader
from mpsim.experiments.settings import DEFAULTS, RunSettings
from mpsim.experiments.studies import SCALES
from mpsim.experiments.sweep import plan_sweep
from mpsim.experiments.training_settings import OF_OPTIMIZER
from mpsim.trace import trace
from mpsim.training.optimizer import OPTIMIZERS
from mpsim.training.recipe import Recipe

SETTINGS = {field.name for field in fields(RunSettings)}
#: Settings that a run of the defaults has, and that no command may have otherwise.
RECIPE = {
    "model": "small_cnn", "width": 1.0, "data": "digits", "epochs": 15, "batch": 128, "lr": 0.1, "momentum": 0.9,
    "weight_decay": 5e-4, "schedule": "cosine", "promotion": 0.01, "levels": "paper", "semantics": "standard",
    "rounding": "nearest", "seed": 0, "scheme": "float32",
}  # fmt: skip
#: What is otherwise on purpose. Recordings of a step are small; 'plan' shows the paper's scheme, and a recorded step
#: is rounded. A sweep has several levels, a plan no seed unless it is random.
ON_PURPOSE = {
    ("trace-step", "batch"): 2, ("vectors step", "batch"): 2,
    ("plan", "scheme"): "largest_first", ("trace-step", "scheme"): "uniform_low",
    ("vectors step", "scheme"): "uniform_low",
    ("sweep", "levels"): None, ("plan", "seed"): None, ("trace-step", "data"): None,
    ("plan", "data"): None, ("figure", "levels"): None,
    ("figure", "data"): None, ("figure", "epochs"): None,
}  # fmt: skip


def commands(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_the_defaults_are_the_recipe():
    assert {name: getattr(DEFAULTS, name) for name in RECIPE} == RECIPE == {
        name: getattr(RunSettings(), name) for name in RECIPE
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in COMMANDS if "validate" not in name])
def test_a_command_has_them(name):
    for parameter in COMMANDS[name].params:
        if parameter.name in RECIPE and not parameter.required:
            wanted = ON_PURPOSE.get((name, parameter.name), RECIPE[parameter.name])
            if parameter.name in OF_OPTIMIZER:
                wanted = None  # that of the optimizer, which for sgd the test above has
            assert parameter.default == wanted, (name, parameter.name)


def test_the_commands_that_train_have_every_setting_of_the_recipe():
    for name in ("train", "sweep"):
        missing = set(RECIPE) - {parameter.name for parameter in COMMANDS[name].params}
        assert missing <= {"momentum", "rounding", "seed", "scheme"}, name
    assert {"width", "batch", "levels", "semantics"} <= {parameter.name for parameter in COMMANDS["plan"].params}


@pytest.mark.parametrize(
    "function,names",
    [
        (trace, {"batch", "semantics"}),
        (DataLoader, {"batch_size", "seed"}),
        (SGD, {"lr", "momentum", "weight_decay"}),
        (Recipe, {"promotion", "semantics", "rounding", "seed"}),
        (networks.build, {"width", "seed"}),
        (reference_models.build, {"width", "seed"}),
    ],
)
def test_a_function_has_them(function, names):
    defaults = {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()}
    for name in names:
        assert defaults[name] == RECIPE[{"batch_size": "batch"}.get(name, name)], name


def test_a_sweep_of_the_defaults_is_trained_by_the_recipe():
    made_by_the_plan = {"scheme", "levels"}
    for job in plan_sweep():
        assert {name: getattr(job, name) for name in RECIPE if name not in made_by_the_plan} == {
            name: value for name, value in RECIPE.items() if name not in made_by_the_plan
        }


def test_named_scales_have_recipes_of_their_own():
    """So that other defaults do not move the paper's recipe or the small study's."""
    paper, small = SCALES["paper"].common, SCALES["small"].common
    names = ("epochs", "batch", "lr", "momentum", "weight_decay", "schedule", "promotion", "evaluate_every")
    assert [getattr(paper, name) for name in names] == [200, 128, 0.1, 0.9, 5e-4, "cosine", 0.01, 1]
    assert [getattr(small, name) for name in names] == [2, 32, 0.03, 0.9, 5e-4, "cosine", 0.01, 1000]


# -- settings and options -------------------------------------------------------------------------------------


def options_of(command: str) -> set[str]:
    """The names of a command's parameters."""
    return {parameter.name for parameter in typer.main.get_command(app).commands[command].params}


def test_commands_take_every_setting_of_a_run() -> None:
    """A new field of RunSettings is an option of both, with its default and help."""
    names = {field.name for field in fields(RunSettings)}
    assert names <= options_of("train")
    varied = {"scheme", "ratio", "k", "plan_seed", "plan", "seed"}
    assert names - varied <= options_of("sweep")
    described = {parameter.name: parameter for parameter in typer.main.get_command(app).commands["train"].params}
    for field in fields(RunSettings):
        if field.name != "plan":
            assert described[field.name].help == field.metadata["help"]
            assert described[field.name].default == field.default


def test_every_setting_of_a_recipe_is_one_of_a_run() -> None:
    """Except for the loss scale, which is that of the definition."""
    optimizer = {field.name for kind in OPTIMIZERS.values() for field in fields(kind)}
    recipe = {field.name for field in fields(Recipe)} - {"optimizer"}
    assert (optimizer | recipe) - {field.name for field in fields(RunSettings)} == {"loss_scale"}


def test_settings_reach_the_trainer_by_the_command(call_json, tmp_path) -> None:
    given = {"momentum": "0.5", "evaluate-every": "2", "train-images": "64", "batch": "32", "epochs": "3"}
    options = [text for name, value in given.items() for text in (f"--{name}", value)]
    row = call_json("train", *options, "--width", "0.25", "--results", tmp_path, "--save", tmp_path / "state")
    assert (row["momentum"], row["evaluate_every"], row["train_images"]) == (0.5, 2, 64)
    assert [epoch["test_accuracy"] is None for epoch in row["history"]] == [True, False, False]
    assert Trainer.load(tmp_path / "state").recipe.optimizer.momentum == 0.5
