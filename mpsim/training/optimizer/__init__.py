"""Optimizers: SGD, Adam, AdamW and Lion, by one protocol."""

from mpsim.training.optimizer.adam import Adam, AdamW
from mpsim.training.optimizer.base import Optimizer
from mpsim.training.optimizer.lion import Lion
from mpsim.training.optimizer.names import OPTIMIZERS, from_dict, to_dict
from mpsim.training.optimizer.sgd import SGD

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Lion", "Optimizer", "from_dict", "to_dict"]
