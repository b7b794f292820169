/* llm_split.c: stage 0 of a split model: flights go out as messages to the stages behind, and come
 * home as the last one's results.
 *
 * Places: every sequence that runs, and every further choice whose leader does, has one: the number
 * of its block table and of its sampler. A place that is left may be taken again at once, since all
 * messages come in order. What the other stages know of a place is what they were told: n_told
 * blocks of the table, and the sampler unless the place is `stale`. */
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/llm_int.h"
#include <string.h>

/* Of one message: with the longest histories 10 MB. */
#define SAMPLERS_A_MESSAGE 256
/* A decoding sequence is in one flight at a time, and each group streams all weights again: beyond
 * this many even a round trip of 32 stages' time is not worth it. */
#define FLIGHTS_ADAPTED_MAX 32
#define PROMPT_FLIGHTS_A_STAGE 2 /* one that is computed, one that waits */
/* Of measured times: the weight of a new one is 1 of so many. A way that took long once, on a busy
 * machine, shall not split groups. */
#define SMOOTHING 8
#define SMOOTHING_UP 64

struct place {
    struct llm_seq *seq; /* NULL: free */
    bool stale;
};

struct llm_split {
    struct stage_limits limits;
    struct place *places; /* [n_seqs_max] */
    int32_t *free, n_free;
    int32_t *stale, n_stale;
    struct stage_copy *copies; /* [n_seqs_max] of the step that is planned */
    int32_t n_copies;
    /* the message that is made */
    struct stage_group *groups;   /* [n_seqs_max] */
    struct stage_output *outputs; /* [n_batch] */
    int32_t *samplers;            /* [n_seqs_max] */
    struct stage_sampler *opened; /* [SAMPLERS_A_MESSAGE] */
    struct sl_buf blocks, out;
    /* measured */
    bool idle; /* what is delivered now came just now */
    double busy_ns, path_ns;
    uint64_t n_hop_steps, n_hop_tokens, round_ns, wire_ns, n_alone_steps, alone_ns;
    struct engine_hop hops[ENGINE_STAGES_MAX];
};

static sl_status make_arrays(struct llm_split *sp, struct sl_err *err)
{
    size_t n = (size_t)sp->limits.n_seqs_max;
    sp->places = sl_calloc(n, sizeof *sp->places);
    sp->free = sl_calloc(n, sizeof *sp->free);
    sp->stale = sl_calloc(n, sizeof *sp->stale);
    sp->copies = sl_calloc(n, sizeof *sp->copies);
    sp->groups = sl_calloc(n, sizeof *sp->groups);
    sp->samplers = sl_calloc(n, sizeof *sp->samplers);
    sp->outputs = sl_calloc((size_t)sp->limits.n_batch, sizeof *sp->outputs);
    sp->opened = sl_calloc(SAMPLERS_A_MESSAGE, sizeof *sp->opened);
    bool ok = sp->places && sp->free && sp->stale && sp->copies && sp->groups && sp->samplers &&
              sp->outputs && sp->opened;
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "places of %zu sequences", n);
}

sl_status llm_split_create(struct llm_engine *e, const struct stage_limits *limits,
                           struct sl_err *err)
{
    struct llm_split *sp = e->split = sl_calloc(1, sizeof *sp);
    if (!sp) return sl_err_set(err, SL_NOMEM, "split");
    sp->limits = *limits;
    sl_buf_init(&sp->blocks, STAGE_MSG_BYTES_MAX);
    sl_buf_init(&sp->out, STAGE_MSG_BYTES_MAX);
    sl_status status = make_arrays(sp, err);
    if (status != SL_OK) return status;
    for (int32_t i = limits->n_seqs_max; i-- > 0;) sp->free[sp->n_free++] = i;
    return SL_OK;
}

void llm_split_destroy(struct llm_split *sp)
{
    if (!sp) return;
    sl_free(sp->places);
    sl_free(sp->free);
    sl_free(sp->stale);
    sl_free(sp->copies);
    sl_free(sp->groups);
    sl_free(sp->samplers);
    sl_free(sp->outputs);
    sl_free(sp->opened);
    sl_buf_done(&sp->blocks);
    sl_buf_done(&sp->out);
    sl_free(sp);
}

