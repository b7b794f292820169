/* floor: how fast this machine reads a buffer with some threads, and its peak of multiply-adds of
 * bytes with AVX-512 VNNI; the best of several passes, as JSON for bench/kernels.py.
 *
 *     floor [--bytes 1000000000] [--threads 2] [--passes 12]
 */
#include "floor.h"
#include "base/cpu.h"
#include <getopt.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define THREADS_MAX 256
#define MULTIPLY_TIMES 100 /* a pass: 20 ms, so that threads that wake on one core get one each */

struct run {              /* what all threads do at once */
    pthread_barrier_t at; /* all threads and the one that started them */
    const char *buffer;
    size_t bytes_each;
    int n_threads, n_passes;
    bool reads;
    uint64_t sink[THREADS_MAX];
    double begin[THREADS_MAX], end[THREADS_MAX]; /* of the newest pass */
};

struct worker {
    struct run *run;
    int i;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    struct run *run = w->run;
    for (int p = 0; p < run->n_passes; p++) {
        pthread_barrier_wait(&run->at);
        run->begin[w->i] = floor_seconds();
        if (run->reads)
            run->sink[w->i] +=
                floor_read(run->buffer + (size_t)w->i * run->bytes_each, run->bytes_each);
        for (int i = 0; i < MULTIPLY_TIMES && !run->reads; i++) floor_multiply();
        run->end[w->i] = floor_seconds();
        pthread_barrier_wait(&run->at);
    }
    return NULL;
}

/* From the first thread's begin to the last one's end. */
static double pass_time(const struct run *run)
{
    double begin = run->begin[0], end = run->end[0];
    for (int i = 1; i < run->n_threads; i++) {
        begin = run->begin[i] < begin ? run->begin[i] : begin;
        end = run->end[i] > end ? run->end[i] : end;
    }
    return end - begin;
}

/* Seconds of the fastest pass. */
static double best_pass(struct run *run)
{
    struct worker workers[THREADS_MAX];
    double best = -1;
    pthread_barrier_init(&run->at, NULL, (unsigned)run->n_threads + 1);
    for (int i = 0; i < run->n_threads; i++) {
        workers[i] = (struct worker){.run = run, .i = i};
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) exit(1);
    }
    for (int p = 0; p < run->n_passes; p++) {
        pthread_barrier_wait(&run->at);
        pthread_barrier_wait(&run->at);
        double took = pass_time(run);
        if (best < 0 || took < best) best = took;
    }
    for (int i = 0; i < run->n_threads; i++) pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&run->at);
    return best;
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"bytes", 1, NULL, 'b'}, {"threads", 1, NULL, 't'}, {"passes", 1, NULL, 'p'}, {0}};
    struct run run = {.n_threads = 2, .n_passes = 12, .reads = true};
    size_t bytes = 1000000000;
    for (int c; (c = getopt_long(argc, argv, "", longs, NULL)) != -1;) switch (c) {
        case 'b': bytes = strtoull(optarg, NULL, 10); break;
        case 't': run.n_threads = atoi(optarg); break;
        case 'p': run.n_passes = atoi(optarg); break;
        default: return 2;
        }
    char *buffer = floor_alloc(bytes);
    if (run.n_threads < 1 || run.n_threads > THREADS_MAX || run.n_passes < 1 || !buffer) {
        fprintf(stderr, "floor: no memory, or no such number of threads or passes\n");
        return 1;
    }
    memset(buffer, 1, bytes);
    run.buffer = buffer;
    run.bytes_each = bytes / (size_t)run.n_threads / 256 * 256;
    double reading = best_pass(&run), multiplying = -1;
    run.reads = false;
    if (sl_cpu_has(SL_CPU_AVX512_VNNI)) multiplying = best_pass(&run);
    printf("{\"threads\": %d, \"bytes\": %zu, \"read_gbs\": %.3f, \"vnni_gops\": %.1f}\n",
           run.n_threads, bytes, (double)run.bytes_each * run.n_threads / reading / 1e9,
           multiplying > 0 ? FLOOR_OPS * MULTIPLY_TIMES * run.n_threads / multiplying / 1e9 : 0);
    free(buffer);
    return 0;
}
