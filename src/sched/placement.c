/* placement.c: see placement.h. Demand is counted in requests at the same time, running and
 * waiting: by Little's law that is arrivals a second times seconds of service, whatever both
 * are. */
#include "sched/placement.h"
#include "base/mem.h"

#include <math.h>

#define S INT64_C(1000000000)
#define DEMAND_NONE 0.01 /* smoothed requests below which nobody asks */

struct model {
    struct placement_model what;
    double demand;
    int64_t short_ns, rich_ns; /* since when there is too little or too much; -1: there is not */
    int64_t changed_ns;        /* the last LOAD or UNLOAD */
    int64_t room_ns;           /* until then, room is being made for it */
    /* As the reports show them, in this step: */
    uint32_t n_ready, n_coming, slots, n_requests;
};

struct load {
    uint32_t node, model;
    uint64_t boot;    /* of the node when it was told: another one has forgotten it */
    int64_t until_ns; /* 0: a free place */
};

struct placement {
    struct placement_config config;
    struct model *models;
    struct load *loads;
    struct placement_action *actions;
    size_t n_actions;
    int64_t now_ns;
    bool began;
};

void placement_config_default(struct placement_config *config)
{
    *config = (struct placement_config){.n_models_max = 256,
                                        .loads_max = 4,
                                        .target = 0.7,
                                        .spare = 0.4,
                                        .half_life_ns = 30 * S,
                                        .up_after_ns = 5 * S,
                                        .down_after_ns = 120 * S,
                                        .settle_ns = 30 * S,
                                        .load_timeout_ns = 60 * S};
}

static sl_status config_check(const struct placement_config *config, struct sl_err *err)
{
    if (config->n_models_max == 0 || config->n_models_max > NODE_TABLE_MODELS_LIMIT)
        return sl_err_set(err, SL_INVALID, "n_models_max: 1 to %d", NODE_TABLE_MODELS_LIMIT);
    if (config->loads_max == 0 || config->loads_max > PLACEMENT_LOADS_LIMIT)
        return sl_err_set(err, SL_INVALID, "loads_max: 1 to %d", PLACEMENT_LOADS_LIMIT);
    /* Without a gap between them replicas would come and go. */
    if (!(config->target > 0 && config->target <= 1) ||
        !(config->spare > 0 && config->spare < config->target))
        return sl_err_set(err, SL_INVALID, "target: above 0, to 1; spare: above 0, below target");
    if (config->half_life_ns <= 0 || config->up_after_ns < 0 || config->down_after_ns < 0 ||
        config->settle_ns < 0 || config->load_timeout_ns <= 0)
        return sl_err_set(err, SL_INVALID, "half_life_ns, load_timeout_ns: above 0");
    return SL_OK;
}

sl_status placement_create(const struct placement_config *config, struct placement **out,
                           struct sl_err *err)
{
    sl_status status = config_check(config, err);
    if (status != SL_OK) return status;
    struct placement *placement = sl_calloc(1, sizeof *placement);
    if (!placement) goto fail;
    placement->config = *config;
    placement->models = sl_calloc(config->n_models_max, sizeof *placement->models);
    placement->loads = sl_calloc(config->loads_max, sizeof *placement->loads);
    /* A model changes by one replica in a step; making room takes one more. */
    placement->actions =
        sl_calloc((size_t)config->n_models_max + config->loads_max, sizeof *placement->actions);
    if (!placement->models || !placement->loads || !placement->actions) goto fail;
    for (uint32_t i = 0; i < config->n_models_max; i++) {
        placement->models[i].short_ns = placement->models[i].rich_ns = -1;
        placement->models[i].changed_ns = -config->settle_ns;
    }
    *out = placement;
    return SL_OK;
fail:
    placement_destroy(placement);
    return sl_err_set(err, SL_NOMEM, "no memory for %u models", config->n_models_max);
}

void placement_destroy(struct placement *placement)
{
    if (!placement) return;
    sl_free(placement->models);
    sl_free(placement->loads);
    sl_free(placement->actions);
    sl_free(placement);
}

