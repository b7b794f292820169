#include "exec/llm/stage_msg.h"
#include "exec/llm/hidden_row.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* The structs of the header and those here are the wire's own layout. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "messages are little endian");
_Static_assert(sizeof(struct stage_group) == 20 && sizeof(struct stage_copy) == 8 &&
                   sizeof(struct stage_output) == 8 && sizeof(struct stage_stamp) == 16 &&
                   sizeof(struct sampler_bias) == 8 && sizeof(struct sampler_logprob) == 8,
               "no padding");

struct head {
    uint8_t kind, version;
    uint16_t flags;
    uint32_t reserved;
    uint64_t step;
};
_Static_assert(sizeof(struct head) == 16, "no padding");

struct batch_counts {
    int32_t n_tokens, n_groups, n_blocks, n_copies, n_outputs, n_samplers, n_rows, link;
};

struct samplers_counts {
    int32_t n, reserved;
};

struct result_counts {
    int32_t n_choices, n_outputs, n_rows, reserved;
};

/* A sampler, before its tokens, breakers and biases. */
struct sampler_head {
    int32_t id, open, n_tokens, n_breakers, n_bias, n_logprobs, top_k, repeat_last_n;
    int32_t dry_allowed_len, dry_last_n;
    float temp, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty;
    float dry_multiplier, dry_base;
    uint32_t reserved;
    uint64_t seed;
};
_Static_assert(sizeof(struct sampler_head) == 88, "no padding");

struct choice_head { /* before its likeliest tokens */
    uint32_t status;
    int32_t token;
    float logprob;
    int32_t n_top;
};

#define SAMPLER_NUMBERS(X) \
    X(n_logprobs) \
    X(top_k) \
    X(repeat_last_n) \
    X(dry_allowed_len) \
    X(dry_last_n) \
    X(temp) \
    X(top_p) \
    X(min_p) \
    X(typical_p) \
    X(repeat_penalty) \
    X(presence_penalty) \
    X(frequency_penalty) \
    X(dry_multiplier) \
    X(dry_base) \
    X(seed)

/* ---- writing ---- */

struct writer {
    struct sl_buf *out;
    sl_status status; /* the first failure sticks */
};

static void put(struct writer *w, const void *bytes, size_t n)
{
    if (w->status == SL_OK) w->status = sl_buf_add(w->out, bytes, n);
}

static void put_array(struct writer *w, const void *v, int32_t n, size_t size)
{
    put(w, v, (size_t)n * size);
}

static void put_head(struct writer *w, enum stage_msg_kind kind, unsigned flags, uint64_t step)
{
    const struct head head = {(uint8_t)kind, STAGE_MSG_VERSION, (uint16_t)flags, 0, step};
    put(w, &head, sizeof head);
}

static void put_stamps(struct writer *w, const struct stage_limits *limits,
                       const struct stage_stamp *stamps)
{
    put_array(w, stamps, limits->n_stages - 1, sizeof *stamps);
}

static sl_status end(struct writer *w, size_t begin, struct sl_err *err)
{
    if (w->status == SL_OK && w->out->len - begin > STAGE_MSG_BYTES_MAX) w->status = SL_LIMIT;
    if (w->status == SL_OK) return SL_OK;
    sl_buf_truncate(w->out, begin);
    return sl_err_set(err, w->status, "stage message: %s", sl_status_text(w->status));
}

sl_status stage_batch_encode(const struct stage_limits *limits, const struct stage_batch *b,
                             const float *hidden, struct sl_buf *out, struct sl_err *err)
{
    const struct batch_counts counts = {b->n_tokens, b->n_groups,          b->n_blocks,
                                        b->n_copies, b->n_outputs,         b->n_samplers,
                                        b->n_rows,   (int32_t)limits->link};
    size_t n_hidden = (size_t)b->n_tokens * hidden_row_bytes(limits->link, limits->n_embd);
    size_t begin = out->len;
    struct writer w = {out, SL_OK};
    put_head(&w, STAGE_MSG_BATCH, b->flags, b->step);
    put(&w, &counts, sizeof counts);
    put_stamps(&w, limits, b->stamps);
    put_array(&w, b->groups, b->n_groups, sizeof *b->groups);
    put_array(&w, b->blocks, b->n_blocks, sizeof *b->blocks);
    put_array(&w, b->copies, b->n_copies, sizeof *b->copies);
    put_array(&w, b->outputs, b->n_outputs, sizeof *b->outputs);
    put_array(&w, b->samplers, b->n_samplers, sizeof *b->samplers);
    put_array(&w, b->rows, b->n_rows, sizeof *b->rows);
    if (w.status == SL_OK) w.status = sl_buf_reserve(out, n_hidden);
    if (w.status == SL_OK) {
        hidden_rows_pack(limits->link, hidden, b->n_tokens, limits->n_embd, out->data + out->len);
        out->len += n_hidden;
        out->data[out->len] = '\0';
    }
    return end(&w, begin, err);
}

