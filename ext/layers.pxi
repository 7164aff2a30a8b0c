from libc.stdint cimport int32_t, int64_t, uint8_t

cdef extern from "layers.h":
    ctypedef struct Pooling:
        int64_t planes, height, width, rows, columns
        int64_t kernel[2]
        int64_t stride[2]
        int64_t padding[2]
    ctypedef struct Batch:
        int64_t count, channels, area
    ctypedef struct Moving:
        int64_t size[3]
        int64_t from_ "from"[3]
        int64_t to[3]
        int64_t run, before, after
    ctypedef struct LayerKernels:
        void (*add)(const float *, const float *, float *, int64_t, int) noexcept nogil
        void (*scale)(const float *, float, float *, int64_t, int) noexcept nogil
        void (*relu)(const float *, float *, int64_t, int) noexcept nogil
        void (*relu_gradient)(const float *, const float *, float *, int64_t, int) noexcept nogil
        void (*positive)(const float *, uint8_t *, int64_t, int) noexcept nogil
        void (*relu_gradient_where)(const float *, const uint8_t *, float *, int64_t,
                                    int) noexcept nogil
        void (*sgd_update)(float *, const float *, float *, float, float, float, float, int64_t, int) noexcept nogil
        void (*channel_sum)(const float *, Batch, float *, int) noexcept nogil
        float (*total_sum)(const float *, int64_t) noexcept nogil
        void (*batch_norm)(const float *, const float *, const float *, float, Batch, float *, float *, float *,
                           float *, int) noexcept nogil
        void (*batch_norm_inference)(const float *, const float *, const float *, const float *, const float *,
                                     float, Batch, float *, int) noexcept nogil
        void (*batch_norm_gradient)(const float *, const float *, const float *, const float *, const float *, Batch,
                                    float *, float *, float *, int) noexcept nogil
        void (*move)(const float *, Moving, float *, int) noexcept nogil
        int (*max_pool2d)(const float *, Pooling, float *, int32_t *, int) noexcept nogil
        void (*max_pool2d_gradient)(const float *, const int32_t *, Pooling, float *, int) noexcept nogil
        int (*avg_pool2d)(const float *, Pooling, float *, int) noexcept nogil
        int (*avg_pool2d_gradient)(const float *, Pooling, float *, int) noexcept nogil
        void (*log_softmax)(const float *, int64_t, int64_t, float *, int) noexcept nogil
        void (*log_softmax_gradient)(const float *, const float *, int64_t, int64_t, float *, int) noexcept nogil
    const LayerKernels *layer_kernels() noexcept nogil


cdef Batch layer_batch(sizes):
    cdef Batch batch
    batch.count, batch.channels, batch.area = sizes
    return batch


cdef Pooling layer_pooling(sizes, kernel, stride, padding):
    cdef Pooling pool
    pool.planes, pool.height, pool.width, pool.rows, pool.columns = sizes
    pool.kernel[0], pool.kernel[1] = kernel
    pool.stride[0], pool.stride[1] = stride
    pool.padding[0], pool.padding[1] = padding
    return pool


def layer_add(const float[::1] a, const float[::1] b, float[::1] y, int threads):
    with nogil:
        layer_kernels().add(&a[0], &b[0], &y[0], a.shape[0], threads)


def layer_scale(const float[::1] x, float factor, float[::1] y, int threads):
    with nogil:
        layer_kernels().scale(&x[0], factor, &y[0], x.shape[0], threads)


def layer_relu(const float[::1] x, float[::1] y, int threads):
    with nogil:
        layer_kernels().relu(&x[0], &y[0], x.shape[0], threads)


def layer_relu_gradient(const float[::1] gy, const float[::1] x, float[::1] gx, int threads):
    with nogil:
        layer_kernels().relu_gradient(&gy[0], &x[0], &gx[0], x.shape[0], threads)


def layer_positive(const float[::1] x, uint8_t[::1] mask, int threads):
    with nogil:
        layer_kernels().positive(&x[0], &mask[0], x.shape[0], threads)


def layer_relu_gradient_where(const float[::1] gy, const uint8_t[::1] mask, float[::1] gx,
                              int threads):
    with nogil:
        layer_kernels().relu_gradient_where(&gy[0], &mask[0], &gx[0], gy.shape[0], threads)


def layer_sgd_update(float[::1] master, const float[::1] gradient, float[::1] velocity, float learning_rate,
                     float momentum, float weight_decay, float inverse_scale, int threads):
    with nogil:
        layer_kernels().sgd_update(&master[0], &gradient[0], &velocity[0], learning_rate, momentum, weight_decay,
                                   inverse_scale, master.shape[0], threads)


