#include "exec/onnx/onnx_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/onnx/onnx_pool.h"
#include <inttypes.h>

/* Tensors that wait: eight of the largest requests, or very many usual ones */
#define QUEUE_BYTES_MAX ((size_t)8 * TENSOR_BYTES_MAX)
/* A run in a thread of the pool that takes longer hangs: the worker's own watchdog does not see it,
 * since the engine's thread goes on. As long as that watchdog's. */
#define RUN_NS_MAX (60 * (int64_t)1000000000)

/* As many requests as run may wait here, so that no instance waits for the agent to hear of an
 * answer and send the next (resnet20, two instances: that took a fifth of the time). */
#define RUNS_AHEAD 2

static struct onnx_engine *of(void *self)
{
    return self;
}

static sl_status admit(const struct onnx_engine *engine, uint64_t id, struct sl_err *err)
{
    if (sl_idmap_get(&engine->live, id))
        return sl_err_set(err, SL_EXISTS, "request %" PRIu64 " is live", id);
    if (engine->n_waiting >= engine->queue_max || engine->waiting_bytes >= QUEUE_BYTES_MAX)
        return sl_err_set(err, SL_BUSY, "%d requests wait", engine->n_waiting);
    return SL_OK;
}

static sl_status enqueue(struct onnx_engine *engine, struct onnx_request *request,
                         struct sl_err *err)
{
    if (sl_idmap_put(&engine->live, request->id, request) != SL_OK) {
        request->hold = NULL; /* the submit fails, so the data are the caller's */
        onnx_request_destroy(request);
        return sl_err_set(err, SL_NOMEM, "request");
    }
    onnx_queue_append(engine, request);
    return SL_OK;
}

static sl_status onnx_infer(void *self, const struct engine_infer *req, struct sl_err *err)
{
    struct onnx_request *request = NULL;
    sl_status status = admit(self, req->id, err);
    if (status == SL_OK) status = onnx_request_infer(self, req, &request, err);
    return status == SL_OK ? enqueue(self, request, err) : status;
}

static sl_status onnx_embed(void *self, const struct engine_embed *req, struct sl_err *err)
{
    struct onnx_request *request = NULL;
    sl_status status = admit(self, req->id, err);
    if (status == SL_OK) status = onnx_request_embed(self, req, &request, err);
    return status == SL_OK ? enqueue(self, request, err) : status;
}

static sl_status onnx_submit(void *self, const struct engine_generate *req, struct sl_err *err)
{
    (void)self;
    (void)req;
    return sl_err_set(err, SL_UNSUPPORTED, "an ONNX model takes tensors and generates no text");
}

/* A run for which nobody waits any more need not go on. */
static void stop_if_unwanted(struct onnx_engine *engine, const struct onnx_request *request)
{
    for (int32_t i = 0; i < engine->jobs_max; i++) {
        struct onnx_job *job = engine->jobs[i];
        bool wanted = false, has = false;
        for (size_t j = 0; job && j < job->n_requests; j++) {
            has = has || job->requests[j] == request;
            wanted = wanted || job->requests[j]->state != ONNX_REQUEST_ENDED;
        }
        if (has && !wanted) onnx_run_stop(&job->run);
    }
}

static void cancel_request(struct onnx_engine *engine, struct onnx_request *request)
{
    bool waits = request->state == ONNX_REQUEST_WAITING;
    if (waits) onnx_queue_remove(engine, request);
    onnx_finish_request(engine, request, ENGINE_FINISH_CANCELLED, NULL, NULL);
    if (waits)
        onnx_request_destroy(request);
    else
        stop_if_unwanted(engine, request);
}

static sl_status onnx_cancel(void *self, uint64_t id)
{
    struct onnx_request *request = sl_idmap_get(&of(self)->live, id);
    if (!request) return SL_NOT_FOUND;
    cancel_request(self, request);
    return SL_OK;
}

static void forget_job(struct onnx_engine *engine, const struct onnx_job *job)
{
    for (int32_t i = 0; i < engine->jobs_max; i++)
        if (engine->jobs[i] == job) engine->jobs[i] = NULL;
    engine->n_jobs--;
}

/* Takes in what the pool's threads have computed. */
static bool collect(struct onnx_engine *engine)
{
    struct onnx_job *job;
    bool any = false;
    if (!engine->pool) return false;
    onnx_pool_clear(engine->pool);
    while ((job = onnx_pool_take(engine->pool, 0))) {
        forget_job(engine, job);
        onnx_finish_job(engine, job);
        any = true;
    }
    return any;
}

