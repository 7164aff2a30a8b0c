/* Reuses the memory of large arrays.
 *
 * A block that malloc has returned to the system causes page faults when it is allocated again, which take about as
 * long as copying it. Free blocks are therefore stored for requests of exactly their size. Used and free blocks
 * together never exceed the peak of used blocks. Not thread-safe: the callers hold Python's lock. */
#ifndef MPSIM_BUFFERS_H
#define MPSIM_BUFFERS_H

#include <stddef.h>

/* Returns NULL without memory. */
void *mpsim_buffer_take(size_t size);
void mpsim_buffer_give_back(void *data, size_t size);
/* Returns every free block to the system. */
void mpsim_buffers_release(void);
typedef struct {
    size_t in_use, waiting, largest_in_use; /* bytes */
} BufferSizes;
BufferSizes mpsim_buffer_sizes(void);

#endif
