"""Reads datasets with ``__len__`` and ``__getitem__``, such as map datasets of PyTorch, item by item into memory."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from mpsim import checks
from mpsim.data.own.names import IMAGES, LABELS
from mpsim.errors import MpsimError, UsageError, UsageTypeError
from mpsim.interchange import as_array

Array = np.ndarray


def is_map_dataset(given: object) -> bool:
    """Returns whether an object has ``__len__`` and ``__getitem__``.

    >>> is_map_dataset([]), is_map_dataset(iter([]))
    (True, False)
    """
    return hasattr(given, "__len__") and hasattr(given, "__getitem__")


@contextmanager
def fixed_generators() -> Iterator[None]:
    """Seeds the global generators of Python, NumPy and, if it is loaded, PyTorch with 0, and restores them at the end.

    Random transforms of a user's dataset therefore give the same items in every process. Generators that the user makes
    herself are not affected.
    """
    torch: Any = sys.modules.get("torch")
    states = random.getstate(), np.random.get_state(), None if torch is None else torch.random.get_rng_state()
    random.seed(0)
    np.random.seed(0)
    if torch is not None:
        torch.random.default_generator.manual_seed(0)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        if torch is not None:
            torch.random.set_rng_state(states[2])


def read_items(items: object, what: str = "") -> tuple[Array, Array]:
    """Reads every item of a dataset, with the generators of ``fixed_generators``.

    Args:
        items: A dataset. Its items are (image, label), or mappings with an image and a label.
        what: "training ", "test " or "", for messages.

    Returns:
        The images, of the shape and type of the first, and the labels, int64 (N,).

    Raises:
        UsageError: There are no items, an item cannot be read or has another shape or type than the first, the images
            do not fit into memory, or the first item differs when it is read again.

    >>> read_items([([[0.5]], 1), ([[0.25]], 0)])
    (array([[[0.5 ]],
           [[0.25]]]), array([1, 0]))
    """
    count = _length(items, what)
    with fixed_generators():
        first, label = _item(items, 0, what)
    with fixed_generators():
        again, label_again = _item(items, 0, what)
        if label != label_again or first.tobytes() != again.tobytes():
            raise UsageError(
                f"{what}item 0 differs when it is read again; mpsim reads each item once, so remove random transforms, "
                f"or draw them from generators with a fixed seed"
            )
        checks.fits_memory(f"{count} {what}images of {first.shape} need", count * max(1, first.nbytes), "pass fewer")
        images, labels = np.empty((count, *first.shape), first.dtype), np.empty(count, np.int64)
        images[0], labels[0] = first, label
        for place in range(1, count):
            image, labels[place] = _item(items, place, what)
            if image.shape != first.shape or image.dtype != first.dtype:
                raise UsageError(
                    f"the image of {what}item {place} is {image.dtype} {image.shape}, that of item 0 {first.dtype} "
                    f"{first.shape}; resize the images"
                )
            images[place] = image
    return images, labels


def _length(items: Any, what: str) -> int:
    try:
        count = len(items)
    except Exception as error:
        raise UsageError(f"the length of the {what}dataset fails ({type(error).__name__}: {error})") from error
    if not count:
        raise UsageError(f"the {what}dataset is empty")
    return count


def _item(items: Any, place: int, what: str) -> tuple[Array, int]:
    try:
        item = items[place]
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}item {place} cannot be read ({type(error).__name__}: {error})") from error
    if isinstance(item, Mapping):
        item = tuple(next((item[name] for name in names if name in item), None) for names in (IMAGES, LABELS))
    if not isinstance(item, tuple | list) or len(item) != 2 or any(part is None for part in item):
        raise UsageTypeError(
            f"{what}item {place} should be (image, label), or have the keys image and label; got {checks.shown(item)}"
        )
    try:
        image, label = map(as_array, item)
    except MpsimError:
        raise
    except Exception as error:  # what is not an array may raise anything
        raise UsageTypeError(f"{what}item {place} is not of arrays ({type(error).__name__}: {error})") from error
    if image.ndim not in (1, 2, 3) or image.dtype.hasobject:
        raise UsageError(
            f"the image of {what}item {place} must be (H, W), (C, H, W) or (H, W, C), or a row of numbers (D,), got "
            f"{_form(image)}"
        )
    if label.size != 1 or label.dtype.kind not in "iub" or not -(1 << 63) <= int(label.reshape(())) < 1 << 63:
        raise UsageError(f"the label of {what}item {place} must be an integer, got {checks.shown(item[1])}")
    return image, int(label.reshape(()))


def _form(array: Array) -> str:
    return f"{array.dtype} {array.shape}"
