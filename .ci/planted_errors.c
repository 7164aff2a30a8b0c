/* One error of each kind that a sanitizer has to report, and a correct parallel loop: sanitize.py calls them first. */
#include <stdint.h>
#include <stdlib.h>

int heap_overflow(int size) {
    char *bytes = malloc(size);
    bytes[size] = 1;
    const int found = bytes[size];
    free(bytes);
    return found;
}

int use_after_free(int size) {
    volatile char *bytes = malloc(size);
    free((void *)bytes);
    return bytes[0];
}

int signed_overflow(int number) { return number + INT32_MAX; }

int shift(int count) { return 1 << (count + 31); }

int misaligned(int offset) {
    static char bytes[16] __attribute__((aligned(8)));
    return *(volatile int32_t *)(bytes + offset % 4);
}

int race(int count) {
    int total = 0;
#pragma omp parallel for num_threads(2)
    for (int i = 0; i < 1000 * count; i++) total += i;
    return total;
}

/* Returns 0 if a dynamic loop, a barrier and a reduction give the sum of the squares below 1000. */
int correct_loops(int threads) {
    int square[1000], total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
#pragma omp for schedule(dynamic, 7)
        for (int i = 0; i < 1000; i++) square[i] = i * i;
#pragma omp for schedule(dynamic)
        for (int i = 0; i < 1000; i++) total += square[999 - i];
    }
    return total != 332833500;
}