static sl_status start_job(struct onnx_engine *engine, struct onnx_job *job)
{
    int32_t i = 0;
    if (!engine->pool) {
        onnx_batch_run(job);
        onnx_finish_job(engine, job);
        return SL_OK;
    }
    while (engine->jobs[i]) i++; /* fewer are there than jobs_max */
    engine->jobs[i] = job;
    engine->n_jobs++;
    return onnx_pool_submit(engine->pool, job);
}

/* The first that waits cannot be run: it ends with the reason. */
static void drop_first(struct onnx_engine *engine, const struct sl_err *why)
{
    struct onnx_request *request = engine->first_waiting;
    onnx_queue_remove(engine, request);
    onnx_finish_request(engine, request, ENGINE_FINISH_ERROR, why, NULL);
    onnx_request_destroy(request);
}

/* Ends all requests; jobs that run keep theirs. */
static void end_all(struct onnx_engine *engine, enum engine_finish how, const struct sl_err *why)
{
    struct onnx_request *request;
    size_t at = 0;
    while ((request = engine->first_waiting)) {
        onnx_queue_remove(engine, request);
        onnx_finish_request(engine, request, how, why, NULL);
        onnx_request_destroy(request);
    }
    while ((request = sl_idmap_next(&engine->live, &at))) {
        onnx_finish_request(engine, request, how, why, NULL);
        at = 0; /* the map has changed */
    }
}

static sl_status check_jobs(struct onnx_engine *engine, int64_t now_ns, struct sl_err *err)
{
    for (int32_t i = 0; engine->pool && i < engine->jobs_max; i++) {
        int64_t start_ns = engine->jobs[i] ? engine->jobs[i]->start_ns : 0;
        if (!start_ns || now_ns - start_ns < RUN_NS_MAX) continue;
        (void)sl_err_set(err, SL_TIMEOUT, "a run of the model does not end");
        end_all(engine, ENGINE_FINISH_ERROR, err);
        return SL_TIMEOUT;
    }
    return SL_OK;
}

/* Beyond those that run only what would not grow by waiting. */
static bool may_start(const struct onnx_engine *engine)
{
    if (engine->n_jobs < engine->options.instances) return true;
    return engine->pool && engine->first_waiting && engine->n_jobs < engine->jobs_max &&
           onnx_batch_is_full(engine);
}

/* Inline, one run a step, so that cancels and pings are heard between runs. */
static sl_status onnx_step(void *self, bool *out_idle, struct sl_err *err)
{
    struct onnx_engine *engine = self;
    const int64_t now_ns = sl_now_ns();
    bool any = collect(engine), more = true;
    sl_status status = check_jobs(engine, now_ns, err);
    while (status == SL_OK && more && may_start(engine)) {
        struct onnx_job *job;
        struct sl_err why = SL_ERR_INIT;
        if (onnx_batch_form(engine, now_ns, &job, &why) != SL_OK)
            drop_first(engine, &why);
        else if (job)
            status = start_job(engine, job);
        else
            more = false;
        any = any || more;
        if (!engine->pool) break;
    }
    *out_idle = !any;
    return status;
}

static int64_t onnx_next_ns(const void *self)
{
    const struct onnx_engine *engine = self;
    int64_t due_ns = INT64_MAX;
    if (engine->first_waiting && engine->n_jobs < engine->options.instances)
        due_ns = onnx_batch_due_ns(engine);
    for (int32_t i = 0; engine->pool && i < engine->jobs_max; i++) {
        int64_t start_ns = engine->jobs[i] ? engine->jobs[i]->start_ns : 0;
        if (start_ns && start_ns + RUN_NS_MAX < due_ns) due_ns = start_ns + RUN_NS_MAX;
    }
    if (due_ns == INT64_MAX) return -1;
    int64_t left_ns = due_ns - sl_now_ns();
    return left_ns > 0 ? left_ns : 0;
}

static int onnx_wake_fd(const void *self)
{
    const struct onnx_engine *engine = self;
    return engine->pool ? onnx_pool_fd(engine->pool) : -1;
}

static void onnx_stats(const void *self, struct engine_stats *out)
{
    const struct onnx_engine *engine = self;
    *out = engine->stats;
    out->n_waiting = engine->n_waiting;
    out->n_running = engine->n_running;
}

