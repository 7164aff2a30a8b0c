"""Files that SECURITY.md calls safe to read run no code, whatever they contain."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import reference_models
from mpsim import Trainer
from mpsim.data.restricted_pickle import UnsafePickle, load_arrays
from mpsim.errors import MpsimError
from mpsim.files import checkpoint
from mpsim.files.tensors import TensorFile, read_tensors
from mpsim.recording.steps import network_of, record_step
from mpsim.validate.dot.vectors import read_dot_vectors


class Evil:
    """An object whose pickle calls ``os.mkdir``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A folder that the code in a file creates if it runs."""
    return tmp_path / "ran"


def test_the_pickle_is_one_that_runs_code(ran: Path) -> None:
    pickle.loads(pickle.dumps(Evil(ran)))
    assert ran.is_dir()


def test_pickles_of_cifar(ran: Path) -> None:
    with pytest.raises(UnsafePickle, match="mkdir"):
        load_arrays(pickle.dumps({b"data": Evil(ran)}))
    assert not ran.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02}U\x04datacnumpy\ndtype\ns.", b"\x80\x02}U\x04data]cnumpy\nndarray\nas.",
        pickle.dumps({"a": [np.arange(3)]}, 2), b"\x80\x02}c_codecs\nencode\nK\x01s.",
    ],
    ids=["a class", "a class in a list", "an array in a list", "a function as a key"],
)  # fmt: skip
def test_pickles_of_objects_of_the_reader(content: bytes) -> None:
    with pytest.raises(UnsafePickle, match="only numbers, texts and lists of them"):
        load_arrays(content)


def test_a_pickled_list_may_contain_itself() -> None:
    endless: list[object] = [1]
    endless.append(endless)
    found = load_arrays(pickle.dumps({"a": endless}, 2))["a"]
    assert isinstance(found, list) and found[1] is found


@pytest.mark.parametrize("read", [read_tensors, read_dot_vectors, Trainer.load], ids=lambda read: read.__name__)
def test_arrays_of_objects(read: Callable[[Path], object], tmp_path: Path, ran: Path) -> None:
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.array([Evil(ran)], object), b=np.array([Evil(ran)], object), allow_pickle=True)
    with pytest.raises(MpsimError):
        read(path)
    assert not ran.exists()


def test_the_network_that_a_checkpoint_or_a_step_names(tmp_path: Path, ran: Path) -> None:
    """A header that names a file beside it does not make mpsim run that file."""
    (tmp_path / "net.py").write_text(f"import os\nos.mkdir({str(ran)!r})\n")
    trainer = Trainer(reference_models.build("small_cnn", 0.0625), None, backend="reference")
    header, arrays = checkpoint.unpack(trainer.dump())
    header["model"] = {**header["model"], "name": f"{tmp_path}/net.py:build"}
    (tmp_path / "state").write_bytes(checkpoint.pack(header, arrays))
    with pytest.raises(checkpoint.CheckpointError, match="it names a file, whose code is not run"):
        Trainer.load(tmp_path / "state")
    record = record_step(trainer, np.zeros((2, 1, 8, 8), np.float32), np.array([0, 1]))
    index = {**record.index, "model": {**record.index["model"], "name": f"{tmp_path}/net.py:build"}}
    with pytest.raises(MpsimError, match="it names a file, whose code is not run"):
        network_of(TensorFile(record.tensors, index))
    assert not ran.exists()
