"""Reads the unpacked ImageNet (ILSVRC 2012), with a folder for each WordNet id. Validation images may be in one folder.

Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.
"""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpsim.data.dataset import check_split
from mpsim.data.pictures.folders import checked_root, class_names, from_class_folders, split_folder
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.errors import UsageError
from mpsim.files import json_text
from mpsim.files.columns import text
from mpsim.process import in_default_environment

SITE = "https://www.image-net.org/download.php"
SOURCE = f"Get ImageNet (ILSVRC 2012) from {SITE}"
LAYOUT = (
    "It should contain train/n01440764/*.JPEG etc. (a folder per WordNet id) and val/ with the same folders. "
    "Alternatively val/ contains all images, and LOC_val_solution.csv or the development kit's "
    "ILSVRC2012_validation_ground_truth.txt and meta.mat are next to it"
)
WORDNET_ID = re.compile(r"n\d{8}")
#: Where the ground truth of validation images without folders is searched, relative to the root.
KAGGLE = "LOC_val_solution.csv"
KIT_FOLDERS = ("ILSVRC2012_devkit_t12/data", ".")
KIT_TRUTH, KIT_CLASSES = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


@in_default_environment
def imagenet(path: str | Path, split: str = "train", *, size: int = 224) -> ImageFiles:
    """Reads ImageNet, or a subset of its classes.

    Classes are the sorted WordNet ids that name the folders of ``path``/train. All 1000 have the usual numbers.
    The validation images are in ``path``/val, either in such folders or directly. In the second case their classes come
    from LOC_val_solution.csv in ``path``, or from ILSVRC2012_validation_ground_truth.txt and meta.mat in
    ``path``/ILSVRC2012_devkit_t12/data or ``path``. Otherwise it is like ``image_folder``.

    Args:
        path: The folder that contains train and val.
        split: "train", or "test" for the validation images.
        size: The height and width of the images.

    Raises:
        FileNotFoundError: A folder or file is missing. The message names it.
        ValueError: A folder or the ground truth does not match the classes.

    >>> imagenet("no_such_folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: ...
    """
    check_split(split)
    root = checked_root(Path(path), "imagenet", f"{LAYOUT}. {SOURCE}")
    folder = split_folder(root, split)
    if folder is None:
        wanted = "train" if split == "train" else "val"
        raise FileNotFoundError(f"imagenet: {root} has no folder {wanted}. {LAYOUT}. {SOURCE}")
    flat = sorted(file for file in folder.iterdir() if file.suffix == ".JPEG" and not file.name.startswith("."))
    names = class_names(root, folder)
    if split == "test" and flat:
        return _flat(root, flat, names, size)
    for name in names:
        if not WORDNET_ID.fullmatch(name):
            raise UsageError(
                f"imagenet: folder {name!r} is not a WordNet id such as n01440764; for other folders use 'images'"
            )
    data = from_class_folders(folder, names, "imagenet", size, f"{LAYOUT}. {SOURCE}" if not names else SOURCE)
    present = set(np.unique(data.labels).tolist())
    for label, name in enumerate(names):
        if label not in present:
            raise FileNotFoundError(f"imagenet: {folder} lacks class {name}. {SOURCE}")
    return data


def _flat(root: Path, files: list[Path], names: tuple[str, ...], size: int) -> ImageFiles:
    """Labels validation images without folders by the ground truth. Images of other classes are omitted."""
    truth = _ground_truth(root)
    names = names or tuple(sorted(set(truth.values())))
    number = {name: label for label, name in enumerate(names)}
    chosen, labels = [], []
    for file in files:
        if file.stem not in truth:
            raise UsageError(f"imagenet: {file} is not in the ground truth ({len(truth)} images). {SOURCE}")
        if truth[file.stem] in number:
            chosen.append(str(file))
            labels.append(number[truth[file.stem]])
    if not chosen:
        raise UsageError(f"imagenet: none of the {len(files)} images in {files[0].parent} has a class in train")
    return ImageFiles(tuple(chosen), np.array(labels, np.int64), names, "imagenet", size, SOURCE)


def _ground_truth(root: Path) -> Mapping[str, str]:
    """Returns the WordNet id of each image, by its name without suffix."""
    if (root / KAGGLE).is_file():
        lines = text(root / KAGGLE).splitlines(keepends=True)
        try:
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(lines)}
        except (KeyError, IndexError, AttributeError, csv.Error):
            raise UsageError(f"imagenet: {root / KAGGLE} lacks ImageId or PredictionString in some row") from None
    for folder in (root / name for name in KIT_FOLDERS):
        if (folder / KIT_TRUTH).is_file() and (folder / KIT_CLASSES).is_file():
            return _from_kit(folder / KIT_TRUTH, folder / KIT_CLASSES)
    raise FileNotFoundError(
        f"imagenet: {root}/val contains images without folders, and neither {KAGGLE} nor {KIT_TRUTH} with "
        f"{KIT_CLASSES} is in {root} or {root / KIT_FOLDERS[0]}. {SOURCE}"
    )


def _from_kit(truth: Path, classes: Path) -> Mapping[str, str]:
    """Reads the development kit: line i of the ground truth is the number of image i's class in meta.mat."""
    try:
        ids = _classes(classes)
        numbers = [int(line) for line in truth.read_text(encoding="utf-8").split()]
        return {f"ILSVRC2012_val_{place:08}": ids[number] for place, number in enumerate(numbers, 1)}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"imagenet: {truth} and {classes} do not contain the classes ({type(error).__name__}: {error}). {SOURCE}"
        ) from error


#: Reads meta.mat in a separate process, because scipy.io ends the process for some broken files.
_READ_CLASSES = """
import json, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (1 << 31, 1 << 31))
except ImportError:
    pass
import numpy as np
from scipy.io import loadmat
rows = np.atleast_1d(loadmat(sys.argv[1], squeeze_me=True)["synsets"])
print(json.dumps([[int(row["ILSVRC2012_ID"]), str(row["WNID"])] for row in rows]))
"""


def _classes(path: Path) -> Mapping[int, str]:
    """Returns the WordNet ids by the numbers of ILSVRC2012. Raises UsageError if the file does not contain them."""
    command = [sys.executable, "-c", _READ_CLASSES, str(path)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    except subprocess.TimeoutExpired:
        raise UsageError("meta.mat cannot be read within 60 s") from None
    if found.returncode:
        last = (found.stderr.strip().splitlines() or [f"exit code {found.returncode}"])[-1]
        raise UsageError(f"meta.mat cannot be read: {last[:200]}")
    return dict(json_text.decoded(found.stdout))