def layer_channel_sum(const float[::1] x, sizes, float[::1] sums, int threads):
    cdef Batch batch = layer_batch(sizes)
    with nogil:
        layer_kernels().channel_sum(&x[0], batch, &sums[0], threads)


def layer_total_sum(const float[::1] x):
    cdef float total
    with nogil:
        total = layer_kernels().total_sum(&x[0], x.shape[0])
    return total


def layer_batch_norm(const float[::1] x, const float[::1] scale, const float[::1] shift, float epsilon, sizes,
                     float[::1] y, float[::1] mean, float[::1] variance, float[::1] inverse_deviation, int threads):
    cdef Batch batch = layer_batch(sizes)
    with nogil:
        layer_kernels().batch_norm(&x[0], &scale[0], &shift[0], epsilon, batch, &y[0], &mean[0], &variance[0],
                                   &inverse_deviation[0], threads)


def layer_batch_norm_inference(const float[::1] x, const float[::1] mean, const float[::1] variance,
                               const float[::1] scale, const float[::1] shift, float epsilon, sizes, float[::1] y, int threads):
    cdef Batch batch = layer_batch(sizes)
    with nogil:
        layer_kernels().batch_norm_inference(&x[0], &mean[0], &variance[0], &scale[0], &shift[0], epsilon, batch,
                                             &y[0], threads)


def layer_batch_norm_gradient(const float[::1] gy, const float[::1] x, const float[::1] mean,
                              const float[::1] inverse_deviation, const float[::1] scale, sizes, float[::1] gx,
                              float[::1] gscale, float[::1] gshift, int threads):
    cdef Batch batch = layer_batch(sizes)
    with nogil:
        layer_kernels().batch_norm_gradient(&gy[0], &x[0], &mean[0], &inverse_deviation[0], &scale[0], batch, &gx[0],
                                            &gscale[0], &gshift[0], threads)


def layer_move(const float[::1] x, sizes, from_steps, int64_t from_start, float[::1] y, to_steps, int64_t to_start,
               int64_t run, int64_t before, int64_t after, int threads):
    cdef Moving moving
    cdef int axis
    for axis in range(3):
        moving.size[axis], moving.from_[axis], moving.to[axis] = sizes[axis], from_steps[axis], to_steps[axis]
    moving.run, moving.before, moving.after = run, before, after
    with nogil:
        layer_kernels().move(&x[from_start], moving, &y[to_start], threads)


def layer_max_pool2d(const float[::1] x, sizes, kernel, stride, padding, float[::1] y, int32_t[::1] index,
                     int threads):
    cdef Pooling pool = layer_pooling(sizes, kernel, stride, padding)
    cdef int status
    with nogil:
        status = layer_kernels().max_pool2d(&x[0], pool, &y[0], &index[0], threads)
    if status:
        raise MemoryError("max_pool2d: no memory for one padded plane")


def layer_max_pool2d_gradient(const float[::1] gy, const int32_t[::1] index, sizes, float[::1] gx, int threads):
    cdef Pooling pool = layer_pooling(sizes, (1, 1), (1, 1), (0, 0))
    with nogil:
        layer_kernels().max_pool2d_gradient(&gy[0], &index[0], pool, &gx[0], threads)


def layer_avg_pool2d(const float[::1] x, sizes, kernel, stride, padding, float[::1] y, int threads):
    cdef Pooling pool = layer_pooling(sizes, kernel, stride, padding)
    cdef int status
    with nogil:
        status = layer_kernels().avg_pool2d(&x[0], pool, &y[0], threads)
    if status:
        raise MemoryError("avg_pool2d: no memory for one row of windows")


def layer_avg_pool2d_gradient(const float[::1] gy, sizes, kernel, stride, padding, float[::1] gx, int threads):
    cdef Pooling pool = layer_pooling(sizes, kernel, stride, padding)
    cdef int status
    with nogil:
        status = layer_kernels().avg_pool2d_gradient(&gy[0], pool, &gx[0], threads)
    if status:
        raise MemoryError("avg_pool2d_gradient: no memory for one plane of windows")


def layer_log_softmax(const float[::1] x, int64_t rows, int64_t columns, float[::1] y, int threads):
    with nogil:
        layer_kernels().log_softmax(&x[0], rows, columns, &y[0], threads)


def layer_log_softmax_gradient(const float[::1] gy, const float[::1] y, int64_t rows, int64_t columns,
                               float[::1] gx, int threads):
    with nogil:
        layer_kernels().log_softmax_gradient(&gy[0], &y[0], rows, columns, &gx[0], threads)
