/* Allocates memory at addresses that are multiples of a power of two. Windows frees such memory separately. */
#ifndef MPSIM_MEMORY_H
#define MPSIM_MEMORY_H

#include <stddef.h>
#include <stdlib.h>
#ifdef _WIN32
#include <malloc.h>
#endif

/* Returns NULL without memory. The caller frees the result with aligned_release. */
static inline void *aligned_allocate(size_t alignment, size_t size) {
#ifdef _WIN32
    return _aligned_malloc(size, alignment);
#else
    void *data = NULL;
    return posix_memalign(&data, alignment, size) ? NULL : data;
#endif
}

static inline void aligned_release(void *data) {
#ifdef _WIN32
    _aligned_free(data);
#else
    free(data);
#endif
}

#endif
