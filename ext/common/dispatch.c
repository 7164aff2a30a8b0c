/* Chooses the variant: lists the variants that were built, and selects the current one. */
#include "common/kernels.h"
#include "common/processor.h"

#include <stddef.h>

#define DECLARE(V, name, result, parameters) result MPSIM_JOIN(name, V) parameters;
#define ENTRY(V, name, result, parameters) .name = MPSIM_JOIN(name, V),
#define DECLARE_VARIANT(V) KERNELS(DECLARE, V)
#define VARIANT_ENTRY(V) {#V, processor_runs_##V, {KERNELS(ENTRY, V)}},

VARIANTS(DECLARE_VARIANT)

static const struct {
    const char *name;
    int (*runs)(void);
    Kernels kernels;
} variants[] = {VARIANTS(VARIANT_ENTRY)};

enum { COUNT = sizeof variants / sizeof *variants };

static int forced = -1;

const char *mpsim_variant_name(int variant) { return variant < COUNT ? variants[variant].name : NULL; }

int mpsim_variant_runs(int variant) { return variants[variant].runs(); }

int mpsim_variant(void) {
    static int best = -1; /* all threads compute and store the same value */
    if (forced >= 0) return forced;
    int variant = __atomic_load_n(&best, __ATOMIC_RELAXED);
    if (variant < 0) {
        variant = COUNT - 1;
        while (!mpsim_variant_runs(variant)) variant--;
        __atomic_store_n(&best, variant, __ATOMIC_RELAXED);
    }
    return variant;
}

void mpsim_force_variant(int variant) { forced = variant; }

const Kernels *mpsim_kernels(void) { return &variants[mpsim_variant()].kernels; }
