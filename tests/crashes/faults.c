/* A library for LD_PRELOAD that makes what a process writes below one folder fail, or ends the process there.
 *
 * Every call that changes a file or a folder counts: open that creates, write, fsync, ftruncate, rename, link, unlink.
 * harness.py arms one fault. KILL: SIGKILL before call number `at`. TEAR: the first half of that write, then SIGKILL.
 * SHORT: that write writes one byte only, which POSIX allows. FAIL: that call fails with `error`. FULL: every write
 * beyond `at` bytes in all fails with `error`. READ_ONLY: every call fails with EROFS. TRACE: the calls are written to
 * a file, with their contents, from which harness.py computes what a loss of power may leave. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL, TEAR, SHORT, FAIL, FULL, READ_ONLY, TRACE };

static char folder[PATH_MAX];
static int kind = NONE, error_number, trace_file = -1;
static long at, calls, bytes;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

/* Arms a fault below the folder, an absolute path. The trace is an open descriptor, or -1. */
void faults_arm(const char *below, int new_kind, long new_at, int new_error, int trace) {
    snprintf(folder, sizeof folder, "%s", below);
    at = new_at, error_number = new_error, calls = 0, bytes = 0, trace_file = trace;
    kind = new_kind;
}

/* Adds a line of words to the trace. */
static void note(const char *what, const char *path, const char *to, int64_t offset, const void *data, size_t size);
void faults_mark(const char *words) { note("mark", words, "", 0, NULL, 0); }

long faults_calls(void) { return calls; }
long faults_bytes(void) { return bytes; }

/* Whether a path is the folder or below it. */
static int below(const char *path) {
    const size_t size = strlen(folder);
    return kind != NONE && !strncmp(path, folder, size) && (path[size] == 0 || path[size] == '/');
}

/* The absolute path of a name; folders are not resolved further. */
static void absolute(int base, const char *name, char *path) {
    char start[PATH_MAX] = "";
    if (name[0] != '/') {
        char link[64];
        snprintf(link, sizeof link, base == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", base);
        const ssize_t size = readlink(link, start, sizeof start - 2);
        start[size < 0 ? 0 : size] = 0;
        strcat(start, "/");
    }
    snprintf(path, PATH_MAX, "%s%s", start, name);
}

static int file_below(int descriptor, char *path) {
    if (kind == NONE || descriptor == trace_file) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    const ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size <= 0) return 0;
    path[size] = 0;
    return below(path);
}

static void real_write(const void *data, size_t size) {
    REAL(write, ssize_t, int, const void *, size_t);
    if (real(trace_file, data, size) != (ssize_t)size) abort();
}

/* Adds a call to the trace: a line of words, and the bytes that it announces. */
static void note(const char *what, const char *path, const char *to, int64_t offset, const void *data, size_t size) {
    if (kind != TRACE) return;
    char line[3 * PATH_MAX];
    const int length = snprintf(line, sizeof line, "%s\t%s\t%s\t%lld\t%zu\n", what, path, to, (long long)offset, size);
    real_write(line, length);
    if (size) real_write(data, size);
}

/* Counts a call, and returns whether it is to fail; errno says how. */
static int fails(size_t size) {
    pthread_mutex_lock(&lock);
    const long number = calls++;
    const int full = kind == FULL && size && bytes + (long)size > at;
    bytes += size;
    pthread_mutex_unlock(&lock);
    if (kind == KILL && number == at) kill(getpid(), SIGKILL);
    if (kind == READ_ONLY) errno = EROFS;
    else errno = error_number;
    return full || kind == READ_ONLY || (kind == FAIL && number == at);
}

/* The number of bytes that a write may write. */
static size_t shortened(size_t size) {
    if (calls - 1 != at || size < 2) return size;
    return kind == TEAR ? size / 2 : kind == SHORT ? 1 : size;
}

static void after_write(void) {
    if (kind == TEAR && calls - 1 == at) kill(getpid(), SIGKILL);
}

static int opened(int descriptor, const char *path, int flags, int new) {
    if (descriptor < 0 || !below(path)) return descriptor;
    if (new) note("create", path, "", 0, NULL, 0);
    else if (flags & O_TRUNC) note("truncate", path, "", 0, NULL, 0);
    return descriptor;
}

