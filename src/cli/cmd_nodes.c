/* cmd_nodes.c: `starlane nodes`: the machines of the grid, as a gateway sees them. */
#include "base/json.h"
#include "base/mem.h"
#include "base/size_text.h"
#include "cli/admin_key.h"
#include "cli/client.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/table.h"
#include "cli/time_text.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define OUTPUT_BYTES_MAX (64u << 20)
#define PATH_BYTES_MAX 4096
#define BODY_BYTES_MAX 65536
#define KWH_JOULES 3600000.0
#define NAMES_SHOWN 3 /* models of a row; more are counted */

struct options {
    const char *server, *api_key;
    bool json, watch;
};

static const struct sl_opt opts[] = {
    CLIENT_OPTIONS(struct options, server, api_key),
    {"watch", 'w', SL_OPT_BOOL, offsetof(struct options, watch), 0, 0, NULL, NULL, NULL,
     "Show it anew each second until Ctrl-C."},
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, json), 0, 0, NULL, NULL, NULL,
     "Print JSON; with --watch a line a second."},
    {0},
};

const struct sl_command cmd_nodes_spec = {
    .name = "nodes",
    .usage = "[cordon|uncordon|drain|rm NODE | label NODE [KEY=VALUE...]]",
    .summary = "List the machines of the grid, and take them out or back in.",
    .details =
        "NODE is a name or an id. cordon: it takes nothing new. drain: it finishes what it "
        "has and leaves: its process ends, and starting it again brings it back. uncordon "
        "takes back a cordon, and a drain that is not done yet. rm removes it for good: its "
        "certificate is worth nothing any more. label replaces all its labels.\n\n"
        "QUEUE is running+waiting. Power is measured, modelled or declared by the owner. The "
        "machine that answers has a * behind its name.\n\n"
        "    starlane nodes --watch\n"
        "    starlane nodes drain office-3",
    .opts = opts,
    .n_args_min = 0,
    .n_args_max = 34,
};

static const char *text_of(const struct sl_json_value *object, const char *key)
{
    return sl_json_to_str(sl_json_get(object, key), "", NULL);
}

static double number_of(const struct sl_json_value *object, const char *key)
{
    return sl_json_to_num(sl_json_get(object, key), -1);
}

/* "alive", "alive, cordoned", "draining", "dead" */
static void state_cell(struct table *table, const struct sl_json_value *node)
{
    const char *state = text_of(node, "state"), *duty = text_of(node, "duty");
    if (strcmp(state, "alive") != 0 || !*duty || strcmp(duty, "open") == 0)
        table_cell(table, "%s", state);
    else if (sl_json_to_bool(sl_json_get(node, "drained"), false))
        table_cell(table, "drained");
    else
        table_cell(table, "%s", duty);
}

static void percent_cell(struct table *table, double fraction)
{
    if (fraction < 0)
        table_cell(table, "-");
    else
        table_cell(table, "%.0f%%", 100 * fraction);
}

static void memory_cell(struct table *table, const struct sl_json_value *telemetry)
{
    char used[SL_SIZE_TEXT_MAX], total[SL_SIZE_TEXT_MAX];
    double all = number_of(telemetry, "memory_total_bytes");
    double available = number_of(telemetry, "memory_available_bytes");
    if (all < 0 || available < 0 || available > all)
        table_cell(table, "-");
    else
        table_cell(table, "%s/%s", sl_size_text((uint64_t)(all - available), used),
                   sl_size_text((uint64_t)all, total));
}

/* "2x NVIDIA H200 37%", with the mean of what is known */
static void accelerator_cell(struct table *table, const struct sl_json_value *telemetry)
{
    const struct sl_json_value *all = sl_json_get(telemetry, "accelerators");
    size_t n = sl_json_size(all);
    double busy = 0;
    size_t n_known = 0;
    if (!n) {
        table_cell(table, "-");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        double one = number_of(sl_json_at(all, i), "utilisation");
        if (one < 0) continue;
        busy += one;
        n_known++;
    }
    char count[24] = "", load[16] = "";
    if (n > 1) snprintf(count, sizeof count, "%zux ", n);
    if (n_known) snprintf(load, sizeof load, " %.0f%%", 100 * busy / (double)n_known);
    table_cell(table, "%s%s%s", count, text_of(sl_json_at(all, 0), "name"), load);
}

