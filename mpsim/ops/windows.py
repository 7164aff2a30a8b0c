"""Windows sliding over images: what convolution and pooling share."""

from __future__ import annotations

from mpsim.engine.primitive import Shape
from mpsim.errors import UsageError

#: One number for both directions, or (vertical, horizontal).
Pair = int | tuple[int, int]


def pair(value: Pair) -> tuple[int, int]:
    """(vertical, horizontal).

    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    if isinstance(value, int):
        return value, value
    if len(value) != 2:
        raise UsageError(f"one number or (vertical, horizontal) is wanted, got {value!r}")
    return int(value[0]), int(value[1])


def window_shape(x: Shape, kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    """(OH, OW): how many windows fit, (H + 2*padding - R) // stride + 1.

    >>> window_shape((2, 3, 32, 32), (3, 3), (2, 2), (1, 1))
    (16, 16)
    """
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise UsageError(f"kernel {kernel} and stride {stride} must be at least 1, padding {padding} at least 0")
    padded = tuple(size + 2 * margin for size, margin in zip(x[2:], padding, strict=True))
    if padded[0] < kernel[0] or padded[1] < kernel[1]:
        raise UsageError(f"a {kernel[0]}x{kernel[1]} kernel does not fit in a {padded[0]}x{padded[1]} padded input")
    return tuple((size - window) // step + 1 for size, window, step in zip(padded, kernel, stride, strict=True))
