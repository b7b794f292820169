/* oip_model.c: what a model is, in the protocol's words, and whether it is ready. */
#include "access/oip_int.h"
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include <stdio.h>
#include <string.h>

/* A model on its way to be described. */
struct describing {
    struct call *call;
    const char *model; /* as the client named it */
    char name[OIP_NAME_SIZE];
    oip_model_fn put;
    struct grid_request *request; /* NULL: not yet, or no more */
};

/* --- versions --- */

/* The tags under which the store has this model, and the one it is asked for by (the bundled model
 * is no file of the store), into v; texts point into `tags` and `version`. */
static size_t find_versions(const struct call *call, const struct store_tags *tags,
                            const char *base, const char *version, const char *v[OIP_VERSIONS_MAX])
{
    char name[OIP_NAME_SIZE + STORE_TAG_SIZE];
    size_t n = 0;
    bool has_own = !*version;
    for (size_t i = 0; i < tags->n && n < OIP_VERSIONS_MAX; i++) {
        snprintf(name, sizeof name, "%s:%s", base, tags->v[i]);
        has_own = has_own || !strcmp(tags->v[i], version);
        if (call_allows(call, name)) v[n++] = tags->v[i];
    }
    if (!has_own && n < OIP_VERSIONS_MAX) v[n++] = version;
    return n;
}

/* --- the description --- */

/* What an encoder takes and gives in place of tensors; dimensions as `info` has them. */
static void fill_vectors(const struct engine_info *info, struct tensor_spec specs[2],
                         struct tensor_signature *out)
{
    specs[0] = (struct tensor_spec){"text", TENSOR_BYTES, 1, {-1}, false};
    specs[1] = (struct tensor_spec){"embedding", TENSOR_FP32, 2, {-1, info->n_embd}, false};
    *out = (struct tensor_signature){&specs[0], &specs[1], 1, 1};
}

/* A file that says how to pool is of a model that was made for embeddings. */
static bool is_encoder(const struct node_model *model)
{
    char key[STORE_WORD_SIZE + sizeof ".pooling_type"];
    struct gguf_file *file = NULL;
    struct sl_err err;
    if (!model->info || gguf_open(model->path, &file, &err) != SL_OK) return false;
    snprintf(key, sizeof key, "%.*s.pooling_type", STORE_WORD_SIZE, model->info->architecture);
    bool found = gguf_find(file, key) != NULL;
    gguf_close(file);
    return found;
}

static void fill_signature(const struct node_model *model, struct tensor_spec specs[2],
                           struct oip_model *out)
{
    enum oip_kind kind = oip_kind_of(model);
    if (kind == OIP_KIND_TEXT && is_encoder(model)) kind = OIP_KIND_VECTORS;
    switch (kind) {
    case OIP_KIND_TENSORS:
        out->platform = oip_is_echo(model) ? "starlane_echo" : "onnxruntime_onnx";
        if (model->info) out->signature = model->info->signature;
        break;
    case OIP_KIND_VECTORS:
        out->platform = "llm_gguf";
        fill_vectors(model->info, specs, &out->signature);
        break;
    case OIP_KIND_TEXT:
        out->platform = "llm_gguf";
        out->signature = OIP_TEXT_SIGNATURE;
        out->extras = OIP_TEXT_EXTRAS;
        out->n_extras = OIP_TEXT_N_EXTRAS;
        break;
    }
}

static void put(struct describing *d)
{
    struct node_model model;
    struct tensor_spec specs[2];
    const char *versions[OIP_VERSIONS_MAX];
    char base[OIP_NAME_SIZE];
    struct store_tags tags = {0};
    struct sl_err err = SL_ERR_INIT;
    size_t n_base;
    if (!call_find_model(d->call, d->name, &model)) return;
    struct oip_model out = {.name = d->model,
                            .version = oip_version_of(model.name, &n_base),
                            .versions = versions,
                            .node = &model};
    snprintf(base, sizeof base, "%.*s", (int)n_base, model.name);
    if (*out.version && store_versions(d->call->gateway->cfg.store, base, &tags, &err) != SL_OK) {
        call_fail_err(d->call, &err, NULL);
        return;
    }
    out.n_versions = find_versions(d->call, &tags, base, out.version, versions);
    fill_signature(&model, specs, &out);
    d->put(d->call, &out);
    store_tags_done(&tags);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct describing *d = ctx;
    if (event->type == NODE_EVENT_DONE) {
        d->request = NULL;
        put(d);
    } else if (event->type == NODE_EVENT_FAILED) {
        d->request = NULL;
        call_fail_node(d->call, event->status, event->message, event->retry_after_ms);
    }
}

static void on_gone(struct call *call)
{
    struct describing *d = call->work;
    if (d->request) grid_cancel(d->request);
    d->request = NULL;
}

/* The model under its store's name, when the call's key may know of it. False: the call has
 * failed. */
static bool find(struct call *call, const char *model, const char *version,
                 char out_name[OIP_NAME_SIZE], struct node_model *out)
{
    struct sl_err err = SL_ERR_INIT;
    if (oip_store_name(model, version, out_name, &err) != SL_OK) {
        call_fail_err(call, &err, "model");
        return false;
    }
    if (!call_allows(call, out_name)) {
        call_fail_node(call, SL_NOT_FOUND, "no model of that name", 0);
        return false;
    }
    return call_find_model(call, out_name, out);
}

static void load(struct describing *d)
{
    struct call *call = d->call;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    const struct node_submit submit = {.task = NODE_LOAD,
                                       .model = d->name,
                                       .qos = call->qos,
                                       .tenant = call_tenant(call),
                                       .request_id = call->id,
                                       .queue_timeout_ns = call_queue_timeout_ns(call),
                                       .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT};
    sl_status status = grid_submit(call->gateway->cfg.grid, &submit, on_event, d, &d->request,
                                   &retry_after_ms, &err);
    if (status != SL_OK) call_fail_node(call, status, err.text, retry_after_ms);
}

void oip_model_describe(struct call *call, const char *model, const char *version,
                        oip_model_fn put_model)
{
    struct describing *d = sl_calloc(1, sizeof *d);
    struct node_model found;
    if (!d) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    d->call = call;
    d->model = model;
    d->put = put_model;
    call->work = d;
    call->free_work = sl_free;
    call->on_gone = on_gone;
    if (!find(call, model, version, d->name, &found)) return;
    if (found.info || oip_is_echo(&found))
        put(d);
    else
        load(d);
}

/* --- readiness --- */

bool oip_model_ready(struct call *call, const char *model, const char *version, bool *ok)
{
    char name[OIP_NAME_SIZE];
    struct node_model found;
    *ok = find(call, model, version, name, &found);
    return *ok && !strcmp(found.state, "ready");
}

static void look_at(void *ctx, const struct node_model *model)
{
    bool *ready = ctx;
    if (model->pinned && strcmp(model->state, "ready") != 0) *ready = false;
}

bool oip_server_ready(const struct gateway *gateway)
{
    bool ready = true;
    grid_models(gateway->cfg.grid, look_at, &ready);
    return ready;
}
