#include "access/oip_grpc.h"
#include "access/grpc.h"
#include "access/oip_message.h"
#include "base/mem.h"
#include <proto/open_inference.pb-c.h>
#include <string.h>

/* protobuf-c has no const, and changes nothing when it packs. */
#define TEXT(text) ((char *)(text))

/* Memory of the call; NULL: the call has failed. */
static void *take(struct call *call, size_t count, size_t size)
{
    void *p = sl_arena_array(call_arena(call), count, size);
    if (!p) call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
    return p;
}

/* Room for the names and shapes of most answers; it grows. */
#define HEAD_BYTES 512

/* --- the server --- */

static void server_live(struct call *call, const uint8_t *message, size_t n)
{
    Inference__ServerLiveResponse reply = INFERENCE__SERVER_LIVE_RESPONSE__INIT;
    (void)message, (void)n;
    reply.live = true;
    grpc_reply(call, &reply.base);
}

void oip_grpc_server_live(struct call *call)
{
    grpc_unary(call, server_live);
}

static void server_ready(struct call *call, const uint8_t *message, size_t n)
{
    Inference__ServerReadyResponse reply = INFERENCE__SERVER_READY_RESPONSE__INIT;
    (void)message, (void)n;
    reply.ready = oip_server_ready(call->gateway);
    grpc_reply(call, &reply.base);
}

void oip_grpc_server_ready(struct call *call)
{
    grpc_unary(call, server_ready);
}

static void server_metadata(struct call *call, const uint8_t *message, size_t n)
{
    Inference__ServerMetadataResponse reply = INFERENCE__SERVER_METADATA_RESPONSE__INIT;
    (void)message, (void)n;
    while (OIP_EXTENSIONS[reply.n_extensions]) reply.n_extensions++;
    reply.name = TEXT(OIP_SERVER_NAME);
    reply.version = TEXT(call->gateway->cfg.version);
    reply.extensions = (char **)(uintptr_t)OIP_EXTENSIONS;
    grpc_reply(call, &reply.base);
}

void oip_grpc_server_metadata(struct call *call)
{
    grpc_unary(call, server_metadata);
}

/* --- a model --- */

static void model_ready(struct call *call, const uint8_t *message, size_t n)
{
    bool ok = true;
    Inference__ModelReadyResponse reply = INFERENCE__MODEL_READY_RESPONSE__INIT;
    const Inference__ModelReadyRequest *request =
        grpc_unpack(call, &inference__model_ready_request__descriptor, message, n);
    if (!request) return;
    reply.ready = oip_model_ready(call, request->name, request->version, &ok);
    if (ok) grpc_reply(call, &reply.base);
}

void oip_grpc_model_ready(struct call *call)
{
    grpc_unary(call, model_ready);
}

typedef Inference__ModelMetadataResponse__TensorMetadata tensor_metadata;

/* False: the call has failed. */
static bool put_specs(struct call *call, const struct tensor_spec *specs, size_t n,
                      tensor_metadata ***out)
{
    tensor_metadata *v = take(call, n, sizeof *v);
    *out = v ? take(call, n, sizeof **out) : NULL;
    for (size_t i = 0; *out && i < n; i++) {
        inference__model_metadata_response__tensor_metadata__init(&v[i]);
        v[i].name = TEXT(specs[i].name);
        v[i].datatype = TEXT(tensor_type_name(specs[i].type));
        v[i].n_shape = specs[i].rank > 0 ? (size_t)specs[i].rank : 0;
        v[i].shape = (int64_t *)(uintptr_t)specs[i].shape;
        (*out)[i] = &v[i];
    }
    return *out != NULL;
}

static void put_metadata(struct call *call, const struct oip_model *model)
{
    Inference__ModelMetadataResponse reply = INFERENCE__MODEL_METADATA_RESPONSE__INIT;
    const struct tensor_signature *s = &model->signature;
    reply.name = TEXT(model->name);
    reply.versions = (char **)(uintptr_t)model->versions;
    reply.n_versions = model->n_versions;
    reply.platform = TEXT(model->platform);
    reply.n_inputs = s->n_inputs;
    reply.n_outputs = s->n_outputs;
    if (put_specs(call, s->inputs, s->n_inputs, &reply.inputs) &&
        put_specs(call, s->outputs, s->n_outputs, &reply.outputs))
        grpc_reply(call, &reply.base);
}

static void model_metadata(struct call *call, const uint8_t *message, size_t n)
{
    const Inference__ModelMetadataRequest *request =
        grpc_unpack(call, &inference__model_metadata_request__descriptor, message, n);
    if (request) oip_model_describe(call, request->name, request->version, put_metadata);
}

void oip_grpc_model_metadata(struct call *call)
{
    grpc_unary(call, model_metadata);
}

/* --- a run --- */

