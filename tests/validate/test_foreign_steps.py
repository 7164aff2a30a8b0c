"""Steps of a transformer by another engine (foreign_transformer.py): right ones pass, and each planted defect is found.

The expected verdicts follow from where each defect is planted. They were written before the runs.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from foreign_transformer import Engine, start_of
from safetensors.numpy import save_file

import reference_models
from mpsim import Trainer, ops
from mpsim.assignment import assign
from mpsim.cli import main
from mpsim.engine.tape import Tape
from mpsim.files.tensors import TensorFile
from mpsim.formats import FORMATS
from mpsim.kernels import Kernels, bind
from mpsim.nn import Module
from mpsim.policies import Mode, Overflow, Policy
from mpsim.recording import StepRecord, record_step
from mpsim.trace import trace
from mpsim.validate import TeacherReport, teacher_forced
from mpsim.validate.step.bounds import bound_kernels
from mpsim.validate.step.causes import Rounding, of_rounding
from mpsim.validate.step.noise import bound_of, value_of
from mpsim.validate.step.tensor_compare import compare_arrays, explain

#: float8 for activations and parameters, another float8 and bfloat16 for their gradients.
LEVELS = "bfloat16:float8_e4m3fn,float8_e5m2"
#: What a defect makes different: the suspects, in order of computation, and what is said of the first.
DEFECTS = {
    "wrong gradient scale": (["G/22/0"], "about 2 times what it should be"),
    "transposed weight": (["Y/19/0", "GP/19/0", "G/18/0"], "unexplained"),
    "missing bias gradient": (["GP/14/1"], "32 of 32 are zero and should not be"),
    "dropout on": (["Y/30/0", "G/29/0"], "are zero and should not be"),
    "GELU by tanh": (
        [f"Y/{op}/0" for op in (15, 30, 45, 60)] + [f"G/{op}/0" for op in (59, 44, 29, 14)],
        "unexplained",
    ),
    "epsilon of layer norm": (["Y/18/0", "G/17/0"], "unexplained"),
    "float16 accumulate": (["Y/46/0"], "unexplained"),
    "stale parameter": (["P/65/0", "P/65/1"], "unexplained"),
    "weight decay missing": (["next_master/*"], "without weight decay"),
    "swapped tensors": (["GP/20/0", "GP/19/0"], "unexplained"),
}  # fmt: skip


def network() -> Module:
    return reference_models.build("vit_tiny", width=0.25)


@functools.cache
def ours(levels: str = "") -> StepRecord:
    """mpsim's third step, so that velocities and biases are not 0."""
    model, labels = network(), np.array([3, 1, 4, 1])
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    plan = assign(trace(model, 4), "uniform_low", levels=levels) if levels else None
    trainer = Trainer(model, plan, threads=1)
    for _ in range(2):
        trainer.step(images, labels)
    return record_step(trainer, images, labels)


def theirs(defect: str = "") -> dict[str, np.ndarray]:
    with np.errstate(over="ignore"):
        return Engine(start_of(ours().tensors), defect).step(ours().index["optimizer"])


def check(tensors: dict[str, np.ndarray]) -> TeacherReport:
    return teacher_forced(TensorFile(tensors, ours().index, "theirs"), network(), None, "standard", threads=1)


def test_a_right_step_differs_as_sums_in_another_order_do() -> None:
    report = check(theirs())
    assert report.verdict.name == "EQUAL" and not report.equal
    moved = [tensor for tensor in report.tensors if not tensor.equal]
    assert {tensor.op.split()[0] for tensor in moved} >= {"Linear", "LayerNorm", "GELU", "Softmax", "Conv2d"}
    assert len(report.tensors) == 347 and len(moved) > 40


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found_at_its_op(defect: str) -> None:
    expected, said = DEFECTS[defect]
    report = check(theirs(defect))
    found = [tensor.name for tensor in report.suspects()]
    if expected == ["next_master/*"]:
        assert set(found) == {tensor.name for tensor in report.tensors if tensor.name.startswith("next_master/")}
        assert all(tensor.causes == (said,) for tensor in report.suspects())
    else:
        assert found == expected
    first = report.suspects()[0]
    assert said in "\n".join(report.details(first)) and report.verdict.name == "DIFFERENT"
    if said != "without weight decay" and not said.startswith("about"):
        assert all(not tensor.causes for tensor in report.suspects())  # nothing is explained that is not known


# -- in the types of frameworks -------------------------------------------------------------------------------

_TYPES = {"P": "float8_e4m3fn", "Y": "float8_e4m3fn", "G": "float8_e5m2", "GP": "bfloat16"}


def narrow(kind: str, x: np.ndarray) -> np.ndarray:
    """As a framework casts: rounded to nearest, the largest number beyond the range (float8_e4m3fn has no infinity)."""
    limit = float(ml_dtypes.finfo(_TYPES[kind]).max)
    return np.clip(x, -limit, limit).astype(_TYPES[kind]).astype(np.float32)


