"""Finds images and labels among named arrays, e.g. those of an .npz file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mpsim import checks
from mpsim.errors import UsageError

#: Names of the images and of the labels.
IMAGES, LABELS = ("images", "image", "x", "data", "inputs"), ("labels", "label", "y", "targets", "target")
#: Names of the parts. Where data have both a part "test" and a part "val", the former is used.
TRAIN, TEST, VALIDATION = ("train", "training"), ("test",), ("val", "valid", "validation")
CLASSES = "classes"

#: What messages say about the names.
EXPECTED = (
    "images and labels (or x and y, data and targets), or x_train and y_train with or without x_test and y_test "
    "(or train_images, train_labels, test_images, ...; val and validation are test parts too)"
)

_SLOTS = {word: slot for slot, words in (("images", IMAGES), ("labels", LABELS)) for word in words}
_PARTS = {word: part for part, words in (("train", TRAIN), ("test", TEST), ("val", VALIDATION)) for word in words}


class Chosen(NamedTuple):
    """(images, labels) of the training part or of all data, of the test part, and the number of classes."""

    training: tuple[object, object]
    test: tuple[object, object] | None
    classes: int | None


def slot_of(name: str) -> tuple[str, str] | None:
    """Returns the part ("train", "test", "val" or "" for all data) and "images" or "labels" that a name stands for.

    >>> slot_of("X_train"), slot_of("val_labels"), slot_of("images"), slot_of("file names")
    (('train', 'images'), ('val', 'labels'), ('', 'images'), None)
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word]
    slots, parts = ([table[word] for word in words if word in table] for table in (_SLOTS, _PARTS))
    if len(slots) != 1 or len(parts) > 1 or len(words) != len(slots) + len(parts):
        return None
    return (parts[0] if parts else ""), slots[0]


def chosen_arrays(named: Mapping[object, object]) -> Chosen:
    """Returns the images and labels among named arrays. Arrays with other names are ignored.

    Raises:
        UsageError: Images or labels are missing, or two names stand for the same.

    >>> chosen_arrays({"x_train": 1, "y_train": 2, "x_val": 3, "y_val": 4, "note": 5})
    Chosen(training=(1, 2), test=(3, 4), classes=None)
    """
    found: dict[tuple[str, str], str] = {}
    for name in named:
        if isinstance(name, str) and (slot := slot_of(name)) is not None:
            if slot in found:
                raise UsageError(f"{found[slot]!r} and {name!r} stand for the same; expected {EXPECTED}")
            found[slot] = name
    names = ", ".join(map(str, named)) or "none"
    parts = {part for part, _ in found}
    for part in parts:
        if missing := [kind for kind in ("images", "labels") if (part, kind) not in found]:
            raise UsageError(f"there are no {part}{' ' if part else ''}{missing[0]}; expected {EXPECTED}, got {names}")
    if ("" in parts) == ("train" in parts) or ("" in parts and len(parts) > 1):
        raise UsageError(f"the names should be {EXPECTED}, got {names}")

    def pair(part: str) -> tuple[object, object]:
        return named[found[part, "images"]], named[found[part, "labels"]]

    test = next((pair(part) for part in ("test", "val") if part in parts), None)
    return Chosen(pair("" if "" in parts else "train"), test, _classes(named[CLASSES]) if CLASSES in named else None)


def _classes(given: object) -> int | None:
    """Returns the number of classes. An array of several, such as the names of the classes, is not one."""
    number = np.asarray(given)
    if number.size != 1 or number.dtype.kind not in "iu":
        return None
    return checks.classes(CLASSES, int(number.reshape(())))