static sl_status put_answer(struct oip_run *run, const struct oip_answer *answer,
                            struct sl_err *err)
{
    size_t mark;
    sl_status status =
        sl_buf_reserve(&run->out, tensors_bytes(answer->tensors, answer->n_tensors) + HEAD_BYTES);
    if (status == SL_OK) status = grpc_frame_begin(&run->out, &mark);
    if (status == SL_OK) status = oip_message_put(&run->out, answer);
    if (status == SL_OK) status = grpc_frame_end(&run->out, mark);
    if (status == SL_OK) return SL_OK;
    return sl_err_set(err, status, "the answer does not fit into %s",
                      status == SL_LIMIT ? "a message" : "memory");
}

static void send_answer(struct oip_run *run)
{
    struct call *call = run->call;
    call_add_times(call, call->row.queue_us < 0 ? -1 : call->row.queue_us * 1000, -1);
    grpc_respond(call, &run->out);
}

static void free_message(void *data)
{
    oip_message_done(data);
    sl_free(data);
}

static const struct oip_face unary_face = {
    .put = put_answer, .send = send_answer, .done = free_message};

static void model_infer(struct call *call, const uint8_t *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    struct oip_message *message = sl_malloc(sizeof *message);
    if (!message) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    oip_message_init(message);
    if (oip_message_read(message, bytes, n, &err) != SL_OK) {
        free_message(message);
        call_fail_err(call, &err, NULL);
        return;
    }
    message->infer.face = &unary_face;
    message->infer.data = message;
    oip_infer_start(call, &message->infer);
}

void oip_grpc_model_infer(struct call *call)
{
    grpc_unary(call, model_infer);
}

/* --- the repository --- */

typedef Inference__RepositoryIndexResponse__ModelIndex model_index;

struct index {
    struct call *call;
    model_index **v;
    size_t n, cap;
    bool full; /* out of memory */
};

static bool grow(struct index *index)
{
    if (index->n < index->cap) return true;
    size_t cap = index->cap ? index->cap * 2 : 64;
    model_index **v = sl_arena_array(call_arena(index->call), cap, sizeof(model_index *));
    if (!v) return false;
    if (index->n) memcpy(v, index->v, index->n * sizeof(model_index *));
    index->v = v;
    index->cap = cap;
    return true;
}

static void put_entry(void *ctx, const struct oip_entry *entry)
{
    struct index *index = ctx;
    struct sl_arena *arena = call_arena(index->call);
    model_index *row = sl_arena_alloc(arena, sizeof *row);
    if (index->full || !row || !grow(index)) {
        index->full = true;
        return;
    }
    inference__repository_index_response__model_index__init(row);
    row->name = sl_arena_strndup(arena, entry->name, strlen(entry->name));
    row->version = sl_arena_strndup(arena, entry->version, strlen(entry->version));
    row->state = sl_arena_strndup(arena, entry->state, strlen(entry->state));
    row->reason = sl_arena_strndup(arena, entry->reason, strlen(entry->reason));
    index->full = !row->name || !row->version || !row->state || !row->reason;
    if (!index->full) index->v[index->n++] = row;
}

static void repository_index(struct call *call, const uint8_t *message, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    struct index index = {.call = call};
    Inference__RepositoryIndexResponse reply = INFERENCE__REPOSITORY_INDEX_RESPONSE__INIT;
    const Inference__RepositoryIndexRequest *request =
        grpc_unpack(call, &inference__repository_index_request__descriptor, message, n);
    if (!request) return;
    sl_status status = oip_repository_index(call, request->ready, put_entry, &index, &err);
    if (status == SL_OK && index.full)
        status = sl_err_set(&err, SL_NOMEM, "no memory for the list of models");
    reply.models = index.v;
    reply.n_models = index.n;
    if (status == SL_OK)
        grpc_reply(call, &reply.base);
    else
        call_fail_err(call, &err, NULL);
}

void oip_grpc_repository_index(struct call *call)
{
    grpc_unary(call, repository_index);
}

/* The answers to load and unload have no fields. */
static void reply_empty(struct call *call)
{
    Inference__RepositoryModelLoadResponse reply = INFERENCE__REPOSITORY_MODEL_LOAD_RESPONSE__INIT;
    grpc_reply(call, &reply.base);
}

static void repository_load(struct call *call, const uint8_t *message, size_t n)
{
    const Inference__RepositoryModelLoadRequest *request =
        grpc_unpack(call, &inference__repository_model_load_request__descriptor, message, n);
    if (!request) return;
    if (request->n_parameters)
        call_fail(call, SL_UNSUPPORTED, NULL, NULL,
                  "models are loaded as they were imported: parameters are not taken here");
    else
        oip_repository_load(call, request->model_name, reply_empty);
}

void oip_grpc_repository_load(struct call *call)
{
    grpc_unary(call, repository_load);
}

static void repository_unload(struct call *call, const uint8_t *message, size_t n)
{
    const Inference__RepositoryModelUnloadRequest *request =
        grpc_unpack(call, &inference__repository_model_unload_request__descriptor, message, n);
    if (request) oip_repository_unload(call, request->model_name, reply_empty);
}

void oip_grpc_repository_unload(struct call *call)
{
    grpc_unary(call, repository_unload);
}
