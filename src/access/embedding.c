#include "access/embedding.h"
#include "access/prompt.h"
#include "base/mem.h"
#include <math.h>
#include <string.h>

/* Which text a node's event belongs to. */
struct embedding_input {
    struct embedding *embedding;
    struct grid_request *request; /* NULL: not sent, or done */
    int32_t *tokens;              /* those that fit, when it was cut; NULL: it was not */
    size_t n_tokens;
    bool tokenizes; /* the request is for the tokens */
};

static void embedding_free(void *work)
{
    struct embedding *e = work;
    for (size_t i = 0; e->vectors && i < e->n; i++) sl_free(e->vectors[i]);
    for (size_t i = 0; e->inputs && i < e->n; i++) sl_free(e->inputs[i].tokens);
    sl_free(e->vectors);
    sl_free(e->inputs);
    sl_buf_done(&e->out);
    if (e->free_owner) e->free_owner(e->owner);
    sl_free(e);
}

static void stop(struct embedding *e)
{
    for (size_t i = 0; i < e->n_sent; i++) {
        if (e->inputs[i].request) grid_cancel(e->inputs[i].request);
        e->inputs[i].request = NULL;
    }
}

static void on_gone(struct call *call)
{
    struct embedding *e = call->work;
    call->row.prompt_tokens = e->total.n_prompt;
    stop(e);
}

static void send_answer(struct call *call)
{
    struct embedding *e = call->work;
    if (call->row_failed) {
        call_fail(call, SL_UNAVAILABLE, NULL, "usage_not_stored",
                  "the usage of this request could not be stored");
        return;
    }
    if (e->send) {
        e->send(e);
        return;
    }
    call_add_times(call, e->total.queue_ns, -1);
    call_respond_json(call, 200, &e->out, e->put(e, &e->out));
}

static void fail(struct embedding *e, sl_status status, const char *message, int64_t retry_after_ms)
{
    struct call *call = e->call;
    stop(e);
    call_note(call, &e->total, "error", sl_status_http(status));
    call_fail_node(call, status, message, retry_after_ms);
}

/* Matryoshka vectors are cut, then made of length 1 again (arXiv:2205.13147). */
static void cut(float *vector, int32_t n)
{
    double sum = 0;
    for (int32_t i = 0; i < n; i++) sum += (double)vector[i] * (double)vector[i];
    float scale = sum > 0 ? (float)(1 / sqrt(sum)) : 0;
    for (int32_t i = 0; i < n; i++) vector[i] *= scale;
}

static bool keep_vector(struct embedding *e, size_t i, const struct node_event *event)
{
    int32_t n = event->n_embd;
    if (n < 1 || n > EMBEDDING_DIMENSIONS_MAX || (e->n_embd && e->n_embd != n)) return false;
    float *vector = (float *)(void *)sl_memdup(event->embedding, (size_t)n * sizeof *vector);
    if (!vector) return false;
    if (e->dimensions && e->dimensions < n) cut(vector, e->dimensions);
    sl_free(e->vectors[i]);
    e->vectors[i] = vector;
    e->n_embd = n;
    return true;
}

static bool send_more(struct embedding *e);
static bool send_one(struct embedding *e, size_t i);

/* --- cutting --- */

/* Asks for the tokens of an input that is too long. False: it cannot be cut. */
static bool begin_cut(struct embedding_input *input, const struct node_event *event)
{
    struct embedding *e = input->embedding;
    struct node_submit *submit = &e->submits[input - e->inputs];
    if (!e->truncate || event->status != SL_LIMIT || input->tokens || input->tokenizes ||
        submit->prompt != NODE_PROMPT_TEXT)
        return false;
    input->tokenizes = true;
    submit->task = NODE_TOKENIZE;
    send_one(e, (size_t)(input - e->inputs));
    return true;
}

static void keep_tokens(struct embedding_input *input, const struct node_event *event)
{
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    const struct embedding *e = input->embedding;
    if (grid_model_find(e->call->gateway->cfg.grid, e->model, &model, &err) != SL_OK || !model.info)
        return;
    size_t n = (size_t)model.info->n_ctx;
    if (event->n_tokens < n) n = event->n_tokens;
    input->tokens = (int32_t *)(void *)sl_memdup(event->tokens, n * sizeof *input->tokens);
    input->n_tokens = n;
}

/* The tokens are here: once more, with them. */
static void end_cut(struct embedding_input *input)
{
    struct embedding *e = input->embedding;
    struct node_submit *submit = &e->submits[input - e->inputs];
    input->tokenizes = false;
    if (!input->tokens) {
        fail(e, SL_NOMEM, "no memory for the tokens", CALL_AGAIN_MS);
        return;
    }
    submit->task = NODE_EMBED;
    submit->prompt = NODE_PROMPT_TOKENS;
    submit->tokens = input->tokens;
    submit->n_tokens = input->n_tokens;
    send_one(e, (size_t)(input - e->inputs));
}

