/* sim_trace_file.c: see sim_trace_file.h. */
#include "cli/sim_trace_file.h"
#include "base/json_read.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "sched/request_table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOONCAKE_BLOCK_TOKENS 512
#define LINE_BYTES_MAX 256 /* of a CSV line */
#define BLOCKS_MAX (64u << 20)
#define NS_PER_S INT64_C(1000000000)
#define YEAR_MAX 2199 /* nanoseconds since 1970 fit 64 bits until 2262 */

/* A trace that grows. */
struct builder {
    struct sim_trace *trace;
    struct sim_trace_opts opts;
    size_t requests_cap, blocks_cap;
    int64_t first_ns;
    char policy[POLICY_NAME_MAX]; /* whose requests of a record are taken: the first's */
};

static bool grow(void **items, size_t *capacity, size_t n, size_t n_more, size_t size)
{
    if (n + n_more <= *capacity) return true;
    size_t wanted = *capacity ? *capacity : 1024;
    while (wanted < n + n_more) wanted *= 2;
    void *grown = sl_realloc_array(*items, wanted, size);
    if (!grown) return false;
    *items = grown;
    *capacity = wanted;
    return true;
}

static sl_status request_add(struct builder *builder, int64_t at_ns, int64_t n_prompt,
                             int64_t n_output, struct sl_err *err)
{
    struct sim_trace *trace = builder->trace;
    if (trace->n >= SIM_REQUESTS_LIMIT)
        return sl_err_set(err, SL_LIMIT, "more than %d requests", SIM_REQUESTS_LIMIT);
    if (n_prompt < 0 || n_output < 0 || n_prompt > INT32_MAX || n_output > INT32_MAX)
        return sl_err_set(err, SL_INVALID, "a number of tokens is out of range");
    void *requests = trace->requests;
    if (!grow(&requests, &builder->requests_cap, trace->n, 1, sizeof *trace->requests))
        return sl_err_set(err, SL_NOMEM, "no memory for %zu requests", trace->n);
    trace->requests = requests;
    if (trace->n == 0) builder->first_ns = at_ns;
    int64_t since_ns = at_ns - builder->first_ns;
    if (since_ns < 0 || (trace->n && since_ns < trace->requests[trace->n - 1].arrival_ns))
        return sl_err_set(err, SL_INVALID, "its time is before that of the line above");
    trace->requests[trace->n++] = (struct sim_request){
        .arrival_ns = since_ns,
        .prompt_tokens = n_prompt ? (uint32_t)n_prompt : 1,
        .output_tokens = n_output ? (uint32_t)n_output : 1,
        .block_at = (uint32_t)trace->n_blocks,
        .model = builder->opts.n_models ? SIM_NONE : 0,
        .qos_class = builder->opts.n_models ? SCHED_CLASS_COUNT : SCHED_INTERACTIVE,
    };
    return SL_OK;
}

/* Days since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms"). */
static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = year / 400, of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

/* "2023-11-16 18:15:46.6805900,374,44" */
static sl_status csv_line(struct builder *builder, const char *line, size_t n, struct sl_err *err)
{
    char text[LINE_BYTES_MAX];
    int year, month, day, hour, minute, used = 0;
    double second;
    long long n_prompt, n_output;
    if (n >= sizeof text) return sl_err_set(err, SL_INVALID, "the line is too long");
    memcpy(text, line, n);
    text[n] = '\0';
    if (sscanf(text, "%4d-%2d-%2d %2d:%2d:%lf,%lld,%lld%n", &year, &month, &day, &hour, &minute,
               &second, &n_prompt, &n_output, &used) != 8 ||
        text[used] != '\0' || year < 1970 || year > YEAR_MAX || month < 1 || month > 12 ||
        !(second >= 0 && second < 61))
        return sl_err_set(err, SL_INVALID, "expected TIME,PROMPT TOKENS,OUTPUT TOKENS");
    int64_t at_s = (days_of(year, month, day) * 24 + hour) * 3600 + minute * 60;
    return request_add(builder, at_s * NS_PER_S + (int64_t)(second * 1e9), n_prompt, n_output, err);
}

static sl_status blocks_add(struct builder *builder, const struct sl_json_value *ids,
                            struct sl_err *err)
{
    struct sim_trace *trace = builder->trace;
    size_t n = sl_json_size(ids);
    void *blocks = trace->blocks;
    if (trace->n_blocks + n > BLOCKS_MAX)
        return sl_err_set(err, SL_LIMIT, "more than %u blocks", BLOCKS_MAX);
    if (!grow(&blocks, &builder->blocks_cap, trace->n_blocks, n, sizeof *trace->blocks))
        return sl_err_set(err, SL_NOMEM, "no memory for %zu blocks", trace->n_blocks);
    trace->blocks = blocks;
    for (size_t i = 0; i < n; i++) {
        int64_t id = sl_json_to_int(sl_json_at(ids, i), -1);
        if (id < 0) return sl_err_set(err, SL_INVALID, "hash_ids: numbers from 0 on");
        /* The trace numbers blocks by content and everything before them. */
        trace->blocks[trace->n_blocks++] = mix_u64((uint64_t)id + 1);
    }
    trace->requests[trace->n - 1].n_blocks = (uint32_t)n;
    return SL_OK;
}

