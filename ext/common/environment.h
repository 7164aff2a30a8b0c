/* Sets the floating-point environment of the kernels: round to nearest even, with subnormals.
 * Other code in the process may have left a different one (flush to zero is a setting of the thread). */
#ifndef MPSIM_FLOAT_ENVIRONMENT_H
#define MPSIM_FLOAT_ENVIRONMENT_H

#include <stdint.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
static inline uint64_t float_environment_enter(void) {
    const uint64_t before = _mm_getcsr();
    _mm_setcsr(0x1f80); /* all exceptions masked, no DAZ, no FTZ, to nearest */
    return before;
}
static inline void float_environment_leave(uint64_t before) { _mm_setcsr((unsigned)before); }
#elif defined(__aarch64__)
static inline uint64_t float_environment_enter(void) {
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}
static inline void float_environment_leave(uint64_t before) { __asm__ volatile("msr fpcr, %0" : : "r"(before)); }
#else
static inline uint64_t float_environment_enter(void) { return 0; }
static inline void float_environment_leave(uint64_t before) { (void)before; }
#endif

/* Runs the following statement in this environment. In a parallel region each thread has its own. */
#define IN_DEFAULT_ENVIRONMENT                                                \
    for (uint64_t once_ = 1, environment_ = float_environment_enter(); once_; \
         once_ = 0, float_environment_leave(environment_))

#endif
