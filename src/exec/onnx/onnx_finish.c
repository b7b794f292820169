#include "exec/onnx/onnx_int.h"
#include "base/log.h"

void onnx_finish_request(struct onnx_engine *engine, struct onnx_request *request,
                         enum engine_finish how, const struct sl_err *err,
                         const struct onnx_job *job)
{
    const struct engine_usage usage = {
        .n_prompt = (int32_t)request->text.n,
        .queue_ns = job ? job->start_ns - request->submit_ns : 0,
        .prefill_ns = job && job->end_ns ? job->end_ns - job->start_ns : 0,
    };
    const struct engine_event event = {
        .type = ENGINE_EVENT_DONE,
        .id = request->id,
        .finish = how,
        .status = err ? err->status : SL_OK,
        .text = "",
        .message = err ? err->text : "",
        .usage = &usage,
    };
    request->state = ONNX_REQUEST_ENDED;
    (void)sl_idmap_take(&engine->live, request->id);
    engine->on_event(engine->event_ctx, &event);
}

/* The outputs that are the request's, in the run's arena. */
static sl_status cut_outputs(struct onnx_job *job, const struct onnx_request *request,
                             int64_t first_row, struct tensor **out, struct sl_err *err)
{
    struct tensor *parts = sl_arena_array(&job->run.arena, request->n_wanted + 1, sizeof *parts);
    if (!parts) return sl_err_set(err, SL_NOMEM, "no memory for the outputs");
    for (size_t i = 0; i < request->n_wanted; i++)
        (void)onnx_batch_part(job, &job->run.outputs[i], first_row, request->n_rows, &parts[i]);
    if (tensors_bytes(parts, request->n_wanted) > TENSOR_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "outputs of %zu bytes; at most %u are served",
                          tensors_bytes(parts, request->n_wanted), TENSOR_BYTES_MAX);
    *out = parts;
    return SL_OK;
}

static sl_status tell_tensors(struct onnx_engine *engine, struct onnx_job *job,
                              struct onnx_request *request, int64_t first_row, struct sl_err *err)
{
    struct engine_event event = {.type = ENGINE_EVENT_TENSORS, .id = request->id};
    struct tensor *parts = NULL;
    sl_status status = cut_outputs(job, request, first_row, &parts, err);
    if (status != SL_OK) return status;
    event.tensors = parts;
    event.n_tensors = request->n_wanted;
    engine->on_event(engine->event_ctx, &event);
    return SL_OK;
}

static sl_status tell_vector(struct onnx_engine *engine, struct onnx_job *job,
                             struct onnx_request *request, int64_t row, struct sl_err *err)
{
    struct engine_event event = {.type = ENGINE_EVENT_EMBEDDING, .id = request->id};
    const struct onnx_vector_cfg cfg = {request->pooling, request->normalize};
    float *vector = NULL;
    sl_status status = onnx_encoder_vector(&job->run.outputs[0], (size_t)row, request->text.n, &cfg,
                                           &job->run.arena, &vector, &event.n_embd, err);
    if (status != SL_OK) return status;
    event.embedding = vector;
    engine->stats.n_prompt_tokens += request->text.n;
    engine->on_event(engine->event_ctx, &event);
    return SL_OK;
}

static void finish_one(struct onnx_engine *engine, struct onnx_job *job,
                       struct onnx_request *request, int64_t first_row)
{
    struct sl_err err = job->err;
    if (request->state == ONNX_REQUEST_ENDED) return;
    if (err.status == SL_OK)
        err.status = request->is_text ? tell_vector(engine, job, request, first_row, &err)
                                      : tell_tensors(engine, job, request, first_row, &err);
    if (request->state == ONNX_REQUEST_ENDED) return; /* it was cancelled while it was told */
    if (err.status == SL_OK)
        onnx_finish_request(engine, request, ENGINE_FINISH_STOP, NULL, job);
    else
        onnx_finish_request(engine, request, ENGINE_FINISH_ERROR, &err, job);
}

static bool has_all_rows(const struct onnx_job *job)
{
    struct tensor part;
    for (size_t i = 0; i < job->run.n_outputs; i++)
        if (!onnx_batch_part(job, &job->run.outputs[i], 0, 0, &part)) return false;
    return true;
}

/* Last to first, so that they stand in the queue as they did. */
static void run_alone(struct onnx_engine *engine, struct onnx_job *job)
{
    for (size_t i = job->n_requests; i-- > 0;) {
        struct onnx_request *request = job->requests[i];
        if (request->state == ONNX_REQUEST_ENDED) {
            onnx_request_destroy(request);
        } else {
            request->alone = true;
            onnx_queue_prepend(engine, request);
        }
    }
}

static bool must_run_alone(struct onnx_engine *engine, const struct onnx_job *job)
{
    if (job->n_requests == 1) return false;
    if (job->err.status != SL_OK) return true;
    if (has_all_rows(job)) return false;
    sl_log(SL_LOG_WARN, "onnx", "an output lacks the batch's dimension: no more batching");
    engine->batch_max = 1;
    return true;
}

void onnx_finish_job(struct onnx_engine *engine, struct onnx_job *job)
{
    int64_t row = 0;
    engine->n_running -= (int32_t)job->n_requests;
    engine->stats.n_runs++;
    engine->stats.n_steps++;
    if (must_run_alone(engine, job)) {
        run_alone(engine, job);
    } else {
        engine->stats.n_rows += (uint64_t)(job->n_rows > 0 ? job->n_rows : 1);
        for (size_t i = 0; i < job->n_requests; i++) {
            finish_one(engine, job, job->requests[i], row);
            row += job->requests[i]->n_rows;
            onnx_request_destroy(job->requests[i]);
        }
    }
    onnx_job_destroy(job);
}
