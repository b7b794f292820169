#include "exec/llm/stage_engine.h"
#include "base/clock.h"
#include "base/mem.h"
#include "exec/llm/gguf.h"
#include "exec/llm/hidden_row.h"
#include "exec/llm/kv_cache.h"
#include "exec/llm/llm_setup.h"
#include <string.h>

/* Of messages: each flight of stage 0 with the samplers that it may need. */
#define QUEUE_MAX (4 * LLM_FLIGHTS_MAX)
#define QUEUE_BYTES_MAX \
    (512u << 20) /* a few of the largest, or all flights' prompts of usual size */
#define ARENA_BYTES_MAX (64u << 20) /* of one message of samplers */

struct message { /* one that waits */
    struct message *next;
    struct sl_buf bytes;
    int64_t arrival_ns;
    bool is_batch;
    struct stage_batch batch;
};

struct table { /* blocks of one sequence */
    int32_t *blocks;
    int32_t n, cap;
};

struct place { /* what is known of a sequence once all that waits is dealt with */
    int32_t n_blocks;
    bool samples;
};

struct stage_engine {
    struct llm_engine_cfg cfg; /* defaults resolved */
    struct gguf_file *file;
    struct llm_hparams hp;
    struct llm_backends backends;
    struct llm_stage *stage;
    struct stage_limits limits;
    bool is_last;
    struct message *first, *last, *spare;
    int32_t n_waiting;
    size_t waiting_bytes;
    uint64_t n_delivered, n_steps; /* batches */
    struct place *places;          /* [n_seqs_max] */
    struct table *tables;          /* [n_seqs_max] */
    struct sampler **samplers;     /* [n_seqs_max]; NULL: not open */
    /* the step at hand; arrays of n_batch, outputs of twice as many */
    int32_t *pos, *outputs;
    int64_t *slots;
    struct attn_tile *tiles;
    float *hidden;                /* [n_batch, n_embd] */
    float *row;                   /* [n_vocab] */
    struct stage_choice *choices; /* [n_seqs_max] */
    struct stage_stamp stamps[ENGINE_STAGES_MAX];
    struct sl_arena arena;
    struct sl_buf out;
};

static const struct engine_ops stage_ops;

/* ---- loading ---- */

static sl_status make_arrays(struct stage_engine *e, struct sl_err *err)
{
    size_t n = (size_t)e->cfg.n_batch, n_seqs = (size_t)e->cfg.n_seqs_max;
    e->places = sl_calloc(n_seqs, sizeof *e->places);
    e->tables = sl_calloc(n_seqs, sizeof *e->tables);
    e->samplers = sl_calloc(n_seqs, sizeof *e->samplers);
    e->choices = sl_calloc(n_seqs, sizeof *e->choices);
    e->pos = sl_calloc(n, sizeof *e->pos);
    e->outputs = sl_calloc(2 * n, sizeof *e->outputs);
    e->slots = sl_calloc(n, sizeof *e->slots);
    e->tiles = sl_calloc(n, sizeof *e->tiles);
    e->hidden = sl_calloc(n * (size_t)e->hp.n_embd, sizeof *e->hidden);
    e->row = sl_calloc((size_t)e->hp.n_vocab, sizeof *e->row);
    bool ok = e->places && e->tables && e->samplers && e->choices && e->pos && e->outputs &&
              e->slots && e->tiles && e->hidden && e->row;
    return ok ? SL_OK : sl_err_set(err, SL_NOMEM, "batch of %d tokens", e->cfg.n_batch);
}

static sl_status load_parts(struct stage_engine *e, struct sl_err *err)
{
    const struct llm_setup setup = {&e->cfg, e->file, &e->hp, &e->backends, false};
    int32_t n_blocks = 0;
    sl_status status = llm_hparams_read(e->file, &e->hp, err);
    if (status != SL_OK) return status;
    llm_setup_defaults(&setup);
    status = llm_setup_check(&setup, err);
    if (status == SL_OK && !e->cfg.split.stage)
        status = sl_err_set(err, SL_INVALID, "stage 0 is no later stage");
    if (status == SL_OK) status = llm_setup_blocks(&setup, &n_blocks, err);
    if (status == SL_OK)
        status = llm_backends_open(&e->backends, e->cfg.n_threads, e->cfg.gpu_layers != 0, err);
    if (status == SL_OK) status = llm_setup_stage(&setup, 0, n_blocks, &e->stage, err);
    e->limits = llm_setup_limits(&setup);
    e->is_last = e->cfg.split.stage == e->limits.n_stages - 1;
    return status == SL_OK ? make_arrays(e, err) : status;
}

