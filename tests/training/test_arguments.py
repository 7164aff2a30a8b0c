"""What a Trainer may be given for its arguments, and the sentences for the rest."""

import re
from dataclasses import asdict, replace

import pytest

import reference_models
from mpsim import Accumulator, nn, ops
from mpsim.assignment import uniform
from mpsim.files import checkpoint
from mpsim.files.checkpoint import CheckpointError
from mpsim.policies import Mode, Overflow
from mpsim.products.tensor_cores import accumulator_of
from mpsim.trace import trace
from mpsim.training.loss_scale import LossScale
from mpsim.training.semantics import SEMANTICS, Semantics
from mpsim.training.trainer import Trainer


def small():
    return reference_models.build("small_cnn", width=0.0625)


def test_an_accumulator_may_be_named(make, batches):
    for text in ("hopper_float16", "chunk=64", "exact"):
        named, given = (make(accumulator=accumulator) for accumulator in (text, accumulator_of(text)))
        assert named.accumulator == given.accumulator != Accumulator()
        assert named.step(*batches[0]).loss == given.step(*batches[0]).loss
        assert named.digest() == given.digest()


def test_a_number_is_a_fixed_loss_scale(make, batches):
    number, fixed = (make("uniform_low", loss_scale=scale) for scale in (1024, LossScale.fixed(1024.0)))
    for trainer in (number, fixed):
        assert trainer.step(*batches[0]).loss_scale == 1024 and trainer.loss_scale.scale == 1024
    assert number.digest() == fixed.digest()


@pytest.mark.parametrize(
    "arguments,error,message",
    [
        (
            {"model": "small_cnn"},
            TypeError,
            "model must be a network (mpsim.nn.Module), e.g. from reference_models.build",
        ),
        ({"model": nn.Conv2d}, TypeError, "model must be a network"),
        ({"plan": "plan.json"}, TypeError, "plan must be a Plan or None; Plan.from_json reads the text"),
        ({"plan": {}}, TypeError, "plan must be a Plan or None"),
        ({"optimizer": 0.1}, TypeError, "optimizer must be an optimizer, such as SGD(lr=0.1), got 0.1"),
        (
            {"loss_scale": 0},
            ValueError,
            "loss_scale must be a finite number from 1.17549e-38 to 8.50706e+37, or a L",
        ),
        ({"loss_scale": float("nan")}, ValueError, "loss_scale must be a finite number"),
        ({"loss_scale": "dynamic"}, TypeError, "or a LossScale, got 'dynamic'"),
        ({"loss_scale": True}, TypeError, "got True"),
        ({"semantics": 2023}, TypeError, "semantics must be a name, got 2023. Known: standard, lee2023"),
        ({"semantics": "lee"}, ValueError, "unknown semantics 'lee'; did you mean lee2023?"),
        ({"accumulator": 64}, TypeError, "accumulator must be an Accumulator, such as Accumulator(chunk=64), or its"),
        ({"rounding": "up"}, ValueError, "unknown rounding 'up'"),
        (
            {"rounding": "stochastic", "random_bit_count": 33},
            ValueError,
            "random_bit_count must be a whole number",
        ),
        ({"random_bit_count": 8}, ValueError, "random_bit_count is for mode 'stochastic'"),
        ({"promotion": float("nan")}, ValueError, "promotion must be a share above 0 and at most 1, or None, got nan"),
        ({"threads": 0}, ValueError, "threads must be a whole number from 1 to 1024, or None for one per core, got 0"),
        ({"threads": 100_000}, ValueError, "threads must be"),
        ({"seed": -1}, ValueError, "seed must be a whole number from 0 to 2**64 - 1, got -1"),
        ({"seed": 1 << 64}, ValueError, "seed must be"),
        ({"backend": 3}, TypeError, "backend must be a name, got 3"),
        ({"skipped_statistics": "keep"}, ValueError, "unknown skipped_statistics 'keep'; did you mean kept?"),
    ],
)
def test_what_does_not_fit_is_told(arguments, error, message):
    arguments = {"model": small(), "backend": "reference"} | arguments
    with pytest.raises(error, match=re.escape(message)):
        Trainer(arguments.pop("model"), arguments.pop("plan", None), **arguments)