sl_status placement_set_model(struct placement *placement, uint32_t model,
                              const struct placement_model *what)
{
    if (model >= placement->config.n_models_max || what->bytes > SCHED_BYTES_LIMIT ||
        (what->replicas_max && what->replicas_min > what->replicas_max))
        return SL_INVALID;
    placement->models[model].what = *what;
    return SL_OK;
}

double placement_demand(const struct placement *placement, uint32_t model)
{
    return model < placement->config.n_models_max ? placement->models[model].demand : 0;
}

/* Demand has to fade first; then they go one after the other. */
int64_t placement_stays_ns(const struct placement *placement, uint32_t number)
{
    const struct placement_config *config = &placement->config;
    if (number >= config->n_models_max) return -1;
    const struct model *model = &placement->models[number];
    if (!model->n_ready || model->n_requests || model->what.replicas_min) return -1;
    double fades = log2(model->demand / DEMAND_NONE);
    int64_t ns = config->down_after_ns * model->n_ready;
    if (fades > 0) ns += (int64_t)(fades * (double)config->half_life_ns);
    if (model->rich_ns >= 0) ns -= placement->now_ns - model->rich_ns;
    return ns > 0 ? ns : 0;
}

/* --- what there is --- */

static bool is_coming(enum sched_model_state state)
{
    return state == SCHED_STARTING || state == SCHED_LOADING;
}

static bool takes_memory(enum sched_model_state state)
{
    return is_coming(state) || state == SCHED_READY || state == SCHED_DRAINING;
}

static bool usable(const struct grid_node *node)
{
    return node->health == NODE_ALIVE && node->facts.duty == NODE_OPEN;
}

static struct load *load_find(const struct placement *placement, uint32_t node, uint32_t model)
{
    for (uint32_t i = 0; i < placement->config.loads_max; i++) {
        struct load *load = &placement->loads[i];
        if (load->until_ns && load->node == node && load->model == model) return load;
    }
    return NULL;
}

static void count_hosted(struct placement *placement, const struct hosted_load *load, uint32_t node)
{
    if (load->model >= placement->config.n_models_max) return;
    struct model *model = &placement->models[load->model];
    struct load *ours = load_find(placement, node, load->model);
    model->n_requests += load->n_running + load->n_waiting;
    if (load->state == SCHED_READY) {
        model->n_ready++;
        model->slots += load->n_slots;
    }
    model->n_coming += is_coming(load->state) && !ours;
    /* One that failed is the node's affair: the next replica is tried elsewhere. */
    if (ours &&
        (load->state == SCHED_READY || load->state == SCHED_BACKOFF || load->state == SCHED_FAILED))
        ours->until_ns = 0;
}

/* Forgets loads that nothing will come of. */
static void expire_loads(struct placement *placement, const struct node_table *table)
{
    for (uint32_t i = 0; i < placement->config.loads_max; i++) {
        struct load *load = &placement->loads[i];
        const struct grid_node *node = &table->nodes[load->node];
        if (load->until_ns <= placement->now_ns || node->health == NODE_DEAD ||
            node->boot != load->boot)
            load->until_ns = 0;
    }
}

static void count_all(struct placement *placement, const struct node_table *table,
                      const uint32_t *waiting)
{
    expire_loads(placement, table); /* first: what a node shows then counts as its own */
    for (uint32_t i = 0; i < placement->config.n_models_max; i++) {
        struct model *model = &placement->models[i];
        model->n_ready = model->n_coming = model->slots = 0;
        model->n_requests = waiting[i];
    }
    for (uint32_t node = 0; node < table->config.n_nodes_max; node++) {
        if (!usable(&table->nodes[node])) continue;
        const struct hosted_model *hosted =
            &table->hosted[(size_t)node * table->config.n_hosted_max];
        for (uint32_t i = 0; i < table->nodes[node].n_hosted; i++)
            count_hosted(placement, &hosted[i].load, node);
    }
    for (uint32_t i = 0; i < placement->config.loads_max; i++) {
        const struct load *load = &placement->loads[i];
        if (load->until_ns)
            placement->models[load->model].n_coming += usable(&table->nodes[load->node]);
    }
}

