// Hopper's conversions and matrix instructions, one host function each, for ctypes (bench/hardware/library.py).
//
// nvcc -gencode=arch=compute_90a,code=sm_90a -O2 -shared -Xcompiler -fPIC -o instructions.so instructions.cu
//
// Casts: int NAME(const void *in, void *out, size_t n). Dots: int NAME(const void *a, const void *b, float *c,
// size_t m, size_t n, size_t bytes, int swap): a is (m, K) and b is (n, K), the codes of a row being ``bytes`` long.
// All return 0, or a CUDA error that explained() puts in words. Not for several threads at once: buffers are kept.
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#define TRY(call)                                   \
    do {                                            \
        cudaError_t error = (call);                 \
        if (error != cudaSuccess) return (int)error; \
    } while (0)

struct Buffer {  // device memory that grows and stays
    void *at = nullptr;
    size_t size = 0;

    int reserve(size_t wanted) {
        if (wanted <= size) return 0;
        if (at) TRY(cudaFree(at));
        at = nullptr, size = 0;
        TRY(cudaMalloc(&at, wanted));
        size = wanted;
        return 0;
    }
};
static Buffer first, second, third;

extern "C" const char *explained(int error) { return cudaGetErrorString((cudaError_t)error); }

// -- casts -------------------------------------------------------------------------------------------------------

// A conversion of two numbers takes both neighbours, so that both of its halves are seen.
template <class Cast>
__global__ void cast_all(const typename Cast::In *in, typename Cast::Code *out, size_t n) {
    size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
    if (i >= n) return;
    size_t odd = i | 1;
    out[i] = Cast::code(in[i & ~(size_t)1], in[odd < n ? odd : i], i & 1);
}

template <class Cast>
static int cast(const void *in, void *out, size_t n) {
    using In = typename Cast::In;
    using Code = typename Cast::Code;
    if (n == 0) return 0;
    if (int error = first.reserve(n * sizeof(In))) return error;
    if (int error = second.reserve(n * sizeof(Code))) return error;
    TRY(cudaMemcpy(first.at, in, n * sizeof(In), cudaMemcpyHostToDevice));
    cast_all<Cast><<<(unsigned)((n + 255) / 256), 256>>>((const In *)first.at, (Code *)second.at, n);
    TRY(cudaGetLastError());
    TRY(cudaMemcpy(out, second.at, n * sizeof(Code), cudaMemcpyDeviceToHost));
    return 0;
}

#define EXPORT_CAST(NAME) \
    extern "C" int NAME(const void *in, void *out, size_t n) { return cast<NAME##_cast>(in, out, n); }

// SHIFT: bits of the register below the code (tf32 is the upper 19 of 32).
#define CAST_ONE(NAME, INSTRUCTION, CODE, REGISTER, SHIFT)                            \
    struct NAME##_cast {                                                              \
        using In = float;                                                             \
        using Code = CODE;                                                            \
        static __device__ Code code(float low, float high, bool odd) {                \
            CODE d;                                                                   \
            asm(INSTRUCTION " %0, %1;" : "=" REGISTER(d) : "f"(odd ? high : low));     \
            return (CODE)(d >> SHIFT);                                                \
        }                                                                             \
    };                                                                                \
    EXPORT_CAST(NAME)

#define CAST_TWO_FLOATS(NAME, INSTRUCTION)                                             \
    struct NAME##_cast {                                                               \
        using In = float;                                                              \
        using Code = uint8_t;                                                          \
        static __device__ Code code(float low, float high, bool odd) {                 \
            uint16_t d;                                                                \
            asm(INSTRUCTION " %0, %1, %2;" : "=h"(d) : "f"(high), "f"(low));           \
            return (Code)(odd ? d >> 8 : d & 0xff);                                    \
        }                                                                              \
    };                                                                                 \
    EXPORT_CAST(NAME)

#define CAST_TWO_HALVES(NAME, INSTRUCTION)                                             \
    struct NAME##_cast {                                                               \
        using In = uint16_t;                                                           \
        using Code = uint8_t;                                                          \
        static __device__ Code code(uint16_t low, uint16_t high, bool odd) {           \
            uint16_t d;                                                                \
            asm(INSTRUCTION " %0, %1;" : "=h"(d) : "r"((uint32_t)high << 16 | low));   \
            return (Code)(odd ? d >> 8 : d & 0xff);                                    \
        }                                                                              \
    };                                                                                 \
    EXPORT_CAST(NAME)

