"""Image folders and ImageNet's layout: what is found, in which order, with which labels; what is missing is named."""

from pathlib import Path

import numpy as np
import pytest
from picture_folders import pixels, tree, write
from PIL import Image
from scipy.io import savemat

from mpsim import data
from mpsim.data import Augmentation, Dataset, ImageFiles, RandomResizedCrop, image_folder, imagenet
from mpsim.kernels.philox import Stream, random_bits

IDS = ("n01440764", "n01443537", "n02102040")


def names_of(dataset: ImageFiles) -> list[str]:
    return [Path(path).name for path in dataset.paths]


def by_hand(content: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) -> float32 (3, H, W): each step rounded to float32."""
    mean, deviation = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((content.astype(np.float32) / np.float32(255) - mean) / deviation).transpose(2, 0, 1)


def test_classes_and_files_stand_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b", "B", "a10", "a9"):
        write(tmp_path / "train" / name / "2.png", 0)
        write(tmp_path / "train" / name / "10.JPG", 0)
        (tmp_path / "train" / name / "._2.png").write_bytes(b"")
        (tmp_path / "train" / name / "notes.txt").write_bytes(b"")
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "list.csv").write_bytes(b"")
    write(tmp_path / "train" / "B" / "3.jpeg", 0)
    found = image_folder(tmp_path)
    assert found.class_names == ("B", "a10", "a9", "b")
    assert names_of(found) == ["10.JPG"] * 4 + ["2.png"] * 4 + ["3.jpeg"]
    assert found.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0] and found.labels.dtype == np.int64
    assert (found.classes, found.image_shape, len(found)) == (4, (3, 224, 224), 9)
    assert repr(found) == "ImageFiles('images': 9 files as (3, 224, 224), 4 classes)"
    assert found.first(4).labels.tolist() == [0, 1, 2, 3] and len(found.first(99)) == 9


def test_the_test_images_have_the_labels_of_the_training_folder(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / "train" / name / "1.png", 0)
    write(tmp_path / "test" / "c" / "1.png", 0)
    assert image_folder(tmp_path, "test").labels.tolist() == [2]
    write(tmp_path / "val" / "b" / "1.png", 0)  # val comes before test
    found = image_folder(tmp_path, "test")
    assert (found.labels.tolist(), found.classes) == ([1], 3)
    write(tmp_path / "val" / "d" / "1.png", 0)
    with pytest.raises(ValueError, match="val.d is not one of the 3 classes of the training folder"):
        image_folder(tmp_path, "test")


def test_only_the_test_images_are_there(tmp_path: Path) -> None:
    write(tmp_path / "val" / "b" / "1.png", 0)
    write(tmp_path / "val" / "a" / "1.png", 0)
    assert image_folder(tmp_path, "test").class_names == ("a", "b")
    with pytest.raises(FileNotFoundError, match="has no folder train. It should contain train/CLASS"):
        image_folder(tmp_path)


def test_pictures_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    """256 x 256 without scaling: the centre's pixels as they are in the file."""
    rows = [write(tmp_path / "train" / "a" / f"{i}.png", i, width=256, height=256) for i in range(3)]
    found = image_folder(tmp_path)
    loaded = found.load(np.array([2, 0, 2]))
    assert loaded.dtype == np.float32 and loaded.flags.c_contiguous
    for image, row in zip(loaded, (2, 0, 2), strict=True):
        assert np.array_equal(image.view(np.uint32), by_hand(rows[row][16:240, 16:240]).view(np.uint32))
    rows[0] = write(tmp_path / "train" / "a" / "0.png", 9, width=256, height=256)
    assert np.array_equal(found.load(np.array([0]))[0], by_hand(rows[0][16:240, 16:240]))
    black = np.zeros((256, 256, 3), np.uint8)
    Image.fromarray(black).save(tmp_path / "train" / "a" / "1.png")
    assert np.array_equal(found.load(np.array([1]))[0, :, 0, 0], np.float32(found.black))


