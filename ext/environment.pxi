# The floating-point environment of the calling thread; mpsim/validate/subjects/calling.py is the door.
from libc.stdint cimport uint64_t

cdef extern from "float_environment.h":
    uint64_t float_environment_enter() noexcept
    void float_environment_leave(uint64_t before) noexcept


def enter_float_environment():
    """Sets the default environment and returns the one before, as ``leave_float_environment`` takes it."""
    return float_environment_enter()


def leave_float_environment(uint64_t before):
    """Sets an environment that ``enter_float_environment`` gave."""
    float_environment_leave(before)
