"""Lowers a strided convolution's gradient by the input without the zeros between the elements of gy.

Positions (h, w) with the same remainders modulo the stride use the same elements of the kernel, so each pair of
remainders is a separate contraction. If the weights are finite, a zero's product adds +0 or -0. This changes a sum only
from -0 to +0, and a later sum only in the same way. Therefore every resulting -0 must be summed again with all zeros.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mpsim.kernels.contractions.lowering import Contraction, Pair, Place, offsets, place


def phases(
    gy: np.ndarray,
    w: np.ndarray,
    x_shape: tuple[int, ...],
    stride: Pair,
    padding: Pair,
    groups: int,
    chunk: int,
    place: Place = place,
) -> Iterator[tuple[Contraction, np.ndarray]]:
    """Yields a contraction for each pair of remainders that uses the kernel, and the ends of the chunks in its k."""
    batch, channels = x_shape[:2]
    outputs, group_channels, *kernel = w.shape
    around = [kernel[i] - 1 - padding[i] for i in (0, 1)]
    before = [max(0, -(-around[i] // stride[i])) for i in (0, 1)]
    height, width = (
        before[i] + max(gy.shape[2 + i], (x_shape[2 + i] + padding[i] - 1) // stride[i] + 1) for i in (0, 1)
    )
    padded = place(gy, before[0], before[1], height, width)
    image, area, size, members = height * width, x_shape[2] * x_shape[3], kernel[0] * kernel[1], outputs // groups
    for top in range(min(stride[0], x_shape[2])):
        for left in range(min(stride[1], x_shape[3])):
            # element r of the flipped kernel uses row h//stride + (top + r - around)//stride of gy, if that is exact
            r, s = (
                np.arange((around[i] - first) % stride[i], kernel[i], stride[i]) for i, first in enumerate((top, left))
            )
            taps = np.add.outer(r * kernel[1], s).ravel()
            if taps.size == 0:
                continue
            rows, columns = (top + r - around[0]) // stride[0], (left + s - around[1]) // stride[1]
            whole = np.add.outer(np.arange(members) * size, taps).ravel()  # their indices among all k
            counts = -(-(x_shape[2] - top) // stride[0]), -(-(x_shape[3] - left) // stride[1])
            yield Contraction(
                w.reshape(-1), offsets((groups, members * group_channels * size)), offsets((group_channels, size)),
                np.add.outer(np.arange(members) * group_channels * size, size - 1 - taps).ravel(),
                padded.reshape(-1), offsets((groups, members * image)),
                offsets((batch, outputs * image), (counts[0], width), (counts[1], 1)) + before[0] * width + before[1],
                np.add.outer(np.arange(members) * image, np.add.outer(rows * width, columns).ravel()).ravel(),
                x_shape, offsets((groups, group_channels * area)), offsets((group_channels, area)),
                offsets((batch, channels * area), (counts[0], stride[0] * x_shape[3]), (counts[1], stride[1]))
                + top * x_shape[3] + left,
            ), np.searchsorted(whole, np.arange(0, members * size + chunk, chunk))  # fmt: skip
