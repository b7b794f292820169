/* cmd_ps.c: `starlane ps`: the models that a server has in memory. */
#include "base/clock.h"
#include "base/size_text.h"
#include "cli/client.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/time_text.h"
#include <stdio.h>
#include <string.h>

#define OUTPUT_BYTES_MAX (64u << 20)

struct options {
    const char *server, *api_key;
    bool json;
};

static const struct sl_opt opts[] = {
    CLIENT_OPTIONS(struct options, server, api_key),
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_ps_spec = {
    .name = "ps",
    .usage = "",
    .summary = "List the models that a running server has in memory.",
    .details =
        "SIZE is what a model takes of memory: of one that is split over members of a grid, in all "
        "its parts together. UNTIL says when it goes if nobody asks for it: with serve after "
        "--keep-alive, in a grid some minutes after its last request; \"forever\" is until "
        "starlane stop, of a model that the server was started with or that starlane plan --apply "
        "placed.",
    .opts = opts,
};

/* "ready", "loading 42 %" */
static void state_cell(struct table *table, const struct sl_json_value *model)
{
    const char *state = sl_json_to_str(sl_json_get(model, "status"), "", NULL);
    double progress = sl_json_to_num(sl_json_get(model, "progress"), 0);
    if (strcmp(state, "loading") == 0)
        table_cell(table, "loading %.0f %%", 100 * progress);
    else
        table_cell(table, "%s", state);
}

/* "1.20 GiB", "4.00 GiB in 3 parts" */
static void size_cell(struct table *table, const struct sl_json_value *model)
{
    char size[SL_SIZE_TEXT_MAX];
    int64_t bytes = sl_json_to_int(sl_json_get(model, "size"), 0);
    int parts = (int)sl_json_to_int(sl_json_get(model, "parts"), 1);
    (void)sl_size_text(bytes > 0 ? (uint64_t)bytes : 0, size);
    if (parts > 1)
        table_cell(table, "%s in %d parts", size, parts);
    else
        table_cell(table, "%s", size);
}

static bool is_in_use(const struct sl_json_value *model)
{
    return sl_json_to_int(sl_json_get(model, "running"), 0) > 0 ||
           sl_json_to_int(sl_json_get(model, "waiting"), 0) > 0;
}

/* "4 minutes from now" */
static void until_cell(struct table *table, const struct sl_json_value *model)
{
    char text[TIME_SPAN_TEXT_MAX];
    int64_t at_ms;
    const char *at = sl_json_to_str(sl_json_get(model, "expires_at"), "", NULL);
    bool pinned = sl_json_to_bool(sl_json_get(model, "pinned"), false);
    bool until_unused = sl_json_to_bool(sl_json_get(model, "until_unused"), false);
    int64_t now_ms = sl_unix_time_ms();
    bool forever = !time_text_parse(at, &at_ms) || at_ms - now_ms > TIME_FOREVER_MS;
    if (pinned)
        table_cell(table, "forever");
    else if (forever && is_in_use(model))
        table_cell(table, "in use");
    else if (forever)
        table_cell(table, until_unused ? "unused for some minutes" : "forever");
    else if (at_ms <= now_ms)
        table_cell(table, "now");
    else
        table_cell(table, "%s from now", time_span_text(at_ms - now_ms, text));
}

static void model_row(struct table *table, const struct sl_json_value *model)
{
    table_cell(table, "%s", sl_json_to_str(sl_json_get(model, "name"), "", NULL));
    size_cell(table, model);
    state_cell(table, model);
    table_cell(table, "%d", (int)sl_json_to_int(sl_json_get(model, "running"), 0));
    table_cell(table, "%d", (int)sl_json_to_int(sl_json_get(model, "waiting"), 0));
    table_cell(table, "%d", (int)sl_json_to_int(sl_json_get(model, "context_length"), 0));
    until_cell(table, model);
}

static sl_status write_text(const struct sl_json_value *models, struct sl_buf *out)
{
    static const char *const heads[] = {"NAME",    "SIZE",    "STATE", "RUNNING",
                                        "WAITING", "CONTEXT", "UNTIL"};
    struct table table;
    table_init(&table, "lrlrrrl");
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < sl_json_size(models); i++) model_row(&table, sl_json_at(models, i));
    sl_status status = table_print(&table, out);
    table_done(&table);
    return status;
}

int cmd_ps(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct client *client = NULL;
    struct sl_json_value *answer = NULL;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_ps_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    const struct client_cfg cfg = {.server = o.server, .api_key = o.api_key};
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = client_create(&cfg, &client, &err);
    if (status == SL_OK) status = client_find(client, &err);
    if (status == SL_OK) status = client_call(client, "/api/ps", NULL, &answer, &err);
    if (status == SL_OK)
        status = o.json ? cli_put_json(answer, true, &out)
                        : write_text(sl_json_get(answer, "models"), &out);
    exit_code = cli_print(&cmd_ps_spec, status, &out, &err);
    sl_json_free(answer);
    client_destroy(client);
    sl_buf_done(&out);
    return exit_code;
}
