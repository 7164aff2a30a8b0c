"""Windows over images, for convolution and pooling, and the elements that padding adds."""

from __future__ import annotations

import numpy as np

from mpsim import checks
from mpsim.engine.primitive import Shape
from mpsim.errors import UsageError

#: One number for both directions, or (vertical, horizontal).
Window = tuple[int, int]
Pair = int | Window
#: How positions beyond the edge are filled.
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
#: The largest side of a window, stride or margin.
MOST = 1 << 16


def pair(value: Pair, name: str = "value", least: int = 0) -> tuple[int, int]:
    """Returns (vertical, horizontal), each at least ``least``. ``name`` is the argument's name in errors.

    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    if not isinstance(value, tuple | list):
        number = checks.whole(name, value, least=least, most=MOST, note=", or two of them, (vertical, horizontal)")
        return number, number
    if len(value) != 2:
        raise UsageError(f"{name} must be one number or (vertical, horizontal), got {checks.shown(value)}", name)
    first, second = (checks.whole(f"{name}[{i}]", number, least=least, most=MOST) for i, number in enumerate(value))
    return first, second


def dilated(kernel: Shape, dilation: Window) -> Window:
    """Returns the sizes of a kernel with ``dilation`` - 1 elements between neighbours.

    >>> dilated((3, 2), (2, 3))
    (5, 4)
    """
    return dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1


def window_shape(x: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    """Returns (OH, OW), the numbers of windows that fit: (H + 2*padding - R) // stride + 1.

    >>> window_shape((2, 3, 32, 32), (3, 3), (2, 2), (1, 1))
    (16, 16)
    """
    padded = tuple(size + 2 * margin for size, margin in zip(x[2:], padding, strict=True))
    if padded[0] < kernel[0] or padded[1] < kernel[1]:
        raise UsageError(f"a {kernel[0]}x{kernel[1]} kernel does not fit in a {padded[0]}x{padded[1]} padded input")
    return tuple((size - window) // step + 1 for size, window, step in zip(padded, kernel, stride, strict=True))


def padded(size: int, before: int, after: int, mode: str) -> np.ndarray:
    """Returns the position of each element of a padded axis, or -1."""
    places = np.arange(-before, size + after)
    most = {"zeros": None, "replicate": None, "reflect": size - 1, "circular": size}[mode]
    if places.size < 1 or size < 1 or (most is not None and max(before, after) > most):
        raise UsageError(f"pad: an axis of {size} elements cannot be padded by ({before}, {after}) in mode {mode!r}")
    if mode == "zeros":
        return np.where((places < 0) | (places >= size), -1, places)
    if mode == "replicate":
        return np.clip(places, 0, size - 1)
    if mode == "circular":
        return places % size
    return np.where(places >= size, 2 * (size - 1) - places, np.abs(places))
