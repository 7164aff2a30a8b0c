"""Recorded steps: what they hold, how they are written and read, and two of them compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from step_samples import MODELS, SEMANTICS, batch_of, build, clean, trainer_of
from typer.testing import CliRunner

from mpsim import decode, round_to
from mpsim.cli import app
from mpsim.files.tensors import TensorFile, TensorFileError, read_tensors, write_tensors
from mpsim.formats import FORMATS
from mpsim.recording.order import in_order_of_computation
from mpsim.recording.reading import read_step
from mpsim.recording.steps import StepRecord, record_step
from mpsim.trace import trace
from mpsim.training.semantics import SEMANTICS as ROWS
from mpsim.validate import Verdict
from mpsim.validate.grid import distances, off_grid
from mpsim.validate.step.comparison import compare_steps
from mpsim.validate.step.replay import teacher_forced
from mpsim.validate.step.tensor_compare import compare_arrays

CASES = [(model, semantics) for model in MODELS for semantics in SEMANTICS]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str, StepRecord]:
    model, semantics = request.param
    return model, semantics, clean(model, semantics)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# -- what a record holds --------------------------------------------------------------------------------------


def test_recording_changes_no_bit_of_training(case: tuple[str, str, StepRecord]) -> None:
    model, semantics, _ = case
    watched, alone = trainer_of(model, semantics), trainer_of(model, semantics)
    record_step(watched, *batch_of(model))
    alone.step(*batch_of(model))
    assert watched.digest() == alone.digest()
    assert watched.model.state().keys() == alone.model.state().keys()
    assert all(same_bits(a, alone.model.state()[name]) for name, a in watched.model.state().items())


def test_every_backend_records_the_same_bits(backend: str) -> None:
    ours = record_step(trainer_of("small_cnn", "lee2023"), *batch_of("small_cnn"))
    theirs = record_step(trainer_of("small_cnn", "lee2023", backend), *batch_of("small_cnn"))
    assert list(ours.tensors) == list(theirs.tensors) and ours.index == theirs.index
    assert all(same_bits(array, theirs.tensors[name]) for name, array in ours.tensors.items())


def test_a_record_has_every_stored_tensor(case: tuple[str, str, StepRecord]) -> None:
    model, semantics, step = case
    traced = trace(build(model), MODELS[model][1], semantics)
    expected = {"images", "labels"}
    needs = [op.index > 0 for op in traced.ops]  # in these networks every op but the input has or follows a parameter
    for op in traced.ops:
        expected |= {f"Y/{op.index}/0", f"unrounded/Y/{op.index}/0"}
        for i in range(len(op.parameters)):
            names = (f"master/{op.index}/{i}", f"P/{op.index}/{i}", f"next_master/{op.index}/{i}")
            expected |= {*names, f"velocity/{op.index}/{i}", f"GP/{op.index}/{i}", f"unrounded/GP/{op.index}/{i}"}
        for i, producer in enumerate(op.producers):
            if producer >= 0 and needs[producer]:
                expected.add(f"GX/{op.index}/{i}")
                if semantics == "lee2023":
                    expected.add(f"unrounded/GX/{op.index}/{i}")
        if semantics == "standard" and op.consumers and needs[op.index]:
            expected |= {f"G/{op.index}/0", f"unrounded/G/{op.index}/0"}
    assert set(step.tensors) == expected == set(step.index["tensors"])


def test_rounding_what_was_unrounded_gives_what_was_stored(case: tuple[str, str, StepRecord]) -> None:
    _, semantics, step = case
    checked = 0
    for name, described in step.index["tensors"].items():
        if "format" not in described:
            continue
        prefix, op, i = name.split("/")
        source = f"master/{op}/{i}" if prefix == "P" else f"unrounded/{name}"
        role = {"P": "parameter", "Y": "activation", "GP": "parameter_gradient"}.get(prefix, "activation_gradient")
        policy = ROWS[semantics].policy(role)
        rounded, counts = round_to(
            step.tensors[source], described["format"], policy.mode, policy.overflow, backend="reference", counts=True
        )
        assert same_bits(rounded, step.tensors[name]), name
        assert counts._asdict() == described["counts"], name
        checked += 1
    assert checked > 40


def test_a_gradient_is_the_sum_of_contributions_in_reverse_order(case: tuple[str, str, StepRecord]) -> None:
    model, semantics, step = case
    fans = relus = 0
    for op in trace(build(model), MODELS[model][1]).ops[1:-1]:
        readers = sorted(op.consumers, reverse=True)
        parts = [step.tensors[f"GX/{reader}/{i}"] for reader in readers for i in inputs_from(step, reader, op.index)]
        total = parts[0].copy()
        for part in parts[1:]:
            total = total + part
        fans += len(parts) > 1
        if semantics == "standard":
            assert same_bits(total, step.tensors[f"unrounded/G/{op.index}/0"])
            total = step.tensors[f"G/{op.index}/0"]
        if op.kind == "ReLU":
            relus += 1
            masked = np.where(step.tensors[f"Y/{op.producers[0]}/0"] > 0, total, np.float32(0))
            assert same_bits(masked, step.tensors[f"{'unrounded/' * (semantics == 'lee2023')}GX/{op.index}/0"])
    assert (fans, relus) == ((8, 17) if model == "resnet18" else (0, 3))


def inputs_from(step: StepRecord, reader: int, producer: int) -> list[int]:
    return [i for i, source in enumerate(step.index["ops"][reader]["producers"]) if source == producer]


def test_the_next_parameters_follow_from_the_record(case: tuple[str, str, StepRecord]) -> None:
    _, _, step = case
    tensors, f = step.tensors, np.float32
    assert not step.index["skipped"]
    for name in (name for name in tensors if name.startswith("next_master/")):
        place = name.removeprefix("next_master/")
        master = tensors[f"master/{place}"]
        gradient = tensors[f"GP/{place}"] * f(1 / step.index["loss_scale"]) + f(5e-4) * master
        assert same_bits(tensors[name], master - f(0.1) * gradient), name  # velocity starts at zero


# -- files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    step = clean("small_cnn", "lee2023")
    path, again = tmp_path / f"step{suffix}", tmp_path / f"again{suffix}"
    step.write(path)
    step.write(again)
    assert path.read_bytes() == again.read_bytes()
    read = read_tensors(path)
    assert set(read.tensors) == set(step.tensors)
    assert all(same_bits(array, read.tensors[name]) for name, array in step.tensors.items())
    assert read.index == json.loads(json.dumps(step.index)) == json.loads(path.with_suffix(".json").read_text())


def test_files_of_other_programs(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"Y/0/0": np.float16([1.5]), "Y/1/0": np.float64([2.25]), "n": np.array([3])})
    read = read_tensors(tmp_path / "a.npz")
    assert read.index == {} and [array.dtype for array in read.tensors.values()] == [np.float32, np.float32, np.int64]
    np.savez(tmp_path / "b.npz", y=np.float64([0.1]))
    with pytest.raises(TensorFileError, match="y has values of float64 that float32 does not hold"):
        read_tensors(tmp_path / "b.npz")


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_broken_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"step{suffix}"
    write_tensors(path, {"Y/0/0": np.zeros((50, 50), np.float32)}, {"batch": 1})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(TensorFileError, match="complete"):
        read_tensors(path)
    path.write_text("not tensors at all, but a sentence")
    with pytest.raises(TensorFileError, match="neither a complete safetensors file nor an npz"):
        read_tensors(path)
    np.savez(path.with_suffix(".npz"), y=np.array([{}]), allow_pickle=True)
    with pytest.raises(TensorFileError, match="plain arrays"):
        read_tensors(path.with_suffix(".npz"))
    with pytest.raises(ValueError, match=r"\.safetensors or \.npz, got 'step\.txt'"):
        write_tensors(tmp_path / "step.txt", {}, {})


# -- distance in codes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["fp_4_3_4", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float6_e2m3fn", "dlfloat16"]
)
def test_distance_counts_the_numbers_passed(name: str) -> None:
    format = FORMATS[name]
    numbers = decode(np.arange(format.largest_code + 1), format, backend="reference")
    everything = np.unique(np.concatenate([-numbers, numbers]))  # rising: the oracle counts in this list
    some = everything[:: max(1, everything.size // 300)]
    a, b = np.meshgrid(some, some)
    expected = np.abs(np.searchsorted(everything, a) - np.searchsorted(everything, b))
    assert np.array_equal(distances(a, b, format), expected)
    assert not off_grid(everything, format).any()
    inner = everything[:-1] + (everything[1:] - everything[:-1]) / 4
    assert off_grid(inner, format).all()
    assert (distances(everything[:-1], inner, format) == 1).all()
    assert (distances(everything[1:], inner, format) == 1).all()
    largest = np.float32([format.largest])
    assert distances(largest, np.float32([np.inf]), format) == 1
    assert distances(largest, np.float32([np.nan]), format) == 2**format.bits


def test_float32_distance_is_that_of_its_bits() -> None:
    random = np.random.default_rng(1)
    bits = random.integers(0, 0x7F800000, 5000, np.uint32)
    other = random.integers(0, 0x7F800000, 5000, np.uint32)
    expected = np.abs(bits.astype(np.int64) - other)
    assert np.array_equal(distances(bits.view(np.float32), other.view(np.float32), FORMATS["float32"]), expected)
    assert np.array_equal(distances(-bits.view(np.float32), -other.view(np.float32), FORMATS["float32"]), expected)


def test_nans_are_one_value_and_zeros_are_two() -> None:
    ours, theirs = np.float32([np.nan, 0, 1, 2]), np.float32([-np.nan, -0.0, 1, 0])
    found = compare_arrays("Y/1/0", ours, theirs, FORMATS["fp_4_3_4"])
    assert (found.differing, found.zero_signs, found.lost, found.made) == (1, 1, 1, 0)
    assert not found.equal and found.first is not None and found.first.index == (1,)
    assert compare_arrays("Y/1/0", ours[:1], theirs[:1], FORMATS["fp_4_3_4"]).equal


# -- two files ------------------------------------------------------------------------------------------------


def changed(step: StepRecord, name: str, place: Any, value: float) -> TensorFile:
    array = step.tensors[name].copy()
    array[place] = value
    return TensorFile({**step.tensors, name: array}, step.index, "other")


def as_file(step: StepRecord) -> TensorFile:
    return TensorFile(step.tensors, step.index, "ours")


def test_the_first_difference_in_order_of_computation() -> None:
    step = clean("small_cnn", "lee2023")
    assert compare_steps(as_file(step), as_file(step)).equal
    other = changed(step, "Y/5/0", (1, 2, 3, 0), 99.0)
    other = changed(StepRecord(other.tensors, step.index), "GX/13/0", (0, 0), 7.0)
    other = changed(StepRecord(other.tensors, step.index), "next_master/1/0", (0, 0, 0, 0), 7.0)
    report = compare_steps(other, as_file(step))
    assert [tensor.name for tensor in report.tensors if not tensor.equal] == ["Y/5/0", "GX/13/0", "next_master/1/0"]
    assert report.first is not None and report.first.first is not None
    assert report.first.first.index == (1, 2, 3, 0) and report.first.first.got.bits == "0x42c60000"
    assert report.first.op == "Conv2d conv2" and report.first.differing == 1
    assert report.first.first.expected.value == step.tensors["Y/5/0"][1, 2, 3, 0]
    assert "first to differ: Y/5/0 (Conv2d conv2, " in str(report)


def test_order_of_computation() -> None:
    names = ["GP/1/1", "GX/2/0", "Y/10/0", "next_master/1/0", "G/2/0", "Y/2/0", "unrounded/Y/2/0", "P/2/0", "labels"]
    assert in_order_of_computation([*names, "velocity", "Y/2"]) == [
        "labels", "P/2/0", "unrounded/Y/2/0", "Y/2/0", "Y/10/0", "G/2/0", "GX/2/0", "GP/1/1", "next_master/1/0",
    ]  # fmt: skip


def test_files_that_do_not_go_together() -> None:
    step = clean("small_cnn", "standard")
    with pytest.raises(TensorFileError, match="share no tensor of a step"):
        compare_steps(TensorFile({"weight": np.zeros(3, np.float32)}), as_file(step))
    with pytest.raises(TensorFileError, match=r"images has shape \(2, 3, 32, 32\) in ours and \(8, 1, 8, 8\)"):
        compare_steps(as_file(clean("resnet18", "standard")), as_file(step))
    partial = TensorFile({name: step.tensors[name] for name in ("Y/0/0", "Y/1/0")}, {}, "partial")
    report = compare_steps(partial, as_file(step))
    assert report.verdict is Verdict.UNDECIDED and not report.equal  # the rest of the step was not looked at
    assert len(report.tensors) == 2 and "P/1/0" in report.missing and "P/1/0" in report.not_compared


# -- the commands ---------------------------------------------------------------------------------------------


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(words), catch_exceptions=False)
    return result.exit_code, result.output


def test_trace_and_validate(tmp_path: Path) -> None:
    ours, same, other = (str(tmp_path / name) for name in ("ours.safetensors", "same.npz", "other.npz"))
    words = ("--width", "0.25", "--batch", "4", "--threads", "1", "--semantics", "lee2023")
    assert run("trace-step", "small_cnn", *words, "--steps", "2", "--out", ours)[0] == 0
    assert run("trace-step", "small_cnn", *words, "--steps", "2", "--backend", "reference", "--out", same)[0] == 0
    assert (tmp_path / "ours.json").exists()
    assert run("validate", "step", same, "--against", ours)[0] == 0
    code, text = run("validate", "step", same, "--against", ours, "--teacher-forced")
    assert code == 0 and " 0 otherwise" in text
    file = read_tensors(same)
    tensors = {**file.tensors, "Y/7/0": file.tensors["Y/7/0"] + np.float32(1)}
    write_tensors(other, tensors, file.index)
    code, text = run("validate", "step", other, "--against", ours, "--json")
    assert code == 1 and json.loads(text)["first"]["name"] == "Y/7/0"
    code, text = run("validate", "step", other, "--against", ours, "--teacher-forced", "--json")
    assert code == 1 and json.loads(text)["suspects"][0] == "Y/7/0"


NETWORK = """
from mpsim import nn, ops


