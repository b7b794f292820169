/* llm_flight.c: steps under way: they begin, and their results are taken. */
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"
#include <string.h>

/* A flight keeps the memory of a result of so many bytes: those of tokens are smaller, those of
 * embeddings larger. */
#define RESULT_BYTES_KEPT (64u << 10)

sl_status llm_flights_create(struct llm_engine *e, int32_t n, struct sl_err *err)
{
    e->flights = sl_calloc((size_t)n, sizeof *e->flights);
    if (!e->flights) return sl_err_set(err, SL_NOMEM, "table of %d steps", n);
    e->n_flights_max = n;
    for (int32_t i = 0; i < n; i++) {
        sl_buf_init(&e->flights[i].bytes, STAGE_MSG_BYTES_MAX);
        sl_arena_init(&e->flights[i].arena, STAGE_MSG_BYTES_MAX);
    }
    return SL_OK;
}

void llm_flights_destroy(struct llm_engine *e)
{
    for (int32_t i = 0; i < e->n_flights_max; i++) {
        sl_free(e->flights[i].parts);
        sl_buf_done(&e->flights[i].bytes);
        sl_arena_done(&e->flights[i].arena);
    }
    sl_free(e->flights);
}

struct llm_flight *llm_flight_at(const struct llm_engine *e, int32_t i)
{
    return &e->flights[(e->first_flight + i) % e->n_flights_max];
}

/* Through the stages of this process; *out is the last one's result. */
static sl_status compute(struct llm_engine *e, const struct llm_batch *batch, float **out,
                         struct sl_err *err)
{
    *out = NULL;
    for (int32_t i = 0; i < e->cfg.n_stages; i++) {
        sl_status status = llm_stage_compute(e->stages[i], batch, *out, out, err);
        if (status != SL_OK) return status;
    }
    return SL_OK;
}

/* What comes after this in any stage comes after the batch, so the blocks may be shared already. */
static void commit(struct llm_engine *e, const struct llm_flight *f)
{
    for (int32_t i = 0; i < f->n_parts; i++) {
        struct llm_seq *s = f->parts[i].seq;
        kv_seq_commit(e->kv, &s->kv, s->tokens + s->kv.n_tokens, s->n_planned);
        s->n_planned = 0;
        s->n_flying++;
        s->turn = f->step;
    }
    for (int32_t i = 0; i < e->n_flying; i++) llm_flight_at(e, i)->alone = false;
    e->n_flying++;
}

sl_status llm_flight_begin(struct llm_engine *e, struct llm_flight *f,
                           const struct llm_batch *batch, struct sl_err *err)
{
    float *x;
    f->begin_ns = sl_now_ns();
    f->step = e->n_steps + 1;
    f->choices = NULL;
    f->alone = e->n_flying == 0;
    sl_status status = compute(e, batch, &x, err);
    if (status != SL_OK) return status;
    f->compute_ns = sl_now_ns() - f->begin_ns;
    f->logits = e->split ? NULL : x;
    f->home = !e->split;
    status = e->split ? llm_split_send(e, f, x, err)
                      : llm_stage_hidden(e->stages[e->cfg.n_stages - 1], &f->hidden, err);
    if (status == SL_OK) commit(e, f);
    return status;
}

/* ---- results ---- */

/* The token of choice `i` from this part's row, chosen here or by the last stage. A sampler changes
 * its row, so that all but the last choice take a copy. */
static sl_status choose(struct llm_engine *e, const struct llm_flight *f,
                        const struct flight_part *part, struct llm_seq *s, int32_t i,
                        struct sampler_result *out, struct sl_err *err)
{
    size_t n = (size_t)e->hp.n_vocab;
    if (f->choices) {
        const struct stage_choice *c = &f->choices[part->choice + i];
        *out = c->result;
        return c->status == SL_OK ? SL_OK
                                  : sl_err_set(err, c->status, "the last stage chose no token: %s",
                                               sl_status_text(c->status));
    }
    float *row = f->logits + (size_t)part->output * n;
    if (i > 0) row = memcpy(e->row, row, n * sizeof *row);
    return sampler_sample(s->sampler, row, s->n_tokens, out, err);
}

