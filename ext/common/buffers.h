/* Memory for large arrays, kept for the next one.
 *
 * A block that malloc has given back to the system costs page faults when it comes again, about as much time as
 * copying it. Free blocks wait here instead, for a request of their very size. Blocks in use and waiting together
 * never take more than the blocks in use once took. Not for two threads at once: the callers hold Python's lock. */
#ifndef MPSIM_BUFFERS_H
#define MPSIM_BUFFERS_H

#include <stddef.h>

/* NULL if there is no memory. */
void *mpsim_buffer_take(size_t size);
void mpsim_buffer_give_back(void *data, size_t size);
/* Every waiting block goes back to the system. */
void mpsim_buffers_release(void);
typedef struct {
    size_t in_use, waiting, largest_in_use; /* bytes */
} BufferSizes;
BufferSizes mpsim_buffer_sizes(void);

#endif
