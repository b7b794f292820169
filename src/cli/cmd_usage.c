/* cmd_usage.c: `starlane usage`: what requests used, summed up. */
#include "access/usage.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/state_db.h"
#include "cli/table.h"
#include "cli/time_arg.h"
#include "grid/db.h"

#include <string.h>

#define REPORT_BYTES_MAX (256u << 20)

struct options {
    const char *since, *until, *key, *model;
    int by;
    bool json;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"since", 0, SL_OPT_STRING, FIELD(since), 0, 0, "WHEN", NULL, "30d",
     "From then on: 7d, 12h, or a day like 2026-11-01."},
    {"until", 0, SL_OPT_STRING, FIELD(until), 0, 0, "WHEN", NULL, NULL,
     "Up to then, itself not counted; now when left out."},
    {"by", 0, SL_OPT_ENUM, FIELD(by), 0, 0, "WHAT", "day,key,model,endpoint,total", "day",
     "One line for each."},
    {"key", 0, SL_OPT_STRING, FIELD(key), 0, 0, "KEY", NULL, NULL, "Only this key: id or name."},
    {"model", 0, SL_OPT_STRING, FIELD(model), 0, 0, "MODEL", NULL, NULL, "Only this model."},
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_usage_spec = {
    .name = "usage",
    .usage = "",
    .summary = "Sum up what requests to the server used.",
    .details = "Days are days of UTC. Times are means, in milliseconds: FIRST is the time to the "
               "first token, TOTAL that to the last. Energy is measured where the machine can, and "
               "otherwise an estimate; the two are never mixed.\n\n"
               "    starlane usage --since 7d --by model",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 0,
};

/* Where the sums go: one of the two, and the line below all. */
struct report {
    struct table *table;
    struct sl_json *json;
    struct usage_sum total;
    int n_groups;
};

static double mean_ms(int64_t us, int64_t n)
{
    return n ? (double)us / 1000 / (double)n : 0;
}

static void mean_cell(struct table *table, int64_t us, int64_t n)
{
    if (n)
        table_cell(table, "%.1f", mean_ms(us, n));
    else
        table_cell(table, "-");
}

static void joules_cell(struct table *table, double joules, int64_t n)
{
    if (n)
        table_cell(table, "%.1f", joules);
    else
        table_cell(table, "-");
}

static void sum_row(struct table *table, const struct usage_sum *s)
{
    if (s->name[0])
        table_cell(table, "%s (%s)", s->name, s->group);
    else
        table_cell(table, "%s", s->group[0] ? s->group : "-");
    const int64_t counts[] = {s->n_requests,    s->n_failed,          s->prompt_tokens,
                              s->cached_tokens, s->completion_tokens, s->reasoning_tokens};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        table_cell(table, "%lld", (long long)counts[i]);
    mean_cell(table, s->queue_us, s->n_queue);
    mean_cell(table, s->first_token_us, s->n_first_token);
    mean_cell(table, s->total_us, s->n_requests);
    joules_cell(table, s->joules_measured, s->n_measured);
    joules_cell(table, s->joules_modelled, s->n_modelled);
}

static void put_mean(struct sl_json *json, const char *name, int64_t us, int64_t n)
{
    sl_json_key(json, name);
    if (n)
        sl_json_num(json, mean_ms(us, n));
    else
        sl_json_null(json);
}

static void put_joules(struct sl_json *json, const char *name, double joules, int64_t n)
{
    sl_json_key(json, name);
    if (n)
        sl_json_num(json, joules);
    else
        sl_json_null(json);
}

static void put_sum(struct sl_json *json, const struct usage_sum *s)
{
    sl_json_object(json);
    sl_json_kv_str(json, "group", s->group);
    if (s->name[0]) sl_json_kv_str(json, "name", s->name);
    sl_json_kv_int(json, "requests", s->n_requests);
    sl_json_kv_int(json, "failed", s->n_failed);
    sl_json_kv_int(json, "prompt_tokens", s->prompt_tokens);
    sl_json_kv_int(json, "cached_tokens", s->cached_tokens);
    sl_json_kv_int(json, "completion_tokens", s->completion_tokens);
    sl_json_kv_int(json, "reasoning_tokens", s->reasoning_tokens);
    put_mean(json, "queue_ms", s->queue_us, s->n_queue);
    put_mean(json, "first_token_ms", s->first_token_us, s->n_first_token);
    put_mean(json, "total_ms", s->total_us, s->n_requests);
    put_joules(json, "joules_measured", s->joules_measured, s->n_measured);
    put_joules(json, "joules_modelled", s->joules_modelled, s->n_modelled);
    sl_json_object_end(json);
}