static void free_messages(struct message *m)
{
    for (struct message *next; m; m = next) {
        next = m->next;
        sl_buf_done(&m->bytes);
        sl_free(m);
    }
}

static void stage_unload(void *self)
{
    struct stage_engine *e = self;
    for (int32_t i = 0; e->tables && i < e->cfg.n_seqs_max; i++) sl_free(e->tables[i].blocks);
    for (int32_t i = 0; e->samplers && i < e->cfg.n_seqs_max; i++) sampler_destroy(e->samplers[i]);
    free_messages(e->first);
    free_messages(e->spare);
    llm_stage_destroy(e->stage);
    llm_backends_close(&e->backends);
    gguf_close(e->file);
    sl_arena_done(&e->arena);
    sl_buf_done(&e->out);
    sl_free(e->places);
    sl_free(e->tables);
    sl_free(e->samplers);
    sl_free(e->choices);
    sl_free(e->pos);
    sl_free(e->outputs);
    sl_free(e->slots);
    sl_free(e->tiles);
    sl_free(e->hidden);
    sl_free(e->row);
    sl_free(e);
}

sl_status stage_engine_load(const char *path, const struct llm_engine_cfg *cfg, struct engine **out,
                            struct sl_err *err)
{
    struct stage_engine *e = sl_calloc(1, sizeof *e);
    if (!e) return sl_err_set(err, SL_NOMEM, "load: %s", path);
    e->cfg = *cfg;
    sl_arena_init(&e->arena, ARENA_BYTES_MAX);
    sl_buf_init(&e->out, STAGE_MSG_BYTES_MAX);
    sl_status status = gguf_open(path, &e->file, err); /* its message names the file */
    if (status != SL_OK) goto fail;
    status = load_parts(e, err);
    if (status == SL_OK) status = engine_create(&stage_ops, e, out, err);
    if (status == SL_OK) return SL_OK;
    sl_err_prefix(err, "%s", path);
fail:
    stage_unload(e);
    return sl_err_prefix(err, "load");
}

/* ---- messages come in ---- */

/* The groups' tables grow from what they will be then, and all samplers will be open. */
static sl_status check_batch(struct stage_engine *e, const struct stage_batch *b,
                             struct sl_err *err)
{
    if (b->step != e->n_delivered + 1)
        return sl_err_set(err, SL_CORRUPT, "step %llu after %llu", (unsigned long long)b->step,
                          (unsigned long long)e->n_delivered);
    for (int32_t i = 0; i < b->n_samplers && e->is_last; i++)
        if (!e->places[b->samplers[i]].samples)
            return sl_err_set(err, SL_CORRUPT, "sampler %d is not open", b->samplers[i]);
    for (int32_t i = 0; i < b->n_groups; i++) {
        const struct stage_group *g = &b->groups[i];
        struct place *place = &e->places[g->table];
        if (g->n_keep > place->n_blocks)
            return sl_err_set(err, SL_CORRUPT, "table %d keeps %d of %d blocks", g->table,
                              g->n_keep, place->n_blocks);
        place->n_blocks = g->n_keep + g->n_new;
    }
    e->n_delivered = b->step;
    return SL_OK;
}

static sl_status check_samplers(struct stage_engine *e, const struct stage_samplers *m,
                                struct sl_err *err)
{
    for (int32_t i = 0; i < m->n; i++) {
        const struct stage_sampler *s = &m->v[i];
        struct sl_err why = SL_ERR_INIT;
        if (s->open && sampler_check(&s->cfg, e->hp.n_vocab, &why) != SL_OK)
            return sl_err_set(err, SL_CORRUPT, "sampler %d: %s", s->id, why.text);
        e->places[s->id].samples = s->open;
    }
    return SL_OK;
}

static sl_status check(struct stage_engine *e, struct message *m, struct sl_err *err)
{
    struct stage_samplers samplers;
    int kind = stage_msg_kind(m->bytes.data, m->bytes.len);
    m->is_batch = kind == STAGE_MSG_BATCH;
    sl_status status;
    if (m->is_batch) {
        status = stage_batch_decode(&e->limits, m->bytes.data, m->bytes.len, &m->batch, err);
        return status == SL_OK ? check_batch(e, &m->batch, err) : status;
    }
    if (kind != STAGE_MSG_SAMPLERS)
        return sl_err_set(err, SL_CORRUPT, "a message of no kind that a stage takes");
    sl_arena_reset(&e->arena);
    status =
        stage_samplers_decode(&e->limits, m->bytes.data, m->bytes.len, &e->arena, &samplers, err);
    return status == SL_OK ? check_samplers(e, &samplers, err) : status;
}

