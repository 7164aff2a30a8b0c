"""Datasets and their loader. ``DATASETS`` lists what has a name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mpsim import checks
from mpsim.data.augmentation import Augmentation
from mpsim.data.cifar import cifar10, cifar100
from mpsim.data.crops import RandomResizedCrop
from mpsim.data.dataset import Dataset, LabelledImages
from mpsim.data.digits import digits
from mpsim.data.folders import image_folder
from mpsim.data.image_files import ImageFiles
from mpsim.data.imagenet import imagenet
from mpsim.data.loader import DataLoader
from mpsim.data.synthetic import synthetic
from mpsim.errors import UsageError

__all__ = [
    "DATASETS", "Augmentation", "DataLoader", "Dataset", "ImageFiles", "LabelledImages", "RandomResizedCrop", "Source",
    "cifar10", "cifar100", "digits", "image_folder", "imagenet", "load", "synthetic",
]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A row of DATASETS. ``read(split=...)`` gives the dataset, ``read(path, split=...)`` where it needs a path."""

    name: str
    summary: str
    read: Callable[..., LabelledImages]
    needs_path: bool = False
    augmentation: Augmentation | RandomResizedCrop | None = None  # the usual one for training


_ROWS = (
    Source("digits", "scikit-learn's handwritten digits, 8 x 8 grey, bundled", digits),
    Source("synthetic10", "rendered shapes, 32 x 32 colour", partial(synthetic, classes=10)),
    Source("synthetic100", "rendered shapes by texture, 32 x 32 colour", partial(synthetic, classes=100)),
    Source("cifar10", "CIFAR-10, from its archive or folder", cifar10, True, Augmentation(padding=4, flip=True)),
    Source("cifar100", "CIFAR-100, from its archive or folder", cifar100, True, Augmentation(padding=4, flip=True)),
    Source(
        "images", "pictures in folders train/CLASS and val/CLASS, as 224 x 224", image_folder, True, RandomResizedCrop()
    ),
    Source("images32", "the same as 32 x 32", partial(image_folder, size=32), True, RandomResizedCrop()),
    Source("imagenet", "ImageNet (ILSVRC 2012), as 224 x 224", imagenet, True, RandomResizedCrop()),
)

#: Datasets by name; a new one is a row.
DATASETS = {row.name: row for row in _ROWS}


def load(name: str, split: str = "train", path: str | Path | None = None) -> LabelledImages:
    """The dataset of that name. ValueError for an unknown one, or a path that is missing or not wanted.

    >>> load("digits", "test").name
    'digits'
    """
    row = DATASETS[checks.named("dataset", name, DATASETS)]
    if row.needs_path and path is None:
        raise UsageError(f"dataset {name!r} needs the path of its archive or folder")
    if path is not None and not row.needs_path:
        raise UsageError(f"dataset {name!r} takes no path; got {str(path)!r}")
    return row.read(path, split=split) if row.needs_path else row.read(split=split)
