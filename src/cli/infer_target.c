#include "cli/infer_target.h"
#include "cli/cli.h"
#include "cli/infer_wire.h"
#include "cli/model_path.h"
#include "exec/engine_open.h"
#include "grid/store.h"
#include "net/http_client.h"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH_BYTES_MAX 65536
#define ARENA_BYTES_MAX (2u * TENSOR_BYTES_MAX) /* outputs, and a signature of long names */
#define ANSWER_BYTES_MAX (256u << 20)           /* what client_post takes */
#define IDLE_MS 50                              /* how soon Ctrl-C is seen while threads compute */
#define REQUEST_ID 1
#define HEADER_LENGTH "Inference-Header-Content-Length"

/* --- on a server --- */

/* "/v2/models/NAME" and what follows. */
static sl_status make_path(const struct infer_target *t, const char *rest, struct sl_buf *out,
                           struct sl_err *err)
{
    sl_status status = sl_buf_adds(out, "/v2/models/");
    if (status == SL_OK) status = client_escape(t->cfg.model, out);
    if (status == SL_OK) status = sl_buf_adds(out, rest);
    return status == SL_OK ? SL_OK : sl_err_set(err, SL_INVALID, "the model's name is too long");
}

static sl_status get(const struct infer_target *t, const char *rest, struct sl_json_value **out,
                     struct sl_err *err)
{
    struct sl_buf path;
    sl_buf_init(&path, PATH_BYTES_MAX);
    sl_status status = make_path(t, rest, &path, err);
    if (status == SL_OK) status = client_call(t->client, path.data, NULL, out, err);
    sl_buf_done(&path);
    return status;
}

static sl_status read_specs(struct infer_target *t, const struct sl_json_value *array,
                            const struct tensor_spec **out, size_t *n_out, struct sl_err *err)
{
    size_t n = sl_json_size(array);
    if (n > TENSORS_MAX) return sl_err_set(err, SL_LIMIT, "the model has %zu tensors", n);
    struct tensor_spec *specs = sl_arena_array(&t->arena, n, sizeof *specs);
    if (!specs) return sl_err_set(err, SL_NOMEM, "the model's signature");
    for (size_t i = 0; i < n; i++) {
        sl_status status = infer_wire_spec(sl_json_at(array, i), &t->arena, &specs[i], err);
        if (status != SL_OK) return status;
    }
    *out = specs;
    *n_out = n;
    return SL_OK;
}

/* Labels may stand beside the processing: a file of their own came with the model. */
static sl_status read_config(struct infer_target *t, const struct sl_json_value *config,
                             struct sl_err *err)
{
    const struct sl_json_value *processing = sl_json_get(config, "processing");
    const struct sl_json_value *labels = sl_json_get(config, "labels");
    if (!sl_json_is(processing, SL_JSON_OBJECT)) return SL_OK;
    sl_status status = processing_parse(processing, &t->processing, err);
    t->has_processing = status == SL_OK;
    if (status == SL_OK && sl_json_is(labels, SL_JSON_ARRAY) && !t->processing.n_labels)
        status = processing_read_labels(&t->processing, labels, err);
    return status;
}

static sl_status ask_server(struct infer_target *t, struct sl_err *err)
{
    struct sl_json_value *model = NULL, *config = NULL;
    struct tensor_signature *s = &t->signature;
    sl_status status = get(t, "", &model, err);
    if (status == SL_OK)
        status = read_specs(t, sl_json_get(model, "inputs"), &s->inputs, &s->n_inputs, err);
    if (status == SL_OK)
        status = read_specs(t, sl_json_get(model, "outputs"), &s->outputs, &s->n_outputs, err);
    /* Other servers of the protocol have no such thing. */
    if (status == SL_OK && get(t, "/config", &config, NULL) == SL_OK)
        status = read_config(t, config, err);
    sl_json_free(model);
    sl_json_free(config);
    return status;
}

/* *found: a server will answer. One that nobody named and that cannot is none. */
static sl_status find_server(struct infer_target *t, bool *found, struct sl_err *err)
{
    const struct infer_target_cfg *c = &t->cfg;
    const struct client_cfg cfg = {c->server, c->api_key, c->stop};
    bool is_path = c->model[0] == '/' || c->model[0] == '.';
    *found = false;
    if (c->server && c->local)
        return sl_err_set(err, SL_INVALID, "--server and --local exclude each other");
    if (c->local || (is_path && !c->server)) return SL_OK;
    sl_status status = client_create(&cfg, &t->client, err);
    if (status != SL_OK) return status;
    bool named = client_is_named(t->client);
    status = client_find(t->client, err);
    if (status == SL_OK) status = ask_server(t, err);
    *found = status == SL_OK;
    if (*found || named || status == SL_CANCELLED) return status;
    client_destroy(t->client);
    t->client = NULL;
    return SL_OK;
}

