/* cmd_token.c: `starlane token`: what lets machines into the grid, made at a running gateway. */
#include "base/duration.h"
#include "base/json.h"
#include "cli/admin_key.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include "cli/table.h"
#include "cli/time_arg.h"
#include "grid/token.h"

#include <stdio.h>
#include <string.h>

#define REPORT_BYTES_MAX (1u << 20) /* TOKEN_COUNT_MAX rows */
#define PATH "/grid/v1/tokens"

struct options {
    const char *server, *api_key, *ttl;
    int64_t uses;
    bool gateway, json;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"ttl", 0, SL_OPT_STRING, FIELD(ttl), 0, 0, "TIME", NULL, "1h",
     "How long the new token lets machines in."},
    {"uses", 0, SL_OPT_INT, FIELD(uses), 1, TOKEN_USES_MAX, "N", NULL, "1",
     "How many machines it lets in."},
    {"gateway", 'g', SL_OPT_BOOL, FIELD(gateway), 0, 0, NULL, NULL, NULL,
     "It lets gateways in too, who may let in others."},
    CLIENT_OPTIONS(struct options, server, api_key),
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_token_spec = {
    .name = "token",
    .usage = "create | ls | rm ID",
    .summary = "Make, list and revoke tokens that let machines into the grid.",
    .details =
        "A token is made and redeemed at one gateway, which has to run. create prints it, and "
        "nothing else, on stdout: the gateway keeps a hash only. At a gateway's own machine its "
        "owner needs no key for this. It lets nodes in; gateways, who have the public API and let "
        "in "
        "others themselves, only with --gateway.\n\n"
        "    starlane token create --ttl 10m --uses 5\n"
        "    starlane join \"$(ssh gateway starlane token create)\"",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 2,
};

static sl_status put_line(const struct sl_json_value *value, struct sl_buf *report)
{
    struct sl_json json;
    sl_json_begin(&json, report, true);
    sl_json_put(&json, value);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(report, '\n') : status;
}

/* --- create --- */

