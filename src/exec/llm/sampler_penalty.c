#include "exec/llm/sampler_int.h"
#include "base/hash.h"
#include "base/mem.h"
#include <float.h>
#include <math.h>
#include <string.h>

/* Tokens with a number each: how often one was seen, how long a run it would continue. Open
 * addressing, at most half full. The multiplier is random, so that nobody can choose tokens that
 * collide; no result depends on the order of slots. */
struct token_slot {
    int32_t token; /* -1: free */
    int32_t value;
};
struct token_table {
    struct token_slot *slots;
    int32_t n_slots; /* power of two */
    int shift;       /* 64 - log2(n_slots) */
    uint64_t multiplier;
};

struct raw_logit {
    int32_t token;
    float logit;
};

struct sampler_penalty {
    struct sampler_cfg cfg; /* bias: our copy */
    /* Room for twice the window: it lies in one piece and moves back once a window only. */
    int32_t *history;
    int32_t n_history;
    int32_t window; /* tokens anybody looks back */
    int32_t penalty_window, dry_window;
    int32_t *run_lens; /* of the Z-algorithm */
    struct token_table table;
    struct token_table breakers;
    struct raw_logit *raws; /* what apply changed, in order; a token may come up to three times */
    int32_t n_raws;
};

static void table_clear(struct token_table *table)
{
    for (int32_t i = 0; i < table->n_slots; i++) table->slots[i] = (struct token_slot){-1, 0};
}

static sl_status table_init(struct token_table *table, int32_t n_tokens)
{
    table->n_slots = 2;
    table->shift = 63;
    while (table->n_slots < 2 * n_tokens) {
        table->n_slots *= 2;
        table->shift--;
    }
    table->multiplier = sl_hash_seed() | 1;
    table->slots = sl_calloc((size_t)table->n_slots, sizeof *table->slots);
    if (!table->slots) return SL_NOMEM;
    table_clear(table);
    return SL_OK;
}

/* The token's slot, or the free one it would get. */
static struct token_slot *table_slot(const struct token_table *table, int32_t token)
{
    uint32_t mask = (uint32_t)table->n_slots - 1;
    uint32_t i = (uint32_t)((uint64_t)token * table->multiplier >> table->shift);
    while (table->slots[i].token != token && table->slots[i].token != -1) i = (i + 1) & mask;
    return &table->slots[i];
}

/* The token's value, 0 at first. */
static int32_t *table_value(struct token_table *table, int32_t token)
{
    struct token_slot *slot = table_slot(table, token);
    slot->token = token;
    return &slot->value;
}

static int32_t window_of(int32_t last_n, bool active)
{
    if (!active) return 0;
    return last_n < 0 ? SAMPLER_HISTORY_MAX : last_n;
}

static void set_windows(struct sampler_penalty *p)
{
    const struct sampler_cfg *cfg = &p->cfg;
    bool penalises =
        cfg->repeat_penalty != 1 || cfg->presence_penalty != 0 || cfg->frequency_penalty != 0;
    p->penalty_window = window_of(cfg->repeat_last_n, penalises);
    p->dry_window = window_of(cfg->dry_last_n, cfg->dry_multiplier != 0);
    p->window = p->penalty_window > p->dry_window ? p->penalty_window : p->dry_window;
}

int32_t sampler_looks_back(const struct sampler_cfg *cfg)
{
    struct sampler_penalty p = {.cfg = *cfg};
    set_windows(&p);
    return p.window;
}

static sl_status copy_lists(struct sampler_penalty *p, const struct sampler_cfg *cfg)
{
    if (table_init(&p->breakers, cfg->n_dry_breakers) != SL_OK) return SL_NOMEM;
    for (int32_t i = 0; i < cfg->n_dry_breakers; i++)
        *table_value(&p->breakers, cfg->dry_breakers[i]) = 1;
    size_t bias_bytes = (size_t)cfg->n_bias * sizeof *cfg->bias;
    struct sampler_bias *bias = sl_malloc(bias_bytes);
    if (!bias) return SL_NOMEM;
    if (bias_bytes > 0) memcpy(bias, cfg->bias, bias_bytes);
    p->cfg.bias = bias;
    return SL_OK;
}

sl_status sampler_penalty_create(const struct sampler_cfg *cfg, struct sampler_penalty **out)
{
    struct sampler_penalty *p = sl_calloc(1, sizeof *p);
    if (!p) return SL_NOMEM;
    p->cfg = *cfg;
    p->cfg.bias = NULL;
    p->cfg.dry_breakers = NULL;
    set_windows(p);
    if (p->window == 0 && cfg->n_bias == 0) {
        sl_free(p);
        *out = NULL;
        return SL_OK;
    }
    size_t n_changes = (size_t)cfg->n_bias + (size_t)p->penalty_window + (size_t)p->dry_window;
    if (copy_lists(p, cfg) != SL_OK) goto fail;
    if (table_init(&p->table, p->window) != SL_OK) goto fail;
    if (!(p->history = sl_calloc((size_t)p->window, 2 * sizeof *p->history))) goto fail;
    if (!(p->run_lens = sl_calloc((size_t)p->dry_window, sizeof *p->run_lens))) goto fail;
    if (!(p->raws = sl_calloc(n_changes, sizeof *p->raws))) goto fail;
    *out = p;
    return SL_OK;
fail:
    sampler_penalty_destroy(p);
    return SL_NOMEM;
}

