/* llm_seq.c: one sequence: its making, its tokens as events, its end. */
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"
#include <math.h>
#include <string.h>

/* text of one token with what was held back; the longest token known has 512 bytes */
#define PIECE_BYTES_MAX (1 << 16)

void seq_list_push(struct seq_list *l, struct llm_seq *s)
{
    s->next = NULL;
    s->prev = l->tail;
    if (l->tail)
        l->tail->next = s;
    else
        l->head = s;
    l->tail = s;
    l->n++;
}

void seq_list_push_front(struct seq_list *l, struct llm_seq *s)
{
    s->prev = NULL;
    s->next = l->head;
    if (l->head)
        l->head->prev = s;
    else
        l->tail = s;
    l->head = s;
    l->n++;
}

void seq_list_remove(struct seq_list *l, struct llm_seq *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        l->head = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        l->tail = s->prev;
    s->next = s->prev = NULL;
    l->n--;
}

static sl_status make_parts(const struct llm_engine *e, struct llm_seq *s,
                            const struct engine_generate *req, struct sl_err *err)
{
    struct sampler_cfg cfg;
    if (req->sampler)
        cfg = *req->sampler;
    else
        sampler_cfg_default(&cfg);
    cfg.seed += (uint64_t)s->choice;
    sl_status status;
    if (e->split) {
        status = sampler_check(&cfg, e->hp.n_vocab, err);
        if (status == SL_OK && !(s->far_sampler = sampler_cfg_copy(&cfg))) status = SL_NOMEM;
    } else {
        status = sampler_create(&cfg, e->hp.n_vocab, &s->sampler, err);
    }
    return status == SL_OK ? stop_create(req->stop, req->n_stop, &s->stop, err) : status;
}

/* What generations and embeddings have in common: a sequence of the prompt's tokens, with room for
 * n_more. NULL: no memory. */
static struct llm_seq *new_seq(const struct llm_engine *e, uint64_t id, const struct sl_buf *ids,
                               int32_t n_more)
{
    struct llm_seq *s = sl_calloc(1, sizeof *s);
    int32_t n_tokens = (int32_t)(ids->len / sizeof *s->tokens);
    if (!s) return NULL;
    s->id = id;
    s->slot = -1;
    s->n_choices = 1;
    s->n_prompt = s->n_tokens = s->usage.n_prompt = n_tokens;
    s->n_tokens_max = n_tokens + n_more;
    s->submit_ns = sl_now_ns();
    sl_buf_init(&s->piece, PIECE_BYTES_MAX);
    sl_buf_init(&s->text, PIECE_BYTES_MAX);
    detokenizer_init(&s->detok, e->tok, 0, false);
    s->tokens = sl_calloc((size_t)s->n_tokens_max + 1, sizeof *s->tokens);
    if (!s->tokens) {
        sl_free(s);
        return NULL;
    }
    memcpy(s->tokens, ids->data, ids->len);
    return s;
}

/* The last stage of a split model tells its samplers itself. */
static void accept(struct llm_seq *s, int32_t token)
{
    if (s->sampler) sampler_accept(s->sampler, token);
}

/* Appends a token of the answer; s->text is what it adds to the text that may be shown, and s->over
 * says whether the answer ends with it. */
static sl_status append_token(const struct llm_engine *e, struct llm_seq *s, int32_t token)
{
    bool ends = !s->ignore_end && tokenizer_is_end(e->tok, token), hit = false;
    sl_status status = SL_OK;
    s->tokens[s->n_tokens++] = token;
    accept(s, token);
    sl_buf_clear(&s->piece);
    sl_buf_clear(&s->text);
    if (!ends) status = detokenizer_push(&s->detok, token, &s->piece);
    if (status == SL_OK) status = stop_push(s->stop, s->piece.data, s->piece.len, &s->text, &hit);
    s->over = ends || hit || s->n_tokens >= s->n_tokens_max;
    s->finish = ends || hit ? ENGINE_FINISH_STOP : ENGINE_FINISH_LENGTH;
    return status;
}

