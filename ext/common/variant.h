/* Shared by the files of one variant: symbol names, the floating-point environment and threads.
 *
 * Every file of rounding/, contraction/ and layers/ is compiled once for each variant, with -DVARIANT=<name>. */
#ifndef MPSIM_VARIANT_H
#define MPSIM_VARIANT_H

#include "common/environment.h"
#include "common/kernels.h"

#include <stddef.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD_NUMBER omp_get_thread_num()
#else
#define THREAD_NUMBER 0
#endif

/* The symbol of a kernel, or of a function shared by files, in the variant being compiled. */
#define MPSIM_EXPAND(name, variant) MPSIM_JOIN(name, variant)
#define KERNEL(name) MPSIM_EXPAND(name, VARIANT)

#define DECLARE(V, name, result, parameters) result KERNEL(name) parameters;
KERNELS(DECLARE, )
#undef DECLARE

#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

static inline int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }

#endif
