"""A user's arrays and datasets as two parts: what is accepted, how it is prepared, what is refused."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from itertools import count
from math import isqrt
from typing import Any

import numpy as np
import pytest
from own_files import pictures

from mpsim.data import Dataset, as_parts, digits
from mpsim.data.own import preparation
from mpsim.data.own.names import chosen_arrays, slot_of
from mpsim.errors import MpsimError
from mpsim.kernels.philox import Stream, permutation

IMAGES, LABELS = pictures()
FLOATS = (IMAGES / 255).astype(np.float32)


class Items:
    """A dataset as PyTorch's map datasets are, without PyTorch."""

    def __init__(self, images: Any = IMAGES, labels: Any = LABELS) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Any:
        return self.images[place], self.labels[place]


def digests(*parts: Any, **options: Any) -> tuple[str, ...]:
    return tuple(part.digest() for part in as_parts(*parts, **options))


# -- equal data in other forms --------------------------------------------------------------------------------------
FORMS = {
    "arrays": (IMAGES, LABELS),
    "named": {"images": IMAGES, "labels": LABELS, "file names": np.array(["a"])},
    "keras": {"X": IMAGES, "y": LABELS},
    "channels first": (IMAGES[:, None], LABELS),
    "channels last": (IMAGES[..., None], LABELS),
    "labels as a column": (IMAGES, LABELS[:, None].astype(np.int16)),
    "items": Items(),
    "items of dictionaries": [{"image": image, "label": label} for image, label in Items()],
    "lists in items": [(image, int(label)) for image, label in Items()],
    "other bytes": (IMAGES, LABELS.astype(">i8")),
    "columns": (np.asfortranarray(IMAGES), LABELS),
    "number of classes": {"images": IMAGES, "labels": LABELS, "classes": np.int64(4)},
    "names of the classes": {"images": IMAGES, "labels": LABELS, "classes": np.array(["a", "b", "c", "d"])},
}


@pytest.mark.parametrize("form", FORMS)
def test_equal_data_in_another_form_are_equal(form: str) -> None:
    assert digests(FORMS[form]) == digests((IMAGES, LABELS))


HALVES = (IMAGES[:30], LABELS[:30]), (IMAGES[30:], LABELS[30:])
PAIRS = {
    "arrays": HALVES,
    "keras": {"x_train": HALVES[0][0], "y_train": HALVES[0][1], "x_test": HALVES[1][0], "y_test": HALVES[1][1]},
    "validation": {"train_images": HALVES[0][0], "train_labels": HALVES[0][1], "val-images": HALVES[1][0],
                   "val-labels": HALVES[1][1]},
    "three parts": {"x_train": HALVES[0][0], "y_train": HALVES[0][1], "x_test": HALVES[1][0], "y_test": HALVES[1][1],
                    "x_val": HALVES[1][0][:1], "y_val": HALVES[1][1][:1]},
    "items": (Items(*HALVES[0]), Items(*HALVES[1])),
    "mixed": ({"images": HALVES[0][0], "labels": HALVES[0][1]}, Items(*HALVES[1])),
}  # fmt: skip


@pytest.mark.parametrize("form", PAIRS)
def test_equal_parts_in_another_form_are_equal(form: str) -> None:
    assert digests(PAIRS[form]) == digests(HALVES)


def test_tensors_are_read_like_arrays() -> None:
    torch = pytest.importorskip("torch")
    images, labels = torch.tensor(IMAGES), torch.tensor(LABELS, dtype=torch.int64)
    expected = digests((IMAGES, LABELS))
    assert digests((images, labels)) == digests(torch.utils.data.TensorDataset(images, labels)) == expected
    halved = torch.tensor(FLOATS, requires_grad=True).to(torch.bfloat16)
    as_numbers = halved.detach().float().numpy()
    assert digests((halved, labels)) == digests((as_numbers, LABELS))


# -- preparation ----------------------------------------------------------------------------------------------------
def test_pixels_are_normalised_by_the_training_parts_mean_and_deviation() -> None:
    """Against exact sums: float32 (p / 255), its mean and deviation rounded once, one rounding each for - and /."""
    training, test = as_parts(HALVES)
    scaled = IMAGES.astype(np.float32) / np.float32(255)
    values = [Fraction(float(value)) for value in scaled[:30].reshape(-1)]
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / len(values)
    deviation = Fraction(isqrt(int(variance * (1 << 120)))) / (1 << 60)
    expected = (scaled - np.float32(float(mean))) / np.float32(float(deviation))
    assert np.array_equal(training.load(np.arange(30))[:, 0], expected[:30])
    assert np.array_equal(test.load(np.arange(10))[:, 0], expected[30:])
    assert isinstance(training, Dataset) and training.black == (float(-np.float32(mean) / np.float32(deviation)),)