def test_augmentations_of_pictures(tmp_path: Path) -> None:
    content = write(tmp_path / "train" / "a" / "1.png", 1, width=50, height=40)
    found = image_folder(tmp_path, size=20)
    words = random_bits(Stream(5, "augmentation"), 88).reshape(2, 44)
    crop = RandomResizedCrop((0.2, 0.2), (1.0, 1.0))  # 20 x 20: no scaling
    for image, row in zip(found.load(np.array([0, 0]), crop, words), words, strict=True):
        left, top, width, height = crop.box(50, 40, row)
        cut = content[top : top + height, left : left + width]
        assert np.array_equal(image, by_hand(cut[:, ::-1] if crop.flips(row) else cut))
    assert crop.flips(words[0]) != crop.flips(words[1])
    plain, moved = found.load(np.array([0])), found.load(np.array([0]), Augmentation(2), words[:1, :4])
    assert np.array_equal(moved, Augmentation(2)(plain, words[:1, :4], found.black))


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("1", "png"), ("L", "png"), ("LA", "png"), ("P", "gif"), ("PA", "tif"), ("RGBA", "png"), ("CMYK", "jpg"),
     ("YCbCr", "tif")],
)  # fmt: skip
def test_pictures_of_any_8_bit_mode(tmp_path: Path, mode: str, ending: str) -> None:
    picture = Image.fromarray(pixels(3, 256, 256)).convert("L" if mode == "PA" else "RGB").convert(mode)
    path = tmp_path / "train" / "a" / f"1.{ending}"
    path.parent.mkdir(parents=True)
    picture.save(path)
    with Image.open(path) as stored:
        assert stored.mode == mode
        expected = np.asarray(stored.convert("RGB"))[16:240, 16:240]
    assert np.array_equal(image_folder(tmp_path).load(np.array([0]))[0], by_hand(expected))


def test_a_palette_with_transparent_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(pixels(3, 256, 256)).quantize(8)
    (tmp_path / "train" / "a").mkdir(parents=True)
    colours = np.asarray(picture.convert("RGB"))[16:240, 16:240]
    picture.save(tmp_path / "train" / "a" / "1.png", transparency=bytes([0, 255, 7]))
    assert np.array_equal(image_folder(tmp_path).load(np.array([0]))[0], by_hand(colours))


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "a"
    write(folder / "0.png", 1)
    whole = (folder / "0.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    (folder / "2.png").write_bytes(b"no picture")
    (folder / "3.png").write_bytes(b"")
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(folder / "4.png")
    write(folder / "5.jpg", 1, width=400, height=300)
    (folder / "5.jpg").write_bytes((folder / "5.jpg").read_bytes()[:2000])
    write(folder / "6.png", 1)
    found = image_folder(tmp_path)
    (folder / "6.png").unlink()
    said = {
        1: "1.png: not a readable picture",
        2: "2.png: not a readable picture",
        3: "3.png: not a readable picture",
        4: "4.png: its pixels have Pillow's mode 'I;16'",
        5: "5.jpg: not a readable picture .OSError",
    }
    for index, message in said.items():
        with pytest.raises(ValueError, match=message):
            found.load(np.array([0, index]))
    with pytest.raises(FileNotFoundError, match="6.png cannot be read"):
        found.load(np.array([6]))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere does not exist. It should contain train/CLASS"):
        image_folder(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="file is not a folder"):
        image_folder(tmp_path / "file")
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match="train does not contain a folder for a class"):
        image_folder(tmp_path)
    (tmp_path / "train" / "a").mkdir()
    with pytest.raises(FileNotFoundError, match="a has no picture"):
        image_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="has no folder val or test"):
        image_folder(tmp_path, "test")
    with pytest.raises(ValueError, match="Known: train, test"):
        image_folder(tmp_path, "val")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": np.array([0, 2])}, "labels must be from 0 to 1, got 0 to 2"),
        ({"labels": np.array([0])}, r"integers \(2,\), got int64 \(1,\)"),
        ({"labels": np.array([0.0, 1.0])}, "got float64"),
        ({"size": 0}, "size must be a whole number from 1"),
    ],
)
def test_files_that_do_not_fit_their_labels(change: dict, said: str) -> None:
    fields = {"paths": ("x", "y"), "labels": np.array([0, 1]), "class_names": ("a", "b")}
    with pytest.raises(ValueError, match=said):
        ImageFiles(**{**fields, **change})


def test_an_augmentation_that_the_data_do_not_take() -> None:
    images = Dataset(np.zeros((2, 3, 8, 8), np.float32), np.array([0, 1]), 2, "zeros")
    with pytest.raises(TypeError, match="supports the augmentation Augmentation, got RandomResizedCrop"):
        data.DataLoader(images, 1, augmentation=RandomResizedCrop())


def test_rows_of_datasets(tmp_path: Path) -> None:
    tree(tmp_path)
    assert data.load("images", "test", tmp_path).image_shape == (3, 224, 224)
    assert data.load("images32", "train", tmp_path).image_shape == (3, 32, 32)
    for name in ("images", "images32", "imagenet"):
        assert data.DATASETS[name].augmentation == RandomResizedCrop((0.08, 1.0), (3 / 4, 4 / 3), True)


# -- ImageNet -----------------------------------------------------------------------------------------------------