/* ---- places ---- */

static void mark_stale(struct llm_split *sp, int32_t i)
{
    if (sp->places[i].stale) return;
    sp->places[i].stale = true;
    sp->stale[sp->n_stale++] = i;
}

/* There is always one: admission counts who runs and who will. */
static void enter(struct llm_split *sp, struct llm_seq *s)
{
    s->slot = sp->free[--sp->n_free];
    s->n_told = 0;
    sp->places[s->slot].seq = s;
    if (s->far_sampler) mark_stale(sp, s->slot);
}

static void leave(struct llm_split *sp, struct llm_seq *s)
{
    if (s->slot < 0) return;
    sp->places[s->slot].seq = NULL;
    sp->free[sp->n_free++] = s->slot;
    if (s->far_sampler) mark_stale(sp, s->slot);
    s->slot = -1;
}

static void each_follower(struct llm_engine *e, const struct llm_seq *leader,
                          void (*fn)(struct llm_split *sp, struct llm_seq *s))
{
    if (leader->n_choices < 2) return;
    for (struct llm_seq *s = e->waiting.head; s; s = s->next)
        if (s->state == SEQ_FOLLOW && s->leader == leader) fn(e->split, s);
}

void llm_split_enter(struct llm_engine *e, struct llm_seq *s)
{
    enter(e->split, s);
    each_follower(e, s, enter);
}

void llm_split_leave(struct llm_engine *e, struct llm_seq *s)
{
    if (s->slot >= 0) each_follower(e, s, leave);
    leave(e->split, s);
}

void llm_split_copied(struct llm_engine *e, struct llm_seq *s, const struct kv_copy *copy)
{
    struct llm_split *sp = e->split;
    int32_t tail = s->kv.n_tokens / KV_BLOCK_TOKENS;
    sp->copies[sp->n_copies++] = (struct stage_copy){copy->src_block, copy->dst_block};
    if (s->n_told > tail) s->n_told = tail;
}

/* ---- messages to the stages behind ---- */

static void send_out(struct llm_engine *e)
{
    struct llm_split *sp = e->split;
    e->cfg.on_frame(e->cfg.frame_ctx, 1, sp->out.data, sp->out.len);
    sl_buf_clear(&sp->out);
}

static struct stage_sampler sampler_of(const struct llm_split *sp, int32_t place)
{
    const struct llm_seq *s = sp->places[place].seq;
    if (!s || !s->far_sampler) return (struct stage_sampler){.id = place};
    int32_t back = sampler_looks_back(s->far_sampler), n = s->n_tokens < back ? s->n_tokens : back;
    return (struct stage_sampler){.id = place,
                                  .open = true,
                                  .cfg = *s->far_sampler,
                                  .tokens = s->tokens + s->n_tokens - n,
                                  .n_tokens = n};
}

static sl_status send_samplers(struct llm_engine *e, struct sl_err *err)
{
    struct llm_split *sp = e->split;
    while (sp->n_stale > 0) {
        struct stage_samplers msg = {sp->opened, 0};
        while (sp->n_stale > 0 && msg.n < SAMPLERS_A_MESSAGE) {
            int32_t place = sp->stale[--sp->n_stale];
            sp->places[place].stale = false;
            sp->opened[msg.n++] = sampler_of(sp, place);
        }
        sl_status status = stage_samplers_encode(&msg, &sp->out, err);
        if (status != SL_OK) return status;
        send_out(e);
    }
    return SL_OK;
}

/* The part's tokens, and what is new in its block table. */
static sl_status add_group(struct llm_split *sp, const struct flight_part *part,
                           struct stage_batch *b)
{
    struct llm_seq *s = part->seq;
    int32_t n_new = s->kv.n_blocks - s->n_told;
    sp->groups[b->n_groups++] = (struct stage_group){s->slot, part->n_done - part->n_tokens,
                                                     part->n_tokens, s->n_told, n_new};
    b->n_blocks += n_new;
    sl_status status =
        sl_buf_add(&sp->blocks, s->kv.blocks + s->n_told, (size_t)n_new * sizeof *s->kv.blocks);
    s->n_told = s->kv.n_blocks;
    return status;
}

