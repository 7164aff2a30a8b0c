"""Reads image folders, which have one folder for each class in one folder for each split."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mpsim.data.dataset import check_split
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.errors import UsageError
from mpsim.process import in_default_environment

#: The suffixes of pictures in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
#: The folders of a split. The first that exists is used.
SPLIT_FOLDERS = {"train": ("train",), "test": ("val", "test")}
LAYOUT = f"It should contain train/CLASS/*.jpg and val/CLASS/*.jpg (or test/; a folder per class, {' '.join(SUFFIXES)})"


@in_default_environment
def image_folder(path: str | Path, split: str = "train", *, size: int = 224) -> ImageFiles:
    """Reads pictures from a folder for each class.

    The order of the pictures is: the first file (by name) of each class, then the second of each, and so on, so that
    the first N images contain all classes equally. Names that start with a dot and files without a picture's suffix are
    ignored.

    Args:
        path: The folder that contains the folders of the splits.
        split: "train" (``path``/train/CLASS/) or "test" (``path``/val/CLASS/, or test/CLASS/ if there is no val).
            Classes are numbered by the sorted names of the folders in train, if it exists.
        size: The height and width of the images.

    Returns:
        Images float32 (3, size, size), normalised with ImageNet's mean and deviation.

    Raises:
        FileNotFoundError: A folder is missing or empty. The message names it.
        ValueError: A folder's class is unknown.

    >>> import tempfile
    >>> from PIL import Image
    >>> root = Path(tempfile.mkdtemp())
    >>> for name, colour in (("cat", "black"), ("dog", "white")):
    ...     (root / "train" / name).mkdir(parents=True)
    ...     Image.new("RGB", (40, 30), colour).save(root / "train" / name / "1.png")
    >>> pictures = image_folder(root, size=32)
    >>> len(pictures), pictures.labels.tolist()
    (2, [0, 1])
    """
    check_split(split)
    root = checked_root(Path(path), "images", LAYOUT)
    folder = split_folder(root, split)
    if folder is None:
        wanted = " or ".join(SPLIT_FOLDERS[split])
        raise FileNotFoundError(f"images: {root} has no folder {wanted}. {LAYOUT}")
    names = class_names(root, folder)
    if not names:
        raise FileNotFoundError(f"images: {folder} does not contain a folder for a class. {LAYOUT}")
    return from_class_folders(folder, names, "images", size)


def checked_root(root: Path, name: str, hint: str) -> Path:
    """Returns ``root``. Raises FileNotFoundError, with the hint, if it is not a folder."""
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise FileNotFoundError(f"{name}: {root} {what}. {hint}")
    return root


def split_folder(root: Path, split: str) -> Path | None:
    """Returns the folder of a split, or None."""
    return next((root / name for name in SPLIT_FOLDERS[split] if (root / name).is_dir()), None)


def class_names(root: Path, folder: Path) -> tuple[str, ...]:
    """Returns the sorted names of the classes: the folders in the training folder if it exists, else in ``folder``."""
    training = split_folder(root, "train")
    return _folders(training or folder) or _folders(folder)


def from_class_folders(folder: Path, names: Sequence[str], name: str, size: int, source: str = "") -> ImageFiles:
    """Lists the pictures of the class folders in ``folder``. A label is the index of the folder's name in ``names``.

    Raises:
        ValueError: A folder is not in ``names``.
        FileNotFoundError: A folder has no pictures.
    """
    here = _folders(folder)
    for other in here:
        if other not in names:
            raise UsageError(f"{name}: {folder / other} is not one of the {len(names)} classes of the training folder")
    found: list[tuple[int, int, str]] = []  # (position in the folder, label, path)
    for one in here:
        files = _pictures(folder / one)
        if not files:
            raise FileNotFoundError(f"{name}: {folder / one} has no picture ({' '.join(SUFFIXES)}). {source}".strip())
        label = names.index(one)
        found += [(place, label, file) for place, file in enumerate(files)]
    if not found:
        raise FileNotFoundError(f"{name}: {folder} does not contain a folder for a class. {source or LAYOUT}")
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
