"""Reads CIFAR-10 and CIFAR-100 from the published archives (python or binary version), as a folder or .tar.gz.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mpsim.data.dataset import Dataset, black_of, check_split, normalise
from mpsim.data.digests import digest_of_lines, file_digest
from mpsim.data.restricted_pickle import load_arrays
from mpsim.data.tar import tar_members
from mpsim.errors import UsageError
from mpsim.process import in_default_environment

SITE = "https://www.cs.toronto.edu/~kriz/cifar.html"
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Version:
    """One published archive, with its folder and the MD5 of each file of a split.

    ``label_bytes`` is the number of label bytes of an image in the binary version, of which the last one counts. It is
    None for the python version.
    """

    archive: str
    folder: str
    label_bytes: int | None
    label_field: bytes
    train: dict[str, str]
    test: dict[str, str]


@dataclass(frozen=True)
class Collection:
    """CIFAR-10 or CIFAR-100, with the mean and deviation of each channel that the paper normalises by (§5.1)."""

    classes: int
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    versions: tuple[Version, ...]


COLLECTIONS = {
    "cifar10": Collection(
        10,
        (0.4914, 0.4822, 0.4465),
        (0.2023, 0.1994, 0.2010),
        (
            Version(
                "cifar-10-python.tar.gz",
                "cifar-10-batches-py",
                None,
                b"labels",
                {
                    "data_batch_1": "c99cafc152244af753f735de768cd75f",
                    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                    "data_batch_4": "634d18415352ddfa80567beed471001a",
                    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                },
                {"test_batch": "40351d587109b95175f43aff81a1287e"},
            ),
            Version(
                "cifar-10-binary.tar.gz",
                "cifar-10-batches-bin",
                1,
                b"",
                {
                    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
                    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
                    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
                    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
                    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
                },
                {"test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d"},
            ),
        ),
    ),
    "cifar100": Collection(
        100,
        (0.5074, 0.4867, 0.4411),
        (0.2011, 0.1987, 0.2025),
        (
            Version(
                "cifar-100-python.tar.gz",
                "cifar-100-python",
                None,
                b"fine_labels",
                {"train": "16019d7e3df5f24257cddd939b257f8d"},
                {"test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
            ),
            Version(
                "cifar-100-binary.tar.gz",
                "cifar-100-binary",
                2,
                b"",
                {"train.bin": "6172c7755cfe09b2fe270c85cebc1b15"},
                {"test.bin": "4499cfba6c016c1be1438163640a0898"},
            ),
        ),
    ),
}


@in_default_environment
def cifar10(path: str | Path, split: str = "train", *, verify: bool = True) -> Dataset:
    """Reads CIFAR-10, normalised as in the paper.

    Args:
        path: The archive (python or binary version), its unpacked folder, or the folder that contains either.
        split: "train" or "test".
        verify: Whether to compare the MD5 of each file with the published one.

    Returns:
        50 000 ("train") or 10 000 ("test") images, float32 (N, 3, 32, 32), of 10 classes.

    Raises:
        FileNotFoundError: A file is missing. The message names it.
        ValueError: A file is broken or changed. The message names it.

    >>> cifar10("no_such_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...
    """
    return _load("cifar10", path, split, verify)


@in_default_environment
def cifar100(path: str | Path, split: str = "train", *, verify: bool = True) -> Dataset:
    """Reads CIFAR-100 with its 100 fine labels. Otherwise it is like ``cifar10``.

    >>> cifar100("no_such_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...
    """
    return _load("cifar100", path, split, verify)


def files_digest(name: str, path: str | Path) -> str:
    """Computes the SHA-256 (hex) of the archive at ``path``, or of the files of both splits in the folder.

    An archive is not unpacked, so it and its unpacked folder have different digests.

    Args:
        name: "cifar10" or "cifar100".
        path: As for ``cifar10``.

    Raises:
        FileNotFoundError: A file is missing.
    """
    place = Path(path)
    if place.is_file():
        return digest_of_lines([file_digest(place)])
    version, place = _find(name, place)
    if place.is_file():
        return digest_of_lines([file_digest(place)])
    files = [*version.train, *version.test]
    return digest_of_lines([version.folder, *map(file_digest, _files(version, place, files))])


def _load(name: str, path: str | Path, split: str, verify: bool) -> Dataset:
    check_split(split)
    collection = COLLECTIONS[name]
    version, place = _find(name, Path(path))
    files: dict[str, str] = getattr(version, split)
    images, labels = [], []
    for file, content in zip(files, _contents(version, place, list(files)), strict=True):
        where = f"{place}: {version.folder}/{file}" if place.is_file() else str(place / file)
        if verify and (found := hashlib.md5(content, usedforsecurity=False).hexdigest()) != files[file]:
            raise UsageError(
                f"{where}: MD5 {found}, published is {files[file]}; the file is broken or changed. "
                f"Get {version.archive} again from {SITE}"
            )
        try:
            pixels, numbers = _python(content, version) if version.label_bytes is None else _binary(content, version)
            if not (numbers.min() >= 0 and numbers.max() < collection.classes):
                raise UsageError(f"has labels {numbers.min()} .. {numbers.max()}, not 0 .. {collection.classes - 1}")
        except ValueError as error:
            raise UsageError(f"{where}: {error}. Get {version.archive} again from {SITE}") from error
        images.append(pixels)
        labels.append(numbers)
    pixels = np.concatenate(images).astype(np.float32) / np.float32(255)  # (N, 3, 32, 32)
    normal = normalise(pixels, collection.mean, collection.deviation)
    black = black_of(collection.mean, collection.deviation)
    return Dataset(normal, np.concatenate(labels), collection.classes, name, black)


def _find(name: str, path: Path) -> tuple[Version, Path]:
    """Returns the version, and its archive or its folder of files."""
    versions = COLLECTIONS[name].versions
    for version in versions:
        if path.is_file() and path.name == version.archive:
            return version, path
        if (path / version.archive).is_file():
            return version, path / version.archive
        for folder in (path / version.folder, path):
            if any((folder / file).is_file() for file in (*version.train, *version.test)):
                return version, folder
    if path.is_file():
        return _by_content(name, path), path
    archives = " or ".join(version.archive for version in versions)
    what = "does not contain its files" if path.exists() else "does not exist"
    raise FileNotFoundError(f"{name}: {path} {what}. Get {archives} from {SITE} and pass its path or its folder's")


def _by_content(name: str, path: Path) -> Version:
    """Returns the version of an archive that was renamed."""
    tests = {f"{version.folder}/{next(iter(version.test))}": version for version in COLLECTIONS[name].versions}
    for member, _ in tar_members(path, tests.__contains__, f"Get it again from {SITE}"):
        return tests[member]
    raise UsageError(f"{path}: contains none of {name}'s files. Get the archive from {SITE}")


def _files(version: Version, folder: Path, names: list[str]) -> list[Path]:
    """Returns the files of an unpacked folder. Raises FileNotFoundError if one is missing."""
    for name in names:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing. Get {version.archive} from {SITE}")
    return [folder / name for name in names]


def _contents(version: Version, place: Path, files: list[str]) -> list[bytes]:
    if place.is_dir():
        return [file.read_bytes() for file in _files(version, place, files)]
    contents = {}
    wanted = {f"{version.folder}/{file}": file for file in files}
    for member, content in tar_members(place, wanted.__contains__, f"Get it again from {SITE}"):
        contents[wanted[member]] = content
    for file in files:
        if file not in contents:
            raise FileNotFoundError(f"{place}: {version.folder}/{file} is missing. Get {version.archive} from {SITE}")
    return [contents[file] for file in files]


def _python(content: bytes, version: Version) -> tuple[np.ndarray, np.ndarray]:
    record = load_arrays(content)
    try:
        pixels, labels = record[b"data"], np.asarray(record[version.label_field], dtype=np.int64)
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"does not contain 'data' and {version.label_field.decode()!r}") from None
    if labels.ndim != 1 or not len(labels):
        raise UsageError(f"does not contain labels in {version.label_field.decode()!r}")
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape != (len(labels), PIXELS):
        raise UsageError(f"its 'data' should be uint8 ({len(labels)}, {PIXELS})")
    return pixels.reshape(-1, 3, 32, 32), labels


def _binary(content: bytes, version: Version) -> tuple[np.ndarray, np.ndarray]:
    assert version.label_bytes is not None
    row = version.label_bytes + PIXELS
    if not content or len(content) % row:
        raise UsageError(f"has {len(content)} bytes, which is not a multiple of {row}")
    rows = np.frombuffer(content, np.uint8).reshape(-1, row)
    return rows[:, version.label_bytes :].reshape(-1, 3, 32, 32), rows[:, version.label_bytes - 1].astype(np.int64)
