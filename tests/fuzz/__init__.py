"""The fuzz session: ``python -m tests.fuzz``, or ``nox -s fuzz``. README.md describes it.

Its modules import the helpers of tests as tests do, by their names alone.
"""

import sys
from pathlib import Path

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(folder) for folder in (_TESTS, _TESTS / "kernels") if str(folder) not in sys.path]
