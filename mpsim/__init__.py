"""mpsim: a golden reference for mixed-precision floating-point training.

>>> import mpsim, numpy as np
>>> print(mpsim.round_to(np.float64(-431.99999999999994), "float8_e4m3fn", backend="reference"))
-416.0
"""

from importlib.metadata import PackageNotFoundError, version

import mpsim.process.importing  # noqa: F401  # before the others: it makes them import in a fixed environment

# isort: split
from mpsim import assignment, blocks, data, extend, nn, validate
from mpsim.assignment import Plan
from mpsim.contraction import matmul
from mpsim.errors import MpsimError
from mpsim.formats import FORMATS, Format
from mpsim.kernels import BackendUnavailable
from mpsim.policies import Mode, Overflow, Policy
from mpsim.products.accumulators import Accumulator
from mpsim.rounding import decode, encode, round_to
from mpsim.trace import trace
from mpsim.training.loss_scale import LossScale
from mpsim.training.optimizer import SGD
from mpsim.training.schedule import Cosine, Step
from mpsim.training.trainer import Trainer

try:
    __version__ = version("mpsim")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "0.0"

__all__ = [
    "FORMATS", "SGD", "Accumulator", "BackendUnavailable", "Cosine", "Format", "LossScale", "Mode", "MpsimError",
    "Overflow", "Plan", "Policy", "Step", "Trainer", "assignment", "blocks", "data", "decode", "encode", "extend",
    "matmul", "nn", "round_to", "trace", "validate",
]  # fmt: skip