static void smooth(struct placement *placement, int64_t passed_ns)
{
    double kept = placement->began ? exp2(-(double)passed_ns / placement->config.half_life_ns) : 0;
    for (uint32_t i = 0; i < placement->config.n_models_max; i++) {
        struct model *model = &placement->models[i];
        model->demand = model->demand * kept + model->n_requests * (1 - kept);
    }
    placement->began = true;
}

/* --- what is wanted --- */

static bool is_asked_for(const struct model *model)
{
    return model->n_requests > 0 || model->demand > DEMAND_NONE;
}

/* Ready somewhere, but on fewer nodes than is wanted while somebody asks for it. */
static bool is_few(const struct model *model)
{
    uint32_t n = model->n_ready + model->n_coming;
    bool may_grow = !model->what.replicas_max || n < model->what.replicas_max;
    return model->what.bytes > 0 && n > 0 && n < model->what.replicas_wanted && may_grow &&
           is_asked_for(model);
}

static bool is_short(const struct placement *placement, const struct model *model)
{
    uint32_t n = model->n_ready + model->n_coming;
    if (model->what.bytes == 0 || (model->what.replicas_max && n >= model->what.replicas_max))
        return false;
    if (n < model->what.replicas_min || is_few(model)) return true;
    /* Where there is none, past demand alone does not bring it back: somebody had it unloaded, or
     * nobody needs it any more. */
    if (n == 0) return model->n_requests > 0;
    /* One that comes is taken to be like those that are there. */
    double slots = model->n_ready ? (double)model->slots * n / model->n_ready : 0;
    return model->n_ready && is_asked_for(model) &&
           model->demand > placement->config.target * slots;
}

/* Would the model do with n_slots less? */
static bool can_spare(const struct placement *placement, const struct model *model,
                      uint32_t n_slots)
{
    uint32_t least = model->what.replicas_min;
    uint32_t wanted = model->what.replicas_wanted > 1 ? model->what.replicas_wanted : 1;
    if (is_asked_for(model) && least < wanted) least = wanted;
    if (model->n_coming > 0 || model->n_ready <= least) return false;
    if (!is_asked_for(model)) return true;
    return model->demand <= placement->config.spare * (model->slots - n_slots);
}

static bool settled(const struct placement *placement, const struct model *model)
{
    return placement->now_ns - model->changed_ns >= placement->config.settle_ns;
}

/* --- where --- */

static bool may_host(const struct placement *placement, const struct node_table *table,
                     uint32_t node, uint32_t number)
{
    const struct placement_model *what = &placement->models[number].what;
    const struct node_facts *facts = &table->nodes[node].facts;
    const struct hosted_model *hosted = node_table_hosted(table, node, number);
    return usable(&table->nodes[node]) && (what->engine & ~facts->engines) == 0 &&
           (what->labels_wanted & ~facts->labels) == 0 &&
           (!hosted || hosted->load.state == SCHED_UNLOADED) &&
           !load_find(placement, node, number) && what->bytes <= facts->memory_bytes;
}

/* Memory that nothing has, after what this step has decided. */
static uint64_t free_bytes(const struct placement *placement, const struct node_table *table,
                           uint32_t node)
{
    const struct hosted_model *hosted = &table->hosted[(size_t)node * table->config.n_hosted_max];
    uint64_t used = 0, all = table->nodes[node].facts.memory_bytes;
    for (uint32_t i = 0; i < table->nodes[node].n_hosted; i++) {
        const struct hosted_load *load = &hosted[i].load;
        if (load->model < placement->config.n_models_max && takes_memory(load->state) &&
            !load_find(placement, node, load->model))
            used += placement->models[load->model].what.bytes;
    }
    for (uint32_t i = 0; i < placement->config.loads_max; i++)
        if (placement->loads[i].until_ns && placement->loads[i].node == node)
            used += placement->models[placement->loads[i].model].what.bytes;
    return used < all ? all - used : 0;
}

/* How busy the node is, all its models together. */
static double busy(const struct node_table *table, uint32_t node)
{
    const struct hosted_model *hosted = &table->hosted[(size_t)node * table->config.n_hosted_max];
    double load = 0;
    for (uint32_t i = 0; i < table->nodes[node].n_hosted; i++)
        if (hosted[i].load.n_slots)
            load += (double)(hosted[i].load.n_running + hosted[i].load.n_waiting) /
                    hosted[i].load.n_slots;
    return load;
}

