"""The stored digests of training steps are what every backend gives."""

import json

import numpy as np
import pytest

import reference_models
from mpsim.kernels import BackendUnavailable, load
from reference_models import golden

#: What the slower backends check. The reference takes seconds a run on the deep networks, so it checks the others;
#: the rest of what it computes is compared with the compiled backend kernel by kernel (tests/kernels, tests/engine).
ELSEWHERE = {
    "numba": [case for name in golden.WIDTHS for case in golden.cases(name)],
    "reference": [
        *golden.cases("small_cnn"),
        golden.Case("squeezenet", "largest_first_0.5", "lee2023"),
        golden.Case("vit_tiny", "largest_first_0.5", "standard"),
        golden.Case("gpt_tiny", "largest_first_0.5", "standard"),
    ],
}


def stored(case):
    return next(
        run
        for run in golden.stored(case.model)["runs"]
        if (run["plan"], run["semantics"]) == (case.plan, case.semantics)
    )


def test_every_network_has_a_file_and_every_file_a_network():
    assert set(golden.WIDTHS) == set(reference_models.MODELS)
    assert {file.stem for file in golden.FOLDER.glob("*.json")} == set(reference_models.MODELS)


@pytest.mark.parametrize("model", golden.WIDTHS)
def test_compiled_gives_every_stored_digest(model):
    assert golden.file_content(model) == golden.stored(model)


@pytest.mark.parametrize("backend", ELSEWHERE)
def test_other_backends_give_the_stored_digests(backend):
    try:
        load(backend)
    except BackendUnavailable as error:
        pytest.skip(str(error))
    for case in ELSEWHERE[backend]:
        assert golden.compute(case, backend) == stored(case), case


def test_threads_change_nothing():
    case = golden.Case("resnet18", "uniform_low", "standard")
    assert golden.compute(case, threads=2) == stored(case)


def test_the_digests_tell_plans_and_semantics_apart():
    for model in golden.WIDTHS:
        runs = golden.stored(model)["runs"]
        rounded = [run["masters"] for run in runs if run["plan"] != "float32"]
        assert len(set(rounded)) == len(rounded) == 4
        assert all(len({step["logits"] for step in run["steps"]}) == 3 for run in runs)
        low = next(run for run in runs if run["plan"] == "uniform_low")
        assert any(step["promoted"] for step in low["steps"]) and not any(step["skipped"] for step in runs[0]["steps"])


def test_the_command_writes_what_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "WIDTHS", {"small_cnn": golden.WIDTHS["small_cnn"]})
    (file,) = golden.write(tmp_path)
    assert file.read_bytes() == (golden.FOLDER / "small_cnn.json").read_bytes()


def test_one_changed_bit_of_one_weight_is_seen(monkeypatch):
    case = golden.Case("small_cnn", "float32", "standard")
    build = reference_models.build

    def changed(*arguments, **options):
        model = build(*arguments, **options)
        weight = model.conv1.weight.master
        weight[0, 0, 0, 0] = np.nextafter(weight[0, 0, 0, 0], np.float32(np.inf))
        return model

    monkeypatch.setattr(reference_models, "build", changed)
    assert golden.compute(case)["masters"] != stored(case)["masters"]
    assert json.dumps(golden.compute(case)["steps"]) != json.dumps(stored(case)["steps"])
