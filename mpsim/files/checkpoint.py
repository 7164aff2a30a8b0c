"""Packs and reads checkpoints, i.e. zip archives of a JSON header and one .npy file for each array.

The archive has no dates, so equal states give equal bytes. The trainer defines the header's content.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpsim import checks
from mpsim.errors import MpsimError, UsageError
from mpsim.files import archive, json_text, npz, semantics
from mpsim.files.records import Fields

KIND, VERSION = "mpsim checkpoint", 1
_HEADER = "header.json"


class CheckpointError(MpsimError, RuntimeError):
    """A file is not a checkpoint, is broken, or has a newer version. The message says what to do."""


def pack(header: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Returns the bytes of a checkpoint.

    >>> header, arrays = unpack(pack({"step": 3}, {"weight": np.float32([1, 2])}))
    >>> header["step"], arrays["weight"]
    (3, array([1., 2.], dtype=float32))
    """
    text = json.dumps(
        {"kind": KIND, "version": VERSION, semantics.FIELD: semantics.SEMANTICS, **header}, indent=1, allow_nan=False
    )
    return archive.pack(arrays, {_HEADER: text})


def unpack(content: bytes, source: str = "the checkpoint") -> tuple[Fields, dict[str, np.ndarray]]:
    """Returns the header and the arrays by name of a checkpoint's bytes. ``source`` names it in messages.

    A checkpoint of an older version of the definition is read with the warning OlderSemantics.

    Raises:
        CheckpointError: It is not a checkpoint, is incomplete or corrupt, or has a version, of the file or of the
            definition, that this mpsim does not read.
    """
    header, arrays = _content(content, source)
    try:
        semantics.warn_if_older(header.get(semantics.FIELD), source)
    except UsageError as error:
        raise CheckpointError(str(error)) from error
    return header, arrays


def _content(content: bytes, source: str) -> tuple[Fields, dict[str, np.ndarray]]:
    try:
        file = npz.Archive(io.BytesIO(content))
        if _HEADER not in file.texts:
            raise CheckpointError(f"{source} is a zip file, but not an mpsim checkpoint (it has no {_HEADER})")
        header = json_text.decoded(file.text(_HEADER))
        if not isinstance(header, dict) or header.get("kind") != KIND:
            raise CheckpointError(f"{source} is not an mpsim checkpoint: its header does not say {KIND!r}")
        if header.get("version") != VERSION:
            raise CheckpointError(
                f"{source} is a checkpoint of version {checks.shown(header.get('version'))}; "
                f"this mpsim reads version {VERSION}"
            )
        return header, dict(file)
    except UsageError as error:
        raise CheckpointError(
            f"{source} is not an mpsim checkpoint, or is incomplete ({error}); save it again from the run"
        ) from error


def read(path: str | Path) -> tuple[Fields, dict[str, np.ndarray]]:
    """Reads the header and the arrays of a checkpoint file.

    Raises:
        CheckpointError: As for ``unpack``.
        OSError: The file cannot be read.
    """
    return unpack(Path(path).read_bytes(), str(path))
