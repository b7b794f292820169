/* llm_plan.c: which tokens of which sequences the next step computes (continuous batching with
 * chunked prefill; Orca, OSDI'22; Sarathi-Serve, arXiv:2403.02310): every decoding sequence gets
 * its one token, prompts share what is left of the budget. */
#include "base/clock.h"
#include "exec/llm/llm_int.h"

#define GROUP_TOKENS_CPU 32 /* products of 32 rows take the weights' bytes in stride */

static int32_t blocks_for(int32_t n_tokens)
{
    return (n_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
}

/* Blocks that the running prompts will still take. */
static int32_t blocks_promised(const struct llm_engine *e)
{
    int32_t n = 0;
    for (const struct llm_seq *s = e->running.head; s; s = s->next) {
        if (s->state == SEQ_PREFILL) n += blocks_for(s->n_tokens) - s->kv.n_blocks;
    }
    return n;
}

/* Tokens of the sequence that may come from the prefix index. */
static int32_t n_sharable(const struct llm_seq *s)
{
    return s->pooling && pooling_needs_all(s->pooling) ? 0 : s->n_tokens;
}

/* Is a running prompt about to compute the block that would continue this sequence's cached
 * prefix? Then it waits: the prompt is prefilled once, not once per request that came meanwhile. */
static bool prefix_is_coming(const struct llm_engine *e, const struct llm_seq *s)
{
    int32_t at = s->kv.n_blocks, from = at * KV_BLOCK_TOKENS, to = from + KV_BLOCK_TOKENS;
    if (e->cfg.no_prefix_cache || to >= n_sharable(s)) return false;
    for (const struct llm_seq *r = e->running.head; r; r = r->next) {
        bool same = r->state == SEQ_PREFILL && r->n_tokens >= to && r->kv.n_tokens < to;
        for (int32_t i = 0; i < to && same; i++) same = r->tokens[i] == s->tokens[i];
        if (same) return true;
    }
    return false;
}

static void start(struct llm_engine *e, struct llm_seq *s, int32_t n_cached)
{
    int64_t now = sl_now_ns();
    if (!s->start_ns) {
        s->start_ns = now;
        s->usage.queue_ns = now - s->submit_ns;
        /* a resumed answer may be found too */
        s->usage.n_cached = n_cached < s->n_prompt ? n_cached : s->n_prompt;
        e->n_cached_tokens += (uint64_t)n_cached;
    }
    seq_list_remove(&e->waiting, s);
    seq_list_push(&e->running, s);
    s->state = SEQ_PREFILL;
}

enum admission { ADMITTED, LATER, FULL, FAILED };

static enum admission admit_one(struct llm_engine *e, struct llm_seq *s, int32_t n_promised,
                                struct sl_err *err)
{
    struct kv_stats kv;
    int32_t n_cached = 0;
    if (e->running.n > 0 && e->running.n + n_promised + s->n_choices > e->cfg.n_seqs_max)
        return FULL;
    if (kv_seq_match(e->kv, &s->kv, s->tokens, n_sharable(s), &n_cached, err) != SL_OK)
        return FAILED;
    kv_stats_get(e->kv, &kv);
    int32_t need = blocks_for(s->n_tokens + 1) - s->kv.n_blocks + blocks_promised(e);
    if (e->running.n > 0 && need > kv.n_free + kv.n_cached) {
        kv_seq_release(e->kv, &s->kv);
        return FULL;
    }
    if (prefix_is_coming(e, s)) {
        kv_seq_release(e->kv, &s->kv);
        return LATER;
    }
    start(e, s, n_cached);
    return ADMITTED;
}

/* Places that running requests will take when their further choices fork off. */
static int32_t places_promised(const struct llm_engine *e)
{
    int32_t n = 0;
    for (const struct llm_seq *s = e->waiting.head; s; s = s->next)
        n += s->state == SEQ_FOLLOW && s->leader->state == SEQ_PREFILL;
    return n;
}

/* Out of memory here fails the step: a request that silently waits on would never get its DONE. */
static sl_status admit(struct llm_engine *e, struct sl_err *err)
{
    int32_t n_promised = places_promised(e);
    struct llm_seq *next;
    for (struct llm_seq *s = e->waiting.head; s; s = next) {
        int32_t n_more = s->n_choices - 1;
        next = s->next;
        if (s->state != SEQ_WAITING) continue;
        enum admission a = admit_one(e, s, n_promised, err);
        if (a == FAILED) return SL_NOMEM;
        if (a == FULL) break;
        if (a == ADMITTED) n_promised += n_more;
    }
    return SL_OK;
}

/* The youngest running sequence without tokens in this step's plan gives its blocks back and
 * waits at the front. */
static bool preempt_youngest(struct llm_engine *e, const struct llm_seq *keep)
{
    for (struct llm_seq *s = e->running.tail; s; s = s->prev) {
        if (s == keep || s->n_planned || !s->kv.n_blocks || s->state == SEQ_DONE) continue;
        kv_seq_release(e->kv, &s->kv);
        seq_list_remove(&e->running, s);
        seq_list_push_front(&e->waiting, s);
        s->state = SEQ_WAITING;
        if (s->pooling) pooling_reset(s->pooling);
        e->n_preemptions++;
        return true;
    }
    return false;
}

static sl_status copy_block(struct llm_engine *e, const struct kv_copy *copy, struct sl_err *err)
{
    sl_status status = SL_OK;
    for (int32_t i = 0; i < e->cfg.n_stages && copy->src_block >= 0 && status == SL_OK; i++)
        status = llm_stage_copy_slots(e->stages[i], copy->src_block * KV_BLOCK_TOKENS,
                                      copy->dst_block * KV_BLOCK_TOKENS, KV_BLOCK_TOKENS, err);
    return status;
}

/* Room for n tokens of s, taken from younger sequences if need be. BUSY: not in this step. */
static sl_status plan_tokens(struct llm_engine *e, struct llm_seq *s, int32_t n, struct sl_err *err)
{
    struct kv_copy copy;
    sl_status status;
    while ((status = kv_seq_reserve(e->kv, &s->kv, n, &copy, err)) == SL_BUSY &&
           preempt_youngest(e, s)) {
    }
    if (status == SL_OK) status = copy_block(e, &copy, err);
    if (status == SL_OK) s->n_planned = n;
    return status;
}

/* Prompt tokens after which a step ends with the prompt that it completes. A CPU is busy with so
 * few: more prompts in the same step would only make the first of them wait for the last. */
static int32_t group_tokens(const struct llm_engine *e)
{
    return e->backends.gpu ? e->cfg.n_batch : GROUP_TOKENS_CPU;
}

static sl_status plan_state(struct llm_engine *e, enum seq_state state, int32_t *budget,
                            struct sl_err *err)
{
    struct llm_seq *next;
    int32_t n_planned = 0;
    for (struct llm_seq *s = e->running.head; s && *budget > 0; s = next) {
        int32_t left = s->n_tokens - s->kv.n_tokens, n = left < *budget ? left : *budget;
        next = s->next;
        if (s->state != state) continue;
        sl_status status = plan_tokens(e, s, n, err);
        next = s->next; /* preemption may have removed what stood there */
        if (status != SL_OK && status != SL_BUSY) return status;
        if (status == SL_BUSY) continue;
        *budget -= n;
        n_planned += n;
        if (state == SEQ_PREFILL && n == left && n_planned >= group_tokens(e)) break;
    }
    return SL_OK;
}

sl_status llm_plan_step(struct llm_engine *e, int32_t *out_n_tokens, struct sl_err *err)
{
    int32_t budget = e->cfg.n_batch;
    for (struct llm_seq *s = e->running.head; s; s = s->next) s->n_planned = 0;
    sl_status status = admit(e, err);
    if (status == SL_OK) status = plan_state(e, SEQ_DECODE, &budget, err);
    if (status == SL_OK) status = plan_state(e, SEQ_PREFILL, &budget, err);
    *out_n_tokens = e->cfg.n_batch - budget;
    return status;
}

static void add_tiles(const struct llm_engine *e, const struct llm_seq *s, int32_t at,
                      struct attn_batch *attn)
{
    int32_t per = attn_tile_tokens(e->hp.n_head, e->hp.n_head_kv), bt = KV_BLOCK_TOKENS;
    for (int32_t i = 0; i < s->n_planned; i += per) {
        int32_t n = s->n_planned - i < per ? s->n_planned - i : per;
        e->b_tiles[attn->n_tiles++] =
            (struct attn_tile){at + i, n, s->kv.n_tokens + i, s->kv.blocks};
    }
    for (int32_t i = 0; i < s->n_planned; i++) {
        int32_t pos = s->kv.n_tokens + i;
        e->b_tokens[at + i] = s->tokens[pos];
        e->b_pos[at + i] = pos;
        e->b_slots[at + i] = (int64_t)s->kv.blocks[pos / bt] * bt + pos % bt;
    }
}

/* Hidden states stand behind the logits' rows. */
static void add_hidden(struct llm_engine *e, struct llm_batch *out)
{
    for (struct llm_seq *s = e->running.head; s; s = s->next) {
        int32_t first;
        if (!s->pooling || !s->n_planned) continue;
        s->n_hidden = pooling_wants(s->pooling, s->n_tokens, s->kv.n_tokens, s->n_planned, &first);
        s->hidden = out->n_hidden;
        for (int32_t i = 0; i < s->n_hidden; i++)
            e->b_outputs[out->n_outputs + out->n_hidden++] = s->batch_row + first + i;
    }
}

void llm_plan_batch(struct llm_engine *e, struct llm_batch *out)
{
    *out = (struct llm_batch){
        .tokens = e->b_tokens, .pos = e->b_pos, .slots = e->b_slots, .outputs = e->b_outputs};
    out->attn = (struct attn_batch){0, e->b_tiles, KV_BLOCK_TOKENS};
    for (struct llm_seq *s = e->running.head; s; s = s->next) {
        s->output = -1;
        if (!s->n_planned) continue;
        add_tiles(e, s, out->n_tokens, &out->attn);
        s->batch_row = out->n_tokens;
        out->n_tokens += s->n_planned;
        if (s->pooling || s->kv.n_tokens + s->n_planned < s->n_tokens) continue;
        s->output = out->n_outputs;
        e->b_outputs[out->n_outputs++] = out->n_tokens - 1;
    }
    add_hidden(e, out);
}
