/* node_table.c: see node_table.h. */
#include "sched/node_table.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

#define NODES_DEFAULT 1024
#define MODELS_DEFAULT 256
#define HOSTED_DEFAULT 16
#define PREFIX_BLOCKS_DEFAULT (1u << 16) /* 2 MiB; with blocks of 512 tokens, 33 million tokens */
#define MS INT64_C(1000000)

void node_table_config_default(struct node_table_config *config)
{
    *config = (struct node_table_config){
        .n_nodes_max = NODES_DEFAULT,
        .n_models_max = MODELS_DEFAULT,
        .n_hosted_max = HOSTED_DEFAULT,
        .n_prefix_blocks = PREFIX_BLOCKS_DEFAULT,
        .n_gateways = 1,
        .suspect_ns = 3000 * MS,
        .dead_ns = 10000 * MS,
        .breaker = {.failures_max = 5, .cooldown_min_ns = 1000 * MS, .cooldown_max_ns = 60000 * MS},
    };
}

static sl_status config_check(const struct node_table_config *config, struct sl_err *err)
{
    const struct {
        const char *name;
        uint64_t value, max;
    } members[] = {
        {"n_nodes_max", config->n_nodes_max, NODE_TABLE_NODES_LIMIT},
        {"n_models_max", config->n_models_max, NODE_TABLE_MODELS_LIMIT},
        {"n_hosted_max", config->n_hosted_max, NODE_HOSTED_LIMIT},
        {"n_prefix_blocks", config->n_prefix_blocks, PREFIX_BLOCKS_LIMIT},
        {"n_gateways", config->n_gateways, NODE_TABLE_NODES_LIMIT},
        {"failures_max", config->breaker.failures_max, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (members[i].value == 0 || members[i].value > members[i].max)
            return sl_err_set(err, SL_INVALID, "%s: 1 to %llu", members[i].name,
                              (unsigned long long)members[i].max);
    if (config->suspect_ns <= 0 || config->dead_ns < config->suspect_ns)
        return sl_err_set(err, SL_INVALID, "suspect_ns: above 0 and not above dead_ns");
    if (config->breaker.cooldown_min_ns <= 0 ||
        config->breaker.cooldown_max_ns < config->breaker.cooldown_min_ns)
        return sl_err_set(err, SL_INVALID, "cooldown_min_ns: above 0 and not above the maximum");
    return SL_OK;
}

sl_status node_table_init(struct node_table *table, const struct node_table_config *config,
                          struct sl_err *err)
{
    *table = (struct node_table){.config = *config};
    sl_status status = config_check(config, err);
    if (status != SL_OK) return status;
    size_t n = config->n_nodes_max;
    table->nodes = sl_calloc(n, sizeof *table->nodes);
    table->hosted = sl_calloc(n * config->n_hosted_max, sizeof *table->hosted);
    table->unseen = sl_calloc(n * NODE_UNSEEN_MAX, sizeof *table->unseen);
    table->by_model = sl_calloc(n * config->n_models_max, sizeof *table->by_model);
    table->n_by_model = sl_calloc(config->n_models_max, sizeof *table->n_by_model);
    table->fastest = sl_calloc(config->n_models_max, sizeof *table->fastest);
    if (!table->nodes || !table->hosted || !table->unseen || !table->by_model ||
        !table->n_by_model || !table->fastest ||
        index_heap_init(&table->silence, config->n_nodes_max) != SL_OK ||
        prefix_index_init(&table->prefixes, config->n_prefix_blocks) != SL_OK) {
        node_table_done(table);
        return sl_err_set(err, SL_NOMEM, "no memory for a table of %zu nodes", n);
    }
    return SL_OK;
}

void node_table_done(struct node_table *table)
{
    sl_free(table->nodes);
    sl_free(table->hosted);
    sl_free(table->unseen);
    sl_free(table->by_model);
    sl_free(table->n_by_model);
    sl_free(table->fastest);
    index_heap_done(&table->silence);
    prefix_index_done(&table->prefixes);
    *table = (struct node_table){0};
}

static struct hosted_model *hosted_of(const struct node_table *table, uint32_t node)
{
    return &table->hosted[(size_t)node * table->config.n_hosted_max];
}

static struct unseen_send *unseen_at(const struct node_table *table, uint32_t node, uint32_t i)
{
    uint32_t at = (table->nodes[node].unseen_head + i) % NODE_UNSEEN_MAX;
    return &table->unseen[(size_t)node * NODE_UNSEEN_MAX + at];
}

static uint32_t *nodes_with(const struct node_table *table, uint32_t model)
{
    return &table->by_model[(size_t)model * table->config.n_nodes_max];
}

/* --- who has which model --- */

static void rank_add(struct node_table *table, uint32_t node, struct hosted_model *hosted)
{
    uint32_t model = hosted->load.model;
    hosted->rank = table->n_by_model[model]++;
    nodes_with(table, model)[hosted->rank] = node;
}

/* The last one takes the place that becomes free. */
static void rank_remove(struct node_table *table, struct hosted_model *hosted)
{
    if (hosted->rank == NODE_NONE) return;
    uint32_t model = hosted->load.model, *nodes = nodes_with(table, model);
    uint32_t last = nodes[--table->n_by_model[model]], rank = hosted->rank;
    nodes[rank] = last;
    node_table_hosted(table, last, model)->rank = rank;
    hosted->rank = NODE_NONE;
}

struct hosted_model *node_table_hosted(const struct node_table *table, uint32_t node,
                                       uint32_t model)
{
    if (node >= table->config.n_nodes_max) return NULL;
    struct hosted_model *hosted = hosted_of(table, node);
    for (uint32_t i = 0; i < table->nodes[node].n_hosted; i++)
        if (hosted[i].load.model == model) return &hosted[i];
    return NULL;
}

/* --- reports --- */

/* Numbers that come over the network are finite and not negative, or the report is not taken. */
static bool numbers_sane(const double *numbers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(numbers[i]) || numbers[i] < 0) return false;
    return true;
}

static bool load_sane(const struct node_table *table, const struct hosted_load *load)
{
    const double numbers[] = {load->prefill_tps, load->decode_tps, load->service_s};
    return load->model < table->config.n_models_max &&
           (unsigned)load->state < SCHED_MODEL_STATE_COUNT && load->n_slots <= SCHED_SLOTS_LIMIT &&
           load->prefill_backlog <= NODE_TOKENS_LIMIT && load->kv_tokens_max <= NODE_TOKENS_LIMIT &&
           load->kv_tokens_used <= NODE_TOKENS_LIMIT && numbers_sane(numbers, 3);
}

static bool report_sane(const struct node_table *table, const struct node_report *report)
{
    const struct node_facts *facts = &report->facts;
    const double numbers[] = {facts->rtt_s,     facts->watts_idle, facts->watts_busy,
                              facts->price_kwh, facts->price_mtok, facts->wake_s};
    if (report->node >= table->config.n_nodes_max || (unsigned)facts->duty >= NODE_DUTY_COUNT ||
        report->n_hosted > table->config.n_hosted_max || !numbers_sane(numbers, 6))
        return false;
    for (uint32_t i = 0; i < report->n_hosted; i++) {
        if (!load_sane(table, &report->hosted[i])) return false;
        for (uint32_t j = 0; j < i; j++)
            if (report->hosted[j].model == report->hosted[i].model) return false;
    }
    return true;
}

static bool report_newer(const struct grid_node *entry, const struct node_report *report)
{
    if (entry->health == NODE_UNKNOWN) return true;
    if (report->boot != entry->boot) return report->boot > entry->boot;
    return report->version > entry->version;
}

/* What the gateway itself knows of a model survives the report. */
static void hosted_replace(struct node_table *table, uint32_t node,
                           const struct node_report *report)
{
    struct hosted_model *hosted = hosted_of(table, node), kept[NODE_HOSTED_LIMIT];
    uint32_t n_kept = table->nodes[node].n_hosted;
    for (uint32_t i = 0; i < n_kept; i++) rank_remove(table, &hosted[i]);
    memcpy(kept, hosted, n_kept * sizeof *kept);
    table->nodes[node].n_hosted = report->n_hosted;
    for (uint32_t i = 0; i < report->n_hosted; i++) {
        struct hosted_model next = {.rank = NODE_NONE};
        for (uint32_t j = 0; j < n_kept; j++)
            if (kept[j].load.model == report->hosted[i].model) next = kept[j];
        next.load = report->hosted[i];
        next.n_ended = next.n_unseen = 0;
        next.unseen_prefill = 0;
        hosted[i] = next;
        if (next.load.state == SCHED_READY) rank_add(table, node, &hosted[i]);
    }
}

/* The list of models may have changed its order: sends are kept by model in between. */
static void unseen_settle(struct node_table *table, uint32_t node, uint64_t covers)
{
    struct grid_node *entry = &table->nodes[node];
    uint32_t n_kept = 0;
    for (uint32_t i = 0; i < entry->n_unseen; i++) {
        struct unseen_send send = *unseen_at(table, node, i);
        struct hosted_model *hosted = node_table_hosted(table, node, send.hosted);
        if (send.sent <= covers || !hosted) continue;
        hosted->n_unseen++;
        hosted->unseen_prefill += send.prefill;
        *unseen_at(table, node, n_kept++) = send;
    }
    entry->n_unseen = n_kept;
}

static void node_forget(struct node_table *table, uint32_t node)
{
    struct grid_node *entry = &table->nodes[node];
    struct hosted_model *hosted = hosted_of(table, node);
    for (uint32_t i = 0; i < entry->n_hosted; i++) rank_remove(table, &hosted[i]);
    entry->n_hosted = entry->n_unseen = 0;
    prefix_index_forget(&table->prefixes, node);
    index_heap_remove(&table->silence, node);
}

#define FASTEST_FADES 0.01 /* a report: a minute of them brings it near what the others are */

static void take_speed(double *fastest, double tps)
{
    if (tps <= 0) return;
    *fastest = tps > *fastest ? tps : *fastest + FASTEST_FADES * (tps - *fastest);
}

static void take_speeds(struct node_table *table, const struct node_report *report)
{
    for (uint32_t i = 0; i < report->n_hosted; i++) {
        const struct hosted_load *load = &report->hosted[i];
        take_speed(&table->fastest[load->model].prefill_tps, load->prefill_tps);
        take_speed(&table->fastest[load->model].decode_tps, load->decode_tps);
    }
}

bool node_table_report(struct node_table *table, const struct node_report *report, int64_t now_ns,
                       bool *out_restarted)
{
    *out_restarted = false;
    if (!report_sane(table, report)) return false;
    struct grid_node *entry = &table->nodes[report->node];
    if (!report_newer(entry, report)) return false;
    *out_restarted = entry->health != NODE_UNKNOWN && report->boot != entry->boot;
    if (*out_restarted) node_forget(table, report->node);
    entry->boot = report->boot;
    entry->version = report->version;
    entry->heard_ns = now_ns;
    entry->facts = report->facts;
    entry->health = NODE_ALIVE;
    hosted_replace(table, report->node, report);
    take_speeds(table, report);
    unseen_settle(table, report->node, report->covers);
    for (uint32_t i = 0; i < report->n_dropped; i++)
        prefix_index_remove(&table->prefixes, report->dropped[i], report->node);
    for (uint32_t i = 0; i < report->n_held; i++)
        prefix_index_add(&table->prefixes, report->held[i], report->node);
    index_heap_set(&table->silence, report->node, now_ns + table->config.suspect_ns);
    return true;
}

void node_table_heard(struct node_table *table, uint32_t node, int64_t now_ns)
{
    if (node >= table->config.n_nodes_max) return;
    struct grid_node *entry = &table->nodes[node];
    if (entry->health != NODE_ALIVE && entry->health != NODE_SUSPECT) return;
    entry->heard_ns = now_ns;
    entry->health = NODE_ALIVE;
    index_heap_set(&table->silence, node, now_ns + table->config.suspect_ns);
}

void node_table_gone(struct node_table *table, uint32_t node)
{
    if (node >= table->config.n_nodes_max) return;
    struct grid_node *entry = &table->nodes[node];
    node_forget(table, node);
    entry->health = NODE_DEAD;
    entry->version = UINT64_MAX;
}

uint32_t node_table_next_dead(struct node_table *table, int64_t now_ns)
{
    uint32_t node;
    int64_t due_ns;
    while (index_heap_min(&table->silence, &node, &due_ns) && due_ns <= now_ns) {
        struct grid_node *entry = &table->nodes[node];
        int64_t dead_ns = entry->heard_ns + table->config.dead_ns;
        if (now_ns >= dead_ns) {
            node_forget(table, node);
            entry->health = NODE_DEAD;
            return node;
        }
        entry->health = NODE_SUSPECT;
        index_heap_set(&table->silence, node, dead_ns);
    }
    return NODE_NONE;
}

int64_t node_table_next_silence(const struct node_table *table)
{
    uint32_t node;
    int64_t due_ns;
    return index_heap_min(&table->silence, &node, &due_ns) ? due_ns : SCHED_NEVER;
}

/* --- what this gateway does there --- */

static void unseen_take(struct node_table *table, uint32_t node, uint32_t i)
{
    struct grid_node *entry = &table->nodes[node];
    struct unseen_send send = *unseen_at(table, node, i);
    struct hosted_model *hosted = node_table_hosted(table, node, send.hosted);
    if (hosted) {
        hosted->n_unseen--;
        hosted->unseen_prefill -= send.prefill;
    }
    for (uint32_t j = i; j + 1 < entry->n_unseen; j++)
        *unseen_at(table, node, j) = *unseen_at(table, node, j + 1);
    entry->n_unseen--;
}

uint64_t node_table_sent(struct node_table *table, uint32_t node, uint32_t model, uint64_t prefill,
                         const uint64_t *blocks, size_t n_blocks)
{
    struct grid_node *entry = &table->nodes[node];
    struct hosted_model *hosted = node_table_hosted(table, node, model);
    uint32_t tokens = prefill > UINT32_MAX ? UINT32_MAX : (uint32_t)prefill;
    entry->sent++;
    for (size_t i = 0; i < n_blocks; i++) prefix_index_add(&table->prefixes, blocks[i], node);
    if (!hosted) return entry->sent;
    if (entry->n_unseen == NODE_UNSEEN_MAX) {
        unseen_take(table, node, 0);
    }
    *unseen_at(table, node, entry->n_unseen++) = (struct unseen_send){entry->sent, model, tokens};
    hosted->n_unseen++;
    hosted->unseen_prefill += tokens;
    hosted->n_outstanding++;
    return entry->sent;
}

void node_table_ended(struct node_table *table, uint32_t node, uint32_t model, uint64_t sent,
                      bool refused)
{
    struct grid_node *entry = &table->nodes[node];
    struct hosted_model *hosted = node_table_hosted(table, node, model);
    if (!hosted) return;
    if (hosted->n_outstanding > 0) hosted->n_outstanding--;
    for (uint32_t i = 0; i < entry->n_unseen; i++) {
        if (unseen_at(table, node, i)->sent != sent) continue;
        unseen_take(table, node, i);
        return;
    }
    /* The report counted it, unless it never was there: then the node's next one is right. */
    if (!refused) hosted->n_ended++;
}

double node_table_requests(const struct node_table *table, const struct hosted_model *hosted)
{
    double known = (double)hosted->load.n_running + hosted->load.n_waiting - hosted->n_ended;
    return (known > 0 ? known : 0) + (double)hosted->n_unseen * table->config.n_gateways;
}

const char *node_health_name(enum node_health health)
{
    static const char *const names[] = {"unknown", "alive", "suspect", "dead"};
    return (unsigned)health < NODE_HEALTH_COUNT ? names[health] : "?";
}

const char *node_duty_name(enum node_duty duty)
{
    static const char *const names[] = {"open", "cordoned", "draining"};
    return (unsigned)duty < NODE_DUTY_COUNT ? names[duty] : "?";
}
