"""Defines the exception of the assertions, which carries the counterexample, and the files that keep counterexamples.

The pytest plugin (``mpsim_pytest``) writes the file of a failed test, and names it in the environment variable
``MPSIM_COUNTEREXAMPLE`` when the test runs again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mpsim.errors import UsageError
from mpsim.files import archive, json_text, npz
from mpsim.files.semantics import FIELD, SEMANTICS
from mpsim.files.whole import write_whole
from mpsim.interchange import words_of
from mpsim.kernels.contract import Array

#: The environment variable with the file of the running test.
FILE = "MPSIM_COUNTEREXAMPLE"
#: How many elements a counterexample keeps, those of the smallest inputs.
MOST = 64
_ABOUT = "about.json"


class Mismatch(AssertionError):
    """An assertion of mpsim.testing failed.

    Args:
        message: The message.
        about: What was compared, as JSON values.
        arrays: The elements that differ, such as ``inputs``, ``actual`` and ``expected``.

    >>> import numpy as np
    >>> Mismatch("1 of 1 differ", {"kind": "bits"}, {"actual": np.float32([1])}).about
    {'kind': 'bits'}
    """

    def __init__(
        self, message: str, about: Mapping[str, object] | None = None, arrays: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.about, self.arrays = dict(about or {}), dict(arrays or {})

    def save_counterexample(self, path: str | Path) -> bool:
        """Writes the counterexample as an npz archive, and returns whether there is one.

        Each array is stored as its bit patterns; ``about.json`` has the names of their types. Equal counterexamples
        give equal bytes.

        Raises:
            OSError: The file cannot be written.
        """
        if not self.arrays:
            return False
        words = {name: words_of(array) for name, array in self.arrays.items()}
        about = {**self.about, FIELD: SEMANTICS, "message": str(self)}
        about["types"] = {name: each.type for name, each in words.items()}
        content = archive.pack(
            {name: each.words for name, each in words.items()}, {_ABOUT: json.dumps(about, indent=1)}
        )
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
        return True


def stored_inputs(about: Mapping[str, object]) -> Array | None:
    """Returns the bit patterns of the inputs in the running test's counterexample file, or None.

    They count only if the file is about the same comparison. A file that cannot be read is not a counterexample.
    """
    path = os.environ.get(FILE)
    if path is None:
        return None
    try:
        with npz.opened(path) as file:
            kept = json_text.decoded(file.text(_ABOUT))
            if not isinstance(kept, dict) or any(kept.get(name) != value for name, value in about.items()):
                return None
            return file["inputs"]
    except (OSError, UsageError, KeyError):
        return None