void sampler_penalty_destroy(struct sampler_penalty *p)
{
    if (!p) return;
    sl_free((void *)p->cfg.bias);
    sl_free(p->breakers.slots);
    sl_free(p->table.slots);
    sl_free(p->history);
    sl_free(p->run_lens);
    sl_free(p->raws);
    sl_free(p);
}

void sampler_penalty_accept(struct sampler_penalty *p, int32_t token)
{
    if (p->window == 0) return;
    if (p->n_history == 2 * p->window) {
        p->n_history = p->window - 1;
        memmove(p->history, p->history + p->window + 1, (size_t)p->n_history * sizeof *p->history);
    }
    p->history[p->n_history++] = token;
}

/* The last n <= last_n tokens. */
static const int32_t *tail(const struct sampler_penalty *p, int32_t last_n, int32_t *out_n)
{
    *out_n = p->n_history < last_n ? p->n_history : last_n;
    return p->history + (p->n_history - *out_n);
}

/* Overflow stops at the largest number: only a bias of -inf forbids a token. */
static void change(struct sampler_penalty *p, float *logits, int32_t token, double logit)
{
    p->raws[p->n_raws++] = (struct raw_logit){token, logits[token]};
    if (logit > FLT_MAX) logit = FLT_MAX;
    if (logit < -FLT_MAX && logit > -INFINITY) logit = -FLT_MAX;
    logits[token] = (float)logit;
}

static void apply_bias(struct sampler_penalty *p, float *logits)
{
    for (int32_t i = 0; i < p->cfg.n_bias; i++) {
        const struct sampler_bias *b = &p->cfg.bias[i];
        change(p, logits, b->token, (double)logits[b->token] + b->bias);
    }
}

static void apply_penalties(struct sampler_penalty *p, float *logits)
{
    const struct sampler_cfg *cfg = &p->cfg;
    int32_t n;
    const int32_t *seen = tail(p, p->penalty_window, &n);
    if (n == 0) return;
    table_clear(&p->table);
    for (int32_t i = 0; i < n; i++) (*table_value(&p->table, seen[i]))++;
    for (int32_t i = 0; i < p->table.n_slots; i++) {
        const struct token_slot *slot = &p->table.slots[i];
        if (slot->token < 0) continue;
        double logit = logits[slot->token];
        /* The paper divides; that would raise a negative logit, so those are multiplied. */
        logit = logit > 0 ? logit / cfg->repeat_penalty : logit * cfg->repeat_penalty;
        change(p, logits, slot->token,
               logit - ((double)slot->value * cfg->frequency_penalty + cfg->presence_penalty));
    }
}

static bool is_breaker(const struct sampler_penalty *p, int32_t token)
{
    return table_slot(&p->breakers, token)->token == token;
}

/* lens[k] = how many tokens before the last k equal those before the end, at most n - k: the
 * Z-algorithm (Gusfield, "Algorithms on Strings, Trees, and Sequences", 1.4) on the tokens read
 * backwards. Linear, as `right` never moves back. */
static void find_runs(const int32_t *tokens, int32_t n, int32_t *lens)
{
    const int32_t *end = tokens + n - 1;
    int32_t left = 0, right = 0; /* the run found so far that reaches furthest: [left, right) */
    for (int32_t k = 1; k < n; k++) {
        int32_t len = 0;
        if (k < right) len = lens[k - left] < right - k ? lens[k - left] : right - k;
        while (k + len < n && end[-len] == end[-(k + len)]) len++;
        lens[k] = len;
        if (k + len > right) {
            left = k;
            right = k + len;
        }
    }
}

/* Exponents are small or base is near 1, so squaring is exact enough, and the same everywhere,
 * which libm's pow is not. */
static double power_of(double base, int32_t exponent)
{
    double power = 1;
    for (; exponent > 0; exponent /= 2, base *= base) {
        if (exponent % 2) power *= base;
    }
    return power;
}

/* A token that would lengthen a run of `len` tokens seen before loses multiplier * base^(len -
 * allowed). */
static void apply_dry(struct sampler_penalty *p, float *logits)
{
    const struct sampler_cfg *cfg = &p->cfg;
    int32_t n, run_max = 0;
    const int32_t *seen = tail(p, p->dry_window, &n);
    if (n <= cfg->dry_allowed_len) return;
    while (run_max < n && !is_breaker(p, seen[n - 1 - run_max])) run_max++;
    if (run_max < cfg->dry_allowed_len) return;
    find_runs(seen, n, p->run_lens);
    table_clear(&p->table);
    for (int32_t k = 1; k < n; k++) {
        int32_t len = p->run_lens[k] < run_max ? p->run_lens[k] : run_max;
        if (len < cfg->dry_allowed_len) continue;
        int32_t *longest = table_value(&p->table, seen[n - k]);
        if (*longest < len) *longest = len;
    }
    for (int32_t i = 0; i < p->table.n_slots; i++) {
        const struct token_slot *slot = &p->table.slots[i];
        if (slot->token < 0 || is_breaker(p, slot->token)) continue;
        double penalty =
            cfg->dry_multiplier * power_of(cfg->dry_base, slot->value - cfg->dry_allowed_len);
        change(p, logits, slot->token, logits[slot->token] - fmin(penalty, FLT_MAX));
    }
}

void sampler_penalty_apply(struct sampler_penalty *p, float *logits)
{
    p->n_raws = 0;
    apply_bias(p, logits);
    apply_penalties(p, logits);
    apply_dry(p, logits);
}

float sampler_penalty_raw(const struct sampler_penalty *p, int32_t token, float now)
{
    for (int32_t i = 0; i < p->n_raws; i++) {
        if (p->raws[i].token == token) return p->raws[i].logit;
    }
    return now;
}
