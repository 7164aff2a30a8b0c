/* buffers.h describes these functions. */
#include "common/buffers.h"
#include "common/memory.h"
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#ifdef __SANITIZE_ADDRESS__ /* a waiting block is like freed memory */
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(data, size) ((void)(data), (void)(size))
#endif

#define HUGE_PAGE ((size_t)1 << 21)
#define CACHE_LINE ((size_t)64)
#define MOST_WAITING 1024

typedef struct {
    void *data;
    size_t size;
} Waiting;

static Waiting waiting[MOST_WAITING]; /* oldest first */
static int count;
static BufferSizes sizes;

static void drop(int index) {
    sizes.waiting -= waiting[index].size;
    ASAN_UNPOISON_MEMORY_REGION(waiting[index].data, waiting[index].size);
    aligned_release(waiting[index].data);
    count--;
    memmove(waiting + index, waiting + index + 1, (size_t)(count - index) * sizeof *waiting);
}

static void *fresh(size_t size) {
    const int huge = size >= 2 * HUGE_PAGE;
    void *data = aligned_allocate(huge ? HUGE_PAGE : CACHE_LINE, size);
#ifdef MADV_HUGEPAGE
    if (data && huge) madvise(data, size / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* only advice: failure is harmless */
#endif
    return data;
}

void *mpsim_buffer_take(size_t size) {
    for (int i = count - 1; i >= 0; i--)
        if (waiting[i].size == size) {
            void *data = waiting[i].data;
            sizes.waiting -= size;
            sizes.in_use += size;
            count--;
            ASAN_UNPOISON_MEMORY_REGION(data, size);
            memmove(waiting + i, waiting + i + 1, (size_t)(count - i) * sizeof *waiting);
            return data;
        }
    /* Bytes in use grow, so free blocks are released before the new block is allocated. */
    if (sizes.in_use + size > sizes.largest_in_use) sizes.largest_in_use = sizes.in_use + size;
    while (count && sizes.in_use + size + sizes.waiting > sizes.largest_in_use) drop(0);
    void *data = fresh(size);
    if (!data && count) {
        mpsim_buffers_release();
        data = fresh(size);
    }
    if (data) sizes.in_use += size;
    return data;
}

void mpsim_buffer_give_back(void *data, size_t size) {
    sizes.in_use -= size;
    if (count == MOST_WAITING) drop(0);
    waiting[count++] = (Waiting){data, size};
    sizes.waiting += size;
    ASAN_POISON_MEMORY_REGION(data, size);
}

void mpsim_buffers_release(void) {
    while (count) drop(count - 1);
    sizes.largest_in_use = sizes.in_use;
}

BufferSizes mpsim_buffer_sizes(void) { return sizes; }