static bool holds(const struct placement_model *what, uint32_t node)
{
    return !what->holders || (what->holders[node / 64] >> node % 64 & 1);
}

/* One that has the files, if any has the room; of these the least busy one, and of equals the one
 * with the most room. */
static uint32_t node_with_room(const struct placement *placement, const struct node_table *table,
                               uint32_t number)
{
    uint32_t best = NODE_NONE;
    uint64_t best_bytes = 0;
    double best_busy = 0;
    bool best_holds = false;
    for (uint32_t node = 0; node < table->config.n_nodes_max; node++) {
        if (!may_host(placement, table, node, number)) continue;
        uint64_t bytes = free_bytes(placement, table, node);
        double load = busy(table, node);
        bool has_files = holds(&placement->models[number].what, node);
        if (bytes < placement->models[number].what.bytes || (best_holds && !has_files)) continue;
        if (best != NODE_NONE && has_files == best_holds &&
            (load > best_busy || (load == best_busy && bytes <= best_bytes)))
            continue;
        best = node;
        best_holds = has_files;
        best_bytes = bytes;
        best_busy = load;
    }
    return best;
}

static void act(struct placement *placement, enum placement_action_kind kind, uint32_t node,
                uint32_t number)
{
    placement->actions[placement->n_actions++] = (struct placement_action){kind, node, number};
    placement->models[number].changed_ns = placement->now_ns;
    placement->models[number].short_ns = placement->models[number].rich_ns = -1;
}

static void unload(struct placement *placement, const struct hosted_load *load, uint32_t node)
{
    placement->models[load->model].n_ready--;
    placement->models[load->model].slots -= load->n_slots;
    act(placement, PLACEMENT_UNLOAD, node, load->model);
}

/* Ready nowhere, on its way nowhere, and waited for: that cannot wait. */
static bool is_urgent(const struct model *model)
{
    return model->what.bytes > 0 && model->n_requests > 0 && model->n_ready + model->n_coming == 0;
}

/* May this replica go for one that needs its room? Nobody uses an idle model; one that others wait
 * for and that is ready nowhere comes before it, even if it was used a minute ago. */
static bool may_go(const struct placement *placement, const struct hosted_load *load, bool urgent)
{
    if (load->model >= placement->config.n_models_max || load->state != SCHED_READY) return false;
    const struct model *model = &placement->models[load->model];
    if (settled(placement, model) && can_spare(placement, model, load->n_slots)) return true;
    return urgent && model->n_requests == 0 && model->n_ready > model->what.replicas_min &&
           placement->now_ns - model->changed_ns >= placement->config.up_after_ns;
}

/* How many replicas have to go from the node so that `need` more bytes fit; 0: it cannot be. */
static uint32_t n_to_go(const struct placement *placement, const struct node_table *table,
                        uint32_t node, uint64_t need, bool urgent)
{
    const struct hosted_model *hosted = &table->hosted[(size_t)node * table->config.n_hosted_max];
    uint64_t room = free_bytes(placement, table, node);
    uint32_t n = 0;
    for (uint32_t i = 0; i < table->nodes[node].n_hosted && room < need; i++) {
        if (!may_go(placement, &hosted[i].load, urgent)) continue;
        room += placement->models[hosted[i].load.model].what.bytes;
        n++;
    }
    return room < need ? 0 : n;
}

/* Takes away what others can spare, on the node where the fewest have to go; the model loads when
 * the memory is back. */
static void make_room(struct placement *placement, const struct node_table *table, uint32_t number)
{
    struct model *model = &placement->models[number];
    bool urgent = is_urgent(model);
    uint32_t best = NODE_NONE, fewest = UINT32_MAX;
    for (uint32_t node = 0; node < table->config.n_nodes_max; node++) {
        if (!may_host(placement, table, node, number)) continue;
        uint32_t n = n_to_go(placement, table, node, model->what.bytes, urgent);
        if (n == 0 || n >= fewest) continue;
        best = node;
        fewest = n;
    }
    if (best == NODE_NONE) return;
    const struct hosted_model *hosted = &table->hosted[(size_t)best * table->config.n_hosted_max];
    for (uint32_t i = 0; fewest > 0; i++) {
        if (!may_go(placement, &hosted[i].load, urgent)) continue;
        unload(placement, &hosted[i].load, best);
        fewest--;
    }
    model->room_ns = placement->now_ns + placement->config.load_timeout_ns;
}

