from cpython.buffer cimport PyBuffer_FillInfo
from libc.stddef cimport size_t

cdef extern from "buffers.h":
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