struct work {
    char names[256];
    size_t n_names, n_text;
    int running, waiting;
    double tokens_per_s;
};

/* Of a model, with what there is to say of it; those beyond NAMES_SHOWN are only counted. */
static void add_name(struct work *work, const char *name, const char *suffix)
{
    if (work->n_names++ >= NAMES_SHOWN) return;
    work->n_text += (size_t)snprintf(work->names + work->n_text, sizeof work->names - work->n_text,
                                     "%s%.48s%s", work->n_text ? ", " : "", name, suffix);
}

static void sum_models(const struct sl_json_value *models, struct work *work)
{
    for (size_t i = 0; i < sl_json_size(models); i++) {
        const struct sl_json_value *model = sl_json_at(models, i);
        const char *state = text_of(model, "state");
        work->running += (int)sl_json_to_int(sl_json_get(model, "running"), 0);
        work->waiting += (int)sl_json_to_int(sl_json_get(model, "waiting"), 0);
        work->tokens_per_s += sl_json_to_num(sl_json_get(model, "tokens_per_s"), 0);
        if (strcmp(state, "unloaded") == 0) continue;
        add_name(work, text_of(model, "name"), strcmp(state, "ready") ? " (loading)" : "");
    }
}

/* Layers that it computes in other members' chains. */
static void sum_stages(const struct sl_json_value *stages, struct work *work)
{
    for (size_t i = 0; i < sl_json_size(stages); i++) {
        const struct sl_json_value *stage = sl_json_at(stages, i);
        int first = (int)sl_json_to_int(sl_json_get(stage, "first"), 0);
        int last = (int)sl_json_to_int(sl_json_get(stage, "last"), 0);
        char layers[32];
        snprintf(layers, sizeof layers, " (%d-%d)", first, last - 1);
        add_name(work, text_of(stage, "model"), layers);
    }
}

static void sum_work(const struct sl_json_value *node, struct work *work)
{
    *work = (struct work){.names = "-"};
    sum_models(sl_json_get(node, "models"), work);
    sum_stages(sl_json_get(node, "stages"), work);
    if (work->n_names > NAMES_SHOWN)
        snprintf(work->names + work->n_text, sizeof work->names - work->n_text, " and %zu more",
                 work->n_names - NAMES_SHOWN);
}

static void seen_cell(struct table *table, const struct sl_json_value *node)
{
    char text[TIME_SPAN_TEXT_MAX];
    double ms = number_of(node, "last_seen_ms");
    if (ms < 0)
        table_cell(table, "never");
    else if (ms < 3000)
        table_cell(table, "now");
    else
        table_cell(table, "%s ago", time_span_text((int64_t)ms, text));
}

static void rtt_cell(struct table *table, double ms)
{
    if (ms < 0)
        table_cell(table, "-");
    else
        table_cell(table, "%.1f ms", ms);
}

/* Watts with their source, and what has been used since the member's start. */
static void power_cells(struct table *table, const struct sl_json_value *telemetry)
{
    double watts = number_of(telemetry, "watts"), joules = number_of(telemetry, "joules");
    if (watts < 0)
        table_cell(table, "-");
    else
        table_cell(table, "%.0f W %s", watts, text_of(telemetry, "watts_are"));
    if (joules < 0)
        table_cell(table, "-");
    else if (joules < KWH_JOULES)
        table_cell(table, "%.1f Wh", joules / 3600);
    else
        table_cell(table, "%.1f kWh", joules / KWH_JOULES);
}

/* What a machine did last, says nothing once it is dead. */
static bool is_here(const struct sl_json_value *node)
{
    const char *state = text_of(node, "state");
    return !strcmp(state, "alive") || !strcmp(state, "suspect");
}

