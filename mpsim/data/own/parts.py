"""Turns a user's arrays or datasets into a training and a test part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mpsim import checks
from mpsim.data.dataset import Dataset, LabelledImages
from mpsim.data.own.items import is_map_dataset, read_items
from mpsim.data.own.names import chosen_arrays
from mpsim.data.own.preparation import Normalisation, as_float32, normalise_in_place, split
from mpsim.data.own.remembered import Parts
from mpsim.errors import MpsimError, UsageError, UsageTypeError
from mpsim.interchange import as_array
from mpsim.process import in_default_environment

Array = np.ndarray

#: What ``as_parts`` accepts, for messages.
ACCEPTED = (
    "(images, labels), {'images': ..., 'labels': ...}, a dataset with __len__ and __getitem__, or a pair "
    "(training part, test part) of these"
)
#: Sizes of the last axis of images (N, H, W, C).
CHANNELS = (1, 3, 4)


class Arrays(NamedTuple):
    """Images (N, C, H, W), or rows (N, D), of any type of numbers, and labels int64 (N,)."""

    images: Array
    labels: Array


@in_default_environment
def as_parts(
    given: object, *, normalisation: str | None = None, test_share: float | None = None, name: str = "the data"
) -> Parts:
    """Returns the training and the test part of a user's data.

    Args:
        given: ``(images, labels)``; a mapping of arrays with names such as images and labels, or x_train, y_train,
            x_test and y_test (``names.chosen_arrays``); a dataset with ``__len__`` and ``__getitem__`` whose items are
            (image, label); or a pair (training part, test part) of these. Arrays may be NumPy arrays or tensors.
            Images are (N, H, W), (N, C, H, W), or (N, H, W, C) with 1, 3 or 4 channels. Rows of numbers are (N, D).
            8-bit unsigned numbers are divided by 255. ``Dataset`` objects are used as they are.
        normalisation: "training" (the mean and deviation of each channel of the training part, the default), "none",
            or "MEAN:DEVIATION" as for ``Normalisation.parse``.
        test_share: The share of the images that become the test part if ``given`` has none; the default is 0.2. They
            are drawn as ``preparation.split`` describes.
        name: What messages call the data.

    Returns:
        The two parts, e.g. two ``Dataset`` with images float32 (N, C, H, W) and labels from 0 to classes - 1.

    Raises:
        UsageTypeError: Arrays have other types, or ``given`` is something else.
        UsageError: Shapes or lengths do not match, a part is empty, an image is not finite, or a label is negative or
            not below the number of classes. The number of classes is the array ``classes``, or else the largest label
            plus one.

    >>> images, labels = np.zeros((10, 4, 4), np.uint8), np.arange(10) % 2
    >>> as_parts((images, labels), name="zeros")
    (Dataset('zeros': 8 images of (1, 4, 4), 2 classes), Dataset('zeros': 2 images of (1, 4, 4), 2 classes))
    """
    wanted = Normalisation.parse("training" if normalisation is None else normalisation)
    try:
        training, test, classes = _read(given)
        if isinstance(training, LabelledImages):
            if normalisation is not None:
                raise UsageError("a Dataset is normalised already; remove normalisation", "normalisation")
            return _of_datasets(training, test, test_share)
        if isinstance(test, LabelledImages):
            raise UsageTypeError("the test part is a Dataset and the training part is not; return two of one kind")
        return _prepared(training, test, classes, wanted, test_share, name)
    except MpsimError as error:
        if error.argument in ("normalisation", "test_share"):
            raise
        raise type(error)(f"{name}: {error}") from error


# -- reading --------------------------------------------------------------------------------------------------------
def _read(given: object) -> tuple[LabelledImages | Arrays, LabelledImages | Arrays | None, int | None]:
    """Returns the training part, the test part or None, and the number of classes or None if it is not given."""
    if isinstance(given, Mapping):
        found = chosen_arrays(given)
        if found.test is None:
            return _arrays(found.training), None, found.classes
        return _arrays(found.training, "training "), _arrays(found.test, "test "), found.classes
    if isinstance(given, tuple) and len(given) == 2 and not all(map(_is_array, given)):
        return _part(given[0], "training "), _part(given[1], "test "), None
    return _part(given), None, None


def _part(given: object, what: str = "") -> LabelledImages | Arrays:
    if isinstance(given, LabelledImages):
        return given
    if isinstance(given, tuple) and len(given) == 2 and all(map(_is_array, given)):
        return _arrays(given, what)
    if isinstance(given, Mapping):
        found = chosen_arrays(given)
        if found.test is not None:
            raise UsageError(f"the {what}part has a test part itself; expected {ACCEPTED}")
        return _arrays(found.training, what)
    if is_map_dataset(given) and not isinstance(given, str | bytes | tuple) and not _is_array(given):
        return _arrays(read_items(given, what), what)
    raise UsageTypeError(f"expected {ACCEPTED}; got {checks.shown(given)}")


def _is_array(x: object) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _arrays(given: tuple[object, object], what: str = "") -> Arrays:
    """Checks images and labels of a part. ``what`` is "training ", "test " or ""."""
    images, labels = (_numbers(f"{what}{kind}", x) for kind, x in zip(("images", "labels"), given, strict=True))
    if len(images.shape) not in (2, 3, 4):
        raise UsageError(
            f"{what}images must be (N, H, W), (N, C, H, W) or (N, H, W, C), or rows of numbers (N, D), got "
            f"{images.shape}"
        )
    if labels.shape == (len(labels), 1):
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iub":
        raise UsageError(
            f"{what}labels must be integers (N,), got {labels.dtype} {labels.shape}; use .astype(int) for whole "
            f"numbers and .argmax(axis=1) for one column per class"
        )
    if len(images) != len(labels):
        raise UsageError(f"{len(images)} {what}images need as many labels, got {len(labels)}")
    if not images.size:
        raise UsageError(f"the {what}images are empty, got shape {images.shape}")
    if int(labels.min()) < 0 or int(labels.max()) >= checks.MOST_CLASSES:
        raise UsageError(
            f"{what}labels must be from 0 to classes - 1 (at most {checks.MOST_CLASSES - 1}), got {labels.min()} to "
            f"{labels.max()}"
        )
    return Arrays(_channels_first(images), labels.astype(np.int64))


def _numbers(what: str, given: object) -> Array:
    """Returns an array of numbers. Raises UsageTypeError for anything else."""
    try:
        array = as_array(given)
    except MpsimError:
        raise
    except Exception as error:  # what is not an array may raise anything
        raise UsageTypeError(f"{what} cannot be read as an array ({type(error).__name__}: {error})") from error
    extended = array.dtype.type.__module__.startswith("ml_dtypes")
    if array.dtype.kind not in "biuf" and not extended:
        raise UsageTypeError(f"{what} must be numbers, got an array of {array.dtype}")
    return array


def _channels_first(images: Array) -> Array:
    """Returns images as (N, C, H, W), and rows (N, D) as they are.

    (N, H, W, C) is recognised by its 1, 3 or 4 channels, which axis 1 has not.
    """
    if images.ndim == 2:
        return images
    if images.ndim == 3:
        return images[:, None]
    last = images.shape[3] in CHANNELS and images.shape[1] not in CHANNELS
    return images.transpose(0, 3, 1, 2) if last else images


# -- preparing ------------------------------------------------------------------------------------------------------
def _of_datasets(training: LabelledImages, test: object, test_share: float | None) -> Parts:
    """Returns the parts of data that a user has prepared."""
    if test is None:
        if not isinstance(training, Dataset):
            raise UsageTypeError(f"{training!r} cannot be split; return a pair (training part, test part)")
        return tuple(  # type: ignore[return-value]
            replace(training, images=training.images[chosen], labels=training.labels[chosen])
            for chosen in split(len(training), test_share)
        )
    _check_no_share(test_share)
    if not isinstance(test, LabelledImages):
        raise UsageTypeError("the training part is a Dataset and the test part is not; return two of one kind")
    for name in ("classes", "image_shape", "vocabulary"):
        ours, other = getattr(training, name, None), getattr(test, name, None)
        if ours != other:
            raise UsageError(f"the parts must have the same {name}, got {ours} and {other}")
    return training, test


def _check_no_share(test_share: float | None) -> None:
    if test_share is not None:
        raise UsageError("test_share is for data without a test part, and these have one; remove it", "test_share")


def _prepared(
    training: Arrays, test: Arrays | None, classes: int | None, wanted: Normalisation, share: float | None, name: str
) -> Parts:
    parts: tuple[tuple[Arrays, Array | None, str], tuple[Arrays, Array | None, str]]
    if test is None:
        chosen = split(len(training.labels), share)
        parts = (training, chosen[0], ""), (training, chosen[1], "")
    else:
        _check_no_share(share)
        parts = (training, None, "training "), (test, None, "test ")
        if training.images.shape[1:] != test.images.shape[1:]:
            raise UsageError(
                f"training and test images must have one shape, got {training.images.shape[1:]} and "
                f"{test.images.shape[1:]}"
            )
    classes = _classes([training, *([test] if test is not None else [])], classes)
    values = sum(part.images.size if order is None else part.images[0].size * len(order) for part, order, _ in parts)
    checks.fits_memory("the images as float32 need", 4 * values, "pass fewer of them")
    images = [_finite(part.images, order, what) for part, order, what in parts]
    mean, deviation = wanted.of(images[0])
    black = np.zeros((1, len(mean), *(1 for _ in images[0].shape[2:])), np.float32)
    normalise_in_place(black, mean, deviation)
    made = []
    for (part, order, what), own in zip(parts, images, strict=True):
        normalise_in_place(own, mean, deviation)
        if not np.isfinite(own).all() or not np.isfinite(black).all():
            raise UsageError(f"normalised by mean {mean} and deviation {deviation}, {what}images are not finite")
        own.flags.writeable = False
        labels = part.labels if order is None else part.labels[order]
        made.append(Dataset(own, labels, classes, name, tuple(black.reshape(-1).tolist())))
    return made[0], made[1]


def _classes(parts: list[Arrays], given: int | None) -> int:
    largest = max(int(part.labels.max()) for part in parts)
    if given is not None:
        if largest >= checks.classes("classes", given):
            raise UsageError(f"labels must be from 0 to classes - 1 = {given - 1}, got {largest}")
        return given
    if largest == 0:
        raise UsageError("all labels are 0, but training needs two classes; if there are, give the number as 'classes'")
    count = sum(len(part.labels) for part in parts)
    if largest >= count:
        raise UsageError(
            f"the largest label is {largest}, but there are only {count} images; number the classes from 0, or give "
            f"their number as 'classes'"
        )
    return largest + 1


def _finite(images: Array, order: Array | None, what: str) -> Array:
    """Returns ``as_float32(images, order)``. Raises UsageError if a value is not finite."""
    result = as_float32(images, order)
    if images.dtype != np.uint8:
        for place, image in enumerate(result):
            if not np.isfinite(image).all():
                number = place if order is None else order[place]
                raise UsageError(f"{what}image {number} has a value that is NaN, infinite or beyond float32")
    return result