# -- a user's own semantics ---------------------------------------------------------------------------------

MINE = replace(SEMANTICS["standard"], nearest=Mode.NEAREST_AWAY, forward_overflow=Overflow.INFINITY)


def trained(semantics, batches, plan=None):
    model = reference_models.build("small_cnn", width=0.25)
    plan = uniform(trace(model, len(batches[0][1])), "low", "float16:float8_e5m2")
    trainer = Trainer(model, plan, semantics=semantics, backend="reference", threads=1)
    trainer.step(*batches[0])
    return trainer


def test_semantics_of_a_users_own_are_restored_from_a_checkpoint(tmp_path, batches):
    mine, standard = trained(MINE, batches), trained("standard", batches)
    mine.save(tmp_path / "state")
    loaded = Trainer.load(tmp_path / "state")
    assert loaded.semantics == MINE != SEMANTICS["standard"]
    for trainer in (mine, standard, loaded):
        trainer.step(*batches[1])
    assert loaded.digest() == mine.digest() != standard.digest()


@pytest.mark.parametrize("name", SEMANTICS)
def test_checkpoints_from_before_are_read(tmp_path, name, make, batches):
    """They have the name of the semantics, and say nothing of statistics."""
    trainer = make("uniform_low", name)
    trainer.step(*batches[0])
    trainer.save(tmp_path / "state")
    header, arrays = checkpoint.read(tmp_path / "state")
    header["settings"]["semantics"] = name
    del header["settings"]["skipped_statistics"]
    (tmp_path / "old").write_bytes(checkpoint.pack(header, arrays))
    loaded = Trainer.load(tmp_path / "old")
    assert loaded.semantics == SEMANTICS[name] and loaded.recipe.skipped_statistics == "updated"
    assert loaded.step(*batches[1]).loss == trainer.step(*batches[1]).loss and loaded.digest() == trainer.digest()


def test_broken_semantics_in_a_checkpoint_are_told(tmp_path, make):
    make("uniform_low").save(tmp_path / "state")
    header, arrays = checkpoint.read(tmp_path / "state")
    for change, message in (({"nearest": "nearest_evn"}, "did you mean nearest_even"), ({"more": 1}, "more")):
        broken = {**header, "settings": header["settings"] | {"semantics": asdict(SEMANTICS["standard"]) | change}}
        (tmp_path / "broken").write_bytes(checkpoint.pack(broken, arrays))
        with pytest.raises(CheckpointError, match=f"does not fit.*{message}"):
            Trainer.load(tmp_path / "broken")


def test_semantics_take_names_and_have_the_name_of_a_row():
    assert Semantics("standard", "nearest_even", "stochastic") == SEMANTICS["standard"]
    with pytest.raises(ValueError, match="name must be standard or lee2023, got 'mine': a trace counts"):
        replace(MINE, name="mine")
    with pytest.raises(ValueError, match="unknown backward_overflow 'saturat'; did you mean saturate"):
        replace(MINE, backward_overflow="saturat")


# -- layers that nothing would train ------------------------------------------------------------------------


class Listed(nn.Module):
    """Its layers stand in a list that was empty when it became an attribute."""

    name, width, classes, input_shape = "listed", 1.0, 10, (1, 8, 8)

    def __init__(self):
        self.layers = []
        self.layers.append(nn.Linear(64, 10))

    def __call__(self, x):
        return self.layers[0](ops.flatten(x))


def test_an_op_whose_parameter_nothing_would_train_is_named():
    message = r"op 'linear1' \(Linear\) reads a parameter of shape \(10, 64\) that is not in Listed.parameters\(\)"
    with pytest.raises(ValueError, match=message):
        trace(Listed(), 2)
    with pytest.raises(ValueError, match=message):
        Trainer(Listed(), backend="reference")
