#include "access/metrics.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Upper bounds in seconds, an answer from the cache to a long wait behind a model's load. */
static const double BUCKETS_S[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                   1,     2.5,    5,     10,   30,    60,   120, 300};
#define N_BUCKETS (sizeof BUCKETS_S / sizeof BUCKETS_S[0])
#define NAME_BYTES_MAX 256
#define LABELS_BYTES_MAX 1024

struct histogram {
    uint64_t counts[N_BUCKETS + 1]; /* the last one: past all bounds */
    uint64_t count;
    double sum_s;
};

struct metrics_model {
    char name[NAME_BYTES_MAX];
    uint64_t counters[METRICS_COUNTER_COUNT];
    struct histogram histograms[METRICS_HISTOGRAM_COUNT];
    uint64_t ends[METRICS_END_COUNT];
};

struct metrics {
    struct metrics_model *models[METRICS_MODELS_MAX];
    int n_models;
    struct metrics_model other;
};

struct name {
    const char *text, *help;
    bool vllm;
};
static const struct name COUNTER_NAMES[] = {
#define X(name, text, help, vllm) {text, help, vllm},
    METRICS_COUNTERS(X)
#undef X
};
static const struct name HISTOGRAM_NAMES[] = {
#define X(name, text, help, vllm) {text, help, vllm},
    METRICS_HISTOGRAMS(X)
#undef X
};
static const char *const END_NAMES[] = {"stop",  "length", "tool_calls",
                                        "abort", "error",  "refused"};

sl_status metrics_create(struct metrics **out)
{
    struct metrics *metrics = sl_calloc(1, sizeof *metrics);
    if (!metrics) return SL_NOMEM;
    strcpy(metrics->other.name, "other");
    *out = metrics;
    return SL_OK;
}

void metrics_destroy(struct metrics *metrics)
{
    if (!metrics) return;
    for (int i = 0; i < metrics->n_models; i++) sl_free(metrics->models[i]);
    sl_free(metrics);
}

struct metrics_model *metrics_model(struct metrics *metrics, const char *name)
{
    for (int i = 0; i < metrics->n_models; i++)
        if (!strcmp(metrics->models[i]->name, name)) return metrics->models[i];
    if (metrics->n_models == METRICS_MODELS_MAX || strlen(name) >= NAME_BYTES_MAX)
        return &metrics->other;
    struct metrics_model *model = sl_calloc(1, sizeof *model);
    if (!model) return &metrics->other;
    strcpy(model->name, name);
    metrics->models[metrics->n_models++] = model;
    return model;
}

void metrics_count(struct metrics_model *model, enum metrics_counter counter, uint64_t by)
{
    model->counters[counter] += by;
}

void metrics_observe(struct metrics_model *model, enum metrics_histogram histogram, int64_t ns)
{
    struct histogram *h = &model->histograms[histogram];
    double seconds = (double)ns / 1e9;
    size_t i = 0;
    while (i < N_BUCKETS && seconds > BUCKETS_S[i]) i++;
    h->counts[i]++;
    h->count++;
    h->sum_s += seconds;
}

void metrics_end(struct metrics_model *model, enum metrics_end end)
{
    model->ends[end]++;
}

