"""Weights to a file and back, as safetensors or npz: names as in a PyTorch state dict, every bit kept."""

from __future__ import annotations

from pathlib import Path

from mpsim.files.tensors import TensorFileError, read_tensors, write_tensors
from mpsim.nn import Module

KIND, VERSION = "mpsim weights", 1


def save_weights(model: Module, path: str | Path) -> None:
    """Writes every parameter (float32 master) and buffer of a network to ``path`` (.safetensors or .npz).

    Equal weights give equal bytes. ValueError for another suffix; OSError if the file cannot be written.

    >>> import tempfile, reference_models
    >>> path = Path(tempfile.mkdtemp(), "weights.safetensors")
    >>> save_weights(reference_models.build("small_cnn", seed=1), path)
    >>> load_weights(reference_models.build("small_cnn", seed=2), path)
    """
    index = {
        "kind": KIND,
        "version": VERSION,
        "model": {
            "name": getattr(model, "name", type(model).__name__),
            "width": getattr(model, "width", 1.0),
            "classes": getattr(model, "classes", None),
        },
    }
    write_tensors(path, model.state(), index, index_beside=False)


def load_weights(model: Module, path: str | Path, strict: bool = True) -> None:
    """Takes the weights of a file, of ``save_weights`` or of another program with the names of a PyTorch state dict.

    Nothing is loaded, and ValueError raised, which names the file, if it is neither safetensors nor npz, or broken, if
    a shape differs, float32 does not hold a value, or with ``strict`` a name is missing or unexpected. OSError if it
    cannot be read.
    """
    file = read_tensors(path)
    try:
        model.load_state(file.tensors, strict)
    except ValueError as error:
        raise TensorFileError(f"{file.source}: {error}") from error
