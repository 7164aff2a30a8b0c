# What the process has one of: the variant that runs, the floating-point environment, memory that is used again.
from cpython.buffer cimport PyBuffer_FillInfo
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef extern from "common/kernels.h":
    const char *mpsim_variant_name(int variant) noexcept
    int mpsim_variant_runs(int variant) noexcept
    int mpsim_variant() noexcept
    void mpsim_force_variant(int variant) noexcept


cdef list built():
    """The names of the variants that were built, in the order of their numbers."""
    cdef int number = 0
    names = []
    while mpsim_variant_name(number) is not NULL:
        names.append(mpsim_variant_name(number).decode())
        number += 1
    return names


def variant():
    """The name of the variant of the kernels that runs, such as "portable" or "avx2"."""
    return built()[mpsim_variant()]


def variants():
    """The names of the variants that were built and that this processor runs."""
    return tuple(name for number, name in enumerate(built()) if mpsim_variant_runs(number))


def force_variant(name):
    """Run the named variant from now on; None: the best one again. For tests: no bit depends on it.

    Raises ValueError if the variant was not built or cannot run here.
    """
    if name is not None and name not in variants():
        raise ValueError(f"variant {name!r} does not run here; these do: {', '.join(variants())}")
    mpsim_force_variant(-1 if name is None else built().index(name))


cdef extern from "common/environment.h":
    uint64_t float_environment_enter() noexcept
    void float_environment_leave(uint64_t before) noexcept


def enter_float_environment():
    """Sets the default environment of the calling thread and returns the one before."""
    return float_environment_enter()


def leave_float_environment(uint64_t before):
    """Sets an environment that ``enter_float_environment`` gave."""
    float_environment_leave(before)


cdef extern from "common/buffers.h":
    ctypedef struct BufferSizes:
        size_t in_use, waiting, largest_in_use
    void *mpsim_buffer_take(size_t size) noexcept
    void mpsim_buffer_give_back(void *data, size_t size) noexcept
    void mpsim_buffers_release() noexcept
    BufferSizes mpsim_buffer_sizes() noexcept


cdef class Block:
    """Memory of ``size`` bytes, not set to anything; it waits for the next block of its size when nobody has it."""

    cdef void *data
    cdef size_t size

    def __cinit__(self, size_t size):
        self.data = mpsim_buffer_take(size)
        if self.data is NULL:
            raise MemoryError(f"no memory for an array of {size} bytes")
        self.size = size

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, <Py_ssize_t>self.size, 0, flags)

    def __dealloc__(self):
        if self.data is not NULL:
            mpsim_buffer_give_back(self.data, self.size)


def release_blocks():
    """Gives the blocks that nobody uses back to the system."""
    mpsim_buffers_release()


def block_sizes():
    """Bytes of blocks in use, bytes that wait, and the most that was in use at once since the last release."""
    cdef BufferSizes sizes = mpsim_buffer_sizes()
    return sizes.in_use, sizes.waiting, sizes.largest_in_use
