#include "exec/onnx/onnx_int.h"
#include "base/clock.h"
#include "base/mem.h"
#include <string.h>

/* Requests that are looked at for one batch: a queue of strangers must not cost a walk of all. */
#define LOOK_MAX 512
#define BYTES_HEAD 4 /* the length before each element of BYTES */
#define NS_PER_US 1000

void onnx_queue_append(struct onnx_engine *engine, struct onnx_request *request)
{
    request->prev = engine->last_waiting;
    request->next = NULL;
    *(request->prev ? &request->prev->next : &engine->first_waiting) = request;
    engine->last_waiting = request;
    request->state = ONNX_REQUEST_WAITING;
    engine->n_waiting++;
    engine->waiting_bytes += request->n_bytes;
}

void onnx_queue_prepend(struct onnx_engine *engine, struct onnx_request *request)
{
    request->prev = NULL;
    request->next = engine->first_waiting;
    *(request->next ? &request->next->prev : &engine->last_waiting) = request;
    engine->first_waiting = request;
    request->state = ONNX_REQUEST_WAITING;
    engine->n_waiting++;
    engine->waiting_bytes += request->n_bytes;
}

void onnx_queue_remove(struct onnx_engine *engine, struct onnx_request *request)
{
    *(request->prev ? &request->prev->next : &engine->first_waiting) = request->next;
    *(request->next ? &request->next->prev : &engine->last_waiting) = request->prev;
    engine->n_waiting--;
    engine->waiting_bytes -= request->n_bytes;
}

static bool same_shape_but_rows(const struct tensor *a, const struct tensor *b)
{
    return a->name == b->name && a->rank == b->rank &&
           !memcmp(a->shape + 1, b->shape + 1, (size_t)(a->rank - 1) * sizeof *a->shape);
}

static bool can_share(const struct onnx_request *a)
{
    return !a->alone && a->n_rows > 0;
}

/* May two requests share a run? Texts are padded to the longest. */
static bool fit_together(const struct onnx_request *a, const struct onnx_request *b)
{
    if (!can_share(a) || !can_share(b) || a->is_text != b->is_text || a->n_inputs != b->n_inputs ||
        a->n_wanted != b->n_wanted || memcmp(a->wanted, b->wanted, a->n_wanted * sizeof *a->wanted))
        return false;
    for (size_t i = 0; i < a->n_inputs; i++)
        if (!same_shape_but_rows(&a->inputs[i], &b->inputs[i])) return false;
    return true;
}

struct pick {
    struct onnx_request *requests[ONNX_BATCH_MAX];
    size_t n;
    int64_t n_rows;
    size_t n_bytes, n_tokens; /* tokens of the longest text */
};

/* What the inputs would take with one more; texts are padded to the longest. */
static size_t bytes_with(const struct pick *pick, const struct onnx_request *r)
{
    if (!r->is_text) return pick->n_bytes + r->n_bytes;
    size_t longest = r->text.n > pick->n_tokens ? r->text.n : pick->n_tokens;
    return (pick->n + 1) * longest * ONNX_ENCODER_TOKEN_BYTES;
}

static void pick_add(struct pick *pick, struct onnx_request *r)
{
    pick->n_bytes = bytes_with(pick, r);
    if (r->is_text && r->text.n > pick->n_tokens) pick->n_tokens = r->text.n;
    pick->n_rows += r->n_rows;
    pick->requests[pick->n++] = r;
}

/* The first that waits, and those behind it that can share its run, up to batch_max rows. */
static void pick_batch(const struct onnx_engine *engine, struct pick *pick)
{
    struct onnx_request *head = engine->first_waiting;
    int looked = 0;
    pick->n = pick->n_bytes = pick->n_tokens = 0;
    pick->n_rows = 0;
    pick_add(pick, head);
    if (!can_share(head)) return;
    for (struct onnx_request *r = head->next;
         r && looked < LOOK_MAX && pick->n_rows < engine->batch_max; r = r->next, looked++) {
        if (fit_together(head, r) && pick->n_rows + r->n_rows <= engine->batch_max &&
            bytes_with(pick, r) <= TENSOR_BYTES_MAX)
            pick_add(pick, r);
    }
}

static bool is_full(const struct onnx_engine *engine, const struct pick *pick)
{
    return !can_share(engine->first_waiting) || pick->n_rows >= engine->batch_max;
}

bool onnx_batch_is_full(const struct onnx_engine *engine)
{
    struct pick pick;
    pick_batch(engine, &pick);
    return is_full(engine, &pick);
}

static int64_t due_of(const struct onnx_engine *engine, const struct pick *pick)
{
    const struct onnx_request *head = engine->first_waiting;
    if (is_full(engine, pick)) return head->submit_ns;
    return head->submit_ns + (int64_t)engine->options.batch_delay_us * NS_PER_US;
}

int64_t onnx_batch_due_ns(const struct onnx_engine *engine)
{
    struct pick pick;
    pick_batch(engine, &pick);
    return due_of(engine, &pick);
}

