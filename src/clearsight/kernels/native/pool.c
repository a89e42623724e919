/* A small pool of threads for short jobs.
 *
 * One product of a decode step takes some tens of microseconds. An OpenMP region ends only when every thread of its
 * team has been there, so on a machine with other work a thread that is waiting for its turn on a core holds up the
 * job for milliseconds, whether or not anything was left for it to do. Here whoever calls does the work, the others
 * help as far as they get a core, and the caller waits for nothing but pieces that a helper has begun. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common.h"

enum { MOST_HELPERS = 255, SPINS = 2000 };

static struct {
    /* The job's number in the high half; in the low half how many of its pieces nobody has taken yet. A piece is taken
     * by counting down, which fails if the job has changed: so a late helper can never touch a job that is over. */
    _Atomic uint64_t state;
    _Atomic ptrdiff_t finished;
    _Atomic int sleeping, workers;
    cs_task *task;
    void *context;
    ptrdiff_t items, piece, pieces;
    int helpers;
    pthread_mutex_t owner, lock;
    pthread_cond_t work;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static void pause_briefly(void) {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int left(uint64_t state) { return (uint32_t)state != 0; }

/* Take and do pieces until none is left. */
static void work(int worker) {
    uint64_t state = atomic_load(&pool.state);
    while (left(state) && worker < atomic_load(&pool.workers)) {
        if (!atomic_compare_exchange_weak(&pool.state, &state, state - 1)) continue;
        ptrdiff_t begin = (pool.pieces - (ptrdiff_t)(uint32_t)state) * pool.piece, end = begin + pool.piece;
        pool.task(pool.context, begin, end < pool.items ? end : pool.items, worker);
        atomic_fetch_add(&pool.finished, 1);
        state = atomic_load(&pool.state);
    }
}

static void *helper(void *index) {
    uint64_t seen = 0; /* a job that this helper has no more part in */
    for (;;) {
        for (int spin = 0; spin < SPINS && (atomic_load(&pool.state) >> 32) == seen; spin++) pause_briefly();
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.sleeping, 1);
        while ((atomic_load(&pool.state) >> 32) == seen) pthread_cond_wait(&pool.work, &pool.lock);
        atomic_fetch_sub(&pool.sleeping, 1);
        pthread_mutex_unlock(&pool.lock);
        seen = atomic_load(&pool.state) >> 32;
        work((int)(intptr_t)index);
    }
    return NULL;
}

/* A forked process has the memory of the pool but none of its threads. */
static void forget(void) {
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.work, NULL);
    atomic_store(&pool.sleeping, 0);
    atomic_store(&pool.state, atomic_load(&pool.state) >> 32 << 32);
    pool.helpers = 0;
}

static void start_helpers(int wanted) {
    static int registered;
    if (!registered) registered = !pthread_atfork(NULL, NULL, forget);
    for (; pool.helpers < wanted && pool.helpers < MOST_HELPERS; pool.helpers++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, helper, (void *)(intptr_t)(pool.helpers + 1))) return;
        pthread_detach(thread);
    }
}

void cs_run(cs_task *task, void *context, ptrdiff_t items, ptrdiff_t piece, int threads) {
    const ptrdiff_t pieces = (items + piece - 1) / piece;
    /* A second caller at the same time works alone: the cores are taken. */
    if (threads < 2 || pieces < 2 || pieces > UINT32_MAX || pthread_mutex_trylock(&pool.owner)) {
        if (items > 0) task(context, 0, items, 0);
        return;
    }
    start_helpers(threads - 1);
    pool.task = task;
    pool.context = context;
    pool.items = items;
    pool.piece = piece;
    pool.pieces = pieces;
    atomic_store(&pool.workers, threads);
    atomic_store(&pool.finished, 0);
    atomic_store(&pool.state, ((atomic_load(&pool.state) >> 32) + 1) << 32 | (uint64_t)pieces);
    if (atomic_load(&pool.sleeping)) {
        pthread_mutex_lock(&pool.lock);
        pthread_cond_broadcast(&pool.work);
        pthread_mutex_unlock(&pool.lock);
    }
    work(0);
    for (int spin = 0; atomic_load(&pool.finished) != pieces; spin++) {
        pause_briefly();
        if (spin > SPINS) sched_yield();
    }
    pthread_mutex_unlock(&pool.owner);
}
