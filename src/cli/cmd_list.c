/* cmd_list.c: `starlane list`: the models on this machine. */
#include "base/json.h"
#include "cli/commands.h"
#include "cli/model_path.h"
#include "grid/store.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

#define OUTPUT_BYTES_MAX (256u << 20) /* STORE_MODELS_MAX lines */
#define DIGEST_SHOWN 12
#define NAME_COLUMNS_MAX 60 /* longer names, URLs mostly, push their line to the right */

struct options {
    bool json;
};

static const struct sl_opt opts[] = {
    {.name = "json",
     .type = SL_OPT_BOOL,
     .offset = offsetof(struct options, json),
     .help = "Print JSON."},
    {0},
};

const struct sl_command cmd_list_spec = {
    .name = "list",
    .usage = "",
    .summary =
        "List the models on this machine: name, digest, size, format, quantisation (also: ls).",
    .opts = opts,
};

static void json_model(struct sl_json *j, const struct store_model *m)
{
    sl_json_object(j);
    sl_json_kv_str(j, "name", m->name);
    sl_json_kv_str(j, "digest", m->digest);
    sl_json_kv_int(j, "size", (int64_t)m->size);
    sl_json_kv_int(j, "modified_ms", m->modified_ms);
    sl_json_kv_str(j, "format", m->details.format);
    sl_json_kv_str(j, "family", m->details.family);
    sl_json_kv_str(j, "parameter_size", m->details.parameter_size);
    sl_json_kv_str(j, "quantization_level", m->details.quantization_level);
    sl_json_kv_int(j, "context_length", (int64_t)m->details.context_length);
    sl_json_kv_bool(j, "bundled", m->bundled);
    sl_json_kv_str(j, "path", m->path);
    if (m->source) sl_json_kv_str(j, "source", m->source);
    sl_json_object_end(j);
}

static sl_status write_json(const struct store_models *models, struct sl_buf *out)
{
    struct sl_json j;
    sl_json_begin(&j, out, true);
    sl_json_object(&j);
    sl_json_key(&j, "models");
    sl_json_array(&j);
    for (size_t i = 0; i < models->n; i++) json_model(&j, &models->v[i]);
    sl_json_array_end(&j);
    sl_json_kv_int(&j, "broken", (int64_t)models->n_broken);
    sl_json_object_end(&j);
    sl_status status = sl_json_end(&j);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

static int name_columns(const struct store_models *models)
{
    size_t widest = 4;
    for (size_t i = 0; i < models->n; i++) {
        size_t n = strlen(models->v[i].name);
        if (n > widest && n <= NAME_COLUMNS_MAX) widest = n;
    }
    return (int)widest;
}

static sl_status write_text(const struct store_models *models, struct sl_buf *out)
{
    int columns = name_columns(models);
    sl_status status =
        sl_buf_addf(out, "%-*s  %-*s  %10s  %-6s  %-8s  %-8s  %s\n", columns, "NAME", DIGEST_SHOWN,
                    "DIGEST", "SIZE", "FORMAT", "PARAMS", "QUANT", "MODIFIED");
    for (size_t i = 0; i < models->n && status == SL_OK; i++) {
        const struct store_model *m = &models->v[i];
        char size[CLI_BYTES_TEXT_MAX], when[32] = "";
        time_t seconds = (time_t)(m->modified_ms / 1000);
        struct tm local;
        if (localtime_r(&seconds, &local)) strftime(when, sizeof when, "%Y-%m-%d %H:%M", &local);
        status = sl_buf_addf(out, "%-*s  %.*s  %10s  %-6s  %-8s  %-8s  %s\n", columns, m->name,
                             DIGEST_SHOWN, m->digest, cli_bytes_text(m->size, size),
                             m->details.format, m->details.parameter_size,
                             m->details.quantization_level, m->bundled ? "bundled" : when);
    }
    return status;
}

int cmd_list(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct store *store = NULL;
    struct store_models models = {0};
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_list_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, OUTPUT_BYTES_MAX);
    sl_status status = model_store_open(&store, &err);
    if (status == SL_OK) status = store_list(store, &models, &err);
    if (status == SL_OK) status = (o.json ? write_json : write_text)(&models, &out);
    exit_code = cli_print(&cmd_list_spec, status, &out, &err);
    if (models.n_broken)
        fprintf(stderr, "starlane list: %zu left out; the first: %s\n", models.n_broken,
                models.broken.text);
    store_models_done(&models);
    store_close(store);
    sl_buf_done(&out);
    return exit_code;
}
