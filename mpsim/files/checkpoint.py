"""Checkpoint files: a zip archive of one JSON header and one .npy file per array, written in one piece.

The archive has no dates, so equal states give equal bytes. What stands in the header is the trainer's business.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mpsim.errors import MpsimError
from mpsim.files import archive

KIND, VERSION = "mpsim checkpoint", 1
_HEADER = "header.json"


class CheckpointError(MpsimError, RuntimeError):
    """A file is no checkpoint, or a broken or newer one; the message says which and what to do."""


def pack(header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a checkpoint.

    >>> header, arrays = unpack(pack({"step": 3}, {"weight": np.float32([1, 2])}))
    >>> header["step"], arrays["weight"]
    (3, array([1., 2.], dtype=float32))
    """
    text = json.dumps({"kind": KIND, "version": VERSION, **header}, indent=1, allow_nan=False)
    return archive.pack(arrays, {_HEADER: text})


def unpack(content: bytes, source: str = "the checkpoint") -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, arrays by name) of a checkpoint's bytes; ``source`` names it in errors.

    Raises CheckpointError if it is none, incomplete, changed on the way, or of a version this mpsim does not read.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            names = file.namelist()
            if _HEADER not in names:
                raise CheckpointError(f"{source} is a zip file, but no mpsim checkpoint (it has no {_HEADER})")
            header = json.loads(file.read(_HEADER))
            if not isinstance(header, dict) or header.get("kind") != KIND:
                raise CheckpointError(f"{source} is no mpsim checkpoint: its header does not say {KIND!r}")
            if header.get("version") != VERSION:
                raise CheckpointError(
                    f"{source} is a checkpoint of version {header.get('version')}; this mpsim reads version {VERSION}"
                )
            arrays = {
                name.removesuffix(".npy"): np.lib.format.read_array(io.BytesIO(file.read(name)), allow_pickle=False)
                for name in names
                if name.endswith(".npy")
            }
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise CheckpointError(
            f"{source} is no mpsim checkpoint, or only a part of one ({error}); save it again from the run"
        ) from error
    return header, arrays


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(header, arrays) of a checkpoint file. CheckpointError as ``unpack``; OSError if it cannot be read."""
    return unpack(Path(path).read_bytes(), str(path))
