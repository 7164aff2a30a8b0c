"""Opens picture files of others: of few formats, and only if their pixels are in proportion to their bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mpsim.data.pictures.crops import pillow_image
from mpsim.errors import UsageError

#: Pillow's names of the formats that are read, whatever the name of a file. Others may start programs (EPS).
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
#: A picture of more pixels than this needs a byte in its file for each MOST_RATIO of them. Reading one takes up to 22
#: bytes a pixel.
MOST_PIXELS, MOST_RATIO = 1 << 23, 1000


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Opens a picture with Pillow, which reads its pixels later.

    Raises:
        UsageError: The file names more pixels than its bytes are likely to hold.
        Exception: Almost anything, if it is not a picture.
    """
    with _File(path) as file:
        start = file.peek(30)[:30]
        _check_webp(start, file.size)
        with pillow_image().open(file, formats=FORMATS) as picture:
            width, height = picture.size
            _check_pixels(width, height, file.size)
            yield picture


class _File(io.BufferedReader):
    """A file whose ``read`` allocates no more than is left of it. A chunk of a PNG file may ask for 4 GiB."""

    def __init__(self, path: str) -> None:
        super().__init__(io.FileIO(path))
        self.size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(self.size - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


def _check_webp(start: bytes, size: int) -> None:
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":  # Pillow allocates its pixels when it opens it
        _check_pixels(*_webp_size(start), size)


def _check_pixels(width: int, height: int, size: int) -> None:
    if width * height > max(MOST_PIXELS, MOST_RATIO * size):
        raise UsageError(
            f"its header names {width} x {height} pixels, and the file has {size:,} bytes; a picture of more than "
            f"{MOST_PIXELS:,} pixels needs a byte for each {MOST_RATIO:,} of them"
        )


def _webp_size(start: bytes) -> tuple[int, int]:
    """Returns the width and height that a WebP file names in its first 30 bytes, or 0 if it names none.

    Source: RFC 9649, sections 2.5 to 2.7; RFC 6386, section 9.1 (VP8); RFC 9649, section 3.4 (VP8L).

    >>> _webp_size(b"RIFF....WEBPVP8X........" + bytes([255, 0, 0, 9, 0, 0]))
    (256, 10)
    """
    kind = start[12:16]
    if kind == b"VP8X":
        return _number(start[24:27]) + 1, _number(start[27:30]) + 1
    if kind == b"VP8L":
        bits = _number(start[21:25])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _number(start[26:28]) & 0x3FFF, _number(start[28:30]) & 0x3FFF


def _number(content: bytes) -> int:
    return int.from_bytes(content, "little")
