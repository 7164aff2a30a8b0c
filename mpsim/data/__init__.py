"""Defines datasets and their loader. ``DATASETS`` lists the datasets by name.

>>> images, labels = next(DataLoader(load("digits", "train"), batch_size=32, seed=0).epoch(0))
>>> images.shape, labels.shape
((32, 1, 8, 8), (32,))
>>> DATASETS["digits"].summary
'handwritten digits (UCI), 8 x 8 grey, bundled'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mpsim import checks, plugins
from mpsim.data.augmentation import Augmentation
from mpsim.data.cifar import cifar10, cifar100, files_digest
from mpsim.data.dataset import SPLITS, Dataset, LabelledImages, vocabulary_of
from mpsim.data.digests import digest_of_lines, digest_of_splits
from mpsim.data.digits import digits, digits_digest
from mpsim.data.grammar import grammar, grammar_digest
from mpsim.data.loader import DataLoader
from mpsim.data.own import arrays_digest, as_parts, is_place, read_arrays, read_text, text_digest
from mpsim.data.pictures.crops import RandomResizedCrop
from mpsim.data.pictures.folders import image_folder
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.data.pictures.imagenet import imagenet
from mpsim.data.synthetic import synthetic, synthetic_digest
from mpsim.errors import UsageError, UsageTypeError
from mpsim.process import in_default_environment

__all__ = [
    "DATASETS", "Augmentation", "DataLoader", "Dataset", "ImageFiles", "LabelledImages", "RandomResizedCrop", "Source",
    "as_parts", "cifar10", "cifar100", "digest", "digits", "grammar", "image_folder", "imagenet", "load", "located",
    "synthetic", "vocabulary_of",
]  # fmt: skip


@dataclass(frozen=True)
class Source:
    """Declares a dataset, i.e. an entry of ``DATASETS``.

    Args:
        name: The name that ``load`` and the command line know it by.
        summary: One line for help texts.
        read: ``read(split=...)``, or ``read(path, split=...)`` if it needs a path, returns the dataset.
        needs_path: Whether the dataset needs a path.
        augmentation: The usual augmentation for training.
        digest: ``digest()``, or ``digest(path)``, returns the digest of both splits, if there is a faster way than to
            read them. It must change whenever an image or a label changes.
        takes: Which of the options "normalisation", "test_share" and "context" ``read`` and ``digest`` take as keyword
            arguments, because the data themselves do not determine them.

    >>> DATASETS["cifar10"].needs_path, DATASETS["cifar10"].augmentation
    (True, Augmentation(padding=4, flip=True))
    """

    name: str
    summary: str
    read: Callable[..., LabelledImages]
    needs_path: bool = False
    augmentation: Augmentation | RandomResizedCrop | None = None
    digest: Callable[..., str] | None = None
    takes: tuple[str, ...] = ()


_CIFAR, _PICTURES = Augmentation(padding=4, flip=True), RandomResizedCrop()
_ROWS = (
    Source("digits", "handwritten digits (UCI), 8 x 8 grey, bundled", digits, digest=digits_digest),
    Source(
        "synthetic10", "rendered shapes, 32 x 32 colour", partial(synthetic, classes=10),
        digest=partial(synthetic_digest, 10),
    ),
    Source(
        "synthetic100", "rendered shapes by texture, 32 x 32 colour", partial(synthetic, classes=100),
        digest=partial(synthetic_digest, 100),
    ),
    Source(
        "grammar", "text: sentences of a grammar, 64 characters a row, each with the next one as label", grammar,
        digest=grammar_digest,
    ),
    Source(
        "cifar10", "CIFAR-10, from its archive or folder", cifar10, True, _CIFAR, partial(files_digest, "cifar10")
    ),
    Source(
        "cifar100", "CIFAR-100, from its archive or folder", cifar100, True, _CIFAR, partial(files_digest, "cifar100")
    ),
    Source("images", "pictures in folders train/CLASS and val/CLASS, as 224 x 224", image_folder, True, _PICTURES),
    Source("images32", "the same as 32 x 32", partial(image_folder, size=32), True, _PICTURES),
    Source("imagenet", "ImageNet (ILSVRC 2012), as 224 x 224", imagenet, True, _PICTURES),
    Source(
        "arrays", "images and labels of .npz or IDX files, or of FILE.py:FUNCTION", read_arrays, True,
        digest=arrays_digest, takes=("normalisation", "test_share"),
    ),
    Source(
        "text", "a text file, as characters, each with the next one as label", read_text, True, digest=text_digest,
        takes=("test_share", "context"),
    ),
)  # fmt: skip

#: Datasets by name. A new dataset is a new entry.
DATASETS = {row.name: row for row in _ROWS}


def located(name: str, path: str | None = None) -> tuple[str, str | None]:
    """Returns the name and the path of a dataset, also if ``name`` is the place of a user's own data.

    >>> located("faces.npz"), located("my_data.py:load"), located("book.txt"), located("digits")
    (('arrays', 'faces.npz'), ('arrays', 'my_data.py:load'), ('text', 'book.txt'), ('digits', None))
    """
    known = name in DATASETS or name in plugins.of_group("mpsim.datasets")
    if known or path is not None or not is_place(name):
        return name, path
    return "text" if name.endswith(".txt") else "arrays", name


@in_default_environment
def load(
    name: str,
    split: str = "train",
    path: str | Path | None = None,
    *,
    normalisation: str | None = None,
    test_share: float | None = None,
    context: int | None = None,
) -> LabelledImages:
    """Reads a split of a dataset.

    Args:
        name: A name in ``DATASETS``, or of a dataset of an installed package.
        split: "train" or "test".
        path: The archive or folder, for datasets that need one. For "arrays": an .npz file, a folder of IDX files, or
            FILE.py:FUNCTION. For "text": a file.
        normalisation, test_share: As for ``as_parts``, for datasets that take them.
        context: The number of characters of a row, for texts; the default is 64.

    Returns:
        The labelled images.

    Raises:
        ValueError: The name is unknown, the path is missing, the dataset has no path, or it does not take an option.
            Also if the files are broken.
        FileNotFoundError: A file is missing.

    >>> load("digits", "test").name
    'digits'
    """
    row = _source(name, path)
    options = _options(row, normalisation=normalisation, test_share=test_share, context=context)
    return row.read(*_place(path), split=split, **options)


@in_default_environment
def digest(
    name: str,
    path: str | Path | None = None,
    *,
    normalisation: str | None = None,
    test_share: float | None = None,
    context: int | None = None,
) -> str:
    """Computes the SHA-256 (hex) of a dataset as it is now, i.e. of both splits and its usual augmentation.

    It does not depend on the location of the files.

    Args:
        name, path, normalisation, test_share, context: As for ``load``.

    Raises:
        ValueError: As for ``load``.
        OSError: A file cannot be read.

    >>> digest("digits") == digest("synthetic10")
    False
    """
    row = _source(name, path)
    options = _options(row, normalisation=normalisation, test_share=test_share, context=context)
    if row.digest is not None:
        content = row.digest(*_place(path), **options)
    else:
        content = digest_of_splits(*(row.read(*_place(path), split=split, **options) for split in SPLITS))
    return digest_of_lines([content, repr(row.augmentation)])


def _place(path: str | Path | None) -> tuple[str | Path, ...]:
    return () if path is None else (path,)


def _options(row: Source, **given: object) -> dict[str, object]:
    """Returns the options that are not None. Raises UsageError for one that the dataset does not take."""
    options: dict[str, object] = {name: value for name, value in given.items() if value is not None}
    for name in options:
        if name not in row.takes:
            raise UsageError(f"{name} has no meaning for dataset {row.name!r}, which determines it; remove it", name)
    return options


def _source(name: str, path: str | Path | None) -> Source:
    """Returns the declaration of the given name. Raises UsageError as ``load`` does."""
    if name not in DATASETS and (brought := plugins.load("mpsim.datasets", name)) is not None:
        if not isinstance(brought, Source):
            raise UsageTypeError(f"the entry point {name} must be an mpsim.data.Source, got {checks.shown(brought)}")
        DATASETS[name] = brought
    if name not in DATASETS:
        raise checks.unknown("dataset", name, [*DATASETS, *plugins.of_group("mpsim.datasets")])
    row = DATASETS[name]
    if row.needs_path and path is None:
        raise UsageError(f"dataset {name!r} needs the path of its archive or folder (--data-path)")
    if path is not None and not row.needs_path:
        raise UsageError(f"dataset {name!r} has no path; got {str(path)!r}")
    return row