class Small(nn.Module):
    name = "small"

    def __init__(self, classes):
        self.conv, self.linear = nn.Conv2d(1, 3, 3), nn.Linear(108, classes)

    def __call__(self, x):
        return self.linear(ops.flatten(self.conv(x)))


def build(classes=10, input_shape=(1, 8, 8)):
    return Small(classes)
"""


def test_a_network_of_a_users_own(tmp_path: Path) -> None:
    path, out = tmp_path / "my_net.py", str(tmp_path / "ours.npz")
    path.write_text(NETWORK)
    code, text = run("trace-step", f"{path}:build", "--data", "digits", "--threads", "1", "--out", out)
    assert code == 0, text
    words = ("validate", "step", out, "--against", out, "--teacher-forced")
    code, text = run(*words, "--model", f"{path}:build")
    assert code == 0 and " 0 otherwise" in text
    code, text = run(*words)
    assert code == 2 and "belongs to network 'small', which cannot be built here" in text and "--model" in text


def test_what_cannot_run_ends_with_2(tmp_path: Path) -> None:
    path = tmp_path / "ours.npz"
    clean("small_cnn", "standard").write(path)
    for words in ([str(tmp_path / "none.npz"), "--against", str(path)], [__file__, "--against", str(path)]):
        code, text = run("validate", "step", *words)
        assert code == 2 and "mpsim: " in text and "Traceback" not in text
    bare = tmp_path / "bare.npz"
    np.savez(bare, **read_tensors(path).tensors)
    code, text = run("validate", "step", str(path), "--against", str(bare), "--teacher-forced")
    assert code == 2 and "write it by trace-step" in text
    code, text = run("validate", "step", str(bare), "--teacher-forced")
    assert code == 2 and "bare.npz has no index, so --against is missing" in text
    code, text = run("validate", "step", str(path))
    assert code == 2 and "--against is missing" in text
    code, text = run("validate", "step", str(path), "--teacher-forced")  # its own index says what is needed
    assert code == 0 and " 0 otherwise" in text


# -- files that somebody made ---------------------------------------------------------------------------------


def places(value: Any, path: tuple[Any, ...] = (), depth: int = 2) -> Iterator[tuple[Any, ...]]:
    """Paths into JSON, the first of every list and of the descriptions of tensors."""
    if not isinstance(value, dict | list) or not value or len(path) == depth:
        return
    keys = range(1) if isinstance(value, list) else list(value)[: 1 if path[-1:] == ("tensors",) else None]
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key), depth)


def replaced(index: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with the value at a path; without it where the value is ``...``."""
    copied = json.loads(json.dumps(index))
    holder = copied
    for key in path[:-1]:
        holder = holder[key]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return copied