static void put_sampler(struct writer *w, const struct stage_sampler *s)
{
    struct sampler_head head = {.id = s->id, .open = s->open};
    if (s->open) {
#define X(field) head.field = s->cfg.field;
        SAMPLER_NUMBERS(X)
#undef X
        head.n_tokens = s->n_tokens;
        head.n_breakers = s->cfg.n_dry_breakers;
        head.n_bias = s->cfg.n_bias;
    }
    put(w, &head, sizeof head);
    put_array(w, s->tokens, head.n_tokens, sizeof *s->tokens);
    put_array(w, s->cfg.dry_breakers, head.n_breakers, sizeof *s->cfg.dry_breakers);
    put_array(w, s->cfg.bias, head.n_bias, sizeof *s->cfg.bias);
}

sl_status stage_samplers_encode(const struct stage_samplers *samplers, struct sl_buf *out,
                                struct sl_err *err)
{
    const struct samplers_counts counts = {samplers->n, 0};
    size_t begin = out->len;
    struct writer w = {out, SL_OK};
    put_head(&w, STAGE_MSG_SAMPLERS, 0, 0);
    put(&w, &counts, sizeof counts);
    for (int32_t i = 0; i < samplers->n; i++) put_sampler(&w, &samplers->v[i]);
    return end(&w, begin, err);
}

static void put_choice(struct writer *w, const struct stage_choice *c)
{
    const struct sampler_result *r = &c->result;
    struct choice_head head = {.status = (uint32_t)c->status};
    if (c->status == SL_OK) head = (struct choice_head){0, r->token, r->logprob, r->n_top};
    put(w, &head, sizeof head);
    put_array(w, r->top, head.n_top, sizeof *r->top);
}

sl_status stage_result_encode(const struct stage_limits *limits, const struct stage_result *r,
                              struct sl_buf *out, struct sl_err *err)
{
    const struct result_counts counts = {r->n_choices, r->logits ? r->n_outputs : 0, r->n_rows, 0};
    size_t begin = out->len;
    struct writer w = {out, SL_OK};
    put_head(&w, STAGE_MSG_RESULT, 0, r->step);
    put(&w, &counts, sizeof counts);
    put_stamps(&w, limits, r->stamps);
    for (int32_t i = 0; i < r->n_choices; i++) put_choice(&w, &r->choices[i]);
    put_array(&w, r->logits, counts.n_outputs, (size_t)limits->n_vocab * sizeof *r->logits);
    put_array(&w, r->rows, r->n_rows, (size_t)limits->n_embd * sizeof *r->rows);
    return end(&w, begin, err);
}

/* ---- reading ---- */

struct reader {
    const char *at;
    size_t n; /* bytes left */
    struct sl_err *err;
};

SL_PRINTF(2, 3) static sl_status corrupt(struct reader *r, const char *fmt, ...)
{
    char text[120];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return sl_err_set(r->err, SL_CORRUPT, "stage message: %s", text);
}

/* NULL: so many are not left; the counts have been bounded, so that the product fits. */
static const void *take(struct reader *r, int32_t n, size_t size)
{
    const char *at = r->at;
    if (n < 0 || (size_t)n * size > r->n) return NULL;
    r->at += (size_t)n * size;
    r->n -= (size_t)n * size;
    return at;
}

static bool copy(struct reader *r, void *out, size_t n)
{
    const void *at = take(r, 1, n);
    if (at) memcpy(out, at, n);
    return at;
}

