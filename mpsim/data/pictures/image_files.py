"""Defines ImageFiles, labelled images that are read from their files when a batch needs them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from mpsim import checks
from mpsim.data.augmentation import Augmentation
from mpsim.data.dataset import black_of, checked_labels, normalise
from mpsim.data.digests import digest_of_lines, file_digest
from mpsim.data.pictures.crops import RandomResizedCrop, centre_crop
from mpsim.data.pictures.opening import opened
from mpsim.errors import MissingExtra, UsageError
from mpsim.plugins import require
from mpsim.process import in_default_environment

if TYPE_CHECKING:
    from PIL import Image

#: The mean and deviation of each channel in ImageNet, for pixels from 0 to 1, that networks usually expect.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Pillow's modes with one or 8 bits per channel, which it converts to RGB without loss of range.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV")


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Holds the paths of pictures of any size, and their labels.

    Args:
        paths: The files.
        labels: Integers (N,) from 0 to classes - 1.
        class_names: The names of the classes.
        name: The name in messages.
        size: The height and width of the images that ``load`` returns.
        source: What messages say about where to get a file again.

    Raises:
        ValueError: The shapes, types or labels do not match.

    >>> pictures = ImageFiles(("cat.png", "dog.png"), np.array([0, 1]), ("cat", "dog"), size=32)
    >>> len(pictures), pictures.classes
    (2, 2)
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str = "images"
    size: int = 224
    source: str = ""

    augmentations: ClassVar[tuple[type, ...]] = (Augmentation, RandomResizedCrop)

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        if labels.shape != (len(self.paths),) or labels.dtype.kind not in "iu":
            raise UsageError(f"labels must be integers ({len(self.paths)},), got {labels.dtype} {labels.shape}")
        checks.whole("size", self.size, least=1, most=1 << 16)
        object.__setattr__(self, "labels", checked_labels(labels, self.classes))

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (3, size, size) of an image."""
        return 3, self.size, self.size

    @property
    def black(self) -> tuple[float, ...]:
        """The normalised value of a black pixel in each channel."""
        return black_of(MEAN, DEVIATION)

    @in_default_environment
    def load(self, indices: np.ndarray, augmentation: Any = None, words: np.ndarray | None = None) -> np.ndarray:
        """Returns images as ``LabelledImages.load`` describes.

        A ``RandomResizedCrop`` crops the picture itself. Otherwise the picture's centre crop is used, to which an
        ``Augmentation`` is applied.

        Raises:
            ValueError: A file is not a readable picture. The message names it.
            FileNotFoundError: A file no longer exists.
        """
        pixels = np.empty((len(indices), 3, self.size, self.size), np.uint8)
        crops = augmentation if isinstance(augmentation, RandomResizedCrop) else None
        for row, index in enumerate(indices):
            picture = self._picture(self.paths[index])
            if crops is not None and words is not None:
                picture = crops(picture, words[row], self.size)
            else:
                picture = self._centre(picture, self.paths[index])
            pixels[row] = np.asarray(picture).transpose(2, 0, 1)  # (H, W, 3) -> (3, H, W)
        images = normalise(pixels.astype(np.float32) / np.float32(255), MEAN, DEVIATION)
        return images if augmentation is None or crops is not None else augmentation(images, words, self.black)

    def _centre(self, picture: Image.Image, path: str) -> Image.Image:
        try:
            return centre_crop(picture, self.size)
        except UsageError as error:
            raise UsageError(f"{path}: {error}{self._again}") from error

    def _picture(self, path: str) -> Image.Image:
        """Reads a picture as 8-bit RGB."""
        try:
            with opened(path) as picture:
                mode = picture.mode
                if mode == "P" and isinstance(picture.info.get("transparency"), bytes):
                    return picture.convert("RGBA").convert("RGB")  # Pillow warns if this is converted directly
                if mode in MODES:
                    return picture.convert("RGB")
        except (FileNotFoundError, MemoryError) as error:
            raise self._unreadable(path, error) from error
        except MissingExtra:
            raise
        except Exception as error:  # a broken picture raises almost anything
            why = f"{error}" if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
            what = f"not a readable picture ({why})"
            raise UsageError(f"{path}: {what}{self._again}") from error
        raise UsageError(f"{path}: its pixels have Pillow's mode {mode!r}; mpsim reads pictures of 8 bits per channel")

    def digest(self) -> str:
        """Computes the digest of ``LabelledImages.digest``.

        It covers the bytes of the files in order, their labels, the classes, the size, and the versions of Pillow and
        its JPEG library, which determine the pixels of a file.

        Raises:
            FileNotFoundError: A file no longer exists.
        """
        version = require("PIL", "data of picture files").__version__
        features = import_module("PIL.features")
        decoder = f"Pillow {version}, JPEG {features.version('libjpeg_turbo') or features.version('jpg')}"
        lines = [f"pictures {self.size} {decoder}", json.dumps(self.class_names)]
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            try:
                lines.append(f"{label} {file_digest(path)}")
            except OSError as error:
                raise self._unreadable(path, error) from error
        return digest_of_lines(lines)

    def _unreadable(self, path: str, error: Exception) -> Exception:
        return type(error)(f"{path} cannot be read ({error}){self._again}")

    @property
    def _again(self) -> str:
        return f". {self.source}" if self.source else ""

    def first(self, count: int) -> ImageFiles:
        """Returns the first ``count`` images, or all if there are fewer."""
        checks.whole("count", count)
        return replace(self, paths=self.paths[:count], labels=self.labels[:count])

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"ImageFiles({self.name!r}: {len(self)} files as {self.image_shape}, {self.classes} classes)"