CAST_TWO_FLOATS(cvt_rn_satfinite_e4m3x2_f32, "cvt.rn.satfinite.e4m3x2.f32")
CAST_TWO_FLOATS(cvt_rn_satfinite_e5m2x2_f32, "cvt.rn.satfinite.e5m2x2.f32")
CAST_TWO_HALVES(cvt_rn_satfinite_e4m3x2_f16x2, "cvt.rn.satfinite.e4m3x2.f16x2")
CAST_TWO_HALVES(cvt_rn_satfinite_e5m2x2_f16x2, "cvt.rn.satfinite.e5m2x2.f16x2")
CAST_ONE(cvt_rn_bf16_f32, "cvt.rn.bf16.f32", uint16_t, "h", 0)
CAST_ONE(cvt_rz_bf16_f32, "cvt.rz.bf16.f32", uint16_t, "h", 0)
CAST_ONE(cvt_rn_satfinite_bf16_f32, "cvt.rn.satfinite.bf16.f32", uint16_t, "h", 0)
CAST_ONE(cvt_rn_f16_f32, "cvt.rn.f16.f32", uint16_t, "h", 0)
CAST_ONE(cvt_rz_f16_f32, "cvt.rz.f16.f32", uint16_t, "h", 0)
CAST_ONE(cvt_rn_satfinite_f16_f32, "cvt.rn.satfinite.f16.f32", uint16_t, "h", 0)
CAST_ONE(cvt_rn_tf32_f32, "cvt.rn.tf32.f32", uint32_t, "r", 13)
CAST_ONE(cvt_rna_tf32_f32, "cvt.rna.tf32.f32", uint32_t, "r", 13)

// -- dots --------------------------------------------------------------------------------------------------------

// Every instruction here takes 32 bytes of k: 16 halves, 8 tf32, 32 float8. So fragments are the same in bytes.
static const int K_BYTES = 32;

template <class Product>
static __device__ void store(const Product &product, float *c, size_t row, size_t column, size_t n) {
    for (int j = 0; j < 4; j++) c[(row + j / 2 * 8) * n + column + j % 2] = product.value(j);
}

// A chain of mma.sync: one warp a tile of 16 x 8, the sum begins as +0.
template <class Product>
__global__ void chain_of_mma(const uint8_t *a, const uint8_t *b, float *c, size_t n, size_t bytes, int) {
    int group = threadIdx.x / 4, byte = threadIdx.x % 4 * 4;
    size_t row = blockIdx.x * 16 + group, column = blockIdx.y * 8;
    Product product;
    for (size_t k = byte; k < bytes; k += K_BYTES) {
        uint32_t x[4], y[2];
        for (int j = 0; j < 4; j++) x[j] = *(const uint32_t *)(a + (row + j % 2 * 8) * bytes + k + j / 2 * 16);
        for (int j = 0; j < 2; j++) y[j] = *(const uint32_t *)(b + (column + group) * bytes + k + j * 16);
        product.add(x, y);
    }
    store(product, c, row, column + byte / 2, n);
}

// Shared memory without swizzle: matrices of 8 rows x 16 bytes, two side by side in k, then the next 8 rows.
static __device__ uint64_t descriptor(const void *shared, int swap) {
    uint64_t address = __cvta_generic_to_shared(shared), in_k = 128, in_rows = 256;
    uint64_t leading = swap ? in_rows : in_k, stride = swap ? in_k : in_rows;
    return (address & 0x3ffff) >> 4 | leading >> 4 << 16 | stride >> 4 << 32;
}

static __device__ void fill(uint8_t *shared, const uint8_t *rows, size_t bytes, size_t k, int count) {
    for (int word = threadIdx.x; word < count * K_BYTES / 4; word += blockDim.x) {
        int row = word / 8, byte = word % 8 * 4;
        *(uint32_t *)(shared + row / 8 * 256 + byte / 16 * 128 + row % 8 * 16 + byte % 16) =
            *(const uint32_t *)(rows + row * bytes + k + byte);
    }
}

// A chain of wgmma: one warpgroup a tile of 64 x 8, the first instruction with scale-d = 0.
template <class Product>
__global__ void __launch_bounds__(128)
    chain_of_wgmma(const uint8_t *a, const uint8_t *b, float *c, size_t n, size_t bytes, int swap) {
    __shared__ alignas(128) uint8_t x[64 * K_BYTES], y[8 * K_BYTES];
    size_t row = blockIdx.x * 64, column = blockIdx.y * 8;
    uint64_t left = descriptor(x, swap), right = descriptor(y, swap);
    Product product;
    for (size_t k = 0; k < bytes; k += K_BYTES) {
        fill(x, a + row * bytes, bytes, k, 64);
        fill(y, b + column * bytes, bytes, k, 8);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncthreads();
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        product.add(left, right, k > 0);
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
        __syncthreads();
    }
    store(product, c, row + threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4, column + threadIdx.x % 4 * 2, n);
}

using Chain = void (*)(const uint8_t *, const uint8_t *, float *, size_t, size_t, int);

static int dot(Chain chain, int rows, int threads, const void *a, const void *b, float *c, size_t m, size_t n,
               size_t bytes, int swap) {
    if (!m || !n || !bytes || m % rows || n % 8 || bytes % K_BYTES) return (int)cudaErrorInvalidValue;
    if (int error = first.reserve(m * bytes)) return error;
    if (int error = second.reserve(n * bytes)) return error;
    if (int error = third.reserve(m * n * sizeof(float))) return error;
    TRY(cudaMemcpy(first.at, a, m * bytes, cudaMemcpyHostToDevice));
    TRY(cudaMemcpy(second.at, b, n * bytes, cudaMemcpyHostToDevice));
    dim3 grid((unsigned)(m / rows), (unsigned)(n / 8));
    chain<<<grid, threads>>>((const uint8_t *)first.at, (const uint8_t *)second.at, (float *)third.at, n, bytes, swap);
    TRY(cudaGetLastError());
    TRY(cudaMemcpy(c, third.at, m * n * sizeof(float), cudaMemcpyDeviceToHost));
    return 0;
}

