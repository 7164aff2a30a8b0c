/* A libcuda.so.1 without a device, for tests of what the host does: memory of the "device" is the host's, copies copy,
 * launches do nothing and are counted. It answers as a device of compute capability 9.0, so everything is compiled.
 * STUB_MEMORY in the environment: bytes of the device. Functions that are not here say so and fail. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NOT_FOUND = 500, NOT_SUPPORTED = 801 };
typedef uint64_t Address;

static long launches, allocations, taken, handles = 1000;

long stub_launches(void) { return launches; }
long stub_allocations(void) { return allocations; }

static int new_handle(void **handle) {
    *handle = (void *)(intptr_t)(++handles * 16);
    return SUCCESS;
}

/* -- device and context -------------------------------------------------------------------------------------- */

static int context;
static __thread void *stack[16];
static __thread int depth;

int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int *device, int number) { return *device = number, SUCCESS; }
int cuDeviceGetName(char *name, int size, int device) { return snprintf(name, size, "stub, not a device"), SUCCESS; }
int cuDeviceGetUuid_v2(char *uuid, int device) { return memset(uuid, 7, 16), SUCCESS; }
int cuDevicePrimaryCtxRetain(void **found, int device) { return *found = &context, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
int cuCtxPushCurrent_v2(void *pushed) { return stack[++depth % 16] = pushed, SUCCESS; }
int cuCtxSetCurrent(void *chosen) { return stack[depth += !depth] = chosen, SUCCESS; }
int cuCtxGetCurrent(void **current) { return *current = stack[depth], SUCCESS; }
int cuCtxGetDevice(int *device) { return *device = 0, SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }

int cuCtxPopCurrent_v2(void **popped) {
    *popped = stack[depth];
    depth -= depth > 0;
    return SUCCESS;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    static const int known[][2] = {{16, 132}, {75, 9}, {76, 0}, {1, 1024}, {10, 32}, {12, 65536}, {39, 2048}, {8, 49152}};
    *value = 1;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i][0] == attribute) *value = known[i][1];
    return SUCCESS;
}

/* -- memory -------------------------------------------------------------------------------------------------- */

static size_t all_memory(void) {
    const char *text = getenv("STUB_MEMORY");
    return text ? strtoull(text, NULL, 10) : (size_t)8 << 30;
}

int cuMemGetInfo_v2(size_t *left, size_t *all) { return *all = all_memory(), *left = *all - taken, SUCCESS; }

int cuMemAlloc_v2(Address *address, size_t size) {
    size_t *block = taken + size > all_memory() ? NULL : calloc(1, size + 16);
    if (!block) return OUT_OF_MEMORY;
    *block = size, taken += size, allocations++;
    return *address = (Address)(block + 2), SUCCESS;
}

int cuMemFree_v2(Address address) {
    size_t *block = (size_t *)address - 2;
    taken -= *block;
    free(block);
    return SUCCESS;
}

int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t size, void *stream) {
    return memcpy((void *)to, from, size), SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t size, void *stream) {
    return memcpy(to, (void *)from, size), SUCCESS;
}
int cuMemsetD8Async(Address to, unsigned char byte, size_t size, void *stream) {
    return memset((void *)to, byte, size), SUCCESS;
}

/* -- streams, events, kernels -------------------------------------------------------------------------------- */

int cuStreamCreate(void **stream, unsigned flags) { return new_handle(stream); }
int cuStreamDestroy_v2(void *stream) { return SUCCESS; }
int cuStreamSynchronize(void *stream) { return SUCCESS; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
int cuEventCreate(void **event, unsigned flags) { return new_handle(event); }
int cuEventDestroy_v2(void *event) { return SUCCESS; }
int cuEventRecord(void *event, void *stream) { return SUCCESS; }

int cuLibraryLoadData(void **library, const void *code, void **o, void **v, unsigned n, void **lo, void **lv, unsigned m) {
    return memcmp(code, "\177ELF", 4) ? NOT_FOUND : new_handle(library);
}
int cuLibraryUnload(void *library) { return SUCCESS; }
int cuLibraryGetKernel(void **kernel, void *library, const char *name) { return new_handle(kernel); }
int cuKernelGetAttribute(int *value, int attribute, void *kernel, int device) { return *value = 32, SUCCESS; }
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *stream, void **words, void **extra) {
    return launches++, SUCCESS;
}
int cuLaunchKernelEx(const void *shape, void *f, void **words, void **extra) { return launches++, SUCCESS; }
int cuGetErrorName(int error, const char **name) {
    return *name = error == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_STUB", SUCCESS;
}
int cuGetErrorString(int error, const char **text) { return *text = "as the stub of tests/kernels says", SUCCESS; }

/* -- what is where ------------------------------------------------------------------------------------------- */

static int absent(void) {
    fprintf(stderr, "tests/kernels/driver_stub.c: a function that it does not have was called\n");
    return NOT_SUPPORTED;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    static const char *const endings[] = {"_v2", ""};
    Dl_info own;
    dladdr((void *)cuInit, &own);
    void *self = dlopen(own.dli_fname, RTLD_NOW);
    char name[128];
    *function = NULL;
    for (int i = 0; i < 2 && !*function; i++) {
        snprintf(name, sizeof name, "%s%s", symbol, endings[i]);
        *function = dlsym(self, name);
    }
    if (!*function) *function = (void *)absent;
    if (status) *status = 0;
    return SUCCESS;
}