static void on_done(struct embedding *e, size_t i, const struct node_event *event)
{
    struct node_event *total = &e->total;
    total->n_prompt += event->n_prompt;
    total->n_cached += event->n_cached;
    if (!total->queue_ns) total->queue_ns = event->queue_ns;
    if (event->load_ns > total->load_ns) total->load_ns = event->load_ns;
    if (event->n_attempts > total->n_attempts) total->n_attempts = event->n_attempts;
    e->inputs[i].request = NULL;
    if (!e->vectors[i]) {
        fail(e, SL_INTERNAL, "the model gave no vector", 0);
        return;
    }
    if (++e->n_done < e->n) {
        send_more(e);
        return;
    }
    e->call->end = METRICS_END_STOP;
    call_note(e->call, total, "stop", 200);
    call_commit(e->call, send_answer);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct embedding_input *input = ctx;
    struct embedding *e = input->embedding;
    size_t i = (size_t)(input - e->inputs);
    if (input->tokenizes && event->type == NODE_EVENT_RESULT) {
        keep_tokens(input, event);
    } else if (input->tokenizes && event->type == NODE_EVENT_DONE) {
        input->request = NULL;
        end_cut(input);
    } else if (event->type == NODE_EVENT_RESULT) {
        if (!keep_vector(e, i, event))
            fail(e, SL_NOMEM, "no memory for the vectors", CALL_AGAIN_MS);
    } else if (event->type == NODE_EVENT_DONE) {
        on_done(e, i, event);
    } else if (event->type == NODE_EVENT_FAILED) {
        input->request = NULL;
        if (!begin_cut(input, event)) fail(e, event->status, event->message, event->retry_after_ms);
    }
}

/* False: the call has failed. */
static bool send_one(struct embedding *e, size_t i)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    sl_status status = grid_submit(e->call->gateway->cfg.grid, &e->submits[i], on_event,
                                   &e->inputs[i], &e->inputs[i].request, &retry_after_ms, &err);
    if (status != SL_OK) fail(e, status, err.text, retry_after_ms);
    return status == SL_OK;
}

/* False: the call has failed. */
static bool send_more(struct embedding *e)
{
    while (e->n_sent < e->n && e->n_sent - e->n_done < EMBEDDING_RUNNING_MAX)
        if (!send_one(e, e->n_sent++)) return false;
    return true;
}

void embedding_start(const struct embedding *plan)
{
    struct call *call = plan->call;
    struct embedding *e = sl_calloc(1, sizeof *e);
    if (!e) {
        if (plan->free_owner) plan->free_owner(plan->owner);
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    *e = *plan;
    sl_buf_init(&e->out, CALL_BODY_MAX);
    call->work = e;
    call->free_work = embedding_free;
    call->on_gone = on_gone;
    e->inputs = sl_calloc(e->n, sizeof *e->inputs);
    e->vectors = sl_calloc(e->n, sizeof *e->vectors);
    if (!e->inputs || !e->vectors) {
        call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
        return;
    }
    for (size_t i = 0; i < e->n; i++) {
        e->inputs[i].embedding = e;
        e->submits[i].task = NODE_EMBED;
        e->submits[i].model = e->model;
        e->submits[i].qos = call->qos;
        e->submits[i].tenant = call_tenant(call);
        e->submits[i].request_id = call->id;
        e->submits[i].queue_timeout_ns = call_queue_timeout_ns(call);
    }
    send_more(e);
}

/* --- inputs --- */

static bool bad_input(struct call *call, sl_status status, const char *field)
{
    call_fail(call, status, field, NULL,
              status == SL_NOMEM
                  ? "no memory for this request"
                  : "a text, a list of texts, a list of token ids, or a list of such lists is "
                    "needed, none of them empty, at most 2048");
    return false;
}

bool embedding_read_inputs(struct call *call, const char *field, const struct sl_json_value *value,
                           struct node_submit **out_submits, size_t *out_n)
{
    sl_status status = prompt_read_all(http_exchange_arena(call->x), value, EMBEDDING_INPUTS_MAX,
                                       out_submits, out_n);
    if (status != SL_OK) return bad_input(call, status, field);
    for (size_t i = 0; i < *out_n; i++) {
        struct node_submit *submit = &(*out_submits)[i];
        submit->keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT;
        if (submit->prompt == NODE_PROMPT_TEXT && !submit->n_text)
            return bad_input(call, SL_INVALID, field);
    }
    return true;
}
