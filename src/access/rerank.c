/* rerank.c: POST /v1/rerank and /rerank, in Jina's shape: which documents answer a query best.
 *
 * A model that ranks (a cross-encoder) reads query and document together; its score is the sigmoid
 * of its one logit or, of several classes, the softmax of the last one. A model that only embeds
 * gets the query and every document, and scores are the cosines of their vectors, from -1 to 1. */
#include "access/embedding.h"
#include "access/openai.h"
#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct scored {
    size_t index;
    double score;
};

/* Of one call. */
struct rerank {
    const char *query;
    size_t n_query;
    const char **texts; /* [n] of the documents; the exchange's arena */
    size_t *lengths;
    size_t n;
    struct scored *scores; /* [n] */
    size_t n_top;
    bool pairs, returns_documents;
};

/* --- scores --- */

static double score_of_logits(const float *logits, int32_t n)
{
    double sum = 0, last = (double)logits[n - 1];
    if (n == 1) return 1 / (1 + exp(-last));
    for (int32_t i = 0; i < n; i++) sum += exp((double)logits[i] - last);
    return 1 / sum;
}

static double cosine(const float *a, const float *b, int32_t n)
{
    double dot = 0, aa = 0, bb = 0;
    for (int32_t i = 0; i < n; i++) {
        dot += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : 0;
}

/* Best first; equal ones in the order they came. */
static int by_score(const void *left, const void *right)
{
    const struct scored *a = left, *b = right;
    if (a->score != b->score) return a->score < b->score ? 1 : -1;
    return a->index < b->index ? -1 : 1;
}

static void score_all(const struct rerank *r, const struct embedding *e)
{
    for (size_t i = 0; i < r->n; i++) {
        double score = r->pairs ? score_of_logits(e->vectors[i], e->n_embd)
                                : cosine(e->vectors[0], e->vectors[i + 1], e->n_embd);
        /* A model whose logits are no numbers has no order to tell: they come last. */
        r->scores[i] = (struct scored){i, isnan(score) ? -2 : score};
    }
    qsort(r->scores, r->n, sizeof *r->scores, by_score);
}

/* --- the answer --- */

static void put_result(struct sl_json *json, const struct rerank *r, const struct scored *scored)
{
    sl_json_object(json);
    sl_json_kv_int(json, "index", (int64_t)scored->index);
    sl_json_kv_num(json, "relevance_score", scored->score);
    if (r->returns_documents) {
        sl_json_key(json, "document");
        sl_json_object(json);
        sl_json_key(json, "text");
        sl_json_strn(json, r->texts[scored->index], r->lengths[scored->index]);
        sl_json_object_end(json);
    }
    sl_json_object_end(json);
}

static sl_status put(const struct embedding *e, struct sl_buf *out)
{
    const struct rerank *r = e->owner;
    struct sl_json json;
    score_all(r, e);
    sl_json_begin(&json, out, false);
    sl_json_object(&json);
    sl_json_kv_str(&json, "model", e->model);
    sl_json_kv_str(&json, "object", "list");
    sl_json_key(&json, "usage");
    sl_json_object(&json);
    sl_json_kv_int(&json, "prompt_tokens", e->total.n_prompt);
    sl_json_kv_int(&json, "total_tokens", e->total.n_prompt);
    sl_json_object_end(&json);
    sl_json_key(&json, "results");
    sl_json_array(&json);
    for (size_t i = 0; i < r->n_top; i++) put_result(&json, r, &r->scores[i]);
    sl_json_array_end(&json);
    sl_json_object_end(&json);
    return sl_json_end(&json);
}

/* --- the request --- */

/* False: the call has failed. */
static bool fail(struct call *call, const char *field, const char *message)
{
    call_fail(call, SL_INVALID, field, NULL, message);
    return false;
}

static bool no_memory(struct call *call)
{
    call_fail(call, SL_NOMEM, NULL, NULL, "no memory for this request");
    return false;
}

static bool read_documents(struct call *call, struct rerank *r)
{
    static const char message[] = "documents: from 1 to 2047 texts are needed, each a text or an "
                                  "object with its \"text\", none of them empty";
    const struct sl_json_value *list = sl_json_get(call->body, "documents");
    r->n = sl_json_size(list);
    if (!sl_json_is(list, SL_JSON_ARRAY) || !r->n || r->n >= EMBEDDING_INPUTS_MAX)
        return fail(call, "documents", message);
    r->texts = sl_arena_array(call_arena(call), r->n, sizeof *r->texts);
    r->lengths = sl_arena_array(call_arena(call), r->n, sizeof *r->lengths);
    r->scores = sl_arena_array(call_arena(call), r->n, sizeof *r->scores);
    if (!r->texts || !r->lengths || !r->scores) return no_memory(call);
    for (size_t i = 0; i < r->n; i++) {
        const struct sl_json_value *document = sl_json_at(list, i);
        if (sl_json_is(document, SL_JSON_OBJECT)) document = sl_json_get(document, "text");
        r->texts[i] = sl_json_to_str(document, NULL, &r->lengths[i]);
        if (!r->texts[i] || !r->lengths[i]) return fail(call, "documents", message);
    }
    return true;
}

static bool read_rerank(struct call *call, struct rerank *r)
{
    const struct sl_json_value *top = sl_json_get(call->body, "top_n");
    const struct sl_json_value *returns = sl_json_get(call->body, "return_documents");
    r->query = sl_json_to_str(sl_json_get(call->body, "query"), NULL, &r->n_query);
    if (!r->query || !r->n_query) return fail(call, "query", "query: a text is needed here");
    if (!read_documents(call, r)) return false;
    int64_t n_top = sl_json_is(top, SL_JSON_NULL) ? (int64_t)r->n : sl_json_to_int(top, 0);
    if (n_top < 1) return fail(call, "top_n", "top_n: a whole number from 1 is needed");
    r->n_top = n_top < (int64_t)r->n ? (size_t)n_top : r->n;
    r->returns_documents = sl_json_to_bool(returns, true);
    return true;
}

/* The pairs, or the query and the documents. False: the call has failed. */
static bool make_submits(struct rerank *r, struct embedding *plan)
{
    size_t first = r->pairs ? 0 : 1;
    plan->n = r->n + first;
    plan->submits = sl_arena_array(call_arena(plan->call), plan->n, sizeof *plan->submits);
    if (!plan->submits) return no_memory(plan->call);
    for (size_t i = 0; i < plan->n; i++) {
        bool is_query = r->pairs || i < first;
        struct node_submit submit = {.prompt = NODE_PROMPT_TEXT,
                                     .text = is_query ? r->query : r->texts[i - first],
                                     .n_text = is_query ? r->n_query : r->lengths[i - first],
                                     .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT};
        if (r->pairs) {
            submit.pair = r->texts[i];
            submit.n_pair = r->lengths[i];
            submit.pooling = ENGINE_POOLING_RANK;
        }
        plan->submits[i] = submit;
    }
    return true;
}

/* --- the model, which must have been loaded once to know whether it ranks --- */

struct waiting {
    struct call *call;
    struct rerank *rerank;
    const char *model;
    struct grid_request *request; /* NULL: no more */
};

static void start(struct call *call, struct rerank *r, const char *model,
                  const struct engine_info *info)
{
    struct embedding plan = {.call = call, .put = put, .model = model, .owner = r};
    r->pairs = info && info->ranks;
    if (make_submits(r, &plan)) embedding_start(&plan);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct waiting *waiting = ctx;
    struct call *call = waiting->call;
    struct node_model model;
    if (event->type == NODE_EVENT_FAILED) {
        waiting->request = NULL;
        call_fail_node(call, event->status, event->message, event->retry_after_ms);
    } else if (event->type == NODE_EVENT_DONE) {
        waiting->request = NULL;
        call->work = NULL; /* `waiting` is the arena's */
        if (call_find_model(call, waiting->model, &model))
            start(call, waiting->rerank, waiting->model, model.info);
    }
}

static void on_gone(struct call *call)
{
    struct waiting *waiting = call->work;
    if (waiting->request) grid_cancel(waiting->request);
    waiting->request = NULL;
}

static void load(struct call *call, struct rerank *r, const char *model)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms = 0;
    struct waiting *waiting = sl_arena_alloc(call_arena(call), sizeof *waiting);
    if (!waiting) {
        no_memory(call);
        return;
    }
    *waiting = (struct waiting){.call = call, .rerank = r, .model = model};
    call->work = waiting;
    call->on_gone = on_gone;
    const struct node_submit submit = {.task = NODE_LOAD,
                                       .model = model,
                                       .qos = call->qos,
                                       .tenant = call_tenant(call),
                                       .request_id = call->id,
                                       .queue_timeout_ns = call_queue_timeout_ns(call),
                                       .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT};
    sl_status status = grid_submit(call->gateway->cfg.grid, &submit, on_event, waiting,
                                   &waiting->request, &retry_after_ms, &err);
    if (status != SL_OK) call_fail_node(call, status, err.text, retry_after_ms);
}

void rerank(struct call *call)
{
    struct node_model found;
    struct rerank *r = sl_arena_alloc(call_arena(call), sizeof *r);
    if (!r) {
        no_memory(call);
        return;
    }
    if (!call_read_json(call)) return;
    call->qos = call_class(call);
    const char *model = call_need_str(call, "model");
    if (!model || !read_rerank(call, r) || !call_admit(call, model, call_tokens_guess(call)) ||
        !call_find_model(call, model, &found))
        return;
    if (found.info)
        start(call, r, model, found.info);
    else
        load(call, r, model);
}
