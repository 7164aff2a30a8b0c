/* Which variant of the vector kernels runs: see dispatch.h. */
#include "dispatch.h"

static int forced = -1;

int mpsim_variant_runs(int variant) {
    switch (variant) {
    case MPSIM_PORTABLE:
        return 1;
#if defined(HAVE_avx2)
    case MPSIM_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#if defined(HAVE_avx512)
    case MPSIM_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    default:
        return 0;
    }
}

int mpsim_variant(void) {
    static int best = -1; /* every thread that finds it unset computes the same value */
    if (forced >= 0) return forced;
    if (best < 0) {
        int variant = MPSIM_VARIANTS - 1;
        while (!mpsim_variant_runs(variant)) variant--;
        best = variant;
    }
    return best;
}

int mpsim_force_variant(int variant) {
    if (variant >= 0 && !mpsim_variant_runs(variant)) return -1;
    forced = variant;
    return 0;
}