static void add_up(struct usage_sum *total, const struct usage_sum *s)
{
    total->n_requests += s->n_requests;
    total->n_failed += s->n_failed;
    total->prompt_tokens += s->prompt_tokens;
    total->cached_tokens += s->cached_tokens;
    total->completion_tokens += s->completion_tokens;
    total->reasoning_tokens += s->reasoning_tokens;
    total->queue_us += s->queue_us;
    total->n_queue += s->n_queue;
    total->first_token_us += s->first_token_us;
    total->n_first_token += s->n_first_token;
    total->total_us += s->total_us;
    total->joules_measured += s->joules_measured;
    total->n_measured += s->n_measured;
    total->joules_modelled += s->joules_modelled;
    total->n_modelled += s->n_modelled;
}

static sl_status take_sum(void *arg, const struct usage_sum *sum, struct sl_err *err)
{
    (void)err;
    struct report *report = arg;
    report->n_groups++;
    add_up(&report->total, sum);
    if (report->json)
        put_sum(report->json, sum);
    else
        sum_row(report->table, sum);
    return SL_OK;
}

static sl_status query_of(const struct options *o, struct usage_query *query, struct sl_err *err)
{
    int64_t now_ms = sl_unix_time_ms();
    *query =
        (struct usage_query){.key = o->key, .model = o->model, .group = (enum usage_group)o->by};
    sl_status status = time_arg_past("since", o->since, now_ms, &query->since_ms, err);
    if (status == SL_OK && o->until)
        status = time_arg_past("until", o->until, now_ms, &query->until_ms, err);
    return status;
}

static sl_status print_json(struct db *db, const struct usage_query *query, struct sl_buf *out,
                            struct sl_err *err)
{
    struct sl_json json;
    struct report report = {.json = &json};
    sl_json_begin(&json, out, true);
    sl_json_array(&json);
    sl_status status = usage_sum(db, query, take_sum, &report, err);
    if (status != SL_OK) return status;
    sl_json_array_end(&json);
    status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static sl_status print_table(struct db *db, const struct usage_query *query, struct sl_buf *out,
                             struct sl_err *err)
{
    static const char *const names[] = {"DAY", "KEY", "MODEL", "ENDPOINT", ""};
    static const char *const heading[] = {"REQUESTS",   "FAILED",     "PROMPT",     "CACHED",
                                          "COMPLETION", "REASONING",  "QUEUE MS",   "FIRST MS",
                                          "TOTAL MS",   "J MEASURED", "J MODELLED", NULL};
    struct table table;
    struct report report = {.table = &table, .total = {.group = "total", .name = ""}};
    table_init(&table, "lrrrrrrrrrrr");
    table_cell(&table, "%s", names[query->group]);
    for (int i = 0; heading[i]; i++) table_cell(&table, "%s", heading[i]);
    sl_status status = usage_sum(db, query, take_sum, &report, err);
    if (status == SL_OK && report.n_groups > 1) sum_row(&table, &report.total);
    if (status == SL_OK) status = table_print(&table, out);
    table_done(&table);
    return status;
}

int cmd_usage(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct usage_query query;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    struct db *db = NULL;
    int exit_code;
    if (!cli_parse(&cmd_usage_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, REPORT_BYTES_MAX);
    sl_status status = query_of(&o, &query, &err);
    if (status == SL_OK) status = state_db_open(&db, &err);
    if (status == SL_OK) status = state_db_take_usage(db, &err);
    if (status == SL_OK)
        status = o.json ? print_json(db, &query, &out, &err) : print_table(db, &query, &out, &err);
    db_close(db);
    exit_code = cli_print(&cmd_usage_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