static sl_status join_tensor(const struct onnx_job *job, size_t at, struct sl_arena *arena,
                             struct tensor *out)
{
    size_t n_bytes = 0, filled = 0;
    for (size_t i = 0; i < job->n_requests; i++) n_bytes += job->requests[i]->inputs[at].n_bytes;
    char *data = sl_arena_alloc_unset(arena, n_bytes);
    if (!data) return SL_NOMEM;
    *out = job->requests[0]->inputs[at];
    out->shape[0] = job->n_rows;
    out->data = data;
    out->n_bytes = n_bytes;
    for (size_t i = 0; i < job->n_requests; i++) {
        const struct tensor *part = &job->requests[i]->inputs[at];
        memcpy(data + filled, part->data, part->n_bytes);
        filled += part->n_bytes;
    }
    return SL_OK;
}

static sl_status join_tensors(struct onnx_job *job)
{
    const struct onnx_request *head = job->requests[0];
    struct tensor *joined = sl_arena_array(&job->run.arena, head->n_inputs + 1, sizeof *joined);
    if (!joined) return SL_NOMEM;
    for (size_t i = 0; i < head->n_inputs; i++) {
        sl_status status = join_tensor(job, i, &job->run.arena, &joined[i]);
        if (status != SL_OK) return status;
    }
    job->run.inputs = joined;
    return SL_OK;
}

static sl_status join_texts(const struct onnx_engine *engine, struct onnx_job *job)
{
    const struct onnx_text **texts =
        sl_arena_array(&job->run.arena, job->n_requests, sizeof(struct onnx_text *));
    if (!texts) return SL_NOMEM;
    for (size_t i = 0; i < job->n_requests; i++) texts[i] = &job->requests[i]->text;
    return onnx_encoder_inputs(engine->encoder, texts, job->n_requests, &job->run.arena,
                               &job->run.inputs, &job->run.n_inputs);
}

static sl_status fill_job(const struct onnx_engine *engine, struct onnx_job *job)
{
    const struct onnx_request *head = job->requests[0];
    job->run.wanted = head->wanted;
    job->run.n_outputs = head->n_wanted;
    job->run.inputs = head->inputs;
    job->run.n_inputs = head->n_inputs;
    if (head->is_text) return join_texts(engine, job);
    return job->n_requests > 1 ? join_tensors(job) : SL_OK;
}

sl_status onnx_batch_form(struct onnx_engine *engine, int64_t now_ns, struct onnx_job **out,
                          struct sl_err *err)
{
    struct pick pick;
    *out = NULL;
    if (!engine->first_waiting) return SL_OK;
    pick_batch(engine, &pick);
    if (now_ns < due_of(engine, &pick)) return SL_OK;
    struct onnx_job *job = sl_calloc(1, sizeof *job + pick.n * sizeof(struct onnx_request *));
    if (!job) return sl_err_set(err, SL_NOMEM, "job");
    job->n_requests = pick.n;
    job->n_rows = pick.n_rows;
    memcpy(job->requests, pick.requests, pick.n * sizeof *pick.requests);
    sl_status status = onnx_run_init(&job->run, engine->model, err);
    if (status == SL_OK && fill_job(engine, job) != SL_OK)
        status = sl_err_set(err, SL_NOMEM, "no memory for a batch of %zu requests", pick.n);
    if (status != SL_OK) {
        onnx_job_destroy(job);
        return status;
    }
    for (size_t i = 0; i < pick.n; i++) {
        onnx_queue_remove(engine, pick.requests[i]);
        pick.requests[i]->state = ONNX_REQUEST_RUNNING;
    }
    engine->n_running += (int32_t)pick.n;
    *out = job;
    return SL_OK;
}

void onnx_batch_run(struct onnx_job *job)
{
    job->start_ns = sl_now_ns();
    sl_status status = onnx_run_execute(&job->run, job->n_requests, &job->err);
    job->err.status = status;
    job->end_ns = sl_now_ns();
}

/* Bytes of the first `n` elements of a BYTES tensor whose data begins at p. */
static size_t strings_bytes(const unsigned char *p, uint64_t n)
{
    size_t at = 0;
    for (uint64_t i = 0; i < n; i++) {
        const unsigned char *head = p + at;
        at += BYTES_HEAD + ((size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
                            (size_t)head[3] << 24);
    }
    return at;
}

bool onnx_batch_part(const struct onnx_job *job, const struct tensor *output, int64_t first_row,
                     int64_t n_rows, struct tensor *out)
{
    *out = *output;
    if (job->n_requests == 1) return true;
    if (output->rank < 1 || output->shape[0] != job->n_rows) return false;
    uint64_t row = 1; /* elements of one */
    for (int32_t i = 1; i < output->rank; i++) row *= (uint64_t)output->shape[i];
    const unsigned char *data = output->data;
    size_t size = tensor_type_size(output->type);
    size_t before =
        size ? size * row * (size_t)first_row : strings_bytes(data, row * (uint64_t)first_row);
    out->shape[0] = n_rows;
    out->data = data + before;
    out->n_bytes =
        size ? size * row * (size_t)n_rows : strings_bytes(data + before, row * (uint64_t)n_rows);
    return true;
}

void onnx_job_destroy(struct onnx_job *job)
{
    if (!job) return;
    onnx_run_done(&job->run);
    sl_free(job);
}
