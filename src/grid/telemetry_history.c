#include "grid/telemetry_history.h"
#include "base/mem.h"

/* A column a series and, for those of accelerators, one for each of them. */
#define N_MACHINE TELEMETRY_SERIES_FIRST_ACCELERATOR
#define N_ACCELERATOR (TELEMETRY_SERIES_COUNT - TELEMETRY_SERIES_FIRST_ACCELERATOR)
#define N_COLUMNS (N_MACHINE + N_ACCELERATOR * TELEMETRY_ACCELERATORS_MAX)

/* By columns, so that the pages of accelerators that are not there are never touched. */
struct telemetry_history {
    size_t first, count; /* of the ring */
    int64_t at_ns[TELEMETRY_HISTORY_MAX];
    uint8_t n_accelerators[TELEMETRY_HISTORY_MAX];
    float columns[N_COLUMNS][TELEMETRY_HISTORY_MAX];
};

static size_t slot_of(const struct telemetry_history *history, size_t i)
{
    return (history->first + i) % TELEMETRY_HISTORY_MAX;
}

sl_status telemetry_history_create(struct telemetry_history **out)
{
    struct telemetry_history *history = sl_calloc(1, sizeof *history);
    if (!history) return SL_NOMEM;
    *out = history;
    return SL_OK;
}

void telemetry_history_destroy(struct telemetry_history *history)
{
    sl_free(history);
}

/* The column of a series; of an accelerator's series, the one of that accelerator. */
static int column_of(enum telemetry_series series, int accelerator)
{
    if (series < TELEMETRY_SERIES_FIRST_ACCELERATOR) return (int)series;
    return (int)series + N_ACCELERATOR * accelerator;
}

void telemetry_history_add(struct telemetry_history *history, const struct telemetry_sample *s)
{
    if (history->count && s->at_ns <= telemetry_history_latest_ns(history)) return;
    size_t slot = slot_of(history, history->count);
    if (history->count == TELEMETRY_HISTORY_MAX)
        history->first = slot_of(history, 1);
    else
        history->count++;
    history->at_ns[slot] = s->at_ns;
    history->n_accelerators[slot] = (uint8_t)s->n_accelerators;
#define X(name, member) history->columns[TELEMETRY_##name][slot] = (float)s->member;
    TELEMETRY_SERIES(X)
#undef X
    for (int i = 0; i < s->n_accelerators; i++) {
        const struct telemetry_accelerator *a = &s->accelerators[i];
#define X(name, member) history->columns[column_of(TELEMETRY_##name, i)][slot] = (float)a->member;
        TELEMETRY_ACCELERATOR_SERIES(X)
#undef X
    }
}

size_t telemetry_history_count(const struct telemetry_history *history)
{
    return history->count;
}

int64_t telemetry_history_oldest_ns(const struct telemetry_history *history)
{
    return history->count ? history->at_ns[history->first] : 0;
}

int64_t telemetry_history_latest_ns(const struct telemetry_history *history)
{
    return history->count ? history->at_ns[slot_of(history, history->count - 1)] : 0;
}

/* The first sample at that time or later; count when there is none. */
static size_t find(const struct telemetry_history *history, int64_t at_ns)
{
    size_t low = 0, high = history->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (history->at_ns[slot_of(history, middle)] < at_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static float value_of(const struct telemetry_history *history, enum telemetry_series series,
                      int accelerator, size_t slot)
{
    bool there =
        series < TELEMETRY_SERIES_FIRST_ACCELERATOR || accelerator < history->n_accelerators[slot];
    return there ? history->columns[column_of(series, accelerator)][slot]
                 : (float)TELEMETRY_UNKNOWN;
}

static void add_value(struct telemetry_bucket *bucket, double value)
{
    if (!telemetry_known(value)) return;
    if (bucket->n == 0 || value < bucket->min) bucket->min = value;
    if (bucket->n == 0 || value > bucket->max) bucket->max = value;
    bucket->mean = bucket->n ? bucket->mean + value : value; /* the sum, until all are in */
    bucket->n++;
}

void telemetry_history_query(const struct telemetry_history *history, enum telemetry_series series,
                             int accelerator, int64_t from_ns, int64_t to_ns,
                             struct telemetry_bucket *out, size_t n_buckets)
{
    for (size_t i = 0; i < n_buckets; i++)
        out[i] = (struct telemetry_bucket){TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN, TELEMETRY_UNKNOWN,
                                           .n = 0};
    bool known = (unsigned)series < TELEMETRY_SERIES_COUNT && accelerator >= 0 &&
                 accelerator < TELEMETRY_ACCELERATORS_MAX;
    if (!known || n_buckets == 0 || to_ns <= from_ns) return;
    double span = (double)to_ns - (double)from_ns;
    for (size_t i = find(history, from_ns), end = find(history, to_ns); i < end; i++) {
        size_t slot = slot_of(history, i);
        double part = ((double)history->at_ns[slot] - (double)from_ns) / span;
        size_t bucket = (size_t)(part * (double)n_buckets);
        if (bucket >= n_buckets) bucket = n_buckets - 1;
        add_value(&out[bucket], value_of(history, series, accelerator, slot));
    }
    for (size_t i = 0; i < n_buckets; i++)
        if (out[i].n) out[i].mean /= (double)out[i].n;
}
