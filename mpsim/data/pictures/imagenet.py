"""ImageNet (ILSVRC 2012) as unpacked: a folder per WordNet id; the validation images in such folders too, or flat.

Source: O. Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge, 2015.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mpsim.data.dataset import check_split
from mpsim.data.pictures.folders import checked_root, class_names, from_class_folders, split_folder
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.errors import UsageError

SITE = "https://www.image-net.org/download.php"
SOURCE = f"Get ImageNet (ILSVRC 2012) from {SITE}"
LAYOUT = (
    "It should hold train/n01440764/*.JPEG and so on (a folder per WordNet id), and val/ with the same folders, or "
    "flat with LOC_val_solution.csv or the development kit's ILSVRC2012_validation_ground_truth.txt and meta.mat "
    "beside it"
)
WORDNET_ID = re.compile(r"n\d{8}")
#: Where the ground truth of flat validation images is looked for, from the root.
KAGGLE = "LOC_val_solution.csv"
KIT_FOLDERS = ("ILSVRC2012_devkit_t12/data", ".")
KIT_TRUTH, KIT_CLASSES = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"


def imagenet(path: str | Path, split: str = "train", *, size: int = 224) -> ImageFiles:
    """ImageNet, or a part of its classes, at ``path``: the training ("train") or validation images ("test").

    Classes are the WordNet ids that name the folders of ``path``/train, sorted (all 1000: the usual numbers 0 .. 999).
    The validation images lie in ``path``/val in such folders, each with a picture, or flat; then their classes come
    from LOC_val_solution.csv in ``path``, or from ILSVRC2012_validation_ground_truth.txt and meta.mat in
    ``path``/ILSVRC2012_devkit_t12/data or ``path``. Else as ``image_folder``. Raises FileNotFoundError or ValueError,
    saying what is missing or does not fit.
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
                f"imagenet: folder {name!r} is no WordNet id as n01440764; for other folders take 'images'"
            )
    data = from_class_folders(folder, names, "imagenet", size, f"{LAYOUT}. {SOURCE}" if not names else SOURCE)
    present = set(np.unique(data.labels).tolist())
    for label, name in enumerate(names):
        if label not in present:
            raise FileNotFoundError(f"imagenet: {folder} lacks class {name}. {SOURCE}")
    return data


def _flat(root: Path, files: list[Path], names: tuple[str, ...], size: int) -> ImageFiles:
    """Validation images without folders, labelled by the ground truth; those of classes not trained are left out."""
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
        raise UsageError(f"imagenet: none of the {len(files)} images in {files[0].parent} is of a class trained")
    return ImageFiles(tuple(chosen), np.array(labels, np.int64), names, "imagenet", size, SOURCE)


def _ground_truth(root: Path) -> Mapping[str, str]:
    """Image's name without its ending -> WordNet id."""
    if (root / KAGGLE).is_file():
        with open(root / KAGGLE, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        try:
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
        except (KeyError, IndexError, AttributeError):
            raise UsageError(f"imagenet: {root / KAGGLE} lacks ImageId or PredictionString in some row") from None
    for folder in (root / name for name in KIT_FOLDERS):
        if (folder / KIT_TRUTH).is_file() and (folder / KIT_CLASSES).is_file():
            return _from_kit(folder / KIT_TRUTH, folder / KIT_CLASSES)
    raise FileNotFoundError(
        f"imagenet: {root}/val holds images without folders, and neither {KAGGLE} nor {KIT_TRUTH} with {KIT_CLASSES} "
        f"is in {root} or {root / KIT_FOLDERS[0]}. {SOURCE}"
    )


def _from_kit(truth: Path, classes: Path) -> Mapping[str, str]:
    """Line i of the ground truth is the kit's number of image i's class, which meta.mat gives the WordNet id of."""
    from scipy.io import loadmat

    try:
        rows = np.atleast_1d(loadmat(classes, squeeze_me=True)["synsets"])
        ids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
        numbers = [int(line) for line in truth.read_text().split()]
        return {f"ILSVRC2012_val_{place:08}": ids[number] for place, number in enumerate(numbers, 1)}
    except Exception as error:  # loadmat raises almost anything for a broken file
        raise UsageError(
            f"imagenet: {truth} and {classes} do not give the classes ({type(error).__name__}: {error}). {SOURCE}"
        ) from error
