"""Reads a user's own data: arrays, .npz and IDX files, texts, map datasets, and functions that return any of these."""

from mpsim.data.own.parts import as_parts
from mpsim.data.own.preparation import check_normalisation
from mpsim.data.own.source import arrays_digest, is_function, is_place, read_arrays
from mpsim.data.own.text import read_text, text_digest

__all__ = [
    "arrays_digest", "as_parts", "check_normalisation", "is_function", "is_place", "read_arrays", "read_text",
    "text_digest",
]  # fmt: skip
