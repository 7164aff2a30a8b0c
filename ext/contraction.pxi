cdef extern from "dispatch.h":
    int mpsim_variant() noexcept nogil
    int mpsim_force_variant(int variant) noexcept nogil
    int mpsim_variant_runs(int variant) noexcept nogil

VARIANTS = ("portable", "avx2", "avx512")


def variant():
    """The name of the variant of the vector kernels that runs: "portable", "avx2" or "avx512"."""
    return VARIANTS[mpsim_variant()]


def variants():
    """The names of the variants that were built and that this processor runs."""
    return tuple(name for index, name in enumerate(VARIANTS) if mpsim_variant_runs(index))


def force_variant(name):
    """Run the named variant from now on; None: the best one again. For tests: no bit depends on it.

    Raises ValueError if the variant was not built or cannot run here.
    """
    if name is not None and name not in variants():
        raise ValueError(f"variant {name!r} does not run here; these do: {', '.join(variants())}")
    mpsim_force_variant(-1 if name is None else VARIANTS.index(name))
