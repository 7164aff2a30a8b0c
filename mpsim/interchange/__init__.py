"""Accepts arrays and dtypes of PyTorch, JAX, ml_dtypes and other libraries, none of which mpsim needs."""

from mpsim.interchange.arrays import Words, as_array, words_of
from mpsim.interchange.dtypes import name_of

__all__ = ["Words", "as_array", "name_of", "words_of"]
