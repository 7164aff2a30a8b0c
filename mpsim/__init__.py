"""mpsim: a golden reference for mixed-precision floating-point training.

>>> import mpsim, numpy as np
>>> print(mpsim.round_to(np.float64(-431.99999999999994), "float8_e4m3fn", backend="reference"))
-416.0
"""

from mpsim import assignment, blocks, data, nn, validate
from mpsim.accumulators import Accumulator
from mpsim.assignment import PAPER_LEVELS, Levels, Plan
from mpsim.contraction import matmul
from mpsim.engine.tensor import Tensor, TensorId
from mpsim.errors import MpsimError
from mpsim.formats import FORMATS, Format
from mpsim.kernels import BACKENDS as backends
from mpsim.kernels import BackendUnavailable, DeviceMemoryError
from mpsim.policies import Mode, Overflow, Policy
from mpsim.rounding import decode, encode, round_to
from mpsim.trace import Trace, trace
from mpsim.training.loss_scale import LossScale
from mpsim.training.optimizer import SGD
from mpsim.training.schedule import Cosine, Step
from mpsim.training.trainer import Trainer

__version__ = "0.1.0"

__all__ = [
    "FORMATS", "PAPER_LEVELS", "SGD", "Accumulator", "BackendUnavailable", "Cosine", "DeviceMemoryError", "Format",
    "Levels", "LossScale", "Mode", "MpsimError", "Overflow", "Plan", "Policy", "Step", "Tensor", "TensorId", "Trace",
    "Trainer", "assignment", "backends", "blocks", "data", "decode", "encode", "matmul", "nn", "round_to", "trace",
    "validate",
]  # fmt: skip
