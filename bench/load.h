/* load.h: what the load generators here share: when the next request is due, and how late answers
 * were. For bench/ only; each program includes it once.
 * Thread: one.  Allocates: nothing.
 * Invariant: a latency is measured from the time a request was due, not from when it was sent, so
 * that a generator or server that falls behind makes the numbers worse instead of prettier. */
#pragma once
#include "base/clock.h"
#include "base/rng.h"
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define LOAD_NS_PER_S 1000000000

/* --- due times --- */

struct load_schedule {
    double rate; /* requests a second */
    bool poisson;
    uint64_t n_due; /* requests that came due so far */
    double next_ns; /* when the next one does; a double, so that gaps do not round */
};

static inline void load_schedule_init(struct load_schedule *s, double rate, bool poisson,
                                      int64_t begin_ns)
{
    *s = (struct load_schedule){.rate = rate, .poisson = poisson, .next_ns = (double)begin_ns};
}

/* Moves on to the request after the next, and returns when the next was due. */
static inline int64_t load_schedule_take(struct load_schedule *s)
{
    int64_t due_ns = (int64_t)s->next_ns;
    double gaps = 1;
    if (s->poisson) gaps = -log(1 - sl_rng_uniform(1, 0, s->n_due));
    s->next_ns += gaps * LOAD_NS_PER_S / s->rate;
    s->n_due++;
    return due_ns;
}

/* --- latencies: exact up to 127 ns, then 128 buckets a power of two, which is 0.8 % --- */

#define LOAD_SUB_BITS 7
#define LOAD_BUCKETS ((64 - LOAD_SUB_BITS + 1) << LOAD_SUB_BITS)

struct load_histogram {
    uint64_t n, counts[LOAD_BUCKETS];
    int64_t max_ns;
};

static inline void load_histogram_add(struct load_histogram *h, int64_t ns)
{
    uint64_t v = ns > 0 ? (uint64_t)ns : 0;
    unsigned exponent = v >> LOAD_SUB_BITS ? 64 - LOAD_SUB_BITS - (unsigned)__builtin_clzll(v) : 0;
    unsigned shift = exponent ? exponent - 1 : 0;
    uint64_t mantissa = (v >> shift) & ((1u << LOAD_SUB_BITS) - 1);
    h->counts[((uint64_t)exponent << LOAD_SUB_BITS) + mantissa]++;
    h->n++;
    if (ns > h->max_ns) h->max_ns = ns;
}

/* The upper end of the bucket where `part` (0 to 1) of the latencies are reached, in
 * nanoseconds. */
static inline int64_t load_histogram_at(const struct load_histogram *h, double part)
{
    uint64_t rank = (uint64_t)ceil(part * (double)h->n), seen = 0;
    for (uint64_t i = 0; i < LOAD_BUCKETS; i++) {
        seen += h->counts[i];
        if (!h->counts[i] || seen < rank) continue;
        uint64_t exponent = i >> LOAD_SUB_BITS, mantissa = i & ((1u << LOAD_SUB_BITS) - 1);
        if (!exponent) return (int64_t)mantissa;
        uint64_t high = ((1u << LOAD_SUB_BITS) | mantissa) + 1;
        int64_t end = (int64_t)(high << (exponent - 1)) - 1;
        return end < h->max_ns ? end : h->max_ns;
    }
    return h->max_ns;
}

/* --- the result: one line of JSON --- */

struct load_result {
    uint64_t n_sent; /* the warm-up's too */
    uint64_t n_errors;
    double seconds; /* from the first request's due time to the last answer */
};

static inline void load_print(const struct load_histogram *h, const struct load_result *result)
{
    static const struct {
        const char *name;
        double part;
    } rows[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"p99_9_us", 0.999}};
    printf("{\"sent\":%" PRIu64 ",\"requests\":%" PRIu64 ",\"errors\":%" PRIu64 ",\"rate\":%.1f",
           result->n_sent, h->n, result->n_errors, (double)h->n / result->seconds);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        printf(",\"%s\":%.1f", rows[i].name, (double)load_histogram_at(h, rows[i].part) / 1e3);
    printf(",\"max_us\":%.1f}\n", (double)h->max_ns / 1e3);
}