/* A spare one, the last that was used first: so there are as many as ever waited at once. */
static struct message *new_message(struct stage_engine *e)
{
    struct message *m = e->spare;
    if (m) {
        e->spare = m->next;
        sl_buf_clear(&m->bytes);
        m->next = NULL;
        return m;
    }
    m = sl_calloc(1, sizeof *m);
    if (m) sl_buf_init(&m->bytes, STAGE_MSG_BYTES_MAX);
    return m;
}

static void spare_message(struct stage_engine *e, struct message *m)
{
    m->next = e->spare;
    e->spare = m;
}

static void push(struct stage_engine *e, struct message *m)
{
    if (e->last)
        e->last->next = m;
    else
        e->first = m;
    e->last = m;
    e->n_waiting++;
    e->waiting_bytes += m->bytes.len;
}

static struct message *pop(struct stage_engine *e)
{
    struct message *m = e->first;
    if (!m) return NULL;
    e->first = m->next;
    if (!e->first) e->last = NULL;
    e->n_waiting--;
    e->waiting_bytes -= m->bytes.len;
    return m;
}

static sl_status stage_deliver(void *self, int32_t from, const void *bytes, size_t n,
                               struct sl_err *err)
{
    struct stage_engine *e = self;
    if (from != e->cfg.split.stage - 1)
        return sl_err_set(err, SL_CORRUPT, "a message of stage %d to stage %d", from,
                          e->cfg.split.stage);
    if (n > STAGE_MSG_BYTES_MAX)
        return sl_err_set(err, SL_CORRUPT, "a message of %zu bytes from stage %d", n, from);
    if (e->n_waiting >= QUEUE_MAX || e->waiting_bytes + n > QUEUE_BYTES_MAX)
        return sl_err_set(err, SL_LIMIT, "%d messages of %zu bytes wait already", e->n_waiting,
                          e->waiting_bytes);
    struct message *m = new_message(e);
    if (!m || sl_buf_add(&m->bytes, bytes, n) != SL_OK) {
        if (m) spare_message(e, m);
        return sl_err_set(err, SL_NOMEM, "a message of %zu bytes", n);
    }
    m->arrival_ns = sl_now_ns();
    sl_status status = check(e, m, err);
    if (status == SL_OK) {
        push(e, m);
        return SL_OK;
    }
    spare_message(e, m);
    return sl_err_prefix(err, "stage %d", from);
}

/* ---- and are dealt with ---- */

static sl_status send_out(struct stage_engine *e, int32_t to)
{
    e->cfg.on_frame(e->cfg.frame_ctx, to, e->out.data, e->out.len);
    sl_buf_clear(&e->out);
    return SL_OK;
}

static sl_status open_sampler(struct stage_engine *e, const struct stage_sampler *s,
                              struct sl_err *err)
{
    sampler_destroy(e->samplers[s->id]);
    e->samplers[s->id] = NULL;
    if (!s->open) return SL_OK;
    sl_status status = sampler_create(&s->cfg, e->hp.n_vocab, &e->samplers[s->id], err);
    for (int32_t i = 0; i < s->n_tokens && status == SL_OK; i++)
        sampler_accept(e->samplers[s->id], s->tokens[i]);
    return status;
}

static sl_status run_samplers(struct stage_engine *e, const struct message *m, struct sl_err *err)
{
    struct stage_samplers samplers;
    if (!e->is_last) {
        e->cfg.on_frame(e->cfg.frame_ctx, e->cfg.split.stage + 1, m->bytes.data, m->bytes.len);
        return SL_OK;
    }
    sl_arena_reset(&e->arena);
    sl_status status =
        stage_samplers_decode(&e->limits, m->bytes.data, m->bytes.len, &e->arena, &samplers, err);
    for (int32_t i = 0; status == SL_OK && i < samplers.n; i++)
        status = open_sampler(e, &samplers.v[i], err);
    return status;
}

static bool table_room(struct table *t, int32_t n)
{
    int32_t cap = t->cap ? t->cap : 8;
    if (n <= t->cap) return true;
    while (cap < n) cap *= 2;
    int32_t *blocks = sl_realloc_array(t->blocks, (size_t)cap, sizeof *blocks);
    if (!blocks) return false;
    t->blocks = blocks;
    t->cap = cap;
    return true;
}

