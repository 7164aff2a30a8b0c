/* A library that sets flush-to-zero for the whole process when it is loaded, as -ffast-math makes libraries do. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

__attribute__((constructor)) static void flush(void) {
#if defined(__x86_64__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
    uint64_t state;
    __asm__ volatile("mrs %0, fpcr" : "=r"(state));
    __asm__ volatile("msr fpcr, %0" : : "r"(state | 1 << 24));
#endif
}

/* rounds to bfloat16 exactly, in integers, then multiplies by 1 as a dequantisation does */
void cast(const float *in, float *out, size_t n) {
    volatile float one = 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        float z;
        memcpy(&u, in + i, 4);
        if ((u & 0x7fffffff) <= 0x7f800000) u = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
        memcpy(&z, &u, 4);
        out[i] = z * one;
    }
}

/* a sum in rising k, no fma */
float in_order(const float *a, const float *b, size_t n) {
    float sum = 0;
    for (size_t k = 0; k < n; k++) {
        volatile float product = a[k] * b[k];
        sum += product;
    }
    return sum;
}