/* The samplers of the part's row: its own, then those of the choices that follow it. */
static void add_samplers(struct llm_engine *e, const struct flight_part *part)
{
    const struct llm_seq *leader = part->seq;
    int32_t *v = e->split->samplers + part->choice;
    if (part->output < 0) return;
    e->split->outputs[part->output].n_samplers = part->n_choices;
    v[0] = leader->slot;
    for (const struct llm_seq *s = e->waiting.head; s && part->n_choices > 1; s = s->next)
        if (s->state == SEQ_FOLLOW && s->leader == leader) v[s->choice - leader->choice] = s->slot;
}

static sl_status fill_batch(struct llm_engine *e, const struct llm_flight *f, struct stage_batch *b)
{
    static const struct stage_stamp no_stamps[ENGINE_STAGES_MAX];
    struct llm_split *sp = e->split;
    *b = (struct stage_batch){.step = f->step,
                              .flags = e->cfg.on_logits ? STAGE_WANT_LOGITS : 0,
                              .n_tokens = f->n_tokens,
                              .n_copies = sp->n_copies,
                              .n_outputs = f->n_outputs,
                              .n_samplers = f->n_choices,
                              .n_rows = f->n_hidden,
                              .groups = sp->groups,
                              .copies = sp->copies,
                              .outputs = sp->outputs,
                              .samplers = sp->samplers,
                              .rows = e->b_outputs + f->n_outputs,
                              .stamps = no_stamps};
    sl_status status = SL_OK;
    sl_buf_clear(&sp->blocks);
    for (int32_t i = 0; i < f->n_outputs; i++)
        sp->outputs[i] = (struct stage_output){e->b_outputs[i], 0};
    for (int32_t i = 0; i < f->n_parts && status == SL_OK; i++) {
        status = add_group(sp, &f->parts[i], b);
        add_samplers(e, &f->parts[i]);
    }
    b->blocks = (const int32_t *)(const void *)sp->blocks.data;
    return status;
}

sl_status llm_split_send(struct llm_engine *e, const struct llm_flight *f, const float *hidden,
                         struct sl_err *err)
{
    struct llm_split *sp = e->split;
    struct stage_batch batch;
    sl_status status = send_samplers(e, err);
    if (status == SL_OK && fill_batch(e, f, &batch) != SL_OK)
        status = sl_err_set(err, SL_NOMEM, "block tables of a step");
    if (status == SL_OK) status = stage_batch_encode(&sp->limits, &batch, hidden, &sp->out, err);
    if (status != SL_OK) return status;
    send_out(e);
    sp->n_copies = 0;
    return SL_OK;
}

/* ---- results ---- */

static double smooth(double mean, double value, int weight)
{
    return mean > 0 ? mean + (value - mean) / weight : value;
}

/* Only of flights that decoded, and whose result did not lie there while this stage computed: the
 * time of the way is then what is left. */
static void measure(struct llm_split *sp, const struct llm_flight *f,
                    const struct stage_stamp *stamps)
{
    double busy = (double)f->compute_ns;
    uint64_t round = (uint64_t)(sl_now_ns() - f->begin_ns), inside = (uint64_t)f->compute_ns;
    uint64_t computed = inside;
    if (!sp->idle || !f->decodes || f->prefills) return;
    sp->hops[0].compute_ns += inside;
    for (int32_t i = 1; i < sp->limits.n_stages; i++) {
        const struct stage_stamp *s = &stamps[i - 1];
        sp->hops[i].compute_ns += s->compute_ns;
        sp->hops[i].wait_ns += s->wait_ns;
        computed += s->compute_ns;
        inside += s->compute_ns + s->wait_ns;
        if ((double)s->compute_ns > busy) busy = (double)s->compute_ns;
    }
    uint64_t wire = round > inside ? round - inside : 0;
    double path = (double)(computed + wire);
    sp->n_hop_steps++;
    sp->n_hop_tokens += (uint64_t)f->n_tokens;
    sp->round_ns += round;
    sp->wire_ns += wire;
    sp->n_alone_steps += f->alone;
    sp->alone_ns += f->alone ? wire : 0;
    sp->busy_ns = smooth(sp->busy_ns, busy, SMOOTHING);
    sp->path_ns = smooth(sp->path_ns, path, path > sp->path_ns ? SMOOTHING_UP : SMOOTHING);
}