def test_each_channel_has_its_own_statistics() -> None:
    colour = np.random.default_rng(1).random((50, 3, 4, 4)) * [[[[1]], [[10]], [[0]]]] + 5
    training, _ = as_parts((colour, np.arange(50) % 2))
    images = training.load(np.arange(40)).astype(np.float64)
    assert np.allclose(images.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    assert np.allclose(images.std(axis=(0, 2, 3)), [1, 1, 0], atol=1e-5)  # a constant channel is divided by 1


def test_statistics_do_not_depend_on_how_sums_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digests((FLOATS, LABELS))
    for block in (1, 7, 100):
        monkeypatch.setattr(preparation, "BLOCK", block)
        assert digests((FLOATS, LABELS)) == expected


@pytest.mark.parametrize(
    ("given", "mean", "deviation"), [("none", 0, 1), ("0.5:0.25", 0.5, 0.25), ("0.1:2", np.float32(0.1), 2)]
)
def test_given_normalisation(given: str, mean: float, deviation: float) -> None:
    scaled = IMAGES.astype(np.float32) / np.float32(255)
    training, _ = as_parts(HALVES, normalisation=given)
    assert np.array_equal(training.load(np.arange(30))[:, 0], (scaled[:30] - np.float32(mean)) / np.float32(deviation))


def test_numbers_that_are_no_bytes_keep_their_value() -> None:
    for kind in (np.int16, np.float64, np.float16, np.int64, bool):
        images = (IMAGES % 2).astype(kind)
        training, _ = as_parts((images[:30], LABELS[:30]), normalisation="none", test_share=0.5)
        assert set(np.unique(training.load(np.arange(15)))) <= {0.0, 1.0}, kind


def test_the_split_is_the_permutation_that_is_documented() -> None:
    order = permutation(Stream(0, "data_split"), 40)
    training, test = as_parts((IMAGES, LABELS), normalisation="none", test_share=0.3)
    assert np.array_equal(np.concatenate([training.labels, test.labels]), LABELS[order])
    assert len(test) == 12
    scaled = (IMAGES / np.float32(255)).astype(np.float32)
    assert np.array_equal(test.load(np.arange(12))[:, 0], scaled[order[28:]])
    assert [len(part) for part in as_parts((IMAGES, LABELS))] == [32, 8]
    assert [len(part) for part in as_parts((IMAGES[:2], LABELS[:2]), test_share=0.01)] == [1, 1]


def test_datasets_are_used_as_they_are() -> None:
    own = digits("train"), digits("test")
    assert as_parts(own) == own
    training, test = as_parts(digits("train"), test_share=0.5)
    order = permutation(Stream(0, "data_split"), 1437)
    assert len(test) == 718 and np.array_equal(training.labels, own[0].labels[order[:719]])
    assert np.array_equal(test.load(np.array([0])), own[0].load(order[719:720]))


def test_a_changed_pixel_or_label_is_other_data() -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[39, 5, 4] ^= 1
    labels[0] ^= 1
    found = [digests((IMAGES, LABELS)), digests((images, LABELS)), digests((IMAGES, labels))]
    found += [digests((IMAGES, LABELS), test_share=0.4), digests((IMAGES, LABELS), normalisation="none")]
    assert len(set(found)) == 5


def test_the_parts_cannot_be_written_to() -> None:
    training, _ = as_parts((IMAGES, LABELS))
    assert isinstance(training, Dataset)
    with pytest.raises(ValueError, match="read-only"):
        training.images[0] = 0
    assert IMAGES.flags.writeable


class Shaken(Items):
    """A dataset with a random transform."""

    def __init__(self, number: Any) -> None:
        super().__init__()
        self.number = number

    def __getitem__(self, place: int) -> Any:
        return (self.images[place] ^ self.number(), self.labels[place])


def test_random_transforms_draw_from_fixed_generators() -> None:
    random.seed(1)
    np.random.seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    for draw in (lambda: random.randrange(256), lambda: np.random.randint(256)):
        assert digests(Shaken(draw)) == digests(Shaken(draw)) != digests(Items())
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states  # type: ignore[index]
    with pytest.raises(MpsimError, match="item 0 differs when it is read again"):
        as_parts(Shaken(lambda numbers=count(): next(numbers)))


# -- what is refused ------------------------------------------------------------------------------------------------
def with_one(value: float) -> np.ndarray:
    images = FLOATS.copy()
    images[7, 1, 2] = value
    return images


class Failing(Items):
    def __getitem__(self, place: int) -> Any:
        if place == 3:
            raise OSError("the disk is gone")
        return super().__getitem__(place)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "nan": ((with_one(np.nan), LABELS), {}, "image 7 has a value that is NaN, infinite or beyond float32"),
    "infinite": ((with_one(-np.inf), LABELS), {}, "image 7 has"),
    "beyond float32": ((FLOATS * np.float64(1e300), LABELS), {}, "image .* beyond float32"),
    "nan in the test part": ((HALVES[0], (with_one(np.nan)[:10], LABELS[:10])), {}, "test image 7"),
    "overflow": ((FLOATS, LABELS), {"normalisation": "-3e38:1e-3"}, "are not finite"),
    "lengths": ((IMAGES, LABELS[:39]), {}, "40 images need as many labels, got 39"),
    "empty": ((IMAGES[:0], LABELS[:0]), {}, "images are empty"),
    "no rows": ((IMAGES[:, :0], LABELS), {}, "images are empty"),
    "empty items": ([], {}, "dataset is empty"),
    "empty test part": ((HALVES[0], (IMAGES[:0], LABELS[:0])), {}, "test images are empty"),
    "negative": ((IMAGES, LABELS.astype(np.int8) - 1), {}, "from 0 to classes - 1"),
    "many classes": ((IMAGES, LABELS.astype(np.uint64) + (1 << 63)), {}, "from 0 to classes - 1"),
    "sparse": ((IMAGES, LABELS + np.int64(100)), {}, "largest label is 103, but there are only 40 images"),
    "one class": ((IMAGES, LABELS * 0), {}, "all labels are 0, but training needs two classes"),
    "given classes": ({"x": IMAGES, "y": LABELS, "classes": 3}, {}, "from 0 to classes - 1 = 2, got 3"),
    "float labels": ((IMAGES, LABELS.astype(float)), {}, r"use .astype\(int\)"),
    "one-hot": ((IMAGES, np.eye(4)[LABELS]), {}, "argmax"),
    "numbers": ((IMAGES.reshape(-1), LABELS), {}, r"or rows of numbers \(N, D\), got \(1200,\)"),
    "objects": ((IMAGES.astype(object), LABELS), {}, "must be numbers, got an array of object"),
    "texts": ((IMAGES, np.array(["a"] * 40)), {}, "must be numbers"),
    "complex": ((IMAGES * 1j, LABELS), {}, "must be numbers"),
    "shapes": ((HALVES[0], (IMAGES[30:, :4], LABELS[30:])), {}, "must have one shape"),
    "shape of an item": ([(IMAGES[0], 0), (IMAGES[1][:3], 1)], {}, "item 1 is uint8 .* resize the images"),
    "type of an item": ([(IMAGES[0], 0), (FLOATS[1], 1)], {}, "item 1 is float32"),
    "failing item": (Failing(), {}, r"item 3 cannot be read \(OSError: the disk is gone\)"),
    "item of three": ([(1, 2, 3)], {}, r"item 0 should be \(image, label\)"),
    "item without label": ([{"image": IMAGES[0]}], {}, "item 0 should be"),
    "label of an item": ([(IMAGES[0], 0.5)], {}, "label of item 0 must be an integer"),
    "number as item": ([(0.5, 0)], {}, "the image of item 0 must be"),
    "no labels": ({"x_train": IMAGES}, {}, "there are no train labels"),
    "no names": ({"a": IMAGES, "b": LABELS}, {}, "names should be images and labels .*, got a, b"),
    "two names": ({"x": IMAGES, "images": IMAGES, "y": LABELS}, {}, "'x' and 'images' stand for the same"),
    "all and a part": ({"x": IMAGES, "y": LABELS, "x_test": IMAGES, "y_test": LABELS}, {}, "the names should be"),
    "test alone": ({"x_test": IMAGES, "y_test": LABELS}, {}, "the names should be"),
    "a stream": (iter([1]), {}, "expected .* a dataset with __len__ and __getitem__"),
    "nothing": (None, {}, "got None"),
    "an array": (IMAGES, {}, "expected"),
    "four arrays": ((IMAGES, LABELS, IMAGES, LABELS), {}, "expected"),
    "dataset and arrays": ((digits("train"), HALVES[1]), {}, "return two of one kind"),
    "arrays and dataset": ((HALVES[1], digits("train")), {}, "return two of one kind"),
    "other datasets": ((digits(), replace(digits(), classes=11)), {}, "the same classes, got 10 and 11"),
    "normalised twice": (digits(), {"normalisation": "none"}, "is normalised already"),
    "share of two parts": (HALVES, {"test_share": 0.5}, "these have one"),
    "share": ((IMAGES, LABELS), {"test_share": 1.0}, "leaves none for training"),
    "share 0": ((IMAGES, LABELS), {"test_share": 0}, "test_share must be a share above 0"),
    "normalisation": (HALVES, {"normalisation": "mean"}, "normalisation must be training, none, or MEAN:DEVIATION"),
    "deviation": (HALVES, {"normalisation": "0:0"}, "normalisation must be"),
    "nan deviation": (HALVES, {"normalisation": "0:nan"}, "normalisation must be"),
    "channels": (HALVES, {"normalisation": "0,0:1,1"}, "2 numbers for images of 1 channels"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused(name: str) -> None:
    given, options, said = WRONG[name]
    with pytest.raises(MpsimError, match=said) as caught:
        as_parts(given, name="mine", **options)
    assert str(caught.value).startswith("mine: ") or caught.value.argument in ("normalisation", "test_share")


def test_the_memory_of_items_is_checked_before_it_is_allocated() -> None:
    class Endless(Items):
        def __len__(self) -> int:
            return 1 << 50

    with pytest.raises(MpsimError, match="this machine has"):
        as_parts(Endless())


def test_names() -> None:
    assert slot_of("train_x_2") is None and slot_of("xtrain") is None and slot_of("images_of_dogs") is None
    assert slot_of("Train Images") == ("train", "images") and slot_of("y-validation") == ("val", "labels")
    with pytest.raises(MpsimError, match="stand for the same"):
        chosen_arrays({"x_val": 1, "x_validation": 2})
