"""Crops: their place against exact arithmetic, their pixels where no filter is at work."""

from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from mpsim.data.pictures.crops import Box, RandomResizedCrop, centre_crop
from mpsim.kernels.philox import Stream, random_bits

getcontext().prec = 60
SIDE = st.one_of(st.integers(1, 12), st.integers(1, 3000))
WORDS = st.lists(st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([0, 2**31, 2**32 - 1])), min_size=44, max_size=44)


def whole(value: Decimal) -> int:
    """To the nearest; an example so near a half that float64 may see another side of it is passed over."""
    floor = int(value)
    assume(abs(value - floor - Decimal("0.5")) > Decimal("1e-9"))
    return floor + (value - floor > Decimal("0.5"))


def decimal(value: float | Fraction) -> Decimal:
    fraction = Fraction(value)
    return Decimal(fraction.numerator) / Decimal(fraction.denominator)


def box_by_hand(width: int, height: int, words: list[int], area: tuple, aspect: tuple) -> Box:
    for t in range(10):
        share, shape, down, right = words[4 * t : 4 * t + 4]
        pixels = width * height * (decimal(area[0]) + Decimal(share) / 2**32 * (decimal(area[1]) - decimal(area[0])))
        low, high = decimal(aspect[0]).ln(), decimal(aspect[1]).ln()
        ratio = (low + Decimal(shape) / 2**32 * (high - low)).exp()
        wide, tall = whole((pixels * ratio).sqrt()), whole((pixels / ratio).sqrt())
        if 0 < wide <= width and 0 < tall <= height:
            return Box(right * (width - wide + 1) // 2**32, down * (height - tall + 1) // 2**32, wide, tall)
    wide, tall = width, height
    if Fraction(width, height) < Fraction(aspect[0]):
        tall = max(1, whole(width / decimal(aspect[0])))
    elif Fraction(width, height) > Fraction(aspect[1]):
        wide = max(1, whole(height * decimal(aspect[1])))
    return Box((width - wide) // 2, (height - tall) // 2, wide, tall)


@given(SIDE, SIDE, WORDS, st.sampled_from([(0.08, 1.0), (0.5, 0.5), (0.9, 1.0)]))
def test_the_box_is_the_one_written_down(width: int, height: int, words: list[int], area: tuple) -> None:
    crop = RandomResizedCrop(area)
    found = crop.box(width, height, np.array(words, np.uint32))
    assert found == box_by_hand(width, height, words, area, crop.aspect)
    assert 0 <= found.left <= width - found.width and 0 <= found.top <= height - found.height
    assert found.width > 0 and found.height > 0


def test_boxes_that_stay() -> None:
    """Written down: a change here changes every run on pictures."""
    words = random_bits(Stream(3, "augmentation"), 4 * 44).reshape(4, 44)
    boxes = [RandomResizedCrop().box(500, 375, row) for row in words]
    assert boxes == [(61, 11, 289, 255), (109, 0, 333, 374), (78, 3, 391, 349), (147, 35, 268, 301)]


def test_no_try_fits_a_narrow_picture() -> None:
    words = np.full(44, 2**31, np.uint32)  # aspect 1, half the area
    assert RandomResizedCrop().box(400, 100, words) == Box(133, 0, 133, 100)
    assert RandomResizedCrop().box(100, 400, words) == Box(0, 133, 100, 133)
    assert RandomResizedCrop((1.0, 1.0)).box(110, 100, words) == Box(0, 0, 110, 100)


def numbered(width: int, height: int) -> tuple[Image.Image, np.ndarray]:
    """A picture whose pixels are their place: (row, column, 7)."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.uint8)
    pixels = np.stack([rows, columns, np.full_like(rows, 7)], axis=2)
    return Image.fromarray(pixels), pixels


def test_a_crop_of_the_size_wanted_is_cut_out_and_mirrored() -> None:
    picture, pixels = numbered(50, 40)
    crop = RandomResizedCrop((0.2, 0.2), (1.0, 1.0))  # 2000 pixels * 0.2 = 20 * 20
    words = random_bits(Stream(0, "augmentation"), 44)
    box = crop.box(50, 40, words)
    assert box[2:] == (20, 20) and box.left > 0 and box.top > 0
    cut = pixels[box.top : box.top + 20, box.left : box.left + 20]
    for bit, expected in ((0, cut), (2**31 - 1, cut), (2**31, cut[:, ::-1])):
        words[40] = bit
        assert np.array_equal(np.asarray(crop(picture, words, 20)), expected)
        unflipped = RandomResizedCrop((0.2, 0.2), (1.0, 1.0), flip=False)
        assert np.array_equal(np.asarray(unflipped(picture, words, 20)), cut)


def test_what_lies_beside_a_crop_does_not_shine_in() -> None:
    pixels = np.zeros((40, 50, 3), np.uint8)
    crop, words = RandomResizedCrop((0.2, 0.2), (1.0, 1.0)), random_bits(Stream(1, "augmentation"), 44)
    left, top, width, height = crop.box(50, 40, words)
    pixels[:] = 255
    pixels[top : top + height, left : left + width] = 0
    for size in (7, 33):
        assert not np.asarray(crop(Image.fromarray(pixels), words, size)).any()


def test_scaling_blends_pixels() -> None:
    """A chessboard of half the size wanted, and of twice, is grey."""
    board = np.repeat((np.indices((40, 40)).sum(axis=0) % 2 * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    crop, words = RandomResizedCrop((0.25, 0.25), (1.0, 1.0)), random_bits(Stream(2, "augmentation"), 44)
    found = np.asarray(crop(Image.fromarray(board), words, 10))[1:-1, 1:-1]  # 20 x 20 -> 10 x 10
    assert found.min() > 100 and found.max() < 155
    found = np.asarray(centre_crop(Image.fromarray(board), 14))[2:-2, 2:-2]  # 40 x 40 -> 16 x 16
    assert found.min() > 100 and found.max() < 155


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(8, 8, 0, 0), (10, 8, 2, 0), (8, 11, 0, 2), (12, 8, 2, 0), (8, 13, 0, 3)],  # from 0.5 and 2.5 to the even
)
def test_the_centre_of_a_picture_that_needs_no_scaling(width: int, height: int, left: int, top: int) -> None:
    picture, pixels = numbered(width, height)
    assert np.array_equal(np.asarray(centre_crop(picture, 7)), pixels[top : top + 7, left : left + 7])


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 256), (30, 1000), (1, 1), (257, 256)])
def test_the_centre_is_scaled_by_the_shorter_side(width: int, height: int) -> None:
    found = np.asarray(centre_crop(Image.linear_gradient("L").resize((width, height)).convert("RGB"), 224))
    assert found.shape == (224, 224, 3)
    middle = found[111:113].mean()
    assert abs(middle - 127.5) < 4  # brightness rises evenly from top to bottom


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"area": (0, 1)}, r"area(\[\d\])? must be a"),
        ({"area": (0.5, 0.4)}, r"area(\[\d\])? must be a"),
        ({"area": (0.5, 1.5)}, r"area(\[\d\])? must be a"),
        ({"aspect": (0, 1)}, r"aspect(\[\d\])? must be a"),
        ({"aspect": (1, float("inf"))}, r"aspect(\[\d\])? must be a"),
    ],
)
def test_bad_ranges(options: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RandomResizedCrop(**options)
