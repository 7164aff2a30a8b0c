"""Saves and loads weights as safetensors or npz, with the names of a PyTorch state dict. Every bit is preserved.

>>> import tempfile, reference_models
>>> path, network = Path(tempfile.mkdtemp(), "weights.npz"), reference_models.build("small_cnn")
>>> save_weights(network, path)
>>> load_weights(network, path)
"""

from __future__ import annotations

from pathlib import Path

from mpsim.files.tensors import TensorFileError, read_tensors, write_tensors
from mpsim.nn import Module
from mpsim.process import in_default_environment

KIND, VERSION = "mpsim weights", 1


@in_default_environment
def save_weights(model: Module, path: str | Path) -> None:
    """Writes every parameter (float32 master) and buffer of a network. Equal weights give equal bytes.

    Args:
        model: The network.
        path: The file. Its suffix, .safetensors or .npz, selects the form.

    Raises:
        ValueError: The suffix is unknown.
        OSError: The file cannot be written.

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


@in_default_environment
def load_weights(model: Module, path: str | Path, strict: bool = True) -> None:
    """Loads the weights of a file, written by ``save_weights`` or another program.

    Args:
        model: The network.
        path: A safetensors or npz file with the names of a PyTorch state dict.
        strict: Whether the names must be exactly those of the network.

    Raises:
        ValueError: The file is neither safetensors nor npz or is broken, a shape differs, float32 does not hold a
            value, or with ``strict`` a name is missing or unexpected. The message names the file, and nothing is
            loaded.
        OSError: The file cannot be read.

    >>> import tempfile, reference_models
    >>> path = Path(tempfile.mkdtemp(), "weights.npz")
    >>> save_weights(reference_models.build("small_cnn", seed=1), path)
    >>> load_weights(reference_models.build("small_cnn", seed=2), path)
    """
    file = read_tensors(path)
    try:
        model.load_state(file.tensors, strict)
    except ValueError as error:
        raise TensorFileError(f"{file.source}: {error}") from error