static void node_row(struct table *table, const struct sl_json_value *node)
{
    const struct sl_json_value *telemetry = is_here(node) ? sl_json_get(node, "telemetry") : NULL;
    struct work work;
    sum_work(is_here(node) ? node : NULL, &work);
    table_cell(table, "%s%s", text_of(node, "name"),
               sl_json_to_bool(sl_json_get(node, "self"), false) ? " *" : "");
    table_cell(table, "%s", text_of(node, "id"));
    table_cell(table, "%s", *text_of(node, "site") ? text_of(node, "site") : "-");
    table_cell(table, "%s", text_of(node, "role"));
    state_cell(table, node);
    percent_cell(table, number_of(telemetry, "cpu_fraction"));
    memory_cell(table, telemetry);
    accelerator_cell(table, telemetry);
    table_cell(table, "%s", work.names);
    table_cell(table, "%d+%d", work.running, work.waiting);
    table_cell(table, "%.0f", work.tokens_per_s);
    rtt_cell(table, number_of(node, "rtt_ms"));
    power_cells(table, telemetry);
    seen_cell(table, node);
}

/* Ids say little to people; they settle which of two machines with one name comes first. */
static int by_name(const void *a, const void *b)
{
    const struct sl_json_value *const *left = a, *const *right = b;
    int order = strcmp(text_of(*left, "name"), text_of(*right, "name"));
    return order ? order : strcmp(text_of(*left, "id"), text_of(*right, "id"));
}

static sl_status write_text(const struct sl_json_value *nodes, struct sl_buf *out)
{
    static const char *const heads[] = {"NAME",  "ID",     "SITE",  "ROLE",   "STATE",
                                        "CPU",   "MEMORY", "ACCEL", "MODELS", "QUEUE",
                                        "TOK/S", "RTT",    "POWER", "ENERGY", "SEEN"};
    size_t n = sl_json_size(nodes);
    const struct sl_json_value **sorted = sl_calloc(n + 1, sizeof *sorted);
    struct table table;
    if (!sorted) return SL_NOMEM;
    for (size_t i = 0; i < n; i++) sorted[i] = sl_json_at(nodes, i);
    qsort(sorted, n, sizeof *sorted, by_name);
    table_init(&table, "lllllrrllrrrrrl");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < n; i++) node_row(&table, sorted[i]);
    sl_status status = table_print(&table, out);
    table_done(&table);
    sl_free(sorted);
    return status;
}

static sl_status list_once(struct client *client, const struct options *o, struct sl_buf *out,
                           struct sl_err *err)
{
    struct sl_json_value *answer = NULL;
    sl_status status = client_call(client, "/grid/v1/nodes", NULL, &answer, err);
    if (status == SL_OK)
        status = o->json ? cli_put_json(answer, !o->watch, out)
                         : write_text(sl_json_get(answer, "nodes"), out);
    sl_json_free(answer);
    return status;
}

/* A terminal sees one picture that changes, a pipe all of them. */
static sl_status show(const struct options *o, struct sl_buf *out, struct sl_err *err)
{
    static const char HOME_AND_CLEAR[] = "\033[H\033[J";
    sl_status status = SL_OK;
    if (o->watch && !o->json && isatty(STDOUT_FILENO))
        status = cli_write(HOME_AND_CLEAR, sizeof HOME_AND_CLEAR - 1, err);
    if (status == SL_OK) status = cli_write(out->data, out->len, err);
    sl_buf_clear(out);
    return status;
}

static sl_status watch(struct client *client, const struct options *o, struct sl_buf *out,
                       struct sl_err *err)
{
    static const struct timespec SECOND = {.tv_sec = 1};
    sl_status status = SL_OK;
    interrupt_catch(0);
    while (status == SL_OK && !interrupt_asked) {
        status = list_once(client, o, out, err);
        if (status == SL_OK) status = show(o, out, err);
        if (status == SL_OK) nanosleep(&SECOND, NULL);
    }
    return interrupt_asked || status == SL_CANCELLED ? SL_OK : status;
}

/* --- changes --- */