/* The oldest flight that is not home; NULL: all are. */
static struct llm_flight *awaited(const struct llm_engine *e)
{
    for (int32_t i = 0; i < e->n_flying; i++)
        if (!llm_flight_at(e, i)->home) return llm_flight_at(e, i);
    return NULL;
}

static sl_status take_result(struct llm_engine *e, struct llm_flight *f, struct sl_err *err)
{
    struct stage_result r;
    sl_arena_reset(&f->arena);
    sl_status status =
        stage_result_decode(&e->split->limits, f->bytes.data, f->bytes.len, &f->arena, &r, err);
    if (status != SL_OK) return status;
    if (r.step != f->step || r.n_choices != f->n_choices || r.n_rows != f->n_hidden ||
        r.n_outputs != (e->cfg.on_logits ? f->n_outputs : 0))
        return sl_err_set(err, SL_CORRUPT, "the result of another step than %llu",
                          (unsigned long long)f->step);
    f->choices = r.choices;
    f->hidden = r.rows;
    f->home = true;
    f->logits = (float *)(uintptr_t)r.logits; /* nothing is sampled from these */
    measure(e->split, f, r.stamps);
    return SL_OK;
}

sl_status llm_deliver(void *self, int32_t from, const void *bytes, size_t n, struct sl_err *err)
{
    struct llm_engine *e = self;
    if (!e->split) return sl_err_set(err, SL_UNSUPPORTED, "the model is not split");
    struct llm_flight *f = awaited(e);
    if (!f || from != e->split->limits.n_stages - 1)
        return sl_err_set(err, SL_CORRUPT, "a message of stage %d that nobody waits for", from);
    sl_buf_clear(&f->bytes);
    sl_status status = sl_buf_add(&f->bytes, bytes, n);
    if (status == SL_LIMIT)
        return sl_err_set(err, SL_CORRUPT, "a result of %zu bytes from stage %d", n, from);
    if (status != SL_OK) return sl_err_set(err, status, "a result of %zu bytes", n);
    status = take_result(e, f, err);
    return status == SL_OK ? SL_OK : sl_err_prefix(err, "stage %d", from);
}

/* ---- how many flights ---- */

/* The slowest stage is always busy with as many flights as its time fits into a whole round: more
 * would only split the sequences into smaller groups, each of which costs a read of all weights. */
int32_t llm_split_flights(const struct llm_engine *e)
{
    const struct llm_split *sp = e->split;
    int32_t least = sp->limits.n_stages;
    if (e->cfg.split.n_flights) return e->cfg.split.n_flights;
    double fit = sp->busy_ns > 0 ? sp->path_ns / sp->busy_ns : 0;
    if (fit >= FLIGHTS_ADAPTED_MAX) return FLIGHTS_ADAPTED_MAX;
    return (int32_t)fit > least ? (int32_t)fit : least;
}

int32_t llm_split_prompt_flights(const struct llm_engine *e)
{
    return PROMPT_FLIGHTS_A_STAGE * e->split->limits.n_stages;
}

void llm_split_idle(struct llm_engine *e, bool idle)
{
    e->split->idle = idle;
}

void llm_split_stats(const struct llm_engine *e, struct engine_stats *out)
{
    const struct llm_split *sp = e->split;
    out->n_stages = sp->limits.n_stages;
    out->n_flights = llm_split_flights(e);
    out->n_hop_steps = sp->n_hop_steps;
    out->n_hop_tokens = sp->n_hop_tokens;
    out->round_ns = sp->round_ns;
    out->wire_ns = sp->wire_ns;
    out->n_alone_steps = sp->n_alone_steps;
    out->alone_ns = sp->alone_ns;
    memcpy(out->hops, sp->hops, sizeof out->hops);
}
