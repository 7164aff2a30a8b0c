/* The functions of GCC's OpenMP that the kernels call, on POSIX threads, for ThreadSanitizer.
 *
 * GCC's own library synchronises with futexes, which ThreadSanitizer does not see: it would report every parallel loop.
 * Here a region starts its threads and joins them, and a barrier is pthread_barrier_t. Threads take chunks of a dynamic
 * loop with a relaxed counter, so that taking a chunk orders nothing and hides no race. */
#include <omp.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

enum { MOST_LOOPS = 4096 }; /* dynamic loops of one region */

typedef struct {
    void (*function)(void *);
    void *data;
    int threads;
    pthread_barrier_t barrier;
    long taken[MOST_LOOPS]; /* chunks of each dynamic loop */
} Team;

typedef struct {
    Team *team;
    int number, loop; /* of the thread, and of its current dynamic loop */
    long start, step, count;
} Place;

static __thread Place here = {.loop = -1};
static pthread_mutex_t atomic = PTHREAD_MUTEX_INITIALIZER;

static void stop_unless(bool condition) {
    if (!condition) abort();
}

static void *work(void *place) {
    here = *(Place *)place;
    here.team->function(here.team->data);
    return NULL;
}

void GOMP_parallel(void (*function)(void *), void *data, unsigned threads, unsigned flags) {
    (void)flags;
    const Place before = here;
    const int count = threads ? (int)threads : 1;
    Team *team = calloc(1, sizeof *team);
    Place *places = calloc(count, sizeof *places);
    pthread_t *started = calloc(count, sizeof *started);
    stop_unless(team && places && started);
    team->function = function, team->data = data, team->threads = count;
    stop_unless(!pthread_barrier_init(&team->barrier, NULL, count));
    for (int i = 0; i < count; i++) places[i] = (Place){.team = team, .number = i, .loop = -1};
    for (int i = 1; i < count; i++) stop_unless(!pthread_create(&started[i], NULL, work, &places[i]));
    work(&places[0]);
    for (int i = 1; i < count; i++) pthread_join(started[i], NULL);
    here = before;
    pthread_barrier_destroy(&team->barrier);
    free(team), free(places), free(started);
}

int omp_get_thread_num(void) { return here.number; }
int omp_get_num_threads(void) { return here.team ? here.team->threads : 1; }

void GOMP_barrier(void) {
    if (here.team) pthread_barrier_wait(&here.team->barrier);
}

bool GOMP_loop_nonmonotonic_dynamic_next(long *first, long *end) {
    long *taken = &here.team->taken[here.loop], chunk = __atomic_fetch_add(taken, 1, __ATOMIC_RELAXED) * here.step;
    if (chunk >= here.count) return false;
    *first = here.start + chunk;
    *end = here.start + (chunk + here.step < here.count ? chunk + here.step : here.count);
    return true;
}

bool GOMP_loop_nonmonotonic_dynamic_start(long start, long stop, long increment, long chunk, long *first, long *end) {
    stop_unless(here.team && increment == 1 && here.loop + 1 < MOST_LOOPS);
    here.loop++;
    here.start = start, here.step = chunk, here.count = stop - start;
    return GOMP_loop_nonmonotonic_dynamic_next(first, end);
}

void GOMP_loop_end_nowait(void) {}
void GOMP_loop_end(void) { GOMP_barrier(); }
void GOMP_atomic_start(void) { pthread_mutex_lock(&atomic); }
void GOMP_atomic_end(void) { pthread_mutex_unlock(&atomic); }
