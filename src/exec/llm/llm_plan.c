/* llm_plan.c: which tokens of which sequences the next step computes (continuous batching with
 * chunked prefill; Orca, OSDI'22; Sarathi-Serve, arXiv:2403.02310): every decoding sequence gets
 * its one token, prompts share what is left of the budget. */
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"

#define GROUP_TOKENS_CPU 32      /* products of 32 rows take the weights' bytes in stride */
#define CHUNK_TOKENS_GPU_MIN 256 /* fewer rows leave an accelerator idle */
/* Of a prompt, per stage of a split model: with c chunks a stage, n stages are all busy for all but
 * 1 of c + 1 parts of the time or so; smaller ones would cost more in weights read again. */
#define CHUNKS_PER_STAGE 4

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
    if (e->split) llm_split_enter(e, s);
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

/* The youngest running sequence without tokens in this step's plan or in a flight gives its blocks
 * back and waits at the front. */
static bool preempt_youngest(struct llm_engine *e, const struct llm_seq *keep)
{
    for (struct llm_seq *s = e->running.tail; s; s = s->prev) {
        if (s == keep || s->n_planned || s->n_flying || !s->kv.n_blocks || s->state == SEQ_DONE)
            continue;
        if (e->split) llm_split_leave(e, s);
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

static sl_status copy_block(struct llm_engine *e, struct llm_seq *s, const struct kv_copy *copy,
                            struct sl_err *err)
{
    sl_status status = SL_OK;
    if (e->split && copy->src_block >= 0) llm_split_copied(e, s, copy);
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
    if (status == SL_OK) status = copy_block(e, s, &copy, err);
    if (status == SL_OK) s->n_planned = n;
    return status;
}

/* Prompt tokens after which a step ends with the prompt that it completes. A CPU is busy with so
 * few: more prompts in the same step would only make the first of them wait for the last. */
static int32_t group_tokens(const struct llm_engine *e)
{
    return e->backends.gpu ? e->cfg.n_batch : GROUP_TOKENS_CPU;
}

/* Tokens of this sequence that the step may compute; 0: it awaits the token of a flight. */
static int32_t n_ready(const struct llm_seq *s, enum seq_state state)
{
    return s->state == state ? s->n_tokens - s->kv.n_tokens : 0;
}

/* Plans those in `state` whose last turn was `turn`, or with turn 0 all. */
static sl_status plan_state(struct llm_engine *e, enum seq_state state, uint64_t turn,
                            int32_t *budget, struct sl_err *err)
{
    struct llm_seq *next;
    int32_t n_planned = 0;
    for (struct llm_seq *s = e->running.head; s && *budget > 0; s = next) {
        int32_t left = n_ready(s, state), n = left < *budget ? left : *budget;
        next = s->next;
        if (!left || (turn && s->turn != turn)) continue;
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

/* The first turn after `after` that a sequence which could decode had; 0: there is none. */
static uint64_t next_turn(const struct llm_engine *e, uint64_t after)
{
    uint64_t turn = 0;
    for (const struct llm_seq *s = e->running.head; s; s = s->next)
        if (n_ready(s, SEQ_DECODE) && !s->n_planned && s->turn > after && (!turn || s->turn < turn))
            turn = s->turn;
    return turn;
}

/* Flights under way that have such tokens. */
static int32_t count_flights(const struct llm_engine *e, enum seq_state state)
{
    int32_t n = 0;
    for (int32_t i = 0; i < e->n_flying; i++) {
        const struct llm_flight *f = llm_flight_at(e, i);
        n += state == SEQ_DECODE ? f->decodes : f->prefills;
    }
    return n;
}

static int32_t count_decoding(const struct llm_engine *e)
{
    int32_t n = 0;
    for (const struct llm_seq *s = e->running.head; s; s = s->next) n += s->state == SEQ_DECODE;
    return n;
}

/* A split model's sequences go in as many groups as there may be flights, and those that waited
 * longest go first: so every stage has a group of its own, and groups that differ level out. */
static sl_status plan_group(struct llm_engine *e, int32_t *budget, struct sl_err *err)
{
    int32_t n_flights = llm_split_flights(e), n_decoding = count_decoding(e);
    int32_t group = (n_decoding + n_flights - 1) / n_flights, left;
    sl_status status = SL_OK;
    if (count_flights(e, SEQ_DECODE) >= n_flights) return SL_OK;
    if (group > *budget) group = *budget;
    left = group;
    for (uint64_t turn = next_turn(e, 0); turn && left > 0 && status == SL_OK;
         turn = next_turn(e, turn))
        status = plan_state(e, SEQ_DECODE, turn, &left, err);
    *budget -= group - left;
    return status;
}

/* Prompt tokens of one step of a split model: small enough that a prompt alone fills all stages. */
static int32_t chunk_tokens(const struct llm_engine *e)
{
    int32_t parts = CHUNKS_PER_STAGE * e->cfg.split.n_stages;
    int32_t least = e->backends.gpu ? CHUNK_TOKENS_GPU_MIN : GROUP_TOKENS_CPU;
    const struct llm_seq *s = e->running.head;
    while (s && !n_ready(s, SEQ_PREFILL)) s = s->next;
    if (!s) return 0;
    int32_t n = (s->n_tokens - s->usage.n_cached + parts - 1) / parts;
    n = (n + GROUP_TOKENS_CPU - 1) / GROUP_TOKENS_CPU * GROUP_TOKENS_CPU;
    return n > least ? n : least;
}

static sl_status plan_split(struct llm_engine *e, int32_t *budget, struct sl_err *err)
{
    sl_status status = plan_group(e, budget, err);
    if (status != SL_OK || count_flights(e, SEQ_PREFILL) >= llm_split_prompt_flights(e))
        return status;
    int32_t most = chunk_tokens(e), left = most < *budget ? most : *budget;
    *budget -= left;
    status = plan_state(e, SEQ_PREFILL, 0, &left, err);
    *budget += left;
    return status;
}

sl_status llm_plan_step(struct llm_engine *e, int32_t *out_n_tokens, struct sl_err *err)
{
    int32_t budget = e->cfg.n_batch;
    for (struct llm_seq *s = e->running.head; s; s = s->next) s->n_planned = 0;
    sl_status status = admit(e, err);
    if (status == SL_OK && e->split) {
        status = plan_split(e, &budget, err);
    } else if (status == SL_OK) {
        status = plan_state(e, SEQ_DECODE, 0, &budget, err);
        if (status == SL_OK) status = plan_state(e, SEQ_PREFILL, 0, &budget, err);
    }
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
static void add_hidden(struct llm_engine *e, struct flight_part *part, struct llm_batch *out)
{
    const struct llm_seq *s = part->seq;
    int32_t first;
    if (!s->pooling) return;
    part->n_hidden = pooling_wants(s->pooling, s->n_tokens, s->kv.n_tokens, s->n_planned, &first);
    part->hidden = out->n_hidden;
    for (int32_t i = 0; i < part->n_hidden; i++)
        e->b_outputs[out->n_outputs + out->n_hidden++] = part->row + first + i;
}

/* The row of its last token, when that is the last known one; with on_logits every row. */
static void add_outputs(struct llm_engine *e, struct flight_part *part, struct llm_batch *out)
{
    const struct llm_seq *s = part->seq;
    bool samples = !s->pooling && part->n_done == s->n_tokens;
    bool all = e->cfg.on_logits && !s->pooling;
    part->first_output = out->n_outputs;
    for (int32_t i = all ? 0 : part->n_tokens - 1; i < part->n_tokens && (all || samples); i++)
        e->b_outputs[out->n_outputs++] = part->row + i;
    part->output = samples ? out->n_outputs - 1 : -1;
    part->n_choices = samples ? s->n_choices : 0;
}

static sl_status parts_room(const struct llm_engine *e, struct llm_flight *f, struct sl_err *err)
{
    int32_t n = 0;
    for (const struct llm_seq *s = e->running.head; s; s = s->next) n += s->n_planned > 0;
    if (n <= f->cap) return SL_OK;
    struct flight_part *parts = sl_realloc_array(f->parts, (size_t)n, sizeof *parts);
    if (!parts) return sl_err_set(err, SL_NOMEM, "a step of %d sequences", n);
    f->parts = parts;
    f->cap = n;
    return SL_OK;
}

static void add_part(struct llm_engine *e, struct llm_seq *s, struct llm_batch *out,
                     struct llm_flight *f)
{
    struct flight_part *part = &f->parts[f->n_parts++];
    add_tiles(e, s, out->n_tokens, &out->attn);
    *part = (struct flight_part){.seq = s,
                                 .n_tokens = s->n_planned,
                                 .n_done = s->kv.n_tokens + s->n_planned,
                                 .row = out->n_tokens,
                                 .choice = f->n_choices};
    out->n_tokens += s->n_planned;
    add_outputs(e, part, out);
    f->n_choices += part->n_choices;
    f->decodes = f->decodes || s->state == SEQ_DECODE;
    f->prefills = f->prefills || s->state == SEQ_PREFILL;
}

sl_status llm_plan_batch(struct llm_engine *e, struct llm_batch *out, struct llm_flight *f,
                         struct sl_err *err)
{
    sl_status status = parts_room(e, f, err);
    if (status != SL_OK) return status;
    f->n_parts = f->n_choices = 0;
    f->home = f->decodes = f->prefills = false;
    *out = (struct llm_batch){
        .tokens = e->b_tokens, .pos = e->b_pos, .slots = e->b_slots, .outputs = e->b_outputs};
    out->attn = (struct attn_batch){0, e->b_tiles, KV_BLOCK_TOKENS};
    for (struct llm_seq *s = e->running.head; s; s = s->next)
        if (s->n_planned) add_part(e, s, out, f);
    for (int32_t i = 0; i < f->n_parts; i++) add_hidden(e, &f->parts[i], out);
    f->n_tokens = out->n_tokens;
    f->n_outputs = out->n_outputs;
    f->n_hidden = out->n_hidden;
    return SL_OK;
}
