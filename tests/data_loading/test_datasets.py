import hashlib

import numpy as np
import pytest

from mpsim import data
from mpsim.data import DATASETS, Dataset, digits, synthetic


def digest(dataset: Dataset) -> str:
    content = dataset.images.astype("<f4").tobytes() + dataset.labels.astype("<i8").tobytes()
    return hashlib.sha256(content).hexdigest()[:16]


def test_digits_are_scikit_learns_scaled_and_split_once() -> None:
    from sklearn.datasets import load_digits

    train, test = digits("train"), digits("test")
    assert (len(train), len(test)) == (1437, 360)
    pixels = np.concatenate([train.images, test.images])[:, 0] * np.float32(0.3760) + np.float32(0.3053)
    integers = np.rint(pixels.astype(np.float64) * 16).reshape(1797, 64)
    assert abs(integers - pixels.reshape(1797, 64) * 16).max() < 1e-4
    found = sorted(map(tuple, np.column_stack([integers, np.concatenate([train.labels, test.labels])])))
    expected = load_digits()
    assert found == sorted(map(tuple, np.column_stack([expected.data, expected.target])))
    assert abs(float(train.images.mean())) < 0.01 and abs(float(train.images.std()) - 1) < 0.01
    assert min(np.bincount(test.labels)) >= 20
    assert train.images[0, 0].min() == np.float32(train.black[0])


def test_digits_in_another_split() -> None:
    assert digest(digits("test", seed=1)) != digest(digits("test"))
    assert digest(digits("test")) == "5289f06a6ba6d8ef"


def test_synthetic_images_depend_on_their_number_alone() -> None:
    few, more = synthetic("train", size=3), synthetic("train", size=600)
    assert np.array_equal(few.images.view(np.uint32), more.images[:3].view(np.uint32))
    assert np.array_equal(few.labels, more.labels[:3])
    assert more.image_shape == (3, 32, 32) and more.images.dtype == np.float32
    assert digest(few) == "27ed0d48f2850817"
    others = [synthetic("test", size=3), synthetic("train", size=3, seed=1), synthetic("train", size=3, noise=0.2)]
    assert len({digest(dataset) for dataset in [few, *others]}) == 4


def test_synthetic_classes() -> None:
    ten, hundred = synthetic("test", 10, size=2000), synthetic("test", 100, size=2000)
    assert np.array_equal(ten.images, hundred.images)
    assert np.array_equal(ten.labels, hundred.labels // 10)
    assert set(ten.labels) == set(range(10)) and set(hundred.labels) == set(range(100))
    assert (ten.classes, hundred.classes) == (10, 100)


def test_noise_has_the_deviation_asked_for() -> None:
    clean, noisy = synthetic("train", size=400, noise=0.0), synthetic("train", size=400, noise=0.05)
    inside = (clean.images > -1) & (clean.images < 1)  # far from black and white, where clipping sets in
    difference = (noisy.images - clean.images)[inside] * 0.25
    assert abs(float(difference.mean())) < 1e-3 and float(difference.std()) == pytest.approx(0.05, rel=0.01)


def test_load_by_name() -> None:
    assert data.load("digits", "test").name == "digits"
    without = [name for name in DATASETS if not DATASETS[name].needs_path]
    assert without == ["digits", "synthetic10", "synthetic100", "grammar"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: data.load("digit"), "did you mean digits"),
        (lambda: data.load("cifar10"), "needs the path"),
        (lambda: data.load("digits", path="x"), "has no path"),
        (lambda: digits("validation"), "Known: train, test"),
        (lambda: synthetic("valid"), "Known: train, test"),
        (lambda: synthetic(classes=7), "must be 10 or 100 for the synthetic dataset, got 7"),
        (lambda: synthetic(size=0), "size must be a whole number from 1 to"),
        (lambda: synthetic(noise=-1), "noise must be a share from 0 to 1"),
        (lambda: Dataset(np.zeros((2, 8, 8), np.float32), np.zeros(2, int), 2, "x"), r"got float32 \(2, 8, 8\)"),
        (lambda: Dataset(np.zeros((2, 1, 8, 8)), np.zeros(2, int), 2, "x"), "got float64"),
        (lambda: Dataset(np.zeros((2, 1, 8, 8), np.float32), np.zeros(3, int), 2, "x"), r"integers \(2,\)"),
        (lambda: Dataset(np.zeros((2, 1, 8, 8), np.float32), np.array([0, 2]), 2, "x"), "0 .. 1, got 0 .. 2"),
    ],
)
def test_bad_requests(make, said: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=said):
        make()