sl_status metrics_write_head(struct sl_buf *out, const char *name, const char *type,
                             const char *help)
{
    return sl_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

sl_status metrics_write_sample(struct sl_buf *out, const char *name, const char *labels,
                               double value)
{
    const char *open = labels && *labels ? "{" : "";
    const char *close = *open ? "}" : "";
    /* Integers are written in full: %.17g would do too, but reads worse. */
    if (value == floor(value) && fabs(value) < 1e15)
        return sl_buf_addf(out, "%s%s%s%s %.0f\n", name, open, *open ? labels : "", close, value);
    return sl_buf_addf(out, "%s%s%s%s %.9g\n", name, open, *open ? labels : "", close, value);
}

sl_status metrics_write_label(struct sl_buf *out, const char *name, const char *value)
{
    sl_status status = sl_buf_addf(out, "%s=\"", name);
    for (const char *p = value; *p && status == SL_OK; p++) {
        if (*p == '\n')
            status = sl_buf_adds(out, "\\n");
        else if (*p == '"' || *p == '\\')
            status = sl_buf_addf(out, "\\%c", *p);
        else
            status = sl_buf_addc(out, *p);
    }
    return status == SL_OK ? sl_buf_addc(out, '"') : status;
}

/* model_name="...", and room for one more label after it. */
static sl_status write_labels(struct sl_buf *labels, const struct metrics_model *model,
                              const char *extra, const char *value)
{
    sl_buf_clear(labels);
    sl_status status = metrics_write_label(labels, "model_name", model->name);
    if (status != SL_OK || !extra) return status;
    status = sl_buf_addc(labels, ',');
    return status == SL_OK ? metrics_write_label(labels, extra, value) : status;
}

/* Calls `each` for all models, the one named "other" only once it was used. */
struct writer {
    const struct metrics *metrics;
    struct sl_buf *out, labels;
    char name[128];
    int which; /* of the table at hand */
};

typedef sl_status (*write_model_fn)(struct writer *w, const struct metrics_model *model);

static sl_status for_models(struct writer *w, write_model_fn each)
{
    sl_status status = SL_OK;
    for (int i = 0; i < w->metrics->n_models && status == SL_OK; i++)
        status = each(w, w->metrics->models[i]);
    if (status == SL_OK && w->metrics->n_models == METRICS_MODELS_MAX)
        status = each(w, &w->metrics->other);
    return status;
}

static sl_status write_counter(struct writer *w, const struct metrics_model *model)
{
    sl_status status = write_labels(&w->labels, model, NULL, NULL);
    if (status != SL_OK) return status;
    return metrics_write_sample(w->out, w->name, w->labels.data, (double)model->counters[w->which]);
}

static sl_status write_ends(struct writer *w, const struct metrics_model *model)
{
    sl_status status = SL_OK;
    for (int i = 0; i < METRICS_END_COUNT && status == SL_OK; i++) {
        status = write_labels(&w->labels, model, "finished_reason", END_NAMES[i]);
        if (status == SL_OK)
            status = metrics_write_sample(w->out, w->name, w->labels.data, (double)model->ends[i]);
    }
    return status;
}

static sl_status write_histogram(struct writer *w, const struct metrics_model *model)
{
    const struct histogram *h = &model->histograms[w->which];
    char series[160], bound[32];
    uint64_t below = 0;
    sl_status status = SL_OK;
    snprintf(series, sizeof series, "%s_bucket", w->name);
    for (size_t i = 0; i <= N_BUCKETS && status == SL_OK; i++) {
        below += h->counts[i];
        if (i < N_BUCKETS)
            snprintf(bound, sizeof bound, "%g", BUCKETS_S[i]);
        else
            strcpy(bound, "+Inf");
        status = write_labels(&w->labels, model, "le", bound);
        if (status == SL_OK)
            status = metrics_write_sample(w->out, series, w->labels.data, (double)below);
    }
    if (status == SL_OK) status = write_labels(&w->labels, model, NULL, NULL);
    snprintf(series, sizeof series, "%s_sum", w->name);
    if (status == SL_OK) status = metrics_write_sample(w->out, series, w->labels.data, h->sum_s);
    snprintf(series, sizeof series, "%s_count", w->name);
    if (status != SL_OK) return status;
    return metrics_write_sample(w->out, series, w->labels.data, (double)h->count);
}

/* One metric of all models under one prefix. */
static sl_status write_metric(struct writer *w, const char *prefix, const struct name *name,
                              const char *type, write_model_fn each)
{
    snprintf(w->name, sizeof w->name, "%s%s", prefix, name->text);
    sl_status status = metrics_write_head(w->out, w->name, type, name->help);
    return status == SL_OK ? for_models(w, each) : status;
}

/* vllm:prefix_cache_* count tokens, as vLLM's own do. */
static sl_status write_prefix_cache(struct writer *w)
{
    static const struct name queries = {"prefix_cache_queries_total",
                                        "Prompt tokens looked up in the prefix cache.", true};
    static const struct name hits = {"prefix_cache_hits_total",
                                     "Prompt tokens found in the prefix cache.", true};
    w->which = METRICS_PROMPT_TOKENS;
    sl_status status = write_metric(w, "vllm:", &queries, "counter", write_counter);
    w->which = METRICS_CACHED_TOKENS;
    return status == SL_OK ? write_metric(w, "vllm:", &hits, "counter", write_counter) : status;
}

static sl_status write_family(struct writer *w, const char *prefix, bool vllm)
{
    static const struct name ends = {"requests_total", "Requests by how they ended.", false};
    static const struct name success = {"request_success_total", "As starlane_requests_total.",
                                        true};
    sl_status status = SL_OK;
    for (w->which = 0; w->which < METRICS_COUNTER_COUNT && status == SL_OK; w->which++)
        if (!vllm || COUNTER_NAMES[w->which].vllm)
            status = write_metric(w, prefix, &COUNTER_NAMES[w->which], "counter", write_counter);
    for (w->which = 0; w->which < METRICS_HISTOGRAM_COUNT && status == SL_OK; w->which++)
        if (!vllm || HISTOGRAM_NAMES[w->which].vllm)
            status =
                write_metric(w, prefix, &HISTOGRAM_NAMES[w->which], "histogram", write_histogram);
    if (status != SL_OK) return status;
    return write_metric(w, prefix, vllm ? &success : &ends, "counter", write_ends);
}

sl_status metrics_write(const struct metrics *metrics, struct sl_buf *out)
{
    struct writer w = {.metrics = metrics, .out = out};
    sl_buf_init(&w.labels, LABELS_BYTES_MAX);
    sl_status status = write_family(&w, "starlane_", false);
    if (status == SL_OK) status = write_family(&w, "vllm:", true);
    if (status == SL_OK) status = write_prefix_cache(&w);
    sl_buf_done(&w.labels);
    return status;
}