int stage_msg_kind(const void *bytes, size_t n)
{
    struct head head;
    if (n < sizeof head) return 0;
    memcpy(&head, bytes, sizeof head);
    bool known = head.kind >= STAGE_MSG_BATCH && head.kind <= STAGE_MSG_RESULT;
    return known && head.version == STAGE_MSG_VERSION ? head.kind : 0;
}

static sl_status begin(struct reader *r, const void *bytes, size_t n, enum stage_msg_kind kind,
                       struct head *out)
{
    r->at = bytes;
    r->n = n;
    if (n > STAGE_MSG_BYTES_MAX) return corrupt(r, "%zu bytes", n);
    if (stage_msg_kind(bytes, n) != (int)kind) return corrupt(r, "not of kind %d", (int)kind);
    (void)copy(r, out, sizeof *out);
    return SL_OK;
}

static bool in_range(int32_t v, int64_t lo, int64_t hi)
{
    return v >= lo && v <= hi;
}

static int32_t ctx_blocks(const struct stage_limits *limits)
{
    return (limits->n_ctx + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS + 1;
}

static bool batch_counts_fit(const struct stage_limits *l, const struct batch_counts *c)
{
    return in_range(c->n_tokens, 1, l->n_batch) && in_range(c->n_groups, 1, c->n_tokens) &&
           in_range(c->n_blocks, 0, (int64_t)c->n_groups * ctx_blocks(l)) &&
           in_range(c->n_copies, 0, c->n_groups) && in_range(c->n_outputs, 0, c->n_tokens) &&
           in_range(c->n_samplers, 0, l->n_seqs_max) && in_range(c->n_rows, 0, c->n_tokens) &&
           c->link == (int32_t)l->link;
}

static sl_status check_group(struct reader *r, const struct stage_limits *l,
                             const struct stage_group *g)
{
    if (!in_range(g->table, 0, l->n_seqs_max - 1)) return corrupt(r, "table %d", g->table);
    if (!in_range(g->n_tokens, 1, l->n_batch) || !in_range(g->pos, 0, l->n_ctx - g->n_tokens))
        return corrupt(r, "%d tokens at %d", g->n_tokens, g->pos);
    if (!in_range(g->n_keep, 0, ctx_blocks(l)) || !in_range(g->n_new, 0, ctx_blocks(l)) ||
        !in_range(g->n_keep + g->n_new, (g->pos + g->n_tokens - 1) / KV_BLOCK_TOKENS + 1,
                  ctx_blocks(l)))
        return corrupt(r, "%d and %d blocks for %d tokens", g->n_keep, g->n_new,
                       g->pos + g->n_tokens);
    return SL_OK;
}

static sl_status check_groups(struct reader *r, const struct stage_limits *l,
                              const struct stage_batch *b)
{
    int64_t n_tokens = 0, n_blocks = 0;
    for (int32_t i = 0; i < b->n_groups; i++) {
        sl_status status = check_group(r, l, &b->groups[i]);
        if (status != SL_OK) return status;
        n_tokens += b->groups[i].n_tokens;
        n_blocks += b->groups[i].n_new;
    }
    if (n_tokens != b->n_tokens || n_blocks != b->n_blocks)
        return corrupt(r, "groups of %lld tokens and %lld blocks", (long long)n_tokens,
                       (long long)n_blocks);
    for (int32_t i = 0; i < b->n_blocks; i++)
        if (!in_range(b->blocks[i], 0, l->kv_blocks - 1))
            return corrupt(r, "block %d", b->blocks[i]);
    for (int32_t i = 0; i < b->n_copies; i++)
        if (!in_range(b->copies[i].src, 0, l->kv_blocks - 1) ||
            !in_range(b->copies[i].dst, 0, l->kv_blocks - 1))
            return corrupt(r, "copy of block %d to %d", b->copies[i].src, b->copies[i].dst);
    return SL_OK;
}

static sl_status check_outputs(struct reader *r, const struct stage_limits *l,
                               const struct stage_batch *b)
{
    int64_t n_samplers = 0;
    int32_t last = -1;
    for (int32_t i = 0; i < b->n_outputs; i++) {
        const struct stage_output *o = &b->outputs[i];
        if (!in_range(o->row, (int64_t)last + 1, b->n_tokens - 1) ||
            !in_range(o->n_samplers, 0, b->n_samplers))
            return corrupt(r, "output of row %d to %d samplers", o->row, o->n_samplers);
        last = o->row;
        n_samplers += o->n_samplers;
    }
    if (n_samplers != b->n_samplers)
        return corrupt(r, "%lld samplers, not %d", (long long)n_samplers, b->n_samplers);
    for (int32_t i = 0; i < b->n_samplers; i++)
        if (!in_range(b->samplers[i], 0, l->n_seqs_max - 1))
            return corrupt(r, "sampler %d", b->samplers[i]);
    last = -1;
    for (int32_t i = 0; i < b->n_rows; last = b->rows[i++])
        if (!in_range(b->rows[i], (int64_t)last + 1, b->n_tokens - 1))
            return corrupt(r, "hidden row %d", b->rows[i]);
    return SL_OK;
}

static bool take_batch(struct reader *r, const struct stage_limits *l, struct stage_batch *b)
{
    b->stamps = take(r, l->n_stages - 1, sizeof *b->stamps);
    b->groups = take(r, b->n_groups, sizeof *b->groups);
    b->blocks = take(r, b->n_blocks, sizeof *b->blocks);
    b->copies = take(r, b->n_copies, sizeof *b->copies);
    b->outputs = take(r, b->n_outputs, sizeof *b->outputs);
    b->samplers = take(r, b->n_samplers, sizeof *b->samplers);
    b->rows = take(r, b->n_rows, sizeof *b->rows);
    b->hidden = take(r, b->n_tokens, hidden_row_bytes(l->link, l->n_embd));
    return b->stamps && b->groups && b->blocks && b->copies && b->outputs && b->samplers &&
           b->rows && b->hidden && !r->n;
}

sl_status stage_batch_decode(const struct stage_limits *limits, const void *bytes, size_t n,
                             struct stage_batch *out, struct sl_err *err)
{
    struct reader r = {.err = err};
    struct batch_counts c;
    struct head head = {0};
    sl_status status = begin(&r, bytes, n, STAGE_MSG_BATCH, &head);
    if (status != SL_OK) return status;
    if (!copy(&r, &c, sizeof c) || !batch_counts_fit(limits, &c) || head.flags > STAGE_WANT_LOGITS)
        return corrupt(&r, "a batch's numbers");
    *out = (struct stage_batch){.step = head.step,
                                .flags = head.flags,
                                .n_tokens = c.n_tokens,
                                .n_groups = c.n_groups,
                                .n_blocks = c.n_blocks,
                                .n_copies = c.n_copies,
                                .n_outputs = c.n_outputs,
                                .n_samplers = c.n_samplers,
                                .n_rows = c.n_rows};
    if (!take_batch(&r, limits, out)) return corrupt(&r, "a batch of %zu bytes", n);
    status = check_groups(&r, limits, out);
    return status == SL_OK ? check_outputs(&r, limits, out) : status;
}

static sl_status take_sampler(struct reader *r, const struct stage_limits *l,
                              struct stage_sampler *out)
{
    struct sampler_head head;
    if (!copy(r, &head, sizeof head)) return corrupt(r, "a sampler cut short");
    if (!in_range(head.id, 0, l->n_seqs_max - 1)) return corrupt(r, "sampler %d", head.id);
    if (!in_range(head.n_tokens, 0, SAMPLER_HISTORY_MAX) ||
        !in_range(head.n_breakers, 0, SAMPLER_DRY_BREAKERS_MAX) ||
        !in_range(head.n_bias, 0, SAMPLER_BIAS_MAX))
        return corrupt(r, "a sampler with %d tokens, %d breakers and %d biases", head.n_tokens,
                       head.n_breakers, head.n_bias);
    *out = (struct stage_sampler){.id = head.id, .open = head.open, .n_tokens = head.n_tokens};
#define X(field) out->cfg.field = head.field;
    SAMPLER_NUMBERS(X)
#undef X
    out->cfg.n_dry_breakers = head.n_breakers;
    out->cfg.n_bias = head.n_bias;
    out->tokens = take(r, head.n_tokens, sizeof *out->tokens);
    out->cfg.dry_breakers = take(r, head.n_breakers, sizeof *out->cfg.dry_breakers);
    out->cfg.bias = take(r, head.n_bias, sizeof *out->cfg.bias);
    if (!out->tokens || !out->cfg.dry_breakers || !out->cfg.bias)
        return corrupt(r, "a sampler's lists cut short");
    for (int32_t i = 0; i < head.n_tokens; i++)
        if (!in_range(out->tokens[i], 0, l->n_vocab - 1))
            return corrupt(r, "token %d", out->tokens[i]);
    return SL_OK;
}

sl_status stage_samplers_decode(const struct stage_limits *limits, const void *bytes, size_t n,
                                struct sl_arena *arena, struct stage_samplers *out,
                                struct sl_err *err)
{
    struct reader r = {.err = err};
    struct samplers_counts c;
    struct head head;
    sl_status status = begin(&r, bytes, n, STAGE_MSG_SAMPLERS, &head);
    if (status != SL_OK) return status;
    if (!copy(&r, &c, sizeof c) || !in_range(c.n, 1, 2 * (int64_t)limits->n_seqs_max) ||
        (size_t)c.n * sizeof(struct sampler_head) > r.n)
        return corrupt(&r, "a number of samplers");
    struct stage_sampler *v = sl_arena_array(arena, (size_t)c.n, sizeof *v);
    if (!v) return sl_err_set(err, SL_NOMEM, "%d samplers", c.n);
    for (int32_t i = 0; i < c.n && status == SL_OK; i++) status = take_sampler(&r, limits, &v[i]);
    if (status != SL_OK) return status;
    if (r.n) return corrupt(&r, "%zu bytes behind the samplers", r.n);
    *out = (struct stage_samplers){v, c.n};
    return SL_OK;
}

static sl_status take_choice(struct reader *r, const struct stage_limits *l,
                             struct stage_choice *out)
{
    struct choice_head head;
    const struct sampler_logprob *top;
    if (!copy(r, &head, sizeof head)) return corrupt(r, "a choice cut short");
    if (head.status >= SL_STATUS_COUNT) return corrupt(r, "status %u", head.status);
    if (!in_range(head.token, 0, l->n_vocab - 1)) return corrupt(r, "token %d", head.token);
    if (!in_range(head.n_top, 0, SAMPLER_LOGPROBS_MAX)) return corrupt(r, "%d tops", head.n_top);
    top = take(r, head.n_top, sizeof *top);
    if (!top) return corrupt(r, "a choice cut short");
    out->status = (sl_status)head.status;
    out->result.token = head.token;
    out->result.logprob = head.logprob;
    out->result.n_top = head.n_top;
    for (int32_t i = 0; i < head.n_top; i++) {
        if (!in_range(top[i].token, 0, l->n_vocab - 1) || isnan(top[i].logprob))
            return corrupt(r, "the logprob of token %d", top[i].token);
        out->result.top[i] = top[i];
    }
    return SL_OK;
}

sl_status stage_result_decode(const struct stage_limits *limits, const void *bytes, size_t n,
                              struct sl_arena *arena, struct stage_result *out, struct sl_err *err)
{
    struct reader r = {.err = err};
    struct result_counts c;
    struct stage_choice *choices;
    struct head head;
    sl_status status = begin(&r, bytes, n, STAGE_MSG_RESULT, &head);
    if (status != SL_OK) return status;
    if (!copy(&r, &c, sizeof c) || !in_range(c.n_choices, 0, limits->n_seqs_max) ||
        !in_range(c.n_outputs, 0, limits->n_batch) || !in_range(c.n_rows, 0, limits->n_batch))
        return corrupt(&r, "a result's numbers");
    *out = (struct stage_result){head.step, c.n_choices, c.n_outputs, c.n_rows, 0, 0, 0, 0};
    out->stamps = take(&r, limits->n_stages - 1, sizeof *out->stamps);
    out->choices = choices = sl_arena_array(arena, (size_t)c.n_choices + 1, sizeof *choices);
    if (!choices) return sl_err_set(err, SL_NOMEM, "%d choices", c.n_choices);
    for (int32_t i = 0; i < c.n_choices && status == SL_OK; i++)
        status = take_choice(&r, limits, &choices[i]);
    if (status != SL_OK) return status;
    out->logits = take(&r, c.n_outputs, (size_t)limits->n_vocab * sizeof *out->logits);
    out->rows = take(&r, c.n_rows, (size_t)limits->n_embd * sizeof *out->rows);
    if (!out->stamps || !out->logits || !out->rows || r.n)
        return corrupt(&r, "a result of %zu bytes", n);
    return SL_OK;
}