static void advance(struct llm_engine *e, const struct llm_flight *f,
                    const struct flight_part *part, struct llm_seq *s, int32_t i)
{
    struct sampler_result result;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = choose(e, f, part, s, i, &result, &err);
    if (status == SL_OK)
        llm_seq_take(e, s, &result);
    else
        llm_seq_finish(e, s, ENGINE_FINISH_ERROR, status, err.text);
}

/* The leader's prompt is computed: the request's other choices share its blocks and take their
 * own first token. */
static void fork_followers(struct llm_engine *e, const struct llm_flight *f,
                           const struct flight_part *part)
{
    struct llm_seq *leader = part->seq, *next;
    struct sl_err err = SL_ERR_INIT;
    for (struct llm_seq *s = e->waiting.head; s; s = next) {
        next = s->next;
        if (s->state != SEQ_FOLLOW || s->leader != leader || s->cancel) continue;
        seq_list_remove(&e->waiting, s);
        seq_list_push(&e->running, s);
        s->leader = NULL;
        s->n_choices = 1;
        s->n_planned = 0;
        s->turn = f->step;
        s->start_ns = leader->start_ns;
        s->usage.queue_ns = leader->usage.queue_ns;
        s->usage.n_cached = leader->usage.n_cached;
        if (kv_seq_fork(e->kv, &leader->kv, &s->kv, &err) != SL_OK) {
            llm_seq_finish(e, s, ENGINE_FINISH_ERROR, err.status, err.text);
            continue;
        }
        advance(e, f, part, s, s->choice - leader->choice);
    }
    leader->n_choices = 1;
}

static void harvest_embedding(struct llm_engine *e, const struct llm_flight *f,
                              const struct flight_part *part)
{
    struct llm_seq *s = part->seq;
    if (part->n_hidden > 0)
        pooling_add(s->pooling, f->hidden + (size_t)part->hidden * (size_t)e->hp.n_embd,
                    part->n_hidden);
    if (part->n_done == s->n_tokens && !s->cancel) llm_seq_embed(e, s);
}

static void show_logits(struct llm_engine *e, const struct llm_flight *f,
                        const struct flight_part *part)
{
    if (part->seq->pooling) return;
    const float *rows = f->logits + (size_t)part->first_output * (size_t)e->hp.n_vocab;
    for (int32_t i = 0; i < part->n_tokens; i++)
        e->cfg.on_logits(e->cfg.logits_ctx, part->seq->id, part->n_done - part->n_tokens + i,
                         rows + (size_t)i * (size_t)e->hp.n_vocab);
}

static void harvest_part(struct llm_engine *e, const struct llm_flight *f,
                         const struct flight_part *part)
{
    struct llm_seq *s = part->seq;
    if (s->state == SEQ_DONE) return;
    if (s->state == SEQ_PREFILL && !s->sent_first) llm_seq_emit_prefill(e, s, part->n_done);
    if (s->pooling) harvest_embedding(e, f, part);
    if (e->cfg.on_logits) show_logits(e, f, part);
    if (part->output < 0 || s->cancel) return;
    if (part->n_choices > 1) fork_followers(e, f, part);
    advance(e, f, part, s, 0);
}

void llm_flight_harvest(struct llm_engine *e)
{
    struct llm_flight *f = llm_flight_at(e, 0);
    for (int32_t i = 0; i < f->n_parts; i++) {
        if (!f->parts[i].seq) continue;
        f->parts[i].seq->n_flying--;
        harvest_part(e, f, &f->parts[i]);
    }
    if (f->bytes.cap > RESULT_BYTES_KEPT) sl_buf_done(&f->bytes);
    e->first_flight = (e->first_flight + 1) % e->n_flights_max;
    e->n_flying--;
}

void llm_flights_forget(struct llm_engine *e, struct llm_seq *s)
{
    for (int32_t i = 0; i < e->n_flying && s->n_flying; i++) {
        struct llm_flight *f = llm_flight_at(e, i);
        for (int32_t p = 0; p < f->n_parts; p++) {
            if (f->parts[p].seq != s) continue;
            f->parts[p].seq = NULL;
            s->n_flying--;
        }
    }
}
