"""What every thread of the process has one of: the floating-point environment, and the threads that run loops."""

from mpsim.process.environment import default_float_environment, in_default_environment
from mpsim.process.forking import release_threads

__all__ = ["default_float_environment", "in_default_environment", "release_threads"]
