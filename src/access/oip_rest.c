/* oip_rest.c: which path means what, and the small answers. */
#include "access/oip_rest.h"
#include "access/oip.h"
#include <stdio.h>
#include <string.h>

#define ANSWER_MAX (16u << 20)
#define VERSIONS "/versions/"

/* --- the server --- */

void oip_rest_server(struct call *call)
{
    struct sl_json json;
    sl_json_begin(&json, &call->body_out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "name", OIP_SERVER_NAME);
    sl_json_kv_str(&json, "version", call->gateway->cfg.version);
    sl_json_key(&json, "extensions");
    sl_json_array(&json);
    for (const char *const *name = OIP_EXTENSIONS; *name; name++) sl_json_str(&json, *name);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    call_respond_json(call, 200, &call->body_out, sl_json_end(&json));
}

void oip_rest_live(struct call *call)
{
    static const char body[] = "{\"live\":true}";
    call_respond(call, 200, CONTENT_JSON, body, sizeof body - 1);
}

/* The protocol's text has "live" here; KServe's servers say "ready". */
void oip_rest_ready(struct call *call)
{
    static const char yes[] = "{\"live\":true,\"ready\":true}",
                      no[] = "{\"live\":true,\"ready\":false}";
    if (oip_server_ready(call->gateway))
        call_respond(call, 200, CONTENT_JSON, yes, sizeof yes - 1);
    else
        call_respond(call, 503, CONTENT_JSON, no, sizeof no - 1);
}

/* --- a model --- */

static void answer_ready(struct call *call, const struct oip_path *path)
{
    struct sl_json json;
    bool ok, ready = oip_model_ready(call, path->model, path->version, &ok);
    if (!ok) return;
    sl_json_begin(&json, &call->body_out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "name", path->model);
    sl_json_kv_bool(&json, "ready", ready);
    sl_json_object_end(&json);
    call_respond_json(call, ready ? 200 : 503, &call->body_out, sl_json_end(&json));
}

static void describe(struct call *call, const struct oip_path *path)
{
    oip_rest_describe(call, path, false);
}

static void configure(struct call *call, const struct oip_path *path)
{
    oip_rest_describe(call, path, true);
}

static void generate(struct call *call, const struct oip_path *path)
{
    oip_rest_generate(call, path, false);
}

static void generate_stream(struct call *call, const struct oip_path *path)
{
    oip_rest_generate(call, path, true);
}

/* What a path may end in; the last one, nothing, always fits. The route is what the table of usage
 * shows. */
static const struct action {
    const char *suffix;
    struct route route;
    void (*handle)(struct call *call, const struct oip_path *path);
} ACTIONS[] = {
    {"/infer", {HTTP_METHOD_POST, "/v2/models/*/infer", API_OIP, false, NULL}, oip_rest_infer},
    {"/generate", {HTTP_METHOD_POST, "/v2/models/*/generate", API_OIP, false, NULL}, generate},
    {"/generate_stream",
     {HTTP_METHOD_POST, "/v2/models/*/generate_stream", API_OIP, false, NULL},
     generate_stream},
    {"/ready", {HTTP_METHOD_GET, "/v2/models/*/ready", API_OIP, false, NULL}, answer_ready},
    {"/config", {HTTP_METHOD_GET, "/v2/models/*/config", API_OIP, false, NULL}, configure},
    {"", {HTTP_METHOD_GET, "/v2/models/*", API_OIP, false, NULL}, describe},
};

/* Does text[0..n) end so, with something before it? */
static bool ends_in(const char *text, size_t n, const char *suffix)
{
    size_t n_suffix = strlen(suffix);
    return n > n_suffix && !memcmp(text + n - n_suffix, suffix, n_suffix);
}

/* NAME[/versions/V], n bytes of the call's rest. False: the call has failed. */
static bool read_path(struct call *call, size_t n, struct oip_path *out)
{
    char *name = sl_arena_strndup(call_arena(call), call->rest, n), *last = NULL;
    if (!name) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return false;
    }
    *out = (struct oip_path){name, NULL};
    for (char *at = strstr(name, VERSIONS); at; at = strstr(at + 1, VERSIONS)) last = at;
    if (last && last > name && !strchr(last + strlen(VERSIONS), '/')) {
        *last = '\0';
        out->version = last + strlen(VERSIONS);
    }
    return true;
}

static void wrong_method(struct call *call, const struct action *action)
{
    bool get = action->route.method == HTTP_METHOD_GET;
    (void)!http_exchange_header_add(call->x, "Allow", get ? "GET" : "POST");
    call_fail(call, SL_INVALID, NULL, "method_not_allowed",
              get ? "this path has another method: GET" : "this path has another method: POST");
}

void oip_rest_model(struct call *call)
{
    const struct action *action = ACTIONS;
    size_t n = strlen(call->rest);
    struct oip_path path;
    if (n > 1 && call->rest[n - 1] == '/') n--;
    while (!ends_in(call->rest, n, action->suffix)) action++;
    if (!read_path(call, n - strlen(action->suffix), &path)) return;
    call->route = &action->route;
    if (call->request->method != action->route.method)
        wrong_method(call, action);
    else
        action->handle(call, &path);
}

/* --- the repository --- */

static void put_entry(void *ctx, const struct oip_entry *entry)
{
    struct sl_json *json = ctx;
    sl_json_object(json);
    sl_json_kv_str(json, "name", entry->name);
    if (*entry->version) sl_json_kv_str(json, "version", entry->version);
    sl_json_kv_str(json, "state", entry->state);
    sl_json_kv_str(json, "reason", entry->reason);
    sl_json_object_end(json);
}

void oip_rest_index(struct call *call)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_json json;
    struct sl_buf body;
    if (call->request->body_len && !call_read_json(call)) return;
    bool ready_only = sl_json_to_bool(sl_json_get(call->body, "ready"), false);
    sl_buf_init(&body, ANSWER_MAX);
    sl_json_begin(&json, &body, false);
    sl_json_array(&json);
    sl_status status = oip_repository_index(call, ready_only, put_entry, &json, &err);
    sl_json_array_end(&json);
    if (status == SL_OK)
        call_respond_json(call, 200, &body, sl_json_end(&json));
    else
        call_fail_err(call, &err, NULL);
    sl_buf_done(&body);
}

/* Triton answers with an empty body. */
static void answer_nothing(struct call *call)
{
    call_respond(call, 200, CONTENT_JSON, "{}", 2);
}

void oip_rest_repository(struct call *call)
{
    size_t n = strlen(call->rest);
    bool loads = ends_in(call->rest, n, "/load"), unloads = ends_in(call->rest, n, "/unload");
    if (!loads && !unloads) {
        call_fail(call, SL_NOT_FOUND, NULL, "unknown_url",
                  "no such path: it must end in /load or /unload");
        return;
    }
    /* Parameters (a configuration, files, unload_dependents) are for other kinds of server. */
    if (call->request->body_len && !call_read_json(call)) return;
    char *name =
        sl_arena_strndup(call_arena(call), call->rest, n - strlen(loads ? "/load" : "/unload"));
    if (!name)
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
    else if (loads)
        oip_repository_load(call, name, answer_nothing);
    else
        oip_repository_unload(call, name, answer_nothing);
}
