"""The classes of blocks that differ."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The classes of blocks, in the order of a report."""

    SCALE = "scale"
    ELEMENT = "element"
    LIMIT = "scale_limit"
    SUBNORMAL = "subnormal"
    ZEROS = "zeros"
    SPECIAL = "special"


MEANINGS = {
    Kind.SCALE: "ordinary blocks whose scale is another",
    Kind.ELEMENT: "ordinary blocks of whose elements some are others",
    Kind.LIMIT: "blocks whose scale is the smallest or the largest there is, or none",
    Kind.SUBNORMAL: "blocks of subnormal float32 numbers",
    Kind.ZEROS: "blocks of zeros, or whose scale is 0",
    Kind.SPECIAL: "blocks with a NaN or an infinity",
}