static const struct {
    const char *verb, *duty, *said;
} verbs[] = {{"cordon", "cordoned", "takes nothing new from now on"},
             {"uncordon", "open", "takes requests again"},
             {"drain", "draining", "finishes what it has, and leaves"},
             {"rm", NULL, "is no member any more"},
             {"label", NULL, "has these labels now"}};
#define VERBS (sizeof verbs / sizeof verbs[0])

static size_t verb_index(const char *verb)
{
    size_t i = 0;
    while (i < VERBS && strcmp(verbs[i].verb, verb) != 0) i++;
    return i;
}

/* Before anybody is asked. */
static sl_status check_args(const struct options *o, const struct cli_args *args,
                            struct sl_err *err)
{
    if (!args->n) return SL_OK;
    if (verb_index(args->v[0]) == VERBS)
        return sl_err_set(err, SL_INVALID,
                          "\"%.40s\" is unknown; there are: cordon, uncordon, drain, rm, label",
                          args->v[0]);
    if (args->n < 2)
        return sl_err_set(err, SL_INVALID, "%s which node? starlane nodes lists them", args->v[0]);
    if (args->n > 2 && strcmp(args->v[0], "label") != 0)
        return sl_err_set(err, SL_INVALID, "one node at a time: what is \"%.40s\"?", args->v[2]);
    for (int i = 2; i < args->n; i++)
        if (!strchr(args->v[i], '='))
            return sl_err_set(err, SL_INVALID, "\"%.80s\" is no KEY=VALUE", args->v[i]);
    if (o->watch) return sl_err_set(err, SL_INVALID, "--watch is for the list");
    return SL_OK;
}

static sl_status write_change(const struct cli_args *args, const char *duty, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    if (duty) {
        sl_json_kv_str(&json, "duty", duty);
    } else {
        sl_json_key(&json, "labels");
        sl_json_object(&json);
        for (int i = 2; i < args->n; i++) {
            const char *equals = strchr(args->v[i], '=');
            sl_json_keyn(&json, args->v[i], (size_t)(equals - args->v[i]));
            sl_json_str(&json, equals + 1);
        }
        sl_json_object_end(&json);
    }
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status change(struct client *client, const struct options *o, const struct cli_args *args,
                        struct sl_buf *out, struct sl_err *err)
{
    struct sl_json_value *answer = NULL;
    struct sl_buf path, body;
    size_t i = verb_index(args->v[0]);
    bool removes = !strcmp(verbs[i].verb, "rm");
    sl_buf_init(&path, PATH_BYTES_MAX);
    sl_buf_init(&body, BODY_BYTES_MAX);
    sl_status status = sl_buf_adds(&path, "/grid/v1/members/");
    if (status == SL_OK) status = client_escape(args->v[1], &path);
    if (status == SL_OK && !removes) status = write_change(args, verbs[i].duty, &body);
    if (status != SL_OK)
        (void)sl_err_set(err, SL_INVALID, "the name or the labels are too long");
    else
        status = client_call_as(client, removes ? "DELETE" : "PATCH", path.data,
                                removes ? NULL : &body, &answer, err);
    if (status == SL_OK)
        status = o->json && answer ? cli_put_json(answer, true, out)
                                   : sl_buf_addf(out, "%s %s\n", args->v[1], verbs[i].said);
    sl_json_free(answer);
    sl_buf_done(&path);
    sl_buf_done(&body);
    return status;
}

int cmd_nodes(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct client *client = NULL;
    struct sl_buf out;
    char key[ADMIN_KEY_SIZE] = "";
    int exit_code;
    if (!cli_parse(&cmd_nodes_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    struct client_cfg cfg = {.server = o.server, .api_key = o.api_key};
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = check_args(&o, &args, &err);
    if (status == SL_OK) status = admin_client_create(&cfg, key, &client, &err);
    if (status == SL_OK) status = client_find(client, &err);
    if (status == SL_OK)
        status = args.n    ? change(client, &o, &args, &out, &err)
                 : o.watch ? watch(client, &o, &out, &err)
                           : list_once(client, &o, &out, &err);
    client_destroy(client);
    explicit_bzero(key, sizeof key);
    exit_code = cli_print(&cmd_nodes_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