def in_their_types(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kinds = {name: _TYPES.get(name.split("/")[0]) for name in tensors}
    return {name: array if kinds[name] is None else array.astype(kinds[name]) for name, array in tensors.items()}


@pytest.mark.parametrize(("defect", "first"), [("", None), ("wrong gradient scale", "G/22/0")])
def test_a_step_in_float8_and_bfloat16(
    defect: str, first: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ours(LEVELS)
    engine = Engine(start_of(record.tensors), defect, narrow, record.index["loss_scale"])
    step = in_their_types(engine.step(record.index["optimizer"]))
    assert {str(array.dtype) for array in step.values()} >= set(_TYPES.values())
    save_file(step, tmp_path / "theirs.safetensors")
    record.write(tmp_path / "ours.npz")
    command = ["validate", "step", str(tmp_path / "theirs.safetensors"), "--against", str(tmp_path / "ours.npz")]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--teacher-forced", "--threads", "1"])
    assert ended.value.code == (0 if first is None else 1)
    printed = capsys.readouterr().out
    assert (f"  {first} (" in printed) == (first is not None)
    if first:
        assert printed.split("otherwise\n")[1].startswith(f"  {first} (of blocks.1.attention.products, by Scale")


def test_a_tensor_stored_in_a_narrower_format_is_named() -> None:
    step = theirs()
    step["Y/31/0"] = step["Y/31/0"].astype(ml_dtypes.bfloat16).astype(np.float32)
    report = check(step)
    assert report.suspects()[0].name == "Y/31/0"
    assert report.suspects()[0].causes == ("explained by rounding to bfloat16",)


@pytest.mark.parametrize(
    ("y", "stored", "causes"),
    [
        (np.linspace(0.1, 0.9, 9), lambda y: y.astype(ml_dtypes.bfloat16), ["explained by rounding to bfloat16"]),
        (np.full(9, 2.0**-30), np.zeros_like, []),  # rounding to float8 gives zeros, and so do many defects
        (np.full(1, 0.97), np.ones_like, []),  # rounding to float8 gives 1
    ],
)
def test_few_elements_or_zeros_do_not_tell_a_format(y: np.ndarray, stored: Any, causes: list[str]) -> None:
    y = y.astype(np.float32)
    other = stored(y).astype(np.float32)
    rounding = Rounding(y, y * np.float32(2**-22), FORMATS["float32"], Policy(Mode.NEAREST_EVEN, Overflow.INFINITY))
    found = explain(compare_arrays("x", y, other, FORMATS["float32"]), y, other, *rounding.ends(y))
    assert found.unexplained
    assert of_rounding(found, y, other, rounding) == causes


# -- errors that point one way --------------------------------------------------------------------------------


def one_way(theirs: np.ndarray, y: np.ndarray, bound: np.ndarray) -> list[str]:
    rounding = Rounding(y, bound, FORMATS["float32"], Policy(Mode.NEAREST_EVEN, Overflow.INFINITY))
    found = explain(compare_arrays("x", y, theirs, FORMATS["float32"]), y, theirs, *rounding.ends(y))
    assert found.unexplained == 0
    return of_rounding(found, y, theirs, rounding)


def test_errors_that_point_one_way_are_a_suspicion_and_random_ones_are_not() -> None:
    random = np.random.default_rng(1)
    y = random.standard_normal((1000, 16)).astype(np.float32)
    bound = np.abs(y) * np.float32(2**-18)
    limit = 0.1 + np.sqrt(2 * np.log(4e9) / 1000) + 4 * 2.0**-24 / 2.0**-18  # the last: two units in the last place
    for share, found in ((limit + 0.02, True), (limit - 0.02, False)):
        for direction, word in ((np.sign(y), "larger"), (-np.sign(y), "smaller")):
            said = one_way((y + share * direction * bound).astype(np.float32), y, bound)
            assert bool(said) == found and (not found or said[0].startswith(word))
    above = one_way((y + (limit + 0.02) * bound).astype(np.float32), y, bound)
    assert above and above[0].startswith("higher")
    for seed in range(20):
        signs = np.random.default_rng(seed).choice(
            [-0.99, 0.99], (1000, 1)
        )  # the elements of a row are not independent
        assert not one_way((y + signs * bound).astype(np.float32), y, bound)


def test_an_epsilon_within_the_bounds_points_one_way() -> None:
    """Epsilon 1e-5 instead of 1e-6 makes rows of variance 1 smaller by 4.5e-6, as sums may make one row."""
    x = np.random.default_rng(2).standard_normal((4000, 256)).astype(np.float32)

    def normalized(kernels: Kernels, epsilon: float) -> np.ndarray:
        tape = Tape(kernels, lambda id, value: value_of(value) if id.op == 0 else value)
        return ops.layer_norm(tape.input(x), epsilon=epsilon).value

    y, other = (np.array(normalized(bind("reference"), epsilon)) for epsilon in (1e-6, 1e-5))
    bound = bound_of(normalized(bound_kernels(bind("reference")), 1e-6))
    assert "smaller on average" in one_way(other, y, bound)[0]
