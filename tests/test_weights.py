"""Weights in files: every bit is restored, files of other programs are read, wrong ones are refused."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import reference_models
from mpsim.weights import load_weights, save_weights

SUFFIXES = (".safetensors", ".npz")
FORMS = {name: 0.25 if name == "small_cnn" else 0.1 for name in reference_models.MODELS}


def bits(state):
    return {name: (array.shape, array.dtype, array.tobytes()) for name, array in state.items()}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", FORMS)
def test_every_bit_comes_back(name, suffix, tmp_path):
    model = reference_models.build(name, FORMS[name], seed=4)
    first = next(iter(model.parameters().values()))
    first.master.reshape(-1)[:4] = np.array([0x80000000, 1, 0x7F800000, 0x7FC12345], np.uint32).view(np.float32)
    path = tmp_path / f"weights{suffix}"
    save_weights(model, path)
    other = reference_models.build(name, FORMS[name], seed=5)
    assert bits(other.state()) != bits(model.state())
    load_weights(other, path)
    assert bits(other.state()) == bits(model.state())
    assert [file.name for file in tmp_path.iterdir()] == [path.name], "no file beside it"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_equal_weights_give_equal_bytes(suffix, tmp_path):
    for number in range(2):
        save_weights(reference_models.build("small_cnn", seed=4), tmp_path / f"{number}{suffix}")
    assert (tmp_path / f"0{suffix}").read_bytes() == (tmp_path / f"1{suffix}").read_bytes()


def test_other_programs_read_and_write_them(tmp_path):
    model = reference_models.build("small_cnn", seed=4)
    save_weights(model, tmp_path / "ours.safetensors")
    assert bits(load_file(tmp_path / "ours.safetensors")) == dict(sorted(bits(model.state()).items()))
    save_file(model.state(), tmp_path / "theirs.safetensors")
    np.savez(tmp_path / "theirs.npz", **model.state())
    for file in ("theirs.safetensors", "theirs.npz"):
        other = reference_models.build("small_cnn", seed=5)
        load_weights(other, tmp_path / file)
        assert bits(other.state()) == bits(model.state())


def test_what_does_not_fit_is_told_and_nothing_is_loaded(tmp_path):
    model = reference_models.build("small_cnn", seed=4)
    before = bits(model.state())
    state = model.state()
    path = tmp_path / "weights.npz"

    def refused(message):
        with pytest.raises(ValueError, match=message):
            load_weights(model, path)
        assert bits(model.state()) == before

    np.savez(path, **{name: array + 1 for name, array in state.items() if name != "linear.bias"})
    refused(r"weights\.npz: load_state: missing linear\.bias")
    np.savez(path, **state | {"conv9.weight": state["conv1.weight"]})
    refused(r"unexpected conv9\.weight")
    np.savez(path, **state | {"linear.bias": np.zeros(3, np.float32)})
    refused(r"linear\.bias must have shape \(10,\), got \(3,\)")
    np.savez(path, **state | {"linear.bias": np.full(10, 0.1)})
    refused("linear.bias has values of float64 that float32 does not hold")
    path.write_bytes(path.read_bytes()[:300])
    refused("not a complete npz archive")
    with pytest.raises(ValueError, match=r"\.safetensors or \.npz, got 'weights\.pt'"):
        save_weights(model, tmp_path / "weights.pt")


def test_names_that_fit_are_loaded_where_that_is_asked(tmp_path):
    model = reference_models.build("small_cnn", seed=4)
    np.savez(tmp_path / "some.npz", **{"linear.bias": np.ones(10, np.float32), "other": np.ones(1)})
    load_weights(model, tmp_path / "some.npz", strict=False)
    assert (model.linear.bias.master == 1).all()
