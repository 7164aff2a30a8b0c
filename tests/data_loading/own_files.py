"""Writes small files of a user's own data, and damages them."""

from __future__ import annotations

import gzip
import io
import random
import struct
from pathlib import Path

import numpy as np

#: Types of IDX by NumPy's.
TYPES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}
#: Words that a damaged header may contain.
WORDS = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\0\x10\0\0")


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


def damaged(content: bytes, draw: random.Random) -> bytes:
    """The content with one to five changes, of which half are near the beginning."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 5])):
        length = len(changed)
        place = draw.randrange(length if draw.random() < 0.5 else min(length, 200))
        match draw.randrange(7):
            case 0:
                changed[place] ^= 1 << draw.randrange(8)
            case 1:
                changed[place] = draw.choice([0, 1, 127, 128, 255])
            case 2:
                del changed[place : place + draw.choice([1, 2, 4, 50])]
            case 3:
                changed[place:place] = draw.randbytes(draw.choice([1, 4, 40]))
            case 4:
                del changed[place:]
            case 5:
                changed[place : place + 4] = draw.choice(WORDS)
            case 6:
                other = draw.randrange(length)
                changed[place : place + 8] = changed[other : other + 8]
        changed = changed or bytearray(1)
    return bytes(changed)