/* Takes the tokens of an answer that was begun elsewhere, as if they had been chosen here. */
static sl_status resume(const struct llm_engine *e, struct llm_seq *s,
                        const struct engine_generate *req, struct sl_err *err)
{
    for (size_t i = 0; i < req->n_resume && !s->over; i++) {
        sl_status status = append_token(e, s, req->resume[i]);
        if (status != SL_OK) return sl_err_set(err, status, "text of token %d", req->resume[i]);
    }
    return SL_OK;
}

sl_status llm_seq_create(struct llm_engine *e, const struct engine_generate *req,
                         const struct sl_buf *ids, int32_t choice, struct llm_seq **out,
                         struct sl_err *err)
{
    int32_t n_tokens = (int32_t)(ids->len / sizeof(int32_t)), room = e->cfg.n_ctx - n_tokens;
    struct llm_seq *s = new_seq(e, req->id, ids, req->max_tokens < room ? req->max_tokens : room);
    sl_status status = SL_NOMEM;
    if (!s) goto fail;
    s->choice = choice;
    s->n_choices = req->n_choices > 1 ? req->n_choices : 1;
    s->ignore_end = req->ignore_end;
    if (req->show_control) detokenizer_init(&s->detok, e->tok, DETOKENIZE_SPECIAL, false);
    status = make_parts(e, s, req, err);
    if (status != SL_OK) goto fail;
    for (int32_t i = 0; i < n_tokens; i++) accept(s, s->tokens[i]);
    status = resume(e, s, req, err);
    if (status != SL_OK) goto fail;
    *out = s;
    return SL_OK;
fail:
    llm_seq_destroy(e, s);
    return status == SL_NOMEM ? sl_err_set(err, SL_NOMEM, "sequence of %d tokens", n_tokens)
                              : status;
}

/* Where the request leaves it open, the file decides. */
static enum engine_pooling pooling_kind(const struct llm_engine *e, enum engine_pooling asked)
{
    if (asked != ENGINE_POOLING_MODEL) return asked;
    return e->hp.pooling == LLM_POOLING_CLS    ? ENGINE_POOLING_CLS
           : e->hp.pooling == LLM_POOLING_LAST ? ENGINE_POOLING_LAST
                                               : ENGINE_POOLING_MEAN;
}

sl_status llm_seq_create_embed(struct llm_engine *e, const struct engine_embed *req,
                               const struct sl_buf *ids, struct llm_seq **out, struct sl_err *err)
{
    struct llm_seq *s = new_seq(e, req->id, ids, 0);
    if (!s) goto fail;
    s->normalize = !req->no_normalize;
    if (pooling_create(pooling_kind(e, req->pooling), e->hp.n_embd, &s->pooling) != SL_OK)
        goto fail;
    *out = s;
    return SL_OK;
fail:
    llm_seq_destroy(e, s);
    return sl_err_set(err, SL_NOMEM, "embedding of %zu tokens", ids->len / sizeof(int32_t));
}

void llm_seq_destroy(struct llm_engine *e, struct llm_seq *s)
{
    if (!s) return;
    llm_flights_forget(e, s);
    if (e->split) llm_split_leave(e, s);
    if (e->kv) kv_seq_release(e->kv, &s->kv);
    sampler_destroy(s->sampler);
    sl_free(s->far_sampler);
    stop_destroy(s->stop);
    pooling_destroy(s->pooling);
    sl_buf_done(&s->piece);
    sl_buf_done(&s->text);
    sl_free(s->tokens);
    sl_free(s);
}

static struct engine_event event_of(const struct llm_seq *s, enum engine_event_type type)
{
    return (struct engine_event){.type = type, .id = s->id, .choice = s->choice};
}

void llm_seq_emit_prefill(struct llm_engine *e, struct llm_seq *s, int32_t n_done)
{
    struct engine_event ev = event_of(s, ENGINE_EVENT_PREFILL);
    ev.n_done = n_done < s->n_prompt ? n_done : s->n_prompt;
    ev.n_total = s->n_prompt;
    ev.n_cached = s->usage.n_cached;
    e->cfg.on_event(e->cfg.event_ctx, &ev);
}