#define EXPORT_DOT(NAME, CHAIN, ROWS, THREADS)                                                                \
    extern "C" int NAME(const void *a, const void *b, float *c, size_t m, size_t n, size_t bytes, int swap) { \
        return dot(CHAIN<NAME##_product>, ROWS, THREADS, a, b, c, m, n, bytes, swap);                         \
    }

struct FloatSums {
    float d[4] = {0, 0, 0, 0};
    __device__ float value(int j) const { return d[j]; }
};

struct HalfSums {  // two halves a register
    uint32_t d[2] = {0, 0};
    __device__ float value(int j) const {
        return __half2float(__ushort_as_half((unsigned short)(d[j / 2] >> j % 2 * 16)));
    }
};

#define MMA(NAME, INSTRUCTION)                                                                                \
    struct NAME##_product : FloatSums {                                                                       \
        __device__ void add(const uint32_t (&x)[4], const uint32_t (&y)[2]) {                                 \
            asm volatile(INSTRUCTION " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                 \
                         : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                     \
                         : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));                 \
        }                                                                                                     \
    };                                                                                                        \
    EXPORT_DOT(NAME, chain_of_mma, 16, 32)

#define MMA_TO_HALF(NAME, INSTRUCTION)                                                                        \
    struct NAME##_product : HalfSums {                                                                        \
        __device__ void add(const uint32_t (&x)[4], const uint32_t (&y)[2]) {                                 \
            asm volatile(INSTRUCTION " {%0,%1}, {%2,%3,%4,%5}, {%6,%7}, {%0,%1};"                             \
                         : "+r"(d[0]), "+r"(d[1])                                                             \
                         : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]));                 \
        }                                                                                                     \
    };                                                                                                        \
    EXPORT_DOT(NAME, chain_of_mma, 16, 32)

// TAIL: scales of a and b, and for types of 16 bits that neither is transposed.
#define WGMMA(NAME, INSTRUCTION, TAIL)                                                                        \
    struct NAME##_product : FloatSums {                                                                       \
        __device__ void add(uint64_t x, uint64_t y, int carried) {                                            \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n" INSTRUCTION                              \
                         " {%0,%1,%2,%3}, %4, %5, p, " TAIL ";\n}"                                            \
                         : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                     \
                         : "l"(x), "l"(y), "r"(carried));                                                     \
        }                                                                                                     \
    };                                                                                                        \
    EXPORT_DOT(NAME, chain_of_wgmma, 64, 128)

#define WGMMA_TO_HALF(NAME, INSTRUCTION, TAIL)                                                                \
    struct NAME##_product : HalfSums {                                                                        \
        __device__ void add(uint64_t x, uint64_t y, int carried) {                                            \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %4, 0;\n" INSTRUCTION                              \
                         " {%0,%1}, %2, %3, p, " TAIL ";\n}"                                                  \
                         : "+r"(d[0]), "+r"(d[1])                                                             \
                         : "l"(x), "l"(y), "r"(carried));                                                     \
        }                                                                                                     \
    };                                                                                                        \
    EXPORT_DOT(NAME, chain_of_wgmma, 64, 128)

MMA(mma_f16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
MMA(mma_bf16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32")
MMA(mma_tf32, "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
MMA(mma_e4m3, "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32")
MMA(mma_e5m2, "mma.sync.aligned.m16n8k32.row.col.f32.e5m2.e5m2.f32")
MMA_TO_HALF(mma_f16_to_f16, "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16")
WGMMA(wgmma_f16, "wgmma.mma_async.sync.aligned.m64n8k16.f32.f16.f16", "1, 1, 0, 0")
WGMMA(wgmma_bf16, "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16", "1, 1, 0, 0")
WGMMA(wgmma_tf32, "wgmma.mma_async.sync.aligned.m64n8k8.f32.tf32.tf32", "1, 1")
WGMMA(wgmma_e4m3, "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3", "1, 1")
WGMMA(wgmma_e5m2, "wgmma.mma_async.sync.aligned.m64n8k32.f32.e5m2.e5m2", "1, 1")
WGMMA_TO_HALF(wgmma_f16_to_f16, "wgmma.mma_async.sync.aligned.m64n8k16.f16.f16.f16", "1, 1, 0, 0")
WGMMA_TO_HALF(wgmma_e4m3_to_f16, "wgmma.mma_async.sync.aligned.m64n8k32.f16.e4m3.e4m3", "1, 1")
WGMMA_TO_HALF(wgmma_e5m2_to_f16, "wgmma.mma_async.sync.aligned.m64n8k32.f16.e5m2.e5m2", "1, 1")
