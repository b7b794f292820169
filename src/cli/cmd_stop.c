/* cmd_stop.c: `starlane stop`: a server lets a model go. */
#include "base/json.h"
#include "cli/client.h"
#include "cli/client_options.h"
#include "cli/commands.h"
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES_MAX 8192 /* a name, escaped, and little else */

struct options {
    const char *server, *api_key;
    bool json;
};

static const struct sl_opt opts[] = {
    CLIENT_OPTIONS(struct options, server, api_key),
    {"json", 0, SL_OPT_BOOL, offsetof(struct options, json), 0, 0, NULL, NULL, NULL, "Print JSON."},
    {0},
};

const struct sl_command cmd_stop_spec = {
    .name = "stop",
    .usage = "MODEL",
    .summary = "Unload a model from a running server.",
    .details = "Answers that it is giving are finished first; it is loaded again when it is next "
               "asked for. The server itself ends with Ctrl-C.",
    .opts = opts,
    .n_args_min = 1,
    .n_args_max = 1,
};

/* As Ollama's clients do it: no prompt, and no time to live. */
static sl_status write_request(const char *model, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", model);
    sl_json_kv_int(&json, "keep_alive", 0);
    sl_json_kv_bool(&json, "stream", false);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

static sl_status write_result(const char *model, struct sl_buf *out)
{
    struct sl_json json;
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", model);
    sl_json_kv_bool(&json, "stopped", true);
    sl_json_object_end(&json);
    sl_status status = sl_json_end(&json);
    return status == SL_OK ? sl_buf_addc(out, '\n') : status;
}

/* Is it this model? "starling" is "starling:latest". */
static bool is_model(const char *name, const char *asked)
{
    size_t n = strlen(asked);
    return strncmp(name, asked, n) == 0 && (!name[n] || strcmp(name + n, ":latest") == 0);
}

/* A model that the server was told to keep stays, whatever its clients say. */
static sl_status check_gone(struct client *client, const char *model, struct sl_err *err)
{
    struct sl_json_value *answer = NULL;
    sl_status status = client_call(client, "/api/ps", NULL, &answer, err);
    const struct sl_json_value *models = sl_json_get(answer, "models");
    for (size_t i = 0; i < sl_json_size(models) && status == SL_OK; i++) {
        const struct sl_json_value *row = sl_json_at(models, i);
        if (is_model(sl_json_to_str(sl_json_get(row, "name"), "", NULL), model) &&
            sl_json_to_bool(sl_json_get(row, "pinned"), false))
            status =
                sl_err_set(err, SL_DENIED, "%s stays: the server was started to keep it", model);
    }
    sl_json_free(answer);
    return status;
}

static sl_status stop(const struct options *o, const char *model, struct sl_err *err)
{
    const struct client_cfg cfg = {.server = o->server, .api_key = o->api_key};
    struct client *client = NULL;
    struct sl_json_value *answer = NULL;
    struct sl_buf body;
    sl_buf_init(&body, TEXT_BYTES_MAX);
    sl_status status = client_create(&cfg, &client, err);
    if (status == SL_OK) status = client_find(client, err);
    if (status == SL_OK && write_request(model, &body) != SL_OK)
        status = sl_err_set(err, SL_INVALID, "the model's name is too long");
    if (status == SL_OK) status = client_call(client, "/api/generate", &body, &answer, err);
    sl_json_free(answer);
    if (status == SL_OK) status = check_gone(client, model, err);
    client_destroy(client);
    sl_buf_done(&body);
    return status;
}

int cmd_stop(int argc, char **argv)
{
    struct options o;
    struct cli_args args;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    int exit_code;
    if (!cli_parse(&cmd_stop_spec, argc, argv, &o, &args, &exit_code)) return exit_code;
    sl_buf_init(&out, TEXT_BYTES_MAX);
    sl_status status = stop(&o, args.v[0], &err);
    if (status == SL_OK && o.json) status = write_result(args.v[0], &out);
    exit_code = cli_print(&cmd_stop_spec, status, &out, &err);
    sl_buf_done(&out);
    return exit_code;
}
