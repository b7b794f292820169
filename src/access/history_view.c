#include "access/history_view.h"
#include "access/gateway_int.h"
#include "access/grid_views.h"
#include "base/clock.h"
#include "grid/telemetry_history.h"
#include "grid/telemetry_sampler.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_MAX TELEMETRY_HISTORY_MAX
#define MINUTES_MAX 60
#define ANSWER_MAX (1u << 20) /* POINTS_MAX times three numbers, and more */
#define MINUTE_NS INT64_C(60000000000)

static const char *const series_names[TELEMETRY_SERIES_COUNT] = {
#define X(name, member) #member,
    TELEMETRY_SERIES(X)
#undef X
#define X(name, member) "accelerator_" #member,
        TELEMETRY_ACCELERATOR_SERIES(X)
#undef X
};

/* What was asked for. */
struct curve {
    enum telemetry_series series;
    int accelerator, minutes, points;
};

static bool find_series(const char *name, enum telemetry_series *out)
{
    for (int i = 0; name && i < TELEMETRY_SERIES_COUNT; i++) {
        if (strcmp(series_names[i], name) != 0) continue;
        *out = (enum telemetry_series)i;
        return true;
    }
    return false;
}

static void fail_series(struct call *call)
{
    struct sl_buf message;
    sl_buf_init(&message, 4096);
    sl_status status = sl_buf_adds(&message, "give ?series=NAME, one of ");
    for (int i = 0; i < TELEMETRY_SERIES_COUNT && status == SL_OK; i++)
        status = sl_buf_addf(&message, "%s%s", i ? ", " : "", series_names[i]);
    call_fail(call, SL_INVALID, "series", NULL, status == SL_OK ? message.data : "no such series");
    sl_buf_done(&message);
}

/* A whole number of the query, or what it is without. False: the call has failed. */
static bool read_number(struct call *call, const char *name, int min, int max, int *out)
{
    const char *text = http_exchange_query(call->x, name);
    char *end;
    if (!text) return true;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno && value >= min && value <= max) {
        *out = (int)value;
        return true;
    }
    struct sl_err err = SL_ERR_INIT;
    sl_err_set(&err, SL_INVALID, "%s: a whole number from %d to %d", name, min, max);
    call_fail_err(call, &err, name);
    return false;
}

static bool read_curve(struct call *call, struct curve *out)
{
    *out = (struct curve){.minutes = MINUTES_MAX, .points = 120};
    if (!find_series(http_exchange_query(call->x, "series"), &out->series)) {
        fail_series(call);
        return false;
    }
    return read_number(call, "accelerator", 0, TELEMETRY_ACCELERATORS_MAX - 1, &out->accelerator) &&
           read_number(call, "minutes", 1, MINUTES_MAX, &out->minutes) &&
           read_number(call, "points", 1, POINTS_MAX, &out->points);
}

static void put_column(struct sl_json *json, const char *name,
                       const struct telemetry_bucket *buckets, int n, size_t offset)
{
    sl_json_key(json, name);
    sl_json_array(json);
    for (int i = 0; i < n; i++) {
        if (buckets[i].n)
            sl_json_num(json, *(const double *)((const char *)&buckets[i] + offset));
        else
            sl_json_null(json);
    }
    sl_json_array_end(json);
}

static void put_curve(struct sl_json *json, const struct curve *curve,
                      const struct telemetry_history *history, struct telemetry_bucket *buckets)
{
    int64_t now_ns = sl_now_ns(), step_ns = curve->minutes * MINUTE_NS / curve->points;
    int64_t end_ns = (now_ns / step_ns + 1) * step_ns;
    telemetry_history_query(history, curve->series, curve->accelerator,
                            end_ns - curve->points * step_ns, end_ns, buckets,
                            (size_t)curve->points);
    sl_json_object(json);
    sl_json_kv_str(json, "series", series_names[curve->series]);
    if (curve->series >= TELEMETRY_SERIES_FIRST_ACCELERATOR)
        sl_json_kv_int(json, "accelerator", curve->accelerator);
    sl_json_kv_num(json, "step_s", (double)step_ns / 1e9);
    sl_json_kv_int(json, "end_ms", sl_unix_time_ms() + (end_ns - now_ns) / 1000000);
    put_column(json, "min", buckets, curve->points, offsetof(struct telemetry_bucket, min));
    put_column(json, "mean", buckets, curve->points, offsetof(struct telemetry_bucket, mean));
    put_column(json, "max", buckets, curve->points, offsetof(struct telemetry_bucket, max));
    sl_json_object_end(json);
}

void history_view(struct call *call)
{
    const struct telemetry_sampler *telemetry = call->gateway->cfg.telemetry;
    struct telemetry_bucket *buckets;
    struct curve curve;
    struct sl_json json;
    struct sl_buf body;
    if (!grid_view_admits(call) || !read_curve(call, &curve)) return;
    if (!telemetry) {
        call_fail(call, SL_NOT_FOUND, NULL, NULL, "this server keeps no history");
        return;
    }
    buckets = sl_arena_array(call_arena(call), (size_t)curve.points, sizeof *buckets);
    if (!buckets) {
        call_fail(call, SL_NOMEM, NULL, NULL, "out of memory");
        return;
    }
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    put_curve(&json, &curve, telemetry_history_of(telemetry), buckets);
    call_respond_json(call, 200, &body, sl_json_end(&json));
    sl_buf_done(&body);
}
