/* Returns whether the processor and the operating system support a variant. Compilers have a builtin for this, but with
 * clang-cl it needs a library that is not linked. */
#ifndef MPSIM_PROCESSOR_H
#define MPSIM_PROCESSOR_H

#include <stdint.h>

static inline int processor_runs_portable(void) { return 1; }

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>

/* The registers that the operating system saves: XMM and YMM; opmasks and ZMM. */
enum { SAVES_YMM = 0x6, SAVES_ZMM = 0xe6 };
/* CPUID leaf 1, ECX, and leaf 7, EBX. */
enum { HAS_FMA = 1 << 12, HAS_XGETBV = 1 << 27, HAS_AVX = 1 << 28, HAS_F16C = 1 << 29 };
enum { HAS_AVX2 = 1 << 5, HAS_AVX512F_DQ = 1 << 16 | 1 << 17, HAS_AVX512CD = 1 << 28 };
#define HAS_AVX512BW_VL (3u << 30)

/* Returns whether leaf 7 has all these features, with AVX, FMA and F16C and the registers. */
static inline int processor_has(unsigned features, unsigned registers) {
    const unsigned basic = HAS_FMA | HAS_XGETBV | HAS_AVX | HAS_F16C;
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & basic) != basic) return 0;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if ((saved & registers) != registers) return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & features) == features;
}

static inline int processor_runs_avx2(void) { return processor_has(HAS_AVX2, SAVES_YMM); }
static inline int processor_runs_avx512(void) {
    return processor_has(HAS_AVX2 | HAS_AVX512F_DQ | HAS_AVX512CD | HAS_AVX512BW_VL, SAVES_ZMM);
}
#endif

#endif