static int open_at(int base, const char *name, int flags, mode_t mode) {
    REAL(openat, int, int, const char *, int, ...);
    if (kind == NONE) return real(base, name, flags, mode);
    char path[PATH_MAX];
    absolute(base, name, path);
    const int new = (flags & O_CREAT) && access(path, F_OK);
    if (below(path)) {
        if (kind == READ_ONLY && (flags & (O_ACCMODE | O_CREAT))) return errno = EROFS, -1;
        if ((new || (flags & O_TRUNC)) && fails(0)) return -1;
    }
    return opened(real(base, name, flags, mode), path, flags, new);
}

#define MODE(flags) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

int open(const char *name, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, name, flags, mode); }
int openat(int base, const char *name, int flags, ...) { MODE(flags) return open_at(base, name, flags, mode); }
int openat64(int base, const char *name, int flags, ...) { MODE(flags) return open_at(base, name, flags, mode); }

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write, ssize_t, int, const void *, size_t);
    char path[PATH_MAX];
    if (!file_below(descriptor, path)) return real(descriptor, data, size);
    if (fails(size)) return -1;
    const off_t offset = lseek(descriptor, 0, SEEK_CUR);
    const ssize_t done = real(descriptor, data, shortened(size));
    if (done > 0) note("write", path, "", offset, data, done);
    after_write();
    return done;
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off_t offset) {
    REAL(pwrite64, ssize_t, int, const void *, size_t, off_t);
    char path[PATH_MAX];
    if (!file_below(descriptor, path)) return real(descriptor, data, size, offset);
    if (fails(size)) return -1;
    const ssize_t done = real(descriptor, data, shortened(size), offset);
    if (done > 0) note("write", path, "", offset, data, done);
    after_write();
    return done;
}
ssize_t pwrite(int descriptor, const void *data, size_t size, off_t offset) {
    return pwrite64(descriptor, data, size, offset);
}

/* mpsim and SQLite do not call these; if a new version does, the test must learn of it. */
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev, ssize_t, int, const struct iovec *, int);
    char path[PATH_MAX];
    if (file_below(descriptor, path)) abort();
    return real(descriptor, parts, count);
}

#define ON_FILE(name, what, parameters, arguments, size) \
    int name parameters { \
        REAL(name, int, TYPES_##name); \
        char path[PATH_MAX]; \
        if (!file_below(descriptor, path)) return real arguments; \
        if (fails(0)) return -1; \
        const int done = real arguments; \
        if (!done) note(what, path, "", size, NULL, 0); \
        return done; \
    }
#define TYPES_fsync int
#define TYPES_fdatasync int
#define TYPES_ftruncate64 int, off_t
ON_FILE(fsync, "sync", (int descriptor), (descriptor), 0)
ON_FILE(fdatasync, "sync", (int descriptor), (descriptor), 0)
ON_FILE(ftruncate64, "truncate", (int descriptor, off_t size), (descriptor, size), size)
int ftruncate(int descriptor, off_t size) { return ftruncate64(descriptor, size); }

#define ON_NAMES(name, what, parameters, arguments) \
    int name parameters { \
        REAL(name, int, const char *, const char *); \
        if (kind == NONE) return real arguments; \
        char path[PATH_MAX], target[PATH_MAX]; \
        absolute(AT_FDCWD, from, path), absolute(AT_FDCWD, to, target); \
        if (!below(path) && !below(target)) return real arguments; \
        if (fails(0)) return -1; \
        const int done = real arguments; \
        if (!done) note(what, path, target, 0, NULL, 0); \
        return done; \
    }
ON_NAMES(rename, "rename", (const char *from, const char *to), (from, to))
ON_NAMES(link, "link", (const char *from, const char *to), (from, to))

int mkdir(const char *name, mode_t mode) {
    REAL(mkdir, int, const char *, mode_t);
    char path[PATH_MAX];
    if (kind == NONE) return real(name, mode);
    absolute(AT_FDCWD, name, path);
    if (!below(path)) return real(name, mode);
    if (fails(0)) return -1;
    const int done = real(name, mode);
    if (!done) note("mkdir", path, "", 0, NULL, 0);
    return done;
}

int unlink(const char *name) {
    REAL(unlink, int, const char *);
    char path[PATH_MAX];
    if (kind == NONE) return real(name);
    absolute(AT_FDCWD, name, path);
    if (!below(path)) return real(name);
    if (fails(0)) return -1;
    const int done = real(name);
    if (!done) note("unlink", path, "", 0, NULL, 0);
    return done;
}