static sl_status write_request(const struct options *o, struct sl_buf *out, struct sl_err *err)
{
    int64_t ttl_ns;
    struct sl_json json;
    sl_status status = sl_duration_parse(o->ttl, &ttl_ns, err);
    if (status == SL_OK && ttl_ns < TOKEN_TTL_MIN_MS * 1000000)
        status = sl_err_set(err, SL_INVALID, "%s is too short a time", o->ttl);
    if (status != SL_OK) {
        err->status = SL_INVALID;
        return sl_err_prefix(err, "--ttl");
    }
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_int(&json, "ttl_s", ttl_ns / 1000000000);
    sl_json_kv_int(&json, "uses", o->uses);
    sl_json_kv_bool(&json, "gateway", o->gateway);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status create(struct client *client, const struct options *o, struct sl_buf *report,
                        struct sl_err *err)
{
    struct sl_json_value *answer = NULL;
    struct sl_buf body;
    sl_buf_init(&body, 256);
    sl_status status = write_request(o, &body, err);
    if (status == SL_OK) status = client_call(client, PATH, &body, &answer, err);
    if (status == SL_OK)
        status = o->json ? put_line(answer, report)
                         : sl_buf_addf(report, "%s\n",
                                       sl_json_to_str(sl_json_get(answer, "token"), "", NULL));
    sl_json_free(answer);
    sl_buf_done(&body);
    return status;
}

/* --- list --- */

static void time_cell(struct table *table, const struct sl_json_value *seconds)
{
    char text[TIME_ARG_TEXT_MAX];
    table_cell(table, "%s", time_arg_text(sl_json_to_int(seconds, 0) * 1000, text));
}

static sl_status list_text(const struct sl_json_value *tokens, struct sl_buf *report)
{
    static const char *const heading[] = {"ID", "STATE",   "FOR",     "USED",
                                          "OF", "CREATED", "EXPIRES", NULL};
    struct table table;
    table_init(&table, "lllrrll");
    for (int i = 0; heading[i]; i++) table_cell(&table, "%s", heading[i]);
    for (size_t i = 0; i < sl_json_size(tokens); i++) {
        const struct sl_json_value *token = sl_json_at(tokens, i);
        table_cell(&table, "%s", sl_json_to_str(sl_json_get(token, "id"), "", NULL));
        table_cell(&table, "%s", sl_json_to_str(sl_json_get(token, "state"), "", NULL));
        bool gateways = sl_json_to_bool(sl_json_get(token, "gateway"), false);
        table_cell(&table, "%s", gateways ? "gateways" : "nodes");
        table_cell(&table, "%lld", (long long)sl_json_to_int(sl_json_get(token, "used"), 0));
        table_cell(&table, "%lld", (long long)sl_json_to_int(sl_json_get(token, "uses"), 0));
        time_cell(&table, sl_json_get(token, "created"));
        time_cell(&table, sl_json_get(token, "expires"));
    }
    sl_status status = table_print(&table, report);
    table_done(&table);
    return status;
}

static sl_status list(struct client *client, const struct options *o, struct sl_buf *report,
                      struct sl_err *err)
{
    struct sl_json_value *answer = NULL;
    sl_status status = client_call(client, PATH, NULL, &answer, err);
    const struct sl_json_value *tokens = sl_json_get(answer, "tokens");
    if (status == SL_OK) status = o->json ? put_line(tokens, report) : list_text(tokens, report);
    sl_json_free(answer);
    return status;
}

/* --- rm --- */

static sl_status revoke_token(struct client *client, const char *id, struct sl_buf *report,
                              struct sl_err *err)
{
    struct sl_json_value *answer = NULL;
    struct sl_buf path;
    sl_buf_init(&path, 1024);
    sl_status status = sl_buf_adds(&path, PATH "/");
    if (status == SL_OK) status = client_escape(id, &path);
    if (status != SL_OK) sl_err_set(err, SL_INVALID, "the id is too long");
    if (status == SL_OK) status = client_call_as(client, "DELETE", path.data, NULL, &answer, err);
    sl_json_free(answer);
    sl_buf_done(&path);
    return status == SL_OK ? sl_buf_addf(report, "revoked %s\n", id) : status;
}

static sl_status run_verb(const struct options *o, const struct cli_args *args,
                          struct client *client, struct sl_buf *report, struct sl_err *err)
{
    const char *verb = args->v[0];
    if (strcmp(verb, "create") == 0) return create(client, o, report, err);
    if (strcmp(verb, "ls") == 0 || strcmp(verb, "list") == 0) return list(client, o, report, err);
    return revoke_token(client, args->v[1], report, err);
}

/* Before anybody is asked. */
static sl_status check_args(const struct cli_args *args, struct sl_err *err)
{
    const char *verb = args->v[0];
    bool rm = strcmp(verb, "rm") == 0 || strcmp(verb, "revoke") == 0;
    bool known = rm || !strcmp(verb, "create") || !strcmp(verb, "ls") || !strcmp(verb, "list");
    if (!known)
        return sl_err_set(err, SL_INVALID, "\"%.40s\" is unknown; there are: create, ls, rm", verb);
    if (rm && args->n < 2)
        return sl_err_set(err, SL_INVALID, "rm which token? starlane token ls shows their ids");
    if (!rm && args->n > 1)
        return sl_err_set(err, SL_INVALID, "%s takes no argument \"%.40s\"", verb, args->v[1]);
    return SL_OK;
}

int cmd_token(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct client *client = NULL;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf report;
    char key[ADMIN_KEY_SIZE] = "";
    int exit_code;
    if (!cli_parse(&cmd_token_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    struct client_cfg cfg = {.server = o.server, .api_key = o.api_key};
    sl_buf_init(&report, REPORT_BYTES_MAX);
    sl_status status = check_args(&args, &err);
    if (status == SL_OK) status = admin_client_create(&cfg, key, &client, &err);
    if (status == SL_OK) status = client_find(client, &err);
    if (status == SL_OK) status = run_verb(&o, &args, client, &report, &err);
    client_destroy(client);
    explicit_bzero(key, sizeof key);
    exit_code = cli_print(&cmd_token_spec, status, &report, &err);
    sl_buf_done(&report);
    return exit_code;
}
