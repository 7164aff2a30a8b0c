"""Right files of the kinds that datasets consist of, from which damaged ones are made."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from mpsim.files import archive


def pickled() -> bytes:
    return pickle.dumps({b"data": np.arange(24, dtype=np.uint8).reshape(2, 12), b"labels": [1, 2], b"x": "y"}, 2)


def tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name in ("a/one", "a/" + "long" * 40):
            member = tarfile.TarInfo(name)
            member.size = 700
            archive.addfile(member, io.BytesIO(bytes(700)))
    return content.getvalue()


def idx(suffix: str = "") -> Callable[[], bytes]:
    """Returns what writes six images of 4 x 5 pixels."""

    def content() -> bytes:
        plain = struct.pack(">HBB3I", 0, 8, 3, 6, 4, 5) + bytes(range(120))
        return gzip.compress(plain, mtime=0) if suffix else plain

    return content


def images() -> bytes:
    return archive.pack({"x": np.arange(96, dtype=np.uint8).reshape(6, 1, 4, 4), "y": np.arange(6) % 2})


def truth() -> bytes:
    return b"ImageId,PredictionString\r\nILSVRC2012_val_00000001,n01440764 1 2 3 4\r\n"


def kit() -> bytes:
    """meta.mat of ImageNet's development kit with two classes."""
    fields = [("ILSVRC2012_ID", "u1"), ("WNID", "U9"), ("words", "U9")]
    synsets = np.array([(1, "n01440764", "tench"), (2, "n01443537", "goldfish")], fields)
    import_module("scipy.io").savemat(written := io.BytesIO(), {"synsets": synsets})
    return written.getvalue()


def picture(format: str, mode: str = "RGB", **options: Any) -> Callable[[], bytes]:
    """Returns what writes a picture of 24 x 18 pixels without any order."""

    def content() -> bytes:
        image: Any = import_module("PIL.Image")
        pixels = np.random.default_rng(0).integers(0, 256, (18, 24, 3), np.uint8)
        image.fromarray(pixels).convert(mode).save(written := io.BytesIO(), format, **options)
        return written.getvalue()

    return content