static sl_status post(struct infer_target *t, const struct sl_buf *body, size_t n_json,
                      struct sl_buf *out, char kept[HTTP_FIELD_SIZE], struct sl_err *err)
{
    char length[64];
    struct sl_buf path;
    bool binary = n_json < body->len;
    (void)snprintf(length, sizeof length, HEADER_LENGTH ": %zu", n_json);
    const char *const headers[] = {binary ? "Content-Type: application/octet-stream"
                                          : "Content-Type: application/json",
                                   "Expect:", "X-Starlane-Class: interactive", length};
    sl_buf_init(&path, PATH_BYTES_MAX);
    sl_status status = make_path(t, "/infer", &path, err);
    const struct client_post request = {.path = path.data,
                                        .headers = headers,
                                        .n_headers = binary ? 4 : 3,
                                        .body = body->data,
                                        .n_body = body->len,
                                        .keep = HEADER_LENGTH};
    if (status == SL_OK) status = client_post(t->client, &request, out, kept, err);
    sl_buf_done(&path);
    return status;
}

static sl_status run_on_server(struct infer_target *t, const struct tensor *inputs, size_t n,
                               struct sl_err *err)
{
    char kept[HTTP_FIELD_SIZE];
    struct sl_buf body;
    size_t n_json;
    sl_buf_init(&body, 2 * TENSOR_BYTES_MAX);
    sl_buf_clear(&t->answer);
    sl_status status = infer_wire_request(inputs, n, &body, &n_json, err);
    if (status == SL_OK) status = post(t, &body, n_json, &t->answer, kept, err);
    sl_buf_done(&body);
    if (status != SL_OK) return status;
    size_t n_answer = *kept ? strtoul(kept, NULL, 10) : t->answer.len;
    return infer_wire_answer(t->answer.data, t->answer.len, n_answer, &t->arena, &t->outputs,
                             &t->n_outputs, err);
}

sl_status infer_target_post(struct infer_target *t, const struct sl_buf *json, struct sl_buf *out,
                            struct sl_err *err)
{
    char kept[HTTP_FIELD_SIZE];
    if (t->client) return post(t, json, json->len, out, kept, err);
    return sl_err_set(err, SL_UNSUPPORTED,
                      "--json-input goes to a server; start one with `starlane serve`");
}

/* --- in this process --- */

static sl_status read_labels(struct infer_target *t, const struct store_model *model,
                             struct sl_err *err)
{
    char path[PATH_MAX];
    struct sl_buf text;
    if (t->processing.n_labels > 0 || store_model_file(model, "labels", path, NULL) != SL_OK)
        return SL_OK;
    sl_buf_init(&text, PROCESSING_BYTES_MAX);
    sl_status status = cli_read_file(path, &text, err);
    if (status == SL_OK) status = processing_set_labels(&t->processing, text.data, text.len, err);
    sl_buf_done(&text);
    return status;
}

static sl_status read_manifest(struct infer_target *t, const struct store_model *model,
                               struct sl_err *err)
{
    struct sl_json_value *value = NULL;
    const char *text = model->processing;
    if (!text) return SL_OK;
    sl_status status = sl_json_parse(text, strlen(text), &value, err);
    if (status == SL_OK) status = processing_parse(value, &t->processing, err);
    t->has_processing = status == SL_OK;
    if (status == SL_OK) status = read_labels(t, model, err);
    sl_json_free(value);
    return status;
}

static void on_event(void *ctx, const struct engine_event *event)
{
    struct infer_target *t = ctx;
    struct sl_err *err = t->failure;
    if (event->type == ENGINE_EVENT_TENSORS) {
        t->n_outputs = event->n_tensors;
        if (tensors_copy(event->tensors, event->n_tensors, &t->arena, &t->outputs) != SL_OK)
            (void)sl_err_set(err, SL_NOMEM, "the model's outputs");
    }
    if (event->type != ENGINE_EVENT_DONE) return;
    t->done = true;
    if (event->finish == ENGINE_FINISH_CANCELLED)
        (void)sl_err_set(err, SL_CANCELLED, "stopped");
    else if (event->finish == ENGINE_FINISH_ERROR)
        (void)sl_err_set(err, event->status, "%s",
                         event->message ? event->message : sl_status_text(event->status));
}