static sl_status update_tables(struct stage_engine *e, const struct stage_batch *b,
                               struct sl_err *err)
{
    const int32_t *blocks = b->blocks;
    sl_status status = SL_OK;
    for (int32_t i = 0; i < b->n_groups; i++) {
        const struct stage_group *g = &b->groups[i];
        struct table *t = &e->tables[g->table];
        if (!table_room(t, g->n_keep + g->n_new))
            return sl_err_set(err, SL_NOMEM, "block table of %d", g->n_keep + g->n_new);
        memcpy(t->blocks + g->n_keep, blocks, (size_t)g->n_new * sizeof *blocks);
        t->n = g->n_keep + g->n_new;
        blocks += g->n_new;
    }
    for (int32_t i = 0; i < b->n_copies && status == SL_OK; i++)
        status = llm_stage_copy_slots(e->stage, b->copies[i].src * KV_BLOCK_TOKENS,
                                      b->copies[i].dst * KV_BLOCK_TOKENS, KV_BLOCK_TOKENS, err);
    return status;
}

static void add_group(struct stage_engine *e, const struct stage_group *g, struct llm_batch *out)
{
    const int32_t *blocks = e->tables[g->table].blocks;
    int32_t per = attn_tile_tokens(e->hp.n_head, e->hp.n_head_kv), at = out->n_tokens;
    for (int32_t i = 0; i < g->n_tokens; i += per) {
        int32_t n = g->n_tokens - i < per ? g->n_tokens - i : per;
        e->tiles[out->attn.n_tiles++] = (struct attn_tile){at + i, n, g->pos + i, blocks};
    }
    for (int32_t i = 0; i < g->n_tokens; i++) {
        int32_t pos = g->pos + i;
        e->pos[at + i] = pos;
        e->slots[at + i] =
            (int64_t)blocks[pos / KV_BLOCK_TOKENS] * KV_BLOCK_TOKENS + pos % KV_BLOCK_TOKENS;
    }
    out->n_tokens += g->n_tokens;
}

static void fill_batch(struct stage_engine *e, const struct stage_batch *b, struct llm_batch *out)
{
    *out = (struct llm_batch){.pos = e->pos,
                              .slots = e->slots,
                              .outputs = e->outputs,
                              .n_outputs = b->n_outputs,
                              .n_hidden = b->n_rows};
    out->attn = (struct attn_batch){0, e->tiles, KV_BLOCK_TOKENS};
    for (int32_t i = 0; i < b->n_groups; i++) add_group(e, &b->groups[i], out);
    for (int32_t i = 0; i < b->n_outputs; i++) e->outputs[i] = b->outputs[i].row;
    for (int32_t i = 0; i < b->n_rows; i++) e->outputs[b->n_outputs + i] = b->rows[i];
}

/* The first of a row's samplers comes last, as it may change the row itself: but not when the row
 * is wanted too. */
static void sample_row(struct stage_engine *e, const struct stage_batch *b, int32_t output,
                       int32_t first, float *logits)
{
    const struct stage_output *o = &b->outputs[output];
    size_t n = (size_t)e->hp.n_vocab;
    float *row = logits + (size_t)output * n;
    for (int32_t i = o->n_samplers; i-- > 0;) {
        struct sampler *s = e->samplers[b->samplers[first + i]];
        struct stage_choice *c = &e->choices[first + i];
        struct sl_err why = SL_ERR_INIT;
        bool copies = i > 0 || b->flags & STAGE_WANT_LOGITS;
        float *from = copies ? memcpy(e->row, row, n * sizeof *row) : row;
        c->status = sampler_sample(s, from, (int64_t)e->pos[o->row] + 1, &c->result, &why);
        if (c->status == SL_OK) sampler_accept(s, c->result.token);
    }
}

static sl_status answer(struct stage_engine *e, const struct stage_batch *b, float *logits,
                        int64_t begin_ns, struct sl_err *err)
{
    struct stage_result r = {.step = b->step,
                             .n_choices = b->n_samplers,
                             .n_outputs = b->n_outputs,
                             .n_rows = b->n_rows,
                             .choices = e->choices,
                             .logits = b->flags & STAGE_WANT_LOGITS ? logits : NULL,
                             .stamps = e->stamps};
    int32_t first = 0;
    for (int32_t i = 0; i < b->n_outputs; i++) {
        sample_row(e, b, i, first, logits);
        first += b->outputs[i].n_samplers;
    }
    sl_status status = llm_stage_hidden(e->stage, &r.rows, err);
    e->stamps[e->cfg.split.stage - 1].compute_ns = (uint64_t)(sl_now_ns() - begin_ns);
    if (status == SL_OK) status = stage_result_encode(&e->limits, &r, &e->out, err);
    return status == SL_OK ? send_out(e, 0) : status;
}

