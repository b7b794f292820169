/* pick.c: see pick.h. */
#include "sched/pick.h"
#include "sched/score.h"
#include "base/rng.h"

#define DRAWS_PER_NODE 3 /* a filtered node is drawn again: that often for each one wanted */
#define STREAM_DRAW 1    /* of the seed */

/* One decision in progress. */
struct choice {
    struct node_table *table;
    const struct policy *policy;
    const struct pick_ask *ask;
    struct pick_state *state;
    int64_t now_ns;
    struct pick *out;
    struct pick_rows *rows;
    double best;
    bool any_context; /* the estimate of its tokens counts no more */
    uint32_t n_fits;
    uint32_t seen[PICK_ROWS_MAX]; /* nodes scored already: holders may be drawn again */
    uint32_t n_seen;
};

static enum pick_filter filter_of(const struct choice *choice, uint32_t node,
                                  struct hosted_model *hosted)
{
    const struct grid_node *entry = &choice->table->nodes[node];
    const struct pick_ask *ask = choice->ask;
    for (int i = 0; i < PICK_EXCLUDED_MAX; i++)
        if (ask->excluded[i] == node) return PICK_EXCLUDED;
    if (entry->health != NODE_ALIVE) return PICK_SUSPECT;
    if (entry->facts.duty != NODE_OPEN) return PICK_DUTY;
    if ((ask->labels_wanted & ~entry->facts.labels) || (ask->labels_refused & entry->facts.labels))
        return PICK_LABELS;
    uint64_t room = hosted->load.kv_tokens_max;
    if (room && ask->prompt_tokens + ask->output_tokens > room && !choice->any_context)
        return PICK_CONTEXT;
    if (!breaker_allows(&hosted->breaker, choice->now_ns)) return PICK_BREAKER;
    double places = (double)hosted->load.n_slots + hosted->load.n_queue_max;
    if (hosted->full_until_ns > choice->now_ns || hosted->n_outstanding >= places ||
        (double)hosted->load.n_running + hosted->load.n_waiting + hosted->n_unseen -
                hosted->n_ended >=
            places)
        return PICK_FULL;
    return PICK_FITS;
}

static uint32_t draw(struct choice *choice, uint32_t below)
{
    uint64_t bits = sl_rng_u64(choice->state->seed, STREAM_DRAW, choice->state->n_draws++);
    return (uint32_t)((bits >> 32) * below >> 32);
}

static double rule_total(struct choice *choice, const struct hosted_model *hosted,
                         const struct pick_row *row)
{
    double total = 0;
    switch (choice->policy->rule) {
    case POLICY_LEAST_CONNECTIONS: return hosted->n_outstanding;
    case POLICY_SCORE:
        for (int i = 0; i < SCORE_PART_COUNT; i++)
            total += choice->policy->weight[i] * row->part[i];
        return total;
    default: return 0;
    }
}

/* Is this one better, or as good and the lot falls on it? Every one of n equals has 1/n. */
static bool wins(struct choice *choice, double total)
{
    if (choice->out->node == NODE_NONE || total < choice->best) {
        choice->n_fits = 1;
        return true;
    }
    if (total > choice->best) return false;
    return draw(choice, ++choice->n_fits) == 0;
}

/* False when it was looked at before. */
static bool note_seen(struct choice *choice, uint32_t node)
{
    for (uint32_t i = 0; i < choice->n_seen; i++)
        if (choice->seen[i] == node) return false;
    if (choice->n_seen < PICK_ROWS_MAX) choice->seen[choice->n_seen++] = node;
    return true;
}

/* True when the node counts as one of the sample. */
static bool consider(struct choice *choice, uint32_t node)
{
    struct hosted_model *hosted = node_table_hosted(choice->table, node, choice->ask->model);
    if (!hosted || hosted->rank == NODE_NONE || !note_seen(choice, node)) return false;
    struct pick_row row = {.node = node, .filter = filter_of(choice, node, hosted)};
    choice->out->n_filtered[row.filter]++;
    if (row.filter == PICK_FITS) {
        score_node(choice->table, hosted, choice->ask, choice->now_ns, &row);
        row.total = rule_total(choice, hosted, &row);
        if (wins(choice, row.total)) {
            choice->best = row.total;
            choice->out->node = node;
            choice->out->first_token_s = row.first_token_s;
            choice->out->cached_tokens = row.cached_tokens;
        }
    }
    if (choice->rows && choice->rows->n < choice->rows->capacity)
        choice->rows->rows[choice->rows->n++] = row;
    return row.filter == PICK_FITS;
}

