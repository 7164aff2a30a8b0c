"""Reads folders of IDX files, the format of MNIST, Fashion-MNIST, EMNIST and KMNIST, plain or compressed by gzip.

Source: the section "File formats for the MNIST database" of Y. LeCun, C. Cortes, C. Burges, The MNIST database. An IDX
file has two zero bytes, a byte for the type, a byte for the number of axes, the length of each axis (32 bits, most
significant byte first), and the numbers in C order, most significant byte first.
"""

from __future__ import annotations

import gzip
import math
import os
import re
from pathlib import Path
from typing import IO

import numpy as np

from mpsim import checks
from mpsim.errors import MpsimError, UsageError
from mpsim.files.npz import MARGIN, MOST_RATIO, read_exactly

Array = np.ndarray

#: The types by their byte.
TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
#: The largest number of axes that is read.
MOST_AXES = 8
#: Names such as train-images-idx3-ubyte.gz, t10k-labels.idx1-ubyte, emnist-letters-test-images-idx3-ubyte.
NAME = re.compile(
    r"(?P<set>.*?)(?:(?P<part>train|t10k|test|val)[-_.])?(?P<kind>images|labels)[-_.]idx\d[-_.]\w+?(?:\.gz)?"
)
_PARTS = {"train": "train", "t10k": "test", "test": "test", "val": "val", None: ""}

EXPECTED = (
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte (or .gz)"
)


def read_idx(path: Path) -> Array:
    """Returns the array in an IDX file.

    The size that the header names is compared with the file's size before memory is allocated.

    Raises:
        UsageError: The file is not IDX, is shorter or longer than its header says, or does not fit into memory.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            if not compressed:
                return _read(file, os.fstat(file.fileno()).st_size, exact=True)
            most = MOST_RATIO * os.fstat(file.fileno()).st_size + MARGIN
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(unpacked, most, exact=False)
        except MpsimError as error:
            raise type(error)(f"{path}: {error}") from error
        except Exception as error:  # gzip, zlib and EOF
            raise UsageError(f"{path} is not a complete IDX file ({type(error).__name__}: {error})") from error


def _read(file: IO[bytes] | gzip.GzipFile, most: int, *, exact: bool) -> Array:
    """Reads an array from a file of at most ``most`` bytes, or, if ``exact``, of that many."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= MOST_AXES:
        raise UsageError(f"is not an IDX file: it begins with {magic.hex(' ') or 'nothing'}")
    dtype, axes = np.dtype(TYPES[magic[2]]), magic[3]
    lengths = file.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise UsageError(f"ends within the lengths of its {axes} axes")
    shape = tuple(np.frombuffer(lengths, ">u4").tolist())
    size = math.prod(shape) * dtype.itemsize
    rest = most - 4 - 4 * axes
    if size > rest or (exact and size < rest):
        raise UsageError(
            f"its header names {shape} numbers of {dtype.itemsize} bytes, i.e. {size} bytes, but "
            f"{'' if exact else 'at most '}{rest} follow"
        )
    checks.fits_memory("it needs", size, "use fewer images")
    flat = read_exactly(file, size)
    if file.read(1):
        raise UsageError(f"has more than the {size} bytes that its header names")
    array = flat.view(dtype).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def files_of(folder: Path) -> dict[str, Path]:
    """Returns the IDX files of a folder by what they hold, e.g. "train images".

    Of a file and the same file with .gz the former is used.

    Raises:
        UsageError: The folder has no such files, or those of several data.
        OSError: The folder cannot be read.
    """
    found: dict[str, Path] = {}
    sets: dict[str, None] = {}
    for name in sorted(os.listdir(folder)):
        match = NAME.fullmatch(name.lower())
        if match is None or not (folder / name).is_file():
            continue
        sets[match["set"]] = None
        what = f"{_PARTS[match['part']]} {match['kind']}".strip()
        if what in found and f"{found[what].name}.gz" != name:
            raise UsageError(
                f"{folder} has two files of {what}, {found[what].name} and {name}; use a folder per dataset"
            )
        found.setdefault(what, folder / name)
    if not found:
        raise UsageError(f"{folder} has no IDX files; expected {EXPECTED}. For pictures in folders use --data images")
    if len(sets) > 1:
        raise UsageError(f"{folder} has files of several datasets: {', '.join(sets)}; use a folder per dataset")
    return found


def read_idx_folder(folder: Path) -> dict[str, Array]:
    """Returns the arrays of a folder's IDX files, by names that ``names.chosen_arrays`` knows.

    Raises:
        UsageError: As for ``files_of`` and ``read_idx``.
        OSError: A file cannot be read.
    """
    return {what: read_idx(path) for what, path in files_of(folder).items()}
