"""How codes and scales of quantised arrays lie in memory."""

from __future__ import annotations

import numpy as np

from mpsim.errors import UsageError
from mpsim.kernels.contract import Array

#: Rows and scales of a tile of swizzled scales; a tile has 512 bytes.
ROWS, COLUMNS, _PARTS = 128, 4, 32


def packed_codes(codes: Array, packing: str) -> Array:
    """Returns codes as bytes. Two of 4 bits share one, along the last axis: "low_first" or "high_first".

    Raises:
        UsageError: The last axis has an odd length.

    >>> packed_codes(np.uint8([[1, 2, 3, 4]]), "low_first")
    array([[33, 67]], dtype=uint8)
    """
    if packing == "none":
        return codes
    if codes.shape[-1] % 2:
        raise UsageError(f"two codes share a byte, so the last axis needs an even length, not {codes.shape[-1]}")
    nibbles = codes.astype(np.uint8) & 0xF
    low, high = nibbles[..., ::2], nibbles[..., 1::2]
    return np.asarray(low | high << 4 if packing == "low_first" else high | low << 4)


def unpacked_codes(packed: Array, packing: str) -> Array:
    """Returns the codes of ``packed_codes``.

    >>> unpacked_codes(np.uint8([[33, 67]]), "low_first")
    array([[1, 2, 3, 4]], dtype=uint8)
    """
    if packing == "none":
        return packed
    parts = [packed & 0xF, packed >> 4]
    pairs = np.stack(parts if packing == "low_first" else parts[::-1], axis=-1)
    return pairs.reshape(*packed.shape[:-1], 2 * packed.shape[-1]).astype(np.uint8)


def swizzled(scales: Array) -> Array:
    """Returns a matrix of scales of 8 bits in the order that block-scaled matrix instructions read.

    Tiles of 128 rows by 4 scales, with zeros at the ends, one after the other along the rows. Within a tile the scale
    of row r and column c is byte (r mod 32) * 16 + (r // 32) * 4 + c. Source: NVIDIA cuBLAS documentation, "1D block
    scaling factors layout".

    >>> swizzled(np.arange(8, dtype=np.uint8).reshape(2, 4))[[0, 1, 16, 17]]
    array([0, 1, 4, 5], dtype=uint8)
    """
    down, across = -(-scales.shape[0] // ROWS), -(-scales.shape[1] // COLUMNS)
    padded = np.zeros((down * ROWS, across * COLUMNS), scales.dtype)
    padded[: scales.shape[0], : scales.shape[1]] = scales
    tiles = padded.reshape(down, ROWS // _PARTS, _PARTS, across, COLUMNS)
    return np.ascontiguousarray(tiles.transpose(0, 3, 2, 1, 4)).reshape(-1)


def unswizzled(scales: Array, rows: int, columns: int) -> Array:
    """Returns the matrix of ``swizzled``, ``rows`` by ``columns``.

    >>> matrix = np.arange(390, dtype=np.uint8).reshape(130, 3)
    >>> bool((unswizzled(swizzled(matrix), 130, 3) == matrix).all())
    True
    """
    down, across = -(-rows // ROWS), -(-columns // COLUMNS)
    tiles = scales.reshape(down, across, _PARTS, ROWS // _PARTS, COLUMNS).transpose(0, 3, 2, 1, 4)
    return np.ascontiguousarray(tiles.reshape(down * ROWS, across * COLUMNS)[:rows, :columns])
