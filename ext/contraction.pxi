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


cdef extern from "contraction.h":
    ctypedef struct Convolution:
        long images, channels, height, width
        long outputs, out_height, out_width
        long kernel_height, kernel_width
        long stride_height, stride_width
        long padding_height, padding_width
        long groups

    int contraction_matmul(const float *a, const float *b, const float *bias, float *c, long rows, long columns,
                           long depth, int transpose_a, int transpose_b, int threads) noexcept nogil
    int contraction_forward(const Convolution *shape, const float *x, const float *w, const float *bias, float *y, int threads) noexcept nogil
    int contraction_input_gradient(const Convolution *shape, const float *gy, const float *w, float *gx, int threads) noexcept nogil
    int contraction_weight_gradient(const Convolution *shape, const float *x, const float *gy, float *gw,
                                    int threads) noexcept nogil


cdef inline const float *optional(const float[::1] values) noexcept:
    if values is None:
        return NULL
    return &values[0]


cdef check(int failed):
    if failed:
        raise MemoryError("no memory for the scratch arrays of a contraction")


cdef Convolution convolution(tuple x, tuple w, tuple y, stride, padding, long groups):
    cdef Convolution shape
    shape.images, shape.channels, shape.height, shape.width = x
    shape.outputs, shape.kernel_height, shape.kernel_width = w[0], w[2], w[3]
    shape.out_height, shape.out_width = y[2], y[3]
    shape.stride_height, shape.stride_width = stride
    shape.padding_height, shape.padding_width = padding
    shape.groups = groups
    return shape


def matmul(const float[::1] a, const float[::1] b, const float[::1] bias, float[::1] c, long rows, long columns,
           long depth, bint transpose_a, bint transpose_b, int threads):
    """c = op(a) op(b) + bias, in the written order; flat arrays, sizes unchecked."""
    cdef int failed
    cdef const float *bias_or_null = optional(bias)
    with nogil:
        failed = contraction_matmul(&a[0], &b[0], bias_or_null, &c[0], rows, columns, depth, transpose_a, transpose_b,
                                    threads)
    check(failed)


def convolution_forward(const float[::1] x, const float[::1] w, const float[::1] bias, float[::1] y, tuple x_shape,
                        tuple w_shape, tuple y_shape, stride, padding, long groups, int threads):
    """y from x, w and bias, in the written order; flat arrays, sizes unchecked."""
    cdef int failed
    cdef Convolution shape = convolution(x_shape, w_shape, y_shape, stride, padding, groups)
    cdef const float *bias_or_null = optional(bias)
    with nogil:
        failed = contraction_forward(&shape, &x[0], &w[0], bias_or_null, &y[0], threads)
    check(failed)


def convolution_input_gradient(const float[::1] gy, const float[::1] w, float[::1] gx, tuple x_shape, tuple w_shape,
                               tuple y_shape, stride, padding, long groups, int threads):
    """gx from gy and w, in the written order; flat arrays, sizes unchecked."""
    cdef int failed
    cdef Convolution shape = convolution(x_shape, w_shape, y_shape, stride, padding, groups)
    with nogil:
        failed = contraction_input_gradient(&shape, &gy[0], &w[0], &gx[0], threads)
    check(failed)


def convolution_weight_gradient(const float[::1] x, const float[::1] gy, float[::1] gw, tuple x_shape, tuple w_shape,
                                tuple y_shape, stride, padding, long groups, int threads):
    """gw from x and gy, in the written order; flat arrays, sizes unchecked."""
    cdef int failed
    cdef Convolution shape = convolution(x_shape, w_shape, y_shape, stride, padding, groups)
    with nogil:
        failed = contraction_weight_gradient(&shape, &x[0], &gy[0], &gw[0], threads)
    check(failed)
