"""Pictures that ask for much memory, or for a program, are refused in words before they get it."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpsim.data.pictures.image_files import ImageFiles
from mpsim.data.pictures.opening import MOST_PIXELS, _webp_size
from mpsim.errors import UsageError

Image: Any = pytest.importorskip("PIL.Image")


def load(path: Path, size: int = 32) -> np.ndarray:
    return ImageFiles((str(path),), np.array([0]), ("a",), size=size).load(np.array([0]))


def written(format: str, size: tuple[int, int] = (24, 18), mode: str = "RGB", **options: Any) -> bytearray:
    Image.new(mode, size, 100).save(content := io.BytesIO(), format, **options)
    return bytearray(content.getvalue())


def of_size(name: str, width: int, height: int) -> bytes:
    """A small picture whose header names another size."""
    sides = (width, height)
    if name == "a.png":
        content = written("PNG")
        content[16:24] = b"".join(side.to_bytes(4, "big") for side in sides)
        content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    elif name == "a.jpg":
        content = written("JPEG")
        at = content.index(b"\xff\xc0") + 5
        content[at : at + 4] = b"".join(side.to_bytes(2, "big") for side in reversed(sides))
    elif name == "a.bmp":
        content = written("BMP")
        content[18:26] = b"".join(side.to_bytes(4, "little") for side in sides)
    elif name == "a.gif":
        content = written("GIF", mode="P")
        content[6:10] = b"".join(side.to_bytes(2, "little") for side in sides)
    elif name == "a.webp":  # with a canvas of its own
        content = written("WEBP", mode="RGBA", exif=b"Exif\0\0")
        assert content[12:16] == b"VP8X"
        content[24:30] = b"".join((side - 1).to_bytes(3, "little") for side in sides)
    elif name == "a.ppm":
        content = bytearray(b"P6\n%d %d\n255\n" % sides + bytes(99))
    else:
        content = written("TIFF")
        for tag, side in ((256, width), (257, height)):  # entries of one number of 32 bits
            at = content.index(tag.to_bytes(2, "little") + b"\4\0\1\0\0\0")
            content[at + 8 : at + 12] = side.to_bytes(4, "little")
    return bytes(content)


NAMES = ["a.png", "a.jpg", "a.bmp", "a.gif", "a.webp", "a.ppm", "a.tif"]


@pytest.mark.parametrize("name", NAMES)
def test_a_header_that_names_many_pixels_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(of_size(name, 9001, 7001))
    with pytest.raises(UsageError, match=rf"{name}: not a readable picture \(its header names 9001 x 7001 pixels"):
        load(tmp_path / name)


#: Reads files in a process of 256 MiB more than it has then.
LIMITED = """
import re, resource, sys
from pathlib import Path
import numpy as np
import PIL.Image
from mpsim.data.pictures.image_files import ImageFiles
from mpsim.errors import UsageError
PIL.Image.init()
used = int(re.search(r"VmSize:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        ImageFiles((path,), np.array([0]), ("a",), size=32).load(np.array([0]))
    except UsageError as error:
        print(error)
"""
#: The peak is VmHWM, which begins anew with the program: ru_maxrss keeps that of the process that started it.
MEASURED = """
import re, sys
from pathlib import Path
import numpy as np
import PIL.Image
from mpsim.data.pictures.image_files import ImageFiles
PIL.Image.init()
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
assert ImageFiles((sys.argv[1],), np.array([0]), ("a",), size=32).load(np.array([0])).shape == (1, 3, 32, 32)
grown = peak() - before
assert 32 << 10 < grown < 256 << 10, grown
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the size of the process from /proc")
def test_a_chunk_that_names_more_bytes_than_the_file_has_allocates_none(tmp_path: Path) -> None:
    """The chunk of pixels, whose checksum Pillow compares only at its end."""
    content = written("PNG")
    at = content.index(b"IDAT")
    content[at - 4 : at] = (3 << 30).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the size of the process from /proc")
def test_the_most_pixels_fit_in_256_mib(tmp_path: Path) -> None:
    """Just as many as are not refused: the file ends before them, or is a grey picture."""
    for name in NAMES:
        (tmp_path / name).write_bytes(of_size(name, 4096, MOST_PIXELS // 4096))
    command = [sys.executable, "-W", "ignore", "-c", LIMITED, *(str(tmp_path / name) for name in NAMES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "its header names" not in done.stdout, done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the size of the process from /proc")
def test_a_long_picture_that_is_scaled_takes_less_than_256_mib(tmp_path: Path) -> None:
    """Pillow reads the rows that the file has, and the others are black."""
    (tmp_path / "a.tif").write_bytes(of_size("a.tif", 24, MOST_PIXELS // 24))
    command = [sys.executable, "-W", "ignore", "-c", MEASURED, str(tmp_path / "a.tif")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_large_pictures_with_as_many_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P5\n5000 4000\n255\n" + bytes(20_000_000))
    assert load(path).shape == (1, 3, 32, 32)


def test_pictures_that_would_be_scaled_to_many_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("L", (1, 5000)).save(tmp_path / "a.png")
    words = r"a\.png: a picture of 1 x 5000 pixels would be scaled to 256 x 1280000; cut it"
    with pytest.raises(UsageError, match=words):
        load(tmp_path / "a.png", 224)
    assert load(tmp_path / "a.png").shape == (1, 3, 32, 32)


def test_other_formats_are_not_opened_whatever_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow reads EPS through the program gs."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    Image.new("RGB", (24, 18)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"a\.png: not a readable picture \(UnidentifiedImageError"):
        load(tmp_path / "a.png")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0"}], ids=["VP8 ", "VP8L", "VP8X"])
@pytest.mark.parametrize("size", [(1, 1), (24, 18), (300, 16), (17, 5000)])
def test_the_size_of_webp_is_that_of_pillow(size: tuple[int, int], options: dict[str, Any]) -> None:
    content = bytes(written("WEBP", size, **options))
    assert _webp_size(content[:30]) == size == Image.open(io.BytesIO(content)).size
