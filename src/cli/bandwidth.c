#include "cli/bandwidth.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"
#include <stddef.h>
#include <sys/mman.h>

#define BUFFER_BYTES_MAX ((size_t)512 << 20) /* the largest last-level caches have 384 MiB */
#define BUFFER_BYTES_MIN ((size_t)16 << 20)  /* below, the caches would be measured */
#define SLICE_BYTES ((size_t)4 << 20)        /* one job: small, so that all threads end together */
#define PASS_BUDGET_NS 300000000             /* of reading, for each number of threads */
#define LANES 8                              /* additions in flight, so that loads are the bound */

/* The compiler splits it into what the CPU at hand has. */
typedef uint64_t vec __attribute__((vector_size(32), aligned(32)));

struct job {
    unsigned char *buffer;
    uint64_t *sums; /* [n_slices], so that no read can be left out */
};

static void touch_slice(void *arg, int slice)
{
    const struct job *job = arg;
    uint64_t *p = (uint64_t *)(void *)(job->buffer + (size_t)slice * SLICE_BYTES);
    for (size_t i = 0; i < SLICE_BYTES / sizeof *p; i++) p[i] = i;
}

static void read_slice(void *arg, int slice)
{
    const struct job *job = arg;
    const vec *p = (const vec *)(const void *)(job->buffer + (size_t)slice * SLICE_BYTES);
    vec sum[LANES] = {{0}};
    for (size_t i = 0; i < SLICE_BYTES / sizeof *p; i += LANES) {
        for (size_t lane = 0; lane < LANES; lane++) sum[lane] += p[i + lane];
    }
    for (size_t lane = 1; lane < LANES; lane++) sum[0] += sum[lane];
    job->sums[slice] = sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3];
}

static void for_slices(struct sl_pool *pool, int n, void (*run)(void *arg, int i), struct job *job)
{
    if (pool) sl_pool_for(pool, n, run, job);
    for (int i = 0; !pool && i < n; i++) run(job, i);
}

/* Best of the passes that fit into the budget, and at least one. */
static double best_rate(struct sl_pool *pool, int n_slices, struct job *job)
{
    double best = 0;
    int64_t begin = sl_now_ns();
    do {
        int64_t from = sl_now_ns();
        for_slices(pool, n_slices, read_slice, job);
        double rate = (double)n_slices * (double)SLICE_BYTES * 1e9 / (double)(sl_now_ns() - from);
        if (rate > best) best = rate;
    } while (sl_now_ns() - begin < PASS_BUDGET_NS);
    return best;
}

static int choose_slices(void)
{
    uint64_t bytes = sl_mem_available_bytes() / 4;
    if (bytes > BUFFER_BYTES_MAX) bytes = BUFFER_BYTES_MAX;
    return bytes < BUFFER_BYTES_MIN ? 0 : (int)(bytes / SLICE_BYTES);
}

sl_status bandwidth_measure(int n_threads, struct bandwidth *out, struct sl_err *err)
{
    struct sl_pool *pool = NULL;
    uint64_t sums[BUFFER_BYTES_MAX / SLICE_BYTES];
    int n_slices = choose_slices();
    size_t bytes = (size_t)n_slices * SLICE_BYTES;
    if (!n_slices) return sl_err_set(err, SL_NOMEM, "too little free memory to measure");
    void *map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return sl_err_set(err, SL_NOMEM, "%zu bytes to read", bytes);
    (void)madvise(map, bytes, MADV_HUGEPAGE); /* fewer faults and TLB misses; only a wish */
    struct job job = {.buffer = map, .sums = sums};
    /* The caller's thread works too. */
    sl_status status =
        n_threads > 1 ? sl_pool_create(n_threads - 1, (size_t)n_threads, &pool) : SL_OK;
    if (status == SL_OK) {
        for_slices(pool, n_slices, touch_slice, &job);
        *out = (struct bandwidth){.buffer_bytes = bytes, .n_threads = n_threads};
        out->one_thread = best_rate(NULL, n_slices, &job);
        out->all_threads = pool ? best_rate(pool, n_slices, &job) : out->one_thread;
    }
    sl_pool_destroy(pool);
    munmap(map, bytes);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, status, "%d threads: %s", n_threads, sl_status_text(status));
}