static void add_replica(struct placement *placement, const struct node_table *table,
                        uint32_t number)
{
    struct load *free_one = NULL;
    for (uint32_t i = 0; i < placement->config.loads_max && !free_one; i++)
        if (!placement->loads[i].until_ns) free_one = &placement->loads[i];
    if (!free_one) return;
    uint32_t node = node_with_room(placement, table, number);
    if (node == NODE_NONE) {
        if (placement->now_ns >= placement->models[number].room_ns)
            make_room(placement, table, number);
        return;
    }
    placement->models[number].room_ns = 0;
    *free_one = (struct load){node, number, table->nodes[node].boot,
                              placement->now_ns + placement->config.load_timeout_ns};
    placement->models[number].n_coming++;
    act(placement, PLACEMENT_LOAD, node, number);
}

/* The one with the fewest requests, if the others do without it. */
static void drop_replica(struct placement *placement, const struct node_table *table,
                         uint32_t number)
{
    uint32_t best = NODE_NONE, least = UINT32_MAX;
    const uint32_t *nodes = &table->by_model[(size_t)number * table->config.n_nodes_max];
    for (uint32_t i = 0; i < table->n_by_model[number]; i++) {
        if (!usable(&table->nodes[nodes[i]])) continue;
        const struct hosted_load *load = &node_table_hosted(table, nodes[i], number)->load;
        uint32_t n = load->n_running + load->n_waiting;
        if (n > least || (n == least && nodes[i] > best) ||
            !can_spare(placement, &placement->models[number], load->n_slots))
            continue;
        best = nodes[i];
        least = n;
    }
    if (best != NODE_NONE) unload(placement, &node_table_hosted(table, best, number)->load, best);
}

static int64_t since(bool holds, int64_t since_ns, int64_t now_ns)
{
    if (!holds) return -1;
    return since_ns < 0 ? now_ns : since_ns;
}

static void review(struct placement *placement, const struct node_table *table, uint32_t number)
{
    const struct placement_config *config = &placement->config;
    struct model *model = &placement->models[number];
    int64_t now_ns = placement->now_ns;
    if (model->what.bytes == 0) return;
    /* What the smallest share would leave decides only later, in drop_replica. */
    bool rich = can_spare(placement, model, model->n_ready ? model->slots / model->n_ready : 0);
    model->short_ns = since(is_short(placement, model), model->short_ns, now_ns);
    model->rich_ns = since(rich, model->rich_ns, now_ns);
    bool none = model->n_ready + model->n_coming == 0;
    for (uint32_t n = UINT32_MAX; is_few(model) && model->n_coming != n;) {
        n = model->n_coming;
        add_replica(placement, table, number);
    }
    if (model->short_ns >= 0 &&
        (none || (!is_few(model) && now_ns - model->short_ns >= config->up_after_ns &&
                  settled(placement, model))))
        add_replica(placement, table, number);
    else if (model->rich_ns >= 0 && now_ns - model->rich_ns >= config->down_after_ns &&
             settled(placement, model))
        drop_replica(placement, table, number);
}

void placement_step(struct placement *placement, const struct node_table *table,
                    const uint32_t *waiting, int64_t now_ns,
                    const struct placement_action **out_actions, size_t *out_n)
{
    int64_t passed_ns = now_ns > placement->now_ns ? now_ns - placement->now_ns : 0;
    placement->now_ns += passed_ns;
    placement->n_actions = 0;
    count_all(placement, table, waiting);
    smooth(placement, passed_ns);
    uint32_t n = placement->config.n_models_max;
    if (n > table->config.n_models_max) n = table->config.n_models_max;
    /* What cannot wait takes the free places first. */
    for (uint32_t i = 0; i < n; i++)
        if (is_urgent(&placement->models[i])) add_replica(placement, table, i);
    for (uint32_t i = 0; i < n; i++) review(placement, table, i);
    *out_actions = placement->actions;
    *out_n = placement->n_actions;
}