static sl_status load(struct infer_target *t, const struct store_model *model, struct sl_err *err)
{
    const struct engine_load cfg = {.kind = "onnx",
                                    .path = model->path,
                                    .n_threads = t->cfg.n_threads,
                                    .options = model->options};
    const struct engine_open_cfg open = {.on_event = on_event, .ctx = t};
    struct engine_info info;
    if (strcmp(model->details.format, "onnx") != 0)
        return sl_err_set(err, SL_UNSUPPORTED,
                          "%.200s is a language model; ask it with `starlane run`", t->cfg.model);
    sl_status status = engine_open(&cfg, &open, &t->engine, err);
    if (status != SL_OK) return status;
    engine_info(t->engine, &info);
    t->signature = info.signature;
    return read_manifest(t, model, err);
}

static sl_status open_here(struct infer_target *t, struct sl_err *err)
{
    struct store *store;
    struct store_model model;
    sl_status status = model_store_open(&store, err);
    if (status != SL_OK) return status;
    status = store_resolve(store, t->cfg.model, &model, err);
    if (status == SL_OK) {
        status = load(t, &model, err);
        store_model_done(&model);
    }
    store_close(store);
    return status;
}

/* Nothing to do now: waits for the engine's threads, or for the time to come. */
static sl_status wait_for_engine(struct infer_target *t, struct sl_err *err)
{
    int64_t next_ns = engine_next_ns(t->engine);
    struct pollfd fd = {engine_wake_fd(t->engine), POLLIN, 0};
    int ms =
        next_ns >= 0 && next_ns < IDLE_MS * INT64_C(1000000) ? (int)(next_ns / 1000000) : IDLE_MS;
    if (fd.fd < 0 && next_ns < 0)
        return sl_err_set(err, SL_INTERNAL, "the engine lost the request");
    (void)poll(&fd, fd.fd >= 0, ms);
    return SL_OK;
}

static sl_status run_here(struct infer_target *t, const struct tensor *inputs, size_t n,
                          struct sl_err *err)
{
    const struct engine_infer request = {.id = REQUEST_ID, .inputs = inputs, .n_inputs = n};
    struct sl_err failure = SL_ERR_INIT;
    t->failure = &failure;
    t->done = false;
    sl_status status = engine_submit_infer(t->engine, &request, err);
    while (status == SL_OK && !t->done) {
        bool idle;
        status = engine_step(t->engine, &idle, err);
        if (status == SL_OK && idle && !t->done) status = wait_for_engine(t, err);
        if (t->cfg.stop && *t->cfg.stop && !t->done) (void)!engine_cancel(t->engine, REQUEST_ID);
    }
    if (status != SL_OK || failure.status == SL_OK) return status;
    return sl_err_set(err, failure.status, "%s", failure.text);
}

/* --- both --- */

sl_status infer_target_open(struct infer_target *t, const struct infer_target_cfg *cfg,
                            struct sl_err *err)
{
    bool on_server;
    t->cfg = *cfg;
    sl_arena_init(&t->arena, ARENA_BYTES_MAX);
    sl_buf_init(&t->answer, ANSWER_BYTES_MAX);
    sl_status status = find_server(t, &on_server, err);
    return status != SL_OK || on_server ? status : open_here(t, err);
}

void infer_target_close(struct infer_target *t)
{
    engine_unload(t->engine);
    client_destroy(t->client);
    processing_done(&t->processing);
    sl_buf_done(&t->answer);
    sl_arena_done(&t->arena);
    *t = (struct infer_target){0};
}

sl_status infer_target_run(struct infer_target *t, const struct tensor *inputs, size_t n,
                           struct sl_err *err)
{
    t->n_outputs = 0;
    return t->client ? run_on_server(t, inputs, n, err) : run_here(t, inputs, n, err);
}

void infer_target_describe(const struct tensor_spec *specs, size_t n, struct sl_buf *out)
{
    char shape[TENSOR_SHAPE_TEXT_MAX];
    sl_status status = SL_OK;
    for (size_t i = 0; i < n && status == SL_OK; i++)
        status = sl_buf_addf(out, "%s%s %s %s%s", i ? ", " : "", specs[i].name,
                             tensor_type_name(specs[i].type),
                             tensor_shape_text(specs[i].shape, specs[i].rank, shape),
                             specs[i].optional ? " (optional)" : "");
}
