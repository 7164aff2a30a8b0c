import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpsim.data import Augmentation, DataLoader, Dataset
from mpsim.kernels.philox import Stream, random_bits

COUNT = 23


@pytest.fixture(scope="module")
def numbered() -> Dataset:
    """Image i is 100 i + its pixel's number."""
    pixels = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6) + 100 * np.arange(COUNT).reshape(-1, 1, 1, 1)
    images = pixels.astype(np.float32)
    return Dataset(images, np.arange(COUNT), COUNT, "numbered", (-7.0,))


def joined(loader: DataLoader, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    batches = list(loader.epoch(epoch))
    return np.concatenate([images for images, _ in batches]), np.concatenate([labels for _, labels in batches])


def test_every_image_once_an_epoch_in_an_order_of_its_own(numbered: Dataset) -> None:
    loader = DataLoader(numbered, 5)
    orders = []
    for epoch in (0, 1):
        images, labels = joined(loader, epoch)
        assert sorted(labels) == list(range(COUNT))
        assert np.array_equal(images, numbered.images[labels])
        orders.append(list(labels))
    assert orders[0] != orders[1] != list(range(COUNT))
    assert orders[0] == list(joined(DataLoader(numbered, 7), 0)[1])  # whatever the batch size
    assert orders[0] != list(joined(DataLoader(numbered, 5, seed=1), 0)[1])
    assert list(joined(DataLoader(numbered, 5, shuffle=False), 3)[1]) == list(range(COUNT))


def test_order_is_the_one_written_down(numbered: Dataset) -> None:
    words = [int(word) for word in random_bits(Stream(4, "data_order", step=2), 2 * COUNT)]
    keys = [words[2 * i] + (words[2 * i + 1] << 32) for i in range(COUNT)]
    assert list(DataLoader(numbered, 5, seed=4).order(2)) == sorted(range(COUNT), key=keys.__getitem__)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [10, 10, 3]), (True, [10, 10])])
def test_last_batch(numbered: Dataset, drop_last: bool, sizes: list[int]) -> None:
    loader = DataLoader(numbered, 10, drop_last=drop_last)
    assert [len(labels) for _, labels in loader] == sizes
    assert len(loader) == len(sizes)


def test_a_batch_may_be_larger_than_what_is_only_looked_at(numbered: Dataset) -> None:
    assert [len(labels) for _, labels in DataLoader(numbered, 24, shuffle=False)] == [23]
    assert [len(labels) for _, labels in DataLoader(numbered, 23)] == [23]


def by_hand(image: np.ndarray, words: np.ndarray, padding: int, black: float) -> np.ndarray:
    """The augmentation's text, pixel by pixel."""
    height, width = image.shape
    row, column = (int(word) * (2 * padding + 1) >> 32 for word in words[:2])
    flipped = int(words[2]) >> 31
    result = np.full_like(image, black)
    for i in range(height):
        for j in range(width):
            y, x = i + row - padding, (width - 1 - j if flipped else j) + column - padding
            if 0 <= y < height and 0 <= x < width:
                result[i, j] = image[y, x]
    return result


def test_augmentation_is_the_one_written_down(numbered: Dataset) -> None:
    loader = DataLoader(numbered, 4, seed=9, augmentation=Augmentation(padding=2, flip=True))
    images, labels = joined(loader, 5)
    words = random_bits(Stream(9, "augmentation", step=5), 4 * COUNT).reshape(-1, 4)
    for image, label in zip(images, labels, strict=True):
        assert np.array_equal(image[0], by_hand(numbered.images[label, 0], words[label], 2, -7.0))
    assert not np.array_equal(images, numbered.images[labels])


def test_going_on_in_the_middle_of_an_epoch(numbered: Dataset) -> None:
    loader = DataLoader(numbered, 4, augmentation=Augmentation(padding=1))
    whole, rest = list(loader.epoch(1)), list(loader.epoch(1, first_batch=3))
    assert len(rest) == 3
    for (images, labels), (again, same) in zip(whole[3:], rest, strict=True):
        assert np.array_equal(images, again) and np.array_equal(labels, same)


@given(st.integers(0, 3), st.booleans(), st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
def test_any_words(padding: int, flip: bool, words: list[int]) -> None:
    image = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
    array = np.array([words], np.uint32)
    found = Augmentation(padding, flip)(image, array, (0.5,))
    used = array[0] if flip else array[0] & np.uint32(0x7FFFFFFF)
    used[:2] = array[0, :2]
    assert np.array_equal(found[0, 0], by_hand(image[0, 0], used, padding, 0.5))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number from 1"),
        ({"batch_size": 24, "drop_last": True, "shuffle": False}, "batch_size must be at most 23 for .*got 24"),
        ({"batch_size": 24}, "batch_size is 24 examples, but .* has 23; pass a batch_size of at most 23"),
    ],
)
def test_bad_options(numbered: Dataset, options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataLoader(numbered, **options)
    with pytest.raises(ValueError, match="padding"):
        Augmentation(-1)
