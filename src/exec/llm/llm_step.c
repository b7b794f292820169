/* llm_step.c: one batch step, from the plan to the events, and what ends requests early. */
#include "exec/llm/llm_int.h"
#include <string.h>

static void sweep_list(struct llm_engine *e, struct seq_list *l)
{
    struct llm_seq *next;
    for (struct llm_seq *s = l->head; s; s = next) {
        next = s->next;
        if (s->cancel) llm_seq_finish(e, s, ENGINE_FINISH_CANCELLED, SL_CANCELLED, NULL);
        if (s->state != SEQ_DONE) continue;
        seq_list_remove(l, s);
        llm_seq_destroy(e, s);
    }
}

/* Ends what was cancelled and frees what is done; followers before their leaders, who stand in
 * front of them. */
static void sweep(struct llm_engine *e)
{
    bool was = e->in_step;
    /* events may cancel again: the flag makes that a mark, seen by a later pass */
    e->in_step = true;
    sweep_list(e, &e->waiting);
    sweep_list(e, &e->running);
    e->in_step = was;
}

sl_status llm_cancel(void *self, uint64_t id)
{
    struct llm_engine *e = self;
    struct seq_list *lists[] = {&e->waiting, &e->running};
    bool found = false;
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next) {
            if (s->id != id || s->state == SEQ_DONE) continue;
            s->cancel = found = true;
        }
    }
    if (found && !e->in_step) sweep(e);
    return found ? SL_OK : SL_NOT_FOUND;
}

void llm_cancel_all(struct llm_engine *e)
{
    struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next) s->cancel = true;
    }
    sweep(e);
}

struct results {         /* of a batch */
    float *logits;       /* [n_outputs, n_vocab] */
    const float *hidden; /* [n_hidden, n_embd] */
};

/* Runs the batch through the chain of stages; the results are the last one's. */
static sl_status compute(struct llm_engine *e, const struct llm_batch *batch, struct results *out,
                         struct sl_err *err)
{
    float *x = NULL;
    for (int32_t i = 0; i < e->cfg.n_stages; i++) {
        sl_status status = llm_stage_compute(e->stages[i], batch, x, &x, err);
        if (status != SL_OK) return status;
    }
    out->logits = x;
    return llm_stage_hidden(e->stages[e->cfg.n_stages - 1], &out->hidden, err);
}

/* The leader's prompt is computed: the request's other choices share its blocks and take their
 * own first token. */
static void fork_followers(struct llm_engine *e, struct llm_seq *leader, const float *logits)
{
    struct sl_err err = SL_ERR_INIT;
    struct llm_seq *next;
    for (struct llm_seq *s = e->waiting.head; s; s = next) {
        next = s->next;
        if (s->state != SEQ_FOLLOW || s->leader != leader || s->cancel) continue;
        seq_list_remove(&e->waiting, s);
        seq_list_push(&e->running, s);
        s->leader = NULL;
        s->n_choices = 1;
        s->n_planned = 0;
        s->start_ns = leader->start_ns;
        s->usage.queue_ns = leader->usage.queue_ns;
        s->usage.n_cached = leader->usage.n_cached;
        if (kv_seq_fork(e->kv, &leader->kv, &s->kv, &err) != SL_OK) {
            llm_seq_finish(e, s, ENGINE_FINISH_ERROR, err.status, err.text);
            continue;
        }
        memcpy(e->row, logits, (size_t)e->hp.n_vocab * sizeof *logits);
        llm_seq_advance(e, s, e->row);
    }
    leader->n_choices = 1;
}

static void harvest_embedding(struct llm_engine *e, struct llm_seq *s, const float *hidden)
{
    if (s->n_hidden > 0)
        pooling_add(s->pooling, hidden + (size_t)s->hidden * (size_t)e->hp.n_embd, s->n_hidden);
    if (s->kv.n_tokens == s->n_tokens && !s->cancel) llm_seq_embed(e, s);
}

static void harvest_one(struct llm_engine *e, struct llm_seq *s, const struct results *results)
{
    kv_seq_commit(e->kv, &s->kv, s->tokens + s->kv.n_tokens, s->n_planned);
    s->n_planned = 0;
    if (s->state == SEQ_PREFILL && !s->sent_first) llm_seq_emit_prefill(e, s);
    if (s->pooling) harvest_embedding(e, s, results->hidden);
    if (s->output < 0 || s->cancel) return;
    float *row = results->logits + (size_t)s->output * (size_t)e->hp.n_vocab;
    if (s->n_choices > 1) fork_followers(e, s, row);
    llm_seq_advance(e, s, row);
}

static void harvest(struct llm_engine *e, const struct results *results)
{
    struct llm_seq *last = e->running.tail, *next; /* followers that join now stand behind it */
    for (struct llm_seq *s = e->running.head; s; s = next) {
        next = s == last ? NULL : s->next;
        if (s->n_planned) harvest_one(e, s, results);
    }
}

static void fail_all(struct llm_engine *e, sl_status status, const char *message)
{
    struct seq_list *lists[] = {&e->waiting, &e->running};
    for (int i = 0; i < 2; i++) {
        for (struct llm_seq *s = lists[i]->head; s; s = s->next)
            llm_seq_finish(e, s, ENGINE_FINISH_ERROR, status, message);
    }
}

/* Answers that were over when they were resumed have nothing to compute. Were there any? */
static bool finish_resumed(struct llm_engine *e)
{
    bool any = false;
    for (struct llm_seq *s = e->waiting.head; s; s = s->next) {
        if (!s->over || s->state == SEQ_DONE) continue;
        llm_seq_finish(e, s, s->finish, SL_OK, NULL);
        any = true;
    }
    return any;
}

static sl_status step(struct llm_engine *e, bool *out_idle, struct sl_err *err)
{
    struct llm_batch batch;
    struct results results;
    int32_t n_tokens;
    bool any_over = finish_resumed(e);
    sl_status status = llm_plan_step(e, &n_tokens, err);
    *out_idle = status == SL_OK && !n_tokens && !any_over;
    if (status != SL_OK || !n_tokens) return status;
    llm_plan_batch(e, &batch);
    status = compute(e, &batch, &results, err);
    if (status != SL_OK) return status;
    e->n_steps++;
    harvest(e, &results);
    return SL_OK;
}

sl_status llm_step(void *self, bool *out_idle, struct sl_err *err)
{
    struct llm_engine *e = self;
    struct sl_err local = SL_ERR_INIT;
    sl_status status;
    err = err ? err : &local;
    e->in_step = true;
    status = step(e, out_idle, err);
    if (status != SL_OK) fail_all(e, status, err->text);
    e->in_step = false;
    sweep(e);
    return status;
}