/* The text that was held back, in s->text. */
static sl_status last_text(struct llm_seq *s)
{
    bool hit;
    sl_buf_clear(&s->piece);
    sl_buf_clear(&s->text);
    if (s->pooling) return SL_OK;
    sl_status status = detokenizer_finish(&s->detok, &s->piece);
    if (status == SL_OK) status = stop_push(s->stop, s->piece.data, s->piece.len, &s->text, &hit);
    return status == SL_OK ? stop_finish(s->stop, &s->text) : status;
}

void llm_seq_finish(struct llm_engine *e, struct llm_seq *s, enum engine_finish finish,
                    sl_status status, const char *message)
{
    struct engine_event ev = event_of(s, ENGINE_EVENT_DONE);
    int64_t now = sl_now_ns();
    if (s->state == SEQ_DONE) return;
    s->state = SEQ_DONE;
    if (last_text(s) != SL_OK && finish != ENGINE_FINISH_ERROR) {
        finish = ENGINE_FINISH_ERROR;
        status = SL_NOMEM;
        message = "out of memory for the last text";
    }
    s->usage.n_generated = s->n_tokens - s->n_prompt;
    s->usage.decode_ns = s->first_ns ? now - s->first_ns : 0;
    ev.text = s->text.data;
    ev.n_text = s->text.len;
    ev.finish = finish;
    ev.status = status;
    ev.message = message;
    ev.usage = &s->usage;
    e->cfg.on_event(e->cfg.event_ctx, &ev);
}

static struct engine_logprob logprob_of(const struct llm_engine *e, int32_t token, float logprob)
{
    struct engine_logprob lp = {.token = token, .logprob = logprob};
    lp.n_bytes = tokenizer_piece(e->tok, token, DETOKENIZE_SPECIAL, &lp.bytes);
    return lp;
}

static void emit_token(struct llm_engine *e, struct llm_seq *s, const struct sampler_result *r)
{
    struct engine_event ev = event_of(s, ENGINE_EVENT_TOKEN);
    struct engine_logprob top[SAMPLER_LOGPROBS_MAX];
    ev.token = r->token;
    ev.text = s->text.data;
    ev.n_text = s->text.len;
    ev.has_logprob = !isnan(r->logprob);
    if (ev.has_logprob) ev.logprob = logprob_of(e, r->token, r->logprob);
    for (int32_t i = 0; i < r->n_top; i++)
        top[i] = logprob_of(e, r->top[i].token, r->top[i].logprob);
    ev.n_top = r->n_top;
    ev.top = top;
    e->cfg.on_event(e->cfg.event_ctx, &ev);
}

/* A token was chosen: counts it, and the time that the first one took. */
static void count_token(struct llm_engine *e, struct llm_seq *s)
{
    int64_t now = sl_now_ns();
    e->n_generated_tokens++;
    if (s->sent_first) return;
    s->sent_first = true;
    s->first_ns = now;
    s->usage.first_token_ns = now - s->submit_ns;
    s->usage.prefill_ns = now - s->start_ns;
}

void llm_seq_take(struct llm_engine *e, struct llm_seq *s, const struct sampler_result *chosen)
{
    s->state = SEQ_DECODE;
    count_token(e, s);
    sl_status status = append_token(e, s, chosen->token);
    if (status != SL_OK) {
        llm_seq_finish(e, s, ENGINE_FINISH_ERROR, status, "out of memory for the text");
        return;
    }
    emit_token(e, s, chosen);
    if (s->over && !s->cancel) llm_seq_finish(e, s, s->finish, SL_OK, NULL);
}

void llm_seq_embed(struct llm_engine *e, struct llm_seq *s)
{
    struct engine_event ev = event_of(s, ENGINE_EVENT_EMBEDDING);
    struct sl_err err = SL_ERR_INIT;
    sl_status status = pooling_finish(s->pooling, s->normalize, &ev.embedding, &err);
    s->usage.prefill_ns = sl_now_ns() - s->start_ns;
    if (status != SL_OK) {
        llm_seq_finish(e, s, ENGINE_FINISH_ERROR, status, err.text);
        return;
    }
    ev.n_embd = e->hp.n_embd;
    e->cfg.on_event(e->cfg.event_ctx, &ev);
    if (!s->cancel) llm_seq_finish(e, s, ENGINE_FINISH_STOP, SL_OK, NULL);
}
