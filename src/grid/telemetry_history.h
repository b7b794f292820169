/* telemetry_history.h: the last hour of one machine's samples, and curves from it with as few
 * points as a picture has columns.
 * Floor: grid.  Thread: one.  Allocates: telemetry_history_create only: 1.1 MB, of which pages are
 * touched as samples fill them: 160 kB after an hour without accelerators, 58 kB more for each.
 * Invariant: samples are in order of time; the ring holds the latest TELEMETRY_HISTORY_MAX. */
#pragma once
#include "grid/telemetry.h"
#include <stddef.h>

#define TELEMETRY_HISTORY_MAX 3600 /* an hour of one a second */

/* A series by machine: name, member of struct telemetry_sample. */
#define TELEMETRY_SERIES(X) \
    X(CPU_FRACTION, cpu_fraction) \
    X(LOAD_1M, load_1m) \
    X(MEMORY_AVAILABLE_BYTES, memory_available_bytes) \
    X(NET_IN_BYTES_S, net_in_bytes_s) \
    X(NET_OUT_BYTES_S, net_out_bytes_s) \
    X(DISK_FREE_BYTES, disk_free_bytes) \
    X(DISK_READ_BYTES_S, disk_read_bytes_s) \
    X(DISK_WRITE_BYTES_S, disk_write_bytes_s) \
    X(WATTS, watts)

/* By accelerator: member of struct telemetry_accelerator. */
#define TELEMETRY_ACCELERATOR_SERIES(X) \
    X(ACCELERATOR_UTILISATION, utilisation) \
    X(ACCELERATOR_MEMORY_USED_BYTES, memory_used_bytes) \
    X(ACCELERATOR_WATTS, watts) \
    X(ACCELERATOR_CELSIUS, celsius)

enum telemetry_series {
#define X(name, member) TELEMETRY_##name,
    TELEMETRY_SERIES(X) TELEMETRY_ACCELERATOR_SERIES(X)
#undef X
        TELEMETRY_SERIES_COUNT
};
#define TELEMETRY_SERIES_FIRST_ACCELERATOR TELEMETRY_ACCELERATOR_UTILISATION

/* What was known in one stretch of time. n 0: nothing; the rest is TELEMETRY_UNKNOWN then. */
struct telemetry_bucket {
    double min, mean, max;
    size_t n;
};

struct telemetry_history;

SL_CHECK sl_status telemetry_history_create(struct telemetry_history **out); /* NOMEM */
void telemetry_history_destroy(struct telemetry_history *history);           /* NULL is fine */

/* Takes the sample in; one that is not later than the last is left out. */
void telemetry_history_add(struct telemetry_history *history,
                           const struct telemetry_sample *sample);

/* Samples that it has, and when the first and the last of them were taken. */
size_t telemetry_history_count(const struct telemetry_history *history);
int64_t telemetry_history_oldest_ns(const struct telemetry_history *history); /* 0 when empty */
int64_t telemetry_history_latest_ns(const struct telemetry_history *history); /* 0 when empty */

/* Cuts [from_ns, to_ns) into n_buckets stretches of equal length and sums up the samples in each.
 * `accelerator` is its number in the samples; of no concern to the machine's series. One that is
 * out of range, and an empty span, give empty buckets. Numbers are good to 7 digits. */
void telemetry_history_query(const struct telemetry_history *history, enum telemetry_series series,
                             int accelerator, int64_t from_ns, int64_t to_ns,
                             struct telemetry_bucket *out, size_t n_buckets);
