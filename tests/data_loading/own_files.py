"""Writes small files of a user's own data."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np

#: Types of IDX by NumPy's.
TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array: np.ndarray, *, compressed: bool = False) -> bytes:
    """The bytes of an IDX file."""
    kind = TYPES[array.dtype.str[1:]]
    header = bytes([0, 0, kind, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(array.dtype.newbyteorder(">")).tobytes()
    return gzip.compress(content, mtime=0) if compressed else content


def npz(*, compressed: bool = False, **arrays: np.ndarray) -> bytes:
    """The bytes of an .npz file."""
    content = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(content, **arrays)
    return content.getvalue()


def write_idx_folder(folder: Path, images: np.ndarray, labels: np.ndarray, train: int, *, compressed: bool) -> Path:
    """Writes a folder with the names of MNIST, of which the first ``train`` images are for training."""
    folder.mkdir(exist_ok=True)
    suffix = ".gz" if compressed else ""
    for part, chosen in (("train", slice(train)), ("t10k", slice(train, None))):
        for kind, axes, array in (("images", 3, images), ("labels", 1, labels)):
            content = idx(array[chosen], compressed=compressed)
            (folder / f"{part}-{kind}-idx{axes}-ubyte{suffix}").write_bytes(content)
    return folder


def pictures(count: int = 40, side: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (count, side, side - 1) and labels from 0 to 3."""
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, side, side - 1), np.uint8), (np.arange(count) % 4).astype(np.uint8)