static void onnx_info(const void *self, struct engine_info *out)
{
    const struct onnx_engine *engine = self;
    const struct onnx_encoder *encoder = engine->encoder;
    *out = (struct engine_info){
        .architecture = "onnx",
        .name = onnx_model_graph_name(engine->model),
        .bos_text = "",
        .eos_text = "",
        .n_ctx = encoder ? onnx_encoder_max_tokens(encoder) : 0,
        .n_ctx_model = encoder ? onnx_encoder_max_tokens(encoder) : 0,
        .n_vocab = encoder ? (int32_t)text_tokenizer_n_vocab(onnx_encoder_tokenizer(encoder)) : 0,
        .n_embd = encoder ? onnx_encoder_n_embd(encoder) : 0,
        .n_seqs_max = engine->batch_max * engine->options.instances * RUNS_AHEAD,
        .n_params = engine->n_params,
        .quantization = engine->main_type,
        .device = ort_provider_name(onnx_model_provider(engine->model)),
        .embeds = encoder && onnx_encoder_embeds(encoder),
        .ranks = encoder && onnx_encoder_ranks(encoder),
        .signature = *onnx_model_signature(engine->model),
        .batch_max = engine->batch_max,
    };
}

static sl_status need_tokenizer(const struct onnx_engine *engine, struct sl_err *err)
{
    if (engine->encoder) return SL_OK;
    return sl_err_set(err, SL_UNSUPPORTED,
                      "the model has no tokenizer: no tokenizer.json came with it");
}

/* Special tokens are the post-processor's, as for embeddings. */
static sl_status onnx_tokenize(void *self, const char *text, size_t n, bool parse_special,
                               struct sl_buf *out, struct sl_err *err)
{
    const struct onnx_engine *engine = self;
    const struct text_input input = {text, n}, none = {NULL, 0};
    const struct text_encode_cfg cfg = {.add_special = true};
    struct text_encoding encoding;
    size_t before = out->len;
    (void)parse_special;
    sl_status status = need_tokenizer(engine, err);
    if (status != SL_OK) return status;
    text_encoding_init(&encoding);
    status = text_tokenizer_encode(onnx_encoder_tokenizer(engine->encoder), input, none, &cfg,
                                   &encoding, err);
    for (size_t i = 0; i < encoding.n && status == SL_OK; i++) {
        int32_t id = (int32_t)encoding.ids[i];
        status = sl_buf_add(out, &id, sizeof id);
        if (status != SL_OK) (void)sl_err_set(err, status, "%zu tokens", encoding.n);
    }
    if (status != SL_OK) sl_buf_truncate(out, before);
    text_encoding_done(&encoding);
    return status;
}

static sl_status onnx_detokenize(void *self, const int32_t *tokens, size_t n, struct sl_buf *out,
                                 struct sl_err *err)
{
    const struct onnx_engine *engine = self;
    sl_status status = need_tokenizer(engine, err);
    if (status != SL_OK) return status;
    int64_t *ids = sl_realloc_array(NULL, n ? n : 1, sizeof *ids);
    if (!ids) return sl_err_set(err, SL_NOMEM, "%zu tokens", n);
    for (size_t i = 0; i < n; i++) ids[i] = tokens[i];
    status =
        text_tokenizer_decode(onnx_encoder_tokenizer(engine->encoder), ids, n, false, out, err);
    sl_free(ids);
    return status;
}

/* Runs that go on are stopped and waited for. */
static void drain_pool(struct onnx_engine *engine)
{
    for (int32_t i = 0; i < engine->jobs_max; i++)
        if (engine->jobs[i]) onnx_run_stop(&engine->jobs[i]->run);
    while (engine->n_jobs > 0) {
        struct onnx_job *job = onnx_pool_take(engine->pool, -1);
        forget_job(engine, job);
        onnx_finish_job(engine, job); /* its requests have ended and are freed */
    }
}

static void onnx_unload(void *self)
{
    struct onnx_engine *engine = self;
    end_all(engine, ENGINE_FINISH_CANCELLED, NULL);
    if (engine->pool) drain_pool(engine);
    onnx_pool_destroy(engine->pool);
    sl_free(engine->jobs);
    onnx_encoder_close(engine->encoder);
    onnx_model_close(engine->model);
    sl_idmap_done(&engine->live);
    sl_free(engine);
}

const struct engine_ops onnx_ops = {
    .name = "onnx",
    .submit = onnx_submit,
    .cancel = onnx_cancel,
    .step = onnx_step,
    .stats = onnx_stats,
    .unload = onnx_unload,
    .embed = onnx_embed,
    .info = onnx_info,
    .tokenize = onnx_tokenize,
    .detokenize = onnx_detokenize,
    .next_ns = onnx_next_ns,
    .infer = onnx_infer,
    .wake_fd = onnx_wake_fd,
};