/* "model" and "class", when the line has them. */
static sl_status names_take(struct builder *builder, const struct sl_json_value *root,
                            struct sl_err *err)
{
    struct sim_request *request = &builder->trace->requests[builder->trace->n - 1];
    const char *model = sl_json_to_str(sl_json_get(root, "model"), NULL, NULL);
    const char *qos_class = sl_json_to_str(sl_json_get(root, "class"), NULL, NULL);
    if (builder->opts.n_models == 0) return SL_OK;
    for (uint32_t i = 0; model && i < builder->opts.n_models; i++)
        if (strcmp(builder->opts.models[i].name, model) == 0) request->model = i;
    if (model && request->model == SIM_NONE)
        return sl_err_set(err, SL_INVALID, "model %s: there is none of that name", model);
    if (qos_class && !sched_class_parse(qos_class, &request->qos_class))
        return sl_err_set(err, SL_INVALID, "class %s: interactive, standard or batch", qos_class);
    return SL_OK;
}

/* "max_tokens", when the line has it. */
static sl_status max_take(struct builder *builder, const struct sl_json_value *value,
                          struct sl_err *err)
{
    struct sim_request *request = &builder->trace->requests[builder->trace->n - 1];
    int64_t n = sl_json_is(value, SL_JSON_NULL) ? 0 : sl_json_to_int(value, -1);
    if (n < 0 || (n > 0 && n < request->output_tokens) || n > INT32_MAX)
        return sl_err_set(err, SL_INVALID,
                          "max_tokens: a whole number from output_length on, or 0: no limit");
    request->max_tokens = (uint32_t)n;
    return SL_OK;
}

#define NS_PER_MS 1e6

/* A record of several policies has each request several times. */
static bool is_again(struct builder *builder, const struct sl_json_value *root)
{
    const char *policy = sl_json_to_str(sl_json_get(root, "policy"), "", NULL);
    if (builder->trace->n == 0) snprintf(builder->policy, sizeof builder->policy, "%s", policy);
    return strncmp(policy, builder->policy, sizeof builder->policy - 1) != 0;
}

static sl_status json_line(struct builder *builder, const char *line, size_t n, struct sl_err *err)
{
    struct sl_json_value *root = NULL;
    sl_status status = sl_json_parse(line, n, &root, err);
    if (status != SL_OK) return status;
    if (is_again(builder, root)) {
        sl_json_free(root);
        return SL_OK;
    }
    double at_ms = sl_json_to_num(sl_json_get(root, "timestamp"), -1);
    int64_t n_prompt = sl_json_to_int(sl_json_get(root, "input_length"), -1);
    int64_t n_output = sl_json_to_int(sl_json_get(root, "output_length"), -1);
    if (!(at_ms >= 0 && at_ms < (double)INT64_MAX / NS_PER_MS))
        status = sl_err_set(err, SL_INVALID, "timestamp: milliseconds from 0 on");
    else
        status = request_add(builder, (int64_t)(at_ms * NS_PER_MS + 0.5), n_prompt, n_output, err);
    if (status == SL_OK) status = blocks_add(builder, sl_json_get(root, "hash_ids"), err);
    if (status == SL_OK) status = names_take(builder, root, err);
    if (status == SL_OK) status = max_take(builder, sl_json_get(root, "max_tokens"), err);
    sl_json_free(root);
    return status;
}

static sl_status read_lines(struct builder *builder, const char *text, size_t n, struct sl_err *err)
{
    bool json = n > 0 && text[0] == '{';
    size_t number = 0, n_max = builder->opts.n_max;
    builder->trace->block_tokens = json ? MOONCAKE_BLOCK_TOKENS : 1;
    while (n > 0 && (n_max == 0 || builder->trace->n < n_max)) {
        const char *end = memchr(text, '\n', n);
        size_t n_all = end ? (size_t)(end - text) + 1 : n, n_line = end ? n_all - 1 : n;
        if (n_line > 0 && text[n_line - 1] == '\r') n_line--;
        number++;
        sl_status status = SL_OK;
        if (json && n_line > 0)
            status = json_line(builder, text, n_line, err);
        else if (!json && n_line > 0 && number > 1) /* the first names the columns */
            status = csv_line(builder, text, n_line, err);
        if (status != SL_OK) return sl_err_prefix(err, "line %zu", number);
        text += n_all;
        n -= n_all;
    }
    if (builder->trace->n == 0) return sl_err_set(err, SL_INVALID, "no requests in it");
    return SL_OK;
}

sl_status sim_trace_read(const char *text, size_t n, const struct sim_trace_opts *opts,
                         struct sim_trace *out, struct sl_err *err)
{
    *out = (struct sim_trace){0};
    struct builder builder = {.trace = out};
    if (opts) builder.opts = *opts;
    sl_status status = read_lines(&builder, text, n, err);
    if (status != SL_OK) sim_trace_done(out);
    return status;
}

sl_status sim_trace_load(const char *path, const struct sim_trace_opts *opts, struct sim_trace *out,
                         struct sl_err *err)
{
    struct sl_buf text;
    sl_buf_init(&text, SIM_TRACE_FILE_BYTES_MAX);
    sl_status status = cli_read_file(path, &text, err);
    if (status == SL_OK) {
        status = sim_trace_read(text.data, text.len, opts, out, err);
        if (status != SL_OK) status = sl_err_prefix(err, "%s", path);
    }
    sl_buf_done(&text);
    return status;
}