static sl_status pass_on(struct stage_engine *e, const struct stage_batch *b, const float *hidden,
                         int64_t begin_ns, struct sl_err *err)
{
    struct stage_batch next = *b;
    next.stamps = e->stamps;
    e->stamps[e->cfg.split.stage - 1].compute_ns = (uint64_t)(sl_now_ns() - begin_ns);
    sl_status status = stage_batch_encode(&e->limits, &next, hidden, &e->out, err);
    return status == SL_OK ? send_out(e, e->cfg.split.stage + 1) : status;
}

static sl_status run_batch(struct stage_engine *e, const struct message *m, struct sl_err *err)
{
    const struct stage_batch *b = &m->batch;
    struct llm_batch batch;
    int64_t begin_ns = sl_now_ns();
    float *out;
    sl_status status = update_tables(e, b, err);
    if (status != SL_OK) return status;
    memcpy(e->stamps, b->stamps, (size_t)(e->limits.n_stages - 1) * sizeof *e->stamps);
    e->stamps[e->cfg.split.stage - 1].wait_ns = (uint64_t)(begin_ns - m->arrival_ns);
    fill_batch(e, b, &batch);
    hidden_rows_unpack(e->limits.link, b->hidden, b->n_tokens, e->hp.n_embd, e->hidden);
    status = llm_stage_compute(e->stage, &batch, e->hidden, &out, err);
    if (status != SL_OK) return status;
    e->n_steps++;
    return e->is_last ? answer(e, b, out, begin_ns, err) : pass_on(e, b, out, begin_ns, err);
}

static sl_status stage_step(void *self, bool *out_idle, struct sl_err *err)
{
    struct stage_engine *e = self;
    struct sl_err local = SL_ERR_INIT;
    struct message *m = pop(e);
    sl_status status = SL_OK;
    err = err ? err : &local;
    *out_idle = !m;
    if (!m) return SL_OK;
    status = m->is_batch ? run_batch(e, m, err) : run_samplers(e, m, err);
    spare_message(e, m);
    return status;
}

/* ---- the rest of the interface ---- */

static sl_status stage_submit(void *self, const struct engine_generate *req, struct sl_err *err)
{
    const struct stage_engine *e = self;
    (void)req;
    return sl_err_set(err, SL_UNSUPPORTED, "stage %d of a split model takes no requests",
                      e->cfg.split.stage);
}

static sl_status stage_cancel(void *self, uint64_t id)
{
    (void)self;
    (void)id;
    return SL_NOT_FOUND;
}

static void stage_stats(const void *self, struct engine_stats *out)
{
    const struct stage_engine *e = self;
    struct llm_stage_stats s;
    llm_stage_stats(e->stage, &s);
    *out = (struct engine_stats){.n_waiting = e->n_waiting,
                                 .kv_blocks_total = e->limits.kv_blocks,
                                 .kv_block_tokens = KV_BLOCK_TOKENS,
                                 .kv_bytes = s.kv_bytes,
                                 .weight_bytes = s.mapped_bytes + s.copied_bytes,
                                 .weight_copied_bytes = s.copied_bytes,
                                 .compute_bytes = s.compute_bytes,
                                 .n_steps = e->n_steps,
                                 .n_graph_builds = s.n_graph_builds,
                                 .n_graph_reuses = s.n_graph_reuses};
}

static void stage_info(const void *self, struct engine_info *out)
{
    const struct stage_engine *e = self;
    *out = (struct engine_info){.architecture = e->hp.arch->name,
                                .name = "",
                                .bos_text = "",
                                .eos_text = "",
                                .quantization = "",
                                .n_ctx = e->cfg.n_ctx,
                                .n_ctx_model = e->hp.n_ctx_train,
                                .n_vocab = e->hp.n_vocab,
                                .n_embd = e->hp.n_embd,
                                .n_layer = e->hp.n_layer,
                                .n_seqs_max = e->cfg.n_seqs_max};
}

static const struct engine_ops stage_ops = {.name = "stage",
                                            .submit = stage_submit,
                                            .cancel = stage_cancel,
                                            .step = stage_step,
                                            .stats = stage_stats,
                                            .unload = stage_unload,
                                            .info = stage_info,
                                            .deliver = stage_deliver};