@pytest.mark.parametrize(
    "field", [{"index": []}, {"index": True}, {"producers": [[]]}, {"producers": None}, {"kind": []}, {"name": 1}]
)
def test_an_op_that_is_none_is_told(field: dict[str, Any], tmp_path: Path) -> None:
    record = clean("small_cnn", "standard")
    ops = [{**record.index["ops"][0], **field}, *record.index["ops"][1:]]
    write_tensors(tmp_path / "odd.npz", record.tensors, {**record.index, "ops": ops})
    with pytest.raises(TensorFileError, match="its index is not one of a step: an op is"):
        read_step(tmp_path / "odd.npz")


def test_producers_that_are_missing_and_names_that_are_none_are_no_defect() -> None:
    record = clean("small_cnn", "standard")
    ops = [{**op, "producers": []} for op in record.index["ops"]]
    without = {name: array for name, array in record.tensors.items() if not name.startswith("GX/3/")}
    ours = TensorFile(dict(record.tensors), {**record.index, "ops": ops}, "ours")
    assert compare_steps(TensorFile(without, {}, "theirs"), ours).verdict is Verdict.UNDECIDED
    trainer = trainer_of("small_cnn", "standard")
    odd = TensorFile({**record.tensors, "Y/x/0": np.zeros(1, np.float32)}, record.index, "odd")
    assert teacher_forced(odd, trainer.model, trainer.plan, "standard").verdict is Verdict.EQUAL


def test_no_index_ends_in_a_traceback(call: Any, tmp_path: Path) -> None:
    """Every field left out or of another type, the inner ones in turn: a verdict, or exit code 2 with a sentence."""
    record = clean("small_cnn", "standard")
    ours, theirs = tmp_path / "ours.npz", tmp_path / "theirs.npz"
    record.write(ours)
    index = json.loads(ours.with_suffix(".json").read_text())
    codes = set()
    for number, path in enumerate(places(index)):
        both = (..., "up")
        for value in both if len(path) == 1 else both[number % 2 :][:1]:
            write_tensors(theirs, record.tensors, replaced(index, path, value))
            calls = [[theirs, "--against", ours]]
            if len(path) == 1 or path[0] in ("model", "optimizer", "accumulator"):
                calls.append([ours, "--against", theirs, "--teacher-forced"])
            for arguments in calls:
                code, output, error = call("validate", "step", *arguments)
                assert code in (0, 1, 2), (path, value)
                assert "defect of mpsim" not in output + error, (path, value)
                codes.add(code)
    assert codes == {0, 2}
