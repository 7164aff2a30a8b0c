"""Small folders of pictures, as users have them."""

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, width: int = 40, height: int = 30) -> np.ndarray:
    """uint8 (height, width, 3): a few large squares, so that JPEG keeps something of them."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST))


def write(path: Path, seed: int, **size: int) -> np.ndarray:
    """A picture file of ``pixels``, in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = pixels(seed, **size)
    Image.fromarray(content).save(path)
    return content


def tree(root: Path, classes: tuple[str, ...] = ("cat", "dog", "emu"), ending: str = "png", count: int = 4) -> Path:
    """root/train and root/val with ``count`` pictures (val: 2) in each class's folder."""
    seed = 0
    for split, number in (("train", count), ("val", 2)):
        for name in classes:
            for place in range(number):
                write(root / split / name / f"{name}_{place}.{ending}", seed, width=40 + place, height=30 + seed % 5)
                seed += 1
    return root