def test_imagenet_in_folders(tmp_path: Path) -> None:
    tree(tmp_path, IDS[::-1], "JPEG")
    train, test = imagenet(tmp_path), imagenet(tmp_path, "test")
    assert train.class_names == test.class_names == IDS and (len(train), len(test)) == (12, 6)
    assert [Path(path).parent.name for path in test.paths] == [IDS[label] for label in test.labels]
    assert train.name == "imagenet"
    (tmp_path / "val" / IDS[1] / f"{IDS[1]}_0.JPEG").write_bytes(b"broken")
    with pytest.raises(ValueError, match="n01443537_0.JPEG: not a readable .*Get ImageNet .ILSVRC 2012. from https://"):
        test.load(np.arange(6))


def flat(root: Path, numbers: dict[int, int]) -> None:
    """Validation images without folders: number of the image -> seed."""
    for number, seed in numbers.items():
        write(root / "val" / f"ILSVRC2012_val_{number:08}.JPEG", seed)


def kit(folder: Path, wordnet: dict[int, str], truth: list[int]) -> None:
    """meta.mat with the development kit's two fields, beside others."""
    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    synsets = np.array([(number, name, "a, b", 0) for number, name in wordnet.items()], fields).reshape(-1, 1)
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "meta.mat", {"synsets": synsets})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{number}\n" for number in truth))


@pytest.mark.parametrize("place", [".", "ILSVRC2012_devkit_t12/data"])
def test_imagenet_flat_by_the_development_kit(tmp_path: Path, place: str) -> None:
    tree(tmp_path / "with training", IDS, "JPEG")
    for root in (tmp_path / "with training", tmp_path):
        if (root / "val").exists():
            (root / "val").rename(root / "old")
        flat(root, {1: 0, 2: 0, 3: 0, 4: 0})
        kit(root / place, {1: IDS[2], 2: IDS[0], 3: IDS[1], 1001: "n00001740"}, [1, 3, 3, 2])
        found = imagenet(root, "test")
        assert found.labels.tolist() == [2, 1, 1, 0] and found.class_names == IDS
        assert names_of(found)[0] == "ILSVRC2012_val_00000001.JPEG"


def test_imagenet_flat_by_the_solution_file(tmp_path: Path) -> None:
    tree(tmp_path, IDS[:2], "JPEG")
    (tmp_path / "val").rename(tmp_path / "old")
    flat(tmp_path, {7: 0, 3: 0, 5: 0})
    lines = [f"ILSVRC2012_val_{number:08},{name} 1 2 3 4 {name} 5 6 7 8" for number, name in
             ((3, IDS[1]), (5, IDS[2]), (7, IDS[0]))]  # fmt: skip
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines]) + "\n")
    found = imagenet(tmp_path, "test")  # image 5 is of a class that is not trained
    assert names_of(found) == ["ILSVRC2012_val_00000003.JPEG", "ILSVRC2012_val_00000007.JPEG"]
    assert found.labels.tolist() == [1, 0]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *lines[1:]]) + "\n")
    with pytest.raises(ValueError, match="val_00000003.JPEG is not in the ground truth"):
        imagenet(tmp_path, "test")
    (tmp_path / "LOC_val_solution.csv").write_text("Image,Label\na,b\n")
    with pytest.raises(ValueError, match="lacks ImageId or PredictionString"):
        imagenet(tmp_path, "test")


def test_what_imagenet_lacks_is_named(tmp_path: Path) -> None:
    site = "https://www.image-net.org"
    with pytest.raises(FileNotFoundError, match=f"imagenet: .*nowhere does not exist.*n01440764.*{site}"):
        imagenet(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=f"has no folder val.*{site}"):
        imagenet(tmp_path, "test")
    (tmp_path / "train").mkdir()
    with pytest.raises(FileNotFoundError, match=f"train does not contain a folder for a class.*n01440764.*{site}"):
        imagenet(tmp_path)
    tree(tmp_path, (*IDS, "cat"), "JPEG")
    with pytest.raises(ValueError, match="'cat' is not a WordNet id .*use 'images'"):
        imagenet(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "cat").rename(tmp_path / f"cat of {split}")
    (tmp_path / "val" / IDS[1]).rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=f"val lacks class {IDS[1]}. Get ImageNet"):
        imagenet(tmp_path, "test")
    flat(tmp_path, {1: 0})
    with pytest.raises(FileNotFoundError, match=f"neither LOC_val_solution.csv nor .*meta.mat is in .*{site}"):
        imagenet(tmp_path, "test")
    kit(tmp_path, {1: IDS[0]}, [2])
    with pytest.raises(ValueError, match=f"do not contain the classes .KeyError: 2..*{site}"):
        imagenet(tmp_path, "test")
    (tmp_path / "meta.mat").write_bytes(b"broken")
    with pytest.raises(ValueError, match="do not contain the classes"):
        imagenet(tmp_path, "test")
    kit(tmp_path, {1: "n00001740"}, [1])
    with pytest.raises(ValueError, match="none of the 1 images"):
        imagenet(tmp_path, "test")
