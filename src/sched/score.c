/* score.c: see score.h; docs/scheduling.md explains the formulas. */
#include "sched/score.h"

#define NS_PER_S 1e9
/* Speeds of a model that no node has measured yet: those of a modest CPU. */
#define PREFILL_TPS_UNKNOWN 200.0
#define DECODE_TPS_UNKNOWN 10.0

struct speeds {
    double prefill_tps, decode_tps, service_s;
};

/* The node's own, or else that of the fastest. */
static double known_speed(double own, double fastest, double unknown)
{
    if (own > 0) return own;
    return fastest > 0 ? fastest : unknown;
}

static struct speeds speeds_of(const struct node_table *table, const struct hosted_load *load,
                               const struct pick_ask *ask)
{
    const struct model_speed *fastest = &table->fastest[ask->model];
    struct speeds speeds = {
        .prefill_tps = known_speed(load->prefill_tps, fastest->prefill_tps, PREFILL_TPS_UNKNOWN),
        .decode_tps = known_speed(load->decode_tps, fastest->decode_tps, DECODE_TPS_UNKNOWN),
        .service_s = load->service_s,
    };
    if (speeds.service_s <= 0)
        speeds.service_s = (double)ask->prompt_tokens / speeds.prefill_tps +
                           (double)ask->output_tokens / speeds.decode_tps;
    return speeds;
}

static double kv_need(const struct pick_ask *ask)
{
    return (double)(ask->prompt_tokens + ask->output_tokens);
}

static double kv_missing(const struct node_table *table, const struct hosted_model *hosted,
                         const struct pick_ask *ask)
{
    if (hosted->load.kv_tokens_max == 0) return 0;
    double used = (double)hosted->load.kv_tokens_used +
                  (double)hosted->unseen_prefill * table->config.n_gateways;
    double missing = kv_need(ask) + used - (double)hosted->load.kv_tokens_max;
    return missing > 0 ? missing : 0;
}

/* The prompts before it have to be computed; a slot has to become free; KV room too. The node does
 * these at the same time, so the longest counts. */
static double wait_s(const struct node_table *table, const struct hosted_model *hosted,
                     const struct pick_ask *ask, struct speeds speeds, double age_s)
{
    const struct hosted_load *load = &hosted->load;
    double backlog = (double)load->prefill_backlog - age_s * speeds.prefill_tps;
    if (backlog < 0) backlog = 0;
    backlog += (double)hosted->unseen_prefill * table->config.n_gateways;
    double wait = backlog / speeds.prefill_tps;

    double slots = load->n_slots ? load->n_slots : 1;
    double ahead = node_table_requests(table, hosted) - slots + 1;
    double slot_wait = ahead > 0 ? ahead * speeds.service_s / slots : 0;
    if (slot_wait > wait) wait = slot_wait;

    double used = (double)load->kv_tokens_used;
    double kv_wait = used > 0 ? kv_missing(table, hosted, ask) / used * speeds.service_s : 0;
    return kv_wait > wait ? kv_wait : wait;
}

/* Above idle: the machine is on anyway. Decoding shares its steps with the others. */
static double joules(const struct node_table *table, const struct grid_node *node,
                     const struct hosted_model *hosted, const struct pick_row *row)
{
    double watts = node->facts.watts_busy - node->facts.watts_idle;
    double prefill = row->part[SCORE_COMPUTE] + row->part[SCORE_PREFIX];
    double shared = row->part[SCORE_DECODE] / (node_table_requests(table, hosted) + 1);
    return watts > 0 ? watts * (prefill + shared) : 0;
}

#define JOULES_PER_KWH 3.6e6

void score_node(const struct node_table *table, const struct hosted_model *hosted,
                const struct pick_ask *ask, int64_t now_ns, struct pick_row *row)
{
    const struct grid_node *node = &table->nodes[row->node];
    struct speeds speeds = speeds_of(table, &hosted->load, ask);
    double age_s = (double)(now_ns - node->heard_ns) / NS_PER_S;
    uint64_t cached =
        ask->block_tokens *
        (uint64_t)prefix_index_match(&table->prefixes, ask->blocks, ask->n_blocks, row->node);
    /* The last token of a prompt is always computed: its logits are the answer's first. */
    if (cached && cached >= ask->prompt_tokens)
        cached = ask->prompt_tokens ? ask->prompt_tokens - 1 : 0;
    row->cached_tokens = cached;

    double *part = row->part;
    part[SCORE_WAIT] = wait_s(table, hosted, ask, speeds, age_s) + node->facts.wake_s;
    part[SCORE_COMPUTE] = (double)ask->prompt_tokens / speeds.prefill_tps;
    part[SCORE_PREFIX] = -(double)cached / speeds.prefill_tps;
    part[SCORE_DECODE] = (double)ask->output_tokens / speeds.decode_tps;
    part[SCORE_NETWORK] = node->facts.rtt_s;
    double need = kv_need(ask), missing = kv_missing(table, hosted, ask);
    part[SCORE_KV] = missing >= need ? (need > 0 && missing > 0) : missing / need;
    part[SCORE_LOAD] =
        node_table_requests(table, hosted) / (hosted->load.n_slots ? hosted->load.n_slots : 1);
    double energy = joules(table, node, hosted, row);
    part[SCORE_ENERGY] = energy / 1000;
    part[SCORE_PRICE] = 100 * (energy / JOULES_PER_KWH * node->facts.price_kwh +
                               need / 1e6 * node->facts.price_mtok);
    part[SCORE_CARBON] = energy / JOULES_PER_KWH * node->facts.carbon_kwh;
    row->first_token_s =
        part[SCORE_WAIT] + part[SCORE_COMPUTE] + part[SCORE_PREFIX] + part[SCORE_NETWORK];
}
