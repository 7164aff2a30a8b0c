"""mpsim: a golden reference for mixed-precision floating-point training.

>>> import mpsim, numpy as np
>>> print(mpsim.round_to(np.float64(-431.99999999999994), "float8_e4m3fn", backend="reference"))
-416.0
"""

from typing import TYPE_CHECKING, Any

import mpsim.process.importing  # noqa: F401  # before the others: it makes them import in a fixed environment

# isort: split
import importlib
from importlib.util import find_spec

from mpsim.errors import MpsimError
from mpsim.formats import FORMATS, Format
from mpsim.kernels import BackendUnavailable
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator
from mpsim.rounding import decode, encode, round_to
from mpsim.trace import trace  # not when it is used: a module has this name

if TYPE_CHECKING:
    from mpsim import assignment, blocks, data, extend, nn, validate
    from mpsim.assignment import Plan
    from mpsim.contraction import matmul
    from mpsim.training.loss_scale import LossScale
    from mpsim.training.optimizer import SGD
    from mpsim.training.schedule import Cosine, Step
    from mpsim.training.trainer import Trainer

__all__ = [
    "FORMATS", "SGD", "Accumulator", "BackendUnavailable", "Cosine", "Format", "LossScale", "Mode", "MpsimError",
    "Overflow", "Plan", "Policy", "Step", "Trainer", "assignment", "blocks", "data", "decode", "encode", "extend",
    "matmul", "nn", "round_to", "trace", "validate",
]  # fmt: skip

#: Names that are imported when they are first used, and the module of each; "" for a module.
_LATER = {
    "Plan": "mpsim.assignment", "matmul": "mpsim.contraction", "LossScale": "mpsim.training.loss_scale",
    "SGD": "mpsim.training.optimizer", "Cosine": "mpsim.training.schedule", "Step": "mpsim.training.schedule",
    "Trainer": "mpsim.training.trainer",
    **dict.fromkeys(("assignment", "blocks", "data", "extend", "nn", "validate"), ""),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """Imports a name of _LATER or another module of mpsim, or computes ``__version__``."""
    if name == "__version__":
        found: Any = _version()
    elif name not in _LATER and (name.startswith("__") or find_spec(f"mpsim.{name}") is None):
        raise AttributeError(f"module 'mpsim' has no attribute {name!r}")
    else:
        module = _LATER.get(name, "")
        found = getattr(importlib.import_module(module), name) if module else importlib.import_module(f"mpsim.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER, "__version__"})


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mpsim")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0.0"
