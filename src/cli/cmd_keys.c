/* cmd_keys.c: `starlane keys`: makes, lists and revokes API keys. */
#include "access/keys.h"
#include "base/clock.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/state_db.h"
#include "cli/table.h"
#include "cli/time_arg.h"
#include "grid/db.h"

#include <stdio.h>
#include <string.h>

#define REPORT_BYTES_MAX (256u << 20) /* KEYS_COUNT_MAX rows of 2 kB */

struct options {
    const char *name, *models, *expires;
    int64_t rpm, tpm, concurrency;
    int qos_class;
    bool json;
};

#define FIELD(field) offsetof(struct options, field)

static const struct sl_opt opts[] = {
    {"name", 'n', SL_OPT_STRING, FIELD(name), 0, 0, "NAME", NULL, NULL,
     "Whose key it is; needed by create."},
    {"rpm", 0, SL_OPT_INT, FIELD(rpm), 0, QUOTA_RATE_MAX, "N", NULL, "0",
     "Requests a minute; 0: no limit."},
    {"tpm", 0, SL_OPT_INT, FIELD(tpm), 0, QUOTA_RATE_MAX, "N", NULL, "0",
     "Tokens a minute, prompt and answer; 0: no limit."},
    {"concurrency", 0, SL_OPT_INT, FIELD(concurrency), 0, QUOTA_RATE_MAX, "N", NULL, "0",
     "Requests at once; 0: no limit."},
    {"models", 0, SL_OPT_STRING, FIELD(models), 0, 0, "LIST", NULL, NULL,
     "Models it may use: names and patterns with * and ?, commas between; all when left out."},
    {"expires", 0, SL_OPT_STRING, FIELD(expires), 0, 0, "WHEN", NULL, NULL,
     "30d, 12h, or a day like 2027-01-31; never when left out."},
    {"class", 0, SL_OPT_ENUM, FIELD(qos_class), 0, 0, "CLASS", "server," KEYS_CLASSES, "server",
     "Class of requests that name none; server: what the server's default is."},
    {"json", 0, SL_OPT_BOOL, FIELD(json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_keys_spec = {
    .name = "keys",
    .usage = "create --name NAME | ls | revoke ID|NAME",
    .summary = "Make, list and revoke API keys.",
    .details =
        "create prints the key, and nothing else, on stdout: it is kept as a hash only and cannot "
        "be shown again. As soon as there is a key, a server wants one with every request. "
        "A running server knows of a change within about a second.\n\n"
        "    starlane keys create --name alice --rpm 60 --models 'qwen*' --expires 30d",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 2,
};

static void put_time(struct sl_json *json, const char *name, int64_t unix_ms)
{
    sl_json_key(json, name);
    if (unix_ms)
        sl_json_int(json, unix_ms / 1000);
    else
        sl_json_null(json);
}

static void put_key(struct sl_json *json, const struct api_key *key, const char *secret)
{
    sl_json_object(json);
    sl_json_kv_str(json, "id", key->id);
    sl_json_kv_str(json, "name", key->name);
    if (secret) sl_json_kv_str(json, "key", secret);
    put_time(json, "created", key->created_ms);
    put_time(json, "expires", key->expires_ms);
    put_time(json, "revoked", key->revoked_ms);
    put_time(json, "last_used", key->last_used_ms);
    sl_json_kv_int(json, "rpm", key->limits.requests_per_min);
    sl_json_kv_int(json, "tpm", key->limits.tokens_per_min);
    sl_json_kv_int(json, "concurrency", key->limits.concurrency);
    sl_json_kv_str(json, "models", key->models);
    sl_json_kv_str(json, "class", keys_class_name(key->qos_class));
    sl_json_object_end(json);
}

static sl_status report_key(const struct api_key *key, const char *secret, struct sl_buf *report)
{
    struct sl_json json;
    sl_json_begin(&json, report, true);
    put_key(&json, key, secret);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(report, '\n') : status;
}

static sl_status create(struct db *db, const struct options *o, struct sl_buf *report,
                        struct sl_err *err)
{
    char secret[KEYS_SECRET_CHARS + 1];
    struct api_key key;
    int64_t now_ms = sl_unix_time_ms();
    struct keys_request request = {
        .name = o->name,
        .models = o->models,
        .limits = {o->rpm, o->tpm, o->concurrency},
        .qos_class = o->qos_class - 1, /* after "server" */
    };
    sl_status status = SL_OK;
    if (!o->name) return sl_err_set(err, SL_INVALID, "--name is needed");
    if (o->expires)
        status = time_arg_future("expires", o->expires, now_ms, &request.expires_ms, err);
    if (status == SL_OK) status = keys_make(db, &request, now_ms, secret, &key, err);
    if (status == SL_OK)
        status = o->json ? report_key(&key, secret, report) : sl_buf_addf(report, "%s\n", secret);
    if (status == SL_OK && !o->json)
        fprintf(stderr, "Key %s of %s. Copy it now: it cannot be shown again.\n", key.id, key.name);
    explicit_bzero(secret, sizeof secret);
    return status;
}

static sl_status revoke(struct db *db, const struct options *o, const char *id_or_name,
                        struct sl_buf *report, struct sl_err *err)
{
    struct api_key key;
    sl_status status = keys_revoke(db, id_or_name, sl_unix_time_ms(), &key, err);
    if (status != SL_OK) return status;
    if (o->json) return report_key(&key, NULL, report);
    return sl_buf_addf(report, "revoked %s (%s)\n", key.id, key.name);
}

static void limit_cell(struct table *table, int64_t limit)
{
    if (limit)
        table_cell(table, "%lld", (long long)limit);
    else
        table_cell(table, "-");
}

static const char *state_of(const struct api_key *key, int64_t now_ms)
{
    if (key->revoked_ms) return "revoked";
    return key->expires_ms && key->expires_ms <= now_ms ? "expired" : "active";
}

static void key_row(struct table *table, const struct api_key *key, int64_t now_ms)
{
    char text[TIME_ARG_TEXT_MAX];
    const char *qos_class = keys_class_name(key->qos_class);
    table_cell(table, "%s", key->id);
    table_cell(table, "%s", key->name);
    table_cell(table, "%s", state_of(key, now_ms));
    limit_cell(table, key->limits.requests_per_min);
    limit_cell(table, key->limits.tokens_per_min);
    limit_cell(table, key->limits.concurrency);
    table_cell(table, "%s", qos_class ? qos_class : "-");
    table_cell(table, "%s", time_arg_text(key->expires_ms, text));
    table_cell(table, "%s", time_arg_text(key->last_used_ms, text));
    table_cell(table, "%s", key->models[0] ? key->models : "all");
}

static sl_status list_text(const struct keys_list *list, struct sl_buf *report)
{
    static const char *const heading[] = {"ID",        "NAME",    "STATE", "RPM",
                                          "TPM",       "AT ONCE", "CLASS", "EXPIRES",
                                          "LAST USED", "MODELS",  NULL};
    struct table table;
    int64_t now_ms = sl_unix_time_ms();
    table_init(&table, "lllrrrllll");
    for (int i = 0; heading[i]; i++) table_cell(&table, "%s", heading[i]);
    for (size_t i = 0; i < list->n; i++) key_row(&table, &list->v[i], now_ms);
    sl_status status = table_print(&table, report);
    table_done(&table);
    return status;
}

static sl_status list_json(const struct keys_list *list, struct sl_buf *report)
{
    struct sl_json json;
    sl_json_begin(&json, report, true);
    sl_json_array(&json);
    for (size_t i = 0; i < list->n; i++) put_key(&json, &list->v[i], NULL);
    sl_json_array_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(report, '\n') : status;
}

static sl_status list_keys(struct db *db, const struct options *o, struct sl_buf *report,
                           struct sl_err *err)
{
    struct keys_list *list;
    sl_status status = keys_read(db, &list, err);
    if (status != SL_OK) return status;
    status = o->json ? list_json(list, report) : list_text(list, report);
    keys_list_destroy(list);
    return status;
}

static sl_status run_verb(struct db *db, const struct options *o, const struct cli_args *args,
                          struct sl_buf *report, struct sl_err *err)
{
    const char *verb = args->v[0];
    bool is_revoke = strcmp(verb, "revoke") == 0;
    if (!is_revoke && args->n > 1)
        return sl_err_set(err, SL_INVALID, "%.40s takes no argument \"%.40s\"", verb, args->v[1]);
    if (strcmp(verb, "create") == 0) return create(db, o, report, err);
    if (strcmp(verb, "ls") == 0 || strcmp(verb, "list") == 0) return list_keys(db, o, report, err);
    if (is_revoke && args->n == 2) return revoke(db, o, args->v[1], report, err);
    if (is_revoke) return sl_err_set(err, SL_INVALID, "revoke which key? Give its id or name");
    return sl_err_set(err, SL_INVALID, "\"%.40s\" is unknown; there are: create, ls, revoke", verb);
}

int cmd_keys(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf report;
    struct db *db = NULL;
    int exit_code;
    if (!cli_parse(&cmd_keys_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&report, REPORT_BYTES_MAX);
    sl_status status = state_db_open(&db, &err);
    if (status == SL_OK) status = run_verb(db, &o, &args, &report, &err);
    db_close(db);
    exit_code = cli_print(&cmd_keys_spec, status, &report, &err);
    sl_buf_done(&report);
    return exit_code;
}
