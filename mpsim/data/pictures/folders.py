"""Image folders: a folder per class, in a folder per split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpsim.data.dataset import check_split
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.errors import UsageError

#: Endings of a picture's name, in small letters.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
#: Folders of a split, the first that is there.
SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}
LAYOUT = "It should hold train/CLASS/*.jpg and val/CLASS/*.jpg (or test/; a folder per class, any of {})".format(
    " ".join(SUFFIXES)
)


def image_folder(path: str | Path, split: str = "train", *, size: int = 224) -> ImageFiles:
    """The pictures in ``path``/train/CLASS/ ("train"), or in ``path``/val/CLASS/ or else test/CLASS/ ("test").

    Classes are numbered in the order of their folders' names (by code point). For "test" they are those of ``train``
    where that is there. The first file of each class comes first, by name, then the second of each, and so on: the
    first N images have all classes alike. Names that start with a dot are passed over, as are files without a picture's
    ending. Pictures become float32 (3, size, size), normalised with ImageNet's mean and deviation. Raises
    FileNotFoundError or ValueError, saying which folder is missing or empty.
    """
    check_split(split)
    root = checked_root(Path(path), "images", LAYOUT)
    folder = split_folder(root, split)
    if folder is None:
        wanted = " or ".join(SPLIT_FOLDERS[split])
        raise FileNotFoundError(f"images: {root} has no folder {wanted}. {LAYOUT}")
    names = class_names(root, folder)
    if not names:
        raise FileNotFoundError(f"images: {folder} holds no folder of a class. {LAYOUT}")
    return from_class_folders(folder, names, "images", size)


def checked_root(root: Path, name: str, hint: str) -> Path:
    """``root``; FileNotFoundError, with the hint, if it is no folder."""
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"{name}: {root} {what}. {hint}")
    return root


def split_folder(root: Path, split: str) -> Path | None:
    """The folder of a split, if there is one."""
    return next((root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()), None)


def class_names(root: Path, folder: Path) -> tuple[str, ...]:
    """Names of the classes: the folders in the training folder if there is one, else in ``folder``, sorted."""
    training = split_folder(root, "train")
    return _folders(training or folder) or _folders(folder)


def from_class_folders(folder: Path, names: Sequence[str], name: str, size: int, source: str = "") -> ImageFiles:
    """The pictures of the class folders in ``folder``, labelled by the place of the folder's name in ``names``.

    ValueError for a folder that is none of ``names``, FileNotFoundError for one without a picture.
    """
    here = _folders(folder)
    for other in here:
        if other not in names:
            raise UsageError(f"{name}: {folder / other} is none of the {len(names)} classes of the training folder")
    found: list[tuple[int, int, str]] = []  # (place in the folder, label, path)
    for one in here:
        files = _pictures(folder / one)
        if not files:
            raise FileNotFoundError(f"{name}: {folder / one} holds no picture ({' '.join(SUFFIXES)}). {source}".strip())
        label = names.index(one)
        found += [(place, label, file) for place, file in enumerate(files)]
    if not found:
        raise FileNotFoundError(f"{name}: {folder} holds no folder of a class. {source or LAYOUT}")
    found.sort()
    labels = np.array([label for _, label, _ in found], np.int64)
    return ImageFiles(tuple(path for _, _, path in found), labels, tuple(names), name, size, source)


def _folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def _pictures(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and not entry.is_dir())
    return [os.path.join(folder, name) for name in names if name.lower().endswith(SUFFIXES)]
