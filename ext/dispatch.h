/* The one place where the instruction set is chosen at run time.
 *
 * A file ext/simd_*.c is compiled once per variant; VARIANT_NAME(f) is the symbol f of the variant being compiled,
 * DISPATCH(f) the function of the variant that runs (a pointer to f of mpsim_variant()). */
#ifndef MPSIM_DISPATCH_H
#define MPSIM_DISPATCH_H

enum { MPSIM_PORTABLE = 0, MPSIM_AVX2 = 1, MPSIM_AVX512 = 2, MPSIM_VARIANTS = 3 };

/* The best variant that was built and that this processor runs, or the one forced. */
int mpsim_variant(void);
/* Force a variant; -1 ends the forcing. Returns 0, or -1 when it was not built or cannot run here. */
int mpsim_force_variant(int variant);
/* Whether a variant was built and can run here. */
int mpsim_variant_runs(int variant);

#define MPSIM_CONCAT2(a, b) a##_##b
#define MPSIM_CONCAT(a, b) MPSIM_CONCAT2(a, b)
#define VARIANT_NAME(f) MPSIM_CONCAT(f, VARIANT)

#ifdef HAVE_avx2
#define MPSIM_AVX2_OF(f) f##_avx2
#else
#define MPSIM_AVX2_OF(f) f##_portable
#endif
#ifdef HAVE_avx512
#define MPSIM_AVX512_OF(f) f##_avx512
#else
#define MPSIM_AVX512_OF(f) f##_portable
#endif
#define DISPATCH(f) \
    (mpsim_variant() == MPSIM_AVX512 ? MPSIM_AVX512_OF(f) \
     : mpsim_variant() == MPSIM_AVX2 ? MPSIM_AVX2_OF(f)   \
                                     : f##_portable)

/* Declares f of every variant: DECLARE_VARIANTS(int, f, (long n, const float *x)). */
#define DECLARE_VARIANTS(result, f, arguments) \
    result f##_portable arguments; \
    result f##_avx2 arguments; \
    result f##_avx512 arguments

#endif