static void consider_all(struct choice *choice, const uint32_t *nodes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) consider(choice, nodes[i]);
}

static void consider_sample(struct choice *choice, const uint32_t *nodes, uint32_t n)
{
    uint32_t n_wanted = choice->policy->n_sample;
    for (uint32_t i = 0, n_found = 0; i < n_wanted * DRAWS_PER_NODE && n_found < n_wanted; i++)
        n_found += consider(choice, nodes[draw(choice, n)]);
    /* Bad luck, or few that fit: better to look through a bounded part than to find nobody. */
    if (choice->out->node != NODE_NONE) return;
    uint32_t at = draw(choice, n);
    for (uint32_t i = 0; i < n && choice->n_seen < PICK_ROWS_MAX; i++) {
        consider(choice, nodes[(at + i) % n]);
        if (choice->out->node != NODE_NONE) return;
    }
}

static void consider_turn(struct choice *choice, const uint32_t *nodes, uint32_t n)
{
    uint32_t *turn = &choice->state->turns[choice->ask->model];
    for (uint32_t i = 0; i < n && i < PICK_ROWS_MAX; i++)
        if (consider(choice, nodes[(*turn)++ % n])) return;
}

static void consider_holders(struct choice *choice)
{
    const struct pick_ask *ask = choice->ask;
    uint32_t holders[PREFIX_HOLDERS_MAX];
    if (choice->policy->weight[SCORE_PREFIX] <= 0) return;
    size_t n = prefix_index_holders(&choice->table->prefixes, ask->blocks, ask->n_blocks, holders);
    for (size_t i = 0; i < n; i++) consider(choice, holders[i]);
}

static void consider_ready(struct choice *choice, const uint32_t *nodes, uint32_t n)
{
    *choice->out = (struct pick){.node = NODE_NONE, .n_ready = n};
    choice->n_seen = choice->n_fits = 0;
    if (choice->rows) choice->rows->n = 0;
    if (n == 0) return;
    if (choice->policy->rule == POLICY_ROUND_ROBIN) {
        consider_turn(choice, nodes, n);
    } else if (n <= choice->policy->n_sample) {
        consider_all(choice, nodes, n);
    } else {
        consider_holders(choice);
        consider_sample(choice, nodes, n);
    }
}

/* Nobody seems to have room for so long a request, now or later. Its tokens are an estimate: it is
 * for a node to refuse it, with the true numbers, and not for us to let it wait. */
static bool only_context(const struct pick *pick)
{
    return pick->n_filtered[PICK_CONTEXT] > 0 && !pick->n_filtered[PICK_EXCLUDED] &&
           !pick->n_filtered[PICK_SUSPECT] && !pick->n_filtered[PICK_DUTY] &&
           !pick->n_filtered[PICK_BREAKER] && !pick->n_filtered[PICK_FULL];
}

void pick_node(struct node_table *table, const struct policy *policy, const struct pick_ask *ask,
               struct pick_state *state, int64_t now_ns, struct pick *out, struct pick_rows *rows)
{
    struct choice choice = {.table = table,
                            .policy = policy,
                            .ask = ask,
                            .state = state,
                            .now_ns = now_ns,
                            .out = out,
                            .rows = rows};
    *out = (struct pick){.node = NODE_NONE};
    if (rows) rows->n = 0;
    if (ask->model >= table->config.n_models_max) return;
    const uint32_t *nodes = &table->by_model[(size_t)ask->model * table->config.n_nodes_max];
    consider_ready(&choice, nodes, table->n_by_model[ask->model]);
    if (out->node != NODE_NONE || !only_context(out)) return;
    choice.any_context = true;
    consider_ready(&choice, nodes, table->n_by_model[ask->model]);
}

const char *pick_filter_name(enum pick_filter filter)
{
    static const char *const names[] = {"fits",   "excluded", "suspect", "duty",
                                        "labels", "context",  "breaker", "full"};
    return (unsigned)filter < PICK_FILTER_COUNT ? names[filter] : "?";
}

const char *pick_filter_text(enum pick_filter filter)
{
    static const char *const texts[] = {
        "fits",
        "was tried for this request already",
        "has not been heard of for a while",
        "is cordoned or draining",
        "lacks a label the request wants, or has one it refuses",
        "has less KV room in all than the request needs",
        "failed too often in a row: its circuit breaker is open",
        "is full",
    };
    return (unsigned)filter < PICK_FILTER_COUNT ? texts[filter] : "?";
}
