/* dispatch_chains.c: the life of a chain: from the wish for a model that fits nowhere to the word
 * to its head, and whatever happens to its members afterwards. */
#include "grid/dispatch_split.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

#define S INT64_C(1000000000)
#define LOOK_NS (5 * S)      /* between looks for something better: each takes some milliseconds */
#define SETTLE_NS (30 * S)   /* a chain is left as it is for so long, unless it breaks */
#define BETTER_NS (10 * S)   /* something has to be better for so long */
#define AGAIN_NS (2 * S)     /* after a failure; twice as long after each further one */
#define COMEBACK_NS (30 * S) /* a member that died may be back in so long: it is waited for */
#define FAILURES_MAX 4       /* in a row, after which it is hopeless for a while */
#define REST_NS (60 * S)     /* and then tried anew */
#define NEWS_NS (3 * S)      /* reports after that tell of what was asked for before */
#define RESERVE 0.04         /* of memory, more after each failure: estimates are off by that */

struct dispatch_chain *dispatch_chain_of(const struct dispatch *dispatch, uint32_t model)
{
    for (uint32_t i = 0; dispatch->chains && i < DISPATCH_CHAINS_MAX; i++)
        if (dispatch->chains[i].used && dispatch->chains[i].model == model)
            return &dispatch->chains[i];
    return NULL;
}

const struct grid_split *dispatch_chain_split(const struct dispatch *dispatch, uint32_t node,
                                              uint32_t model)
{
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model);
    return chain && chain->head == node ? chain->split : NULL;
}

static struct dispatch_chain *place_find(struct dispatch *dispatch)
{
    if (!dispatch->chains)
        dispatch->chains = sl_calloc(DISPATCH_CHAINS_MAX, sizeof *dispatch->chains);
    for (uint32_t i = 0; dispatch->chains && i < DISPATCH_CHAINS_MAX; i++)
        if (!dispatch->chains[i].used) return &dispatch->chains[i];
    return NULL;
}

static void chain_free(struct dispatch_chain *chain)
{
    sl_free(chain->split);
    *chain = (struct dispatch_chain){0};
}

void dispatch_chain_drop(struct dispatch *dispatch, uint32_t model)
{
    struct dispatch_chain *chain = dispatch_chain_of(dispatch, model);
    if (chain) chain_free(chain);
}

void dispatch_chains_done(struct dispatch *dispatch)
{
    for (uint32_t i = 0; dispatch->chains && i < DISPATCH_CHAINS_MAX; i++)
        sl_free(dispatch->chains[i].split);
    sl_free(dispatch->chains);
    dispatch->chains = NULL;
}

static bool is_alive(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    return node->used && node->has_report && dispatch_node_health(dispatch, node) != NODE_DEAD;
}

/* --- beginning and changing --- */

void dispatch_chain_unload(struct dispatch *dispatch, const struct dispatch_chain *chain)
{
    const struct grid_hosted *hosted = dispatch_hosted_of(dispatch, chain->head, chain->model);
    if (hosted && hosted->split && is_alive(dispatch, &dispatch->nodes[chain->head]))
        dispatch_control(dispatch, GRID_CONTROL_UNLOAD, chain->head, chain->model);
}

sl_status dispatch_chain_set(struct dispatch *dispatch, const struct dispatch_model *model,
                             const struct dispatch_wish *wish, const struct dispatch_split *split,
                             bool by_hand, const char *why, struct sl_err *err)
{
    struct dispatch_chain *chain = dispatch_chain_of(dispatch, model->number);
    struct grid_split *told = dispatch_split_tell(dispatch, split);
    /* After a rest it is tried as if it were new. */
    uint32_t n_failures = chain && chain->n_failures < FAILURES_MAX ? chain->n_failures : 0;
    if (!told) return sl_err_set(err, SL_NOMEM, "no memory for a chain");
    if (chain && chain->head != split->members[0]) dispatch_chain_unload(dispatch, chain);
    if (chain)
        chain_free(chain);
    else
        chain = place_find(dispatch);
    if (!chain) {
        sl_free(told);
        return sl_err_set(err, SL_LIMIT, "%d models are split already", DISPATCH_CHAINS_MAX);
    }
    *chain = (struct dispatch_chain){.used = true,
                                     .by_hand = by_hand,
                                     .model = model->number,
                                     .head = split->members[0],
                                     .split = told,
                                     .wish = *wish,
                                     .made = *split,
                                     .planned_ns = dispatch->router_ns,
                                     .looked_ns = dispatch->router_ns,
                                     .better_ns = -1,
                                     .failed_ns = -1,
                                     .broken_ns = -1,
                                     .n_failures = n_failures};
    snprintf(chain->why, sizeof chain->why, "%s", why);
    dispatch->stats.n_plans++;
    dispatch_control(dispatch, GRID_CONTROL_LOAD, chain->head, chain->model);
    return SL_OK;
}

/* A wish that cannot be met any more is met as far as it can be: on other members, in other
 * numbers. */
static sl_status make_anyhow(struct dispatch *dispatch, const struct dispatch_model *model,
                             const struct dispatch_wish *wish, struct dispatch_split *out,
                             struct sl_err *err)
{
    struct dispatch_wish any = {.goal = {.aim = wish->goal.aim,
                                         .n_seqs = wish->goal.n_seqs,
                                         .context = wish->goal.context,
                                         .prompt = wish->goal.prompt},
                                .link = wish->link,
                                .head = NODE_NONE,
                                .reserve = wish->reserve};
    sl_status status = dispatch_split_make(dispatch, model, wish, out, err);
    if (status != SL_UNAVAILABLE || (!wish->n_members && !wish->goal.n_stages)) return status;
    return dispatch_split_make(dispatch, model, &any, out, err);
}

/* It broke. Without another plan it stays as it was: a member may come back. */
static void replan(struct dispatch *dispatch, struct dispatch_chain *chain, const char *why)
{
    const struct dispatch_model *model = &dispatch->models[chain->model];
    struct dispatch_wish wish = chain->wish;
    struct dispatch_split split;
    struct sl_err err = SL_ERR_INIT;
    if (dispatch->router_ns - chain->looked_ns < S) return; /* again in a second */
    chain->looked_ns = dispatch->router_ns;
    if (make_anyhow(dispatch, model, &wish, &split, &err) != SL_OK) return;
    if (split.plan.n_stages < 2) {
        /* It fits on one member now: placement loads it there. */
        dispatch_chain_unload(dispatch, chain);
        if (chain->by_hand)
            dispatch_control(dispatch, GRID_CONTROL_LOAD, split.members[0], chain->model);
        chain_free(chain);
        return;
    }
    dispatch->stats.n_replans++;
    (void)!dispatch_chain_set(dispatch, model, &wish, &split, chain->by_hand, why, &err);
}

/* --- what happened to it --- */

/* It failed, and one of its members may be why: it is silent. */
static bool is_silent(const struct dispatch *dispatch, const struct dispatch_chain *chain)
{
    for (size_t i = 0; i < chain->split->n_stages; i++) {
        const struct dispatch_node *node =
            dispatch_node_find(dispatch, chain->split->stages[i].member);
        if (!node || router_nodes(dispatch->router)->nodes[node->number].health != NODE_ALIVE)
            return true;
    }
    return false;
}

/* NULL: all of them are there. */
static const char *broken(const struct dispatch *dispatch, const struct dispatch_chain *chain)
{
    for (size_t i = 0; i < chain->split->n_stages; i++) {
        const struct dispatch_node *node =
            dispatch_node_find(dispatch, chain->split->stages[i].member);
        if (!node || !is_alive(dispatch, node)) return "a member of the chain before it is gone";
        if (node->report.facts.duty == NODE_DRAINING)
            return "a member of the chain before it drains";
    }
    return NULL;
}

static void note_failure(struct dispatch *dispatch, struct dispatch_chain *chain,
                         const struct grid_hosted *hosted)
{
    /* A report of before is not about this chain. */
    if (chain->failed_ns < 0 && dispatch->router_ns - chain->planned_ns >= NEWS_NS) {
        chain->failed_ns = dispatch->router_ns;
        chain->n_failures++;
        snprintf(chain->why, sizeof chain->why, "%.150s", hosted->last_error);
    }
}

/* Tries again what failed, with more room left free. */
static void try_again(struct dispatch *dispatch, struct dispatch_chain *chain)
{
    if (chain->failed_ns < 0) return;
    bool rests = chain->n_failures >= FAILURES_MAX;
    int64_t wait_ns = rests ? REST_NS : AGAIN_NS << (chain->n_failures - 1);
    if (dispatch->router_ns - chain->failed_ns < wait_ns) return;
    chain->wish.reserve = rests ? 0 : RESERVE * chain->n_failures;
    replan(dispatch, chain, "the chain before it failed");
}

static void seek_better(struct dispatch *dispatch, struct dispatch_chain *chain)
{
    struct dispatch_split split;
    struct split_move move;
    struct sl_err err = SL_ERR_INIT;
    char why[sizeof chain->why];
    dispatch_split_learn(dispatch, chain);
    if (dispatch->router_ns - chain->looked_ns < LOOK_NS) return;
    chain->looked_ns = dispatch->router_ns;
    if (!dispatch_split_better(dispatch, chain, &split, &move)) {
        chain->better_ns = -1;
        return;
    }
    if (chain->better_ns < 0) chain->better_ns = dispatch->router_ns;
    if (dispatch->router_ns - chain->better_ns < BETTER_NS ||
        dispatch->router_ns - chain->planned_ns < SETTLE_NS)
        return;
    snprintf(why, sizeof why, "%.0f %% more than the chain before it was foretold",
             100 * move.gain);
    dispatch->stats.n_replans++;
    struct dispatch_wish wish = chain->wish;
    (void)!dispatch_chain_set(dispatch, &dispatch->models[chain->model], &wish, &split,
                              chain->by_hand, why, &err);
}

static bool is_wanted(const struct dispatch *dispatch, const struct dispatch_chain *chain)
{
    const struct dispatch_model *model = &dispatch->models[chain->model];
    return chain->by_hand || model->pinned || model->pinned_elsewhere ||
           dispatch->waiting[chain->model] > 0;
}

static void look_at(struct dispatch *dispatch, struct dispatch_chain *chain)
{
    const struct grid_hosted *hosted = dispatch_hosted_of(dispatch, chain->head, chain->model);
    bool as_told = hosted && grid_split_equal(hosted->split, chain->split);
    bool failed = as_told && hosted->load.state == SCHED_FAILED;
    const char *why = broken(dispatch, chain);
    if (!why && failed && is_silent(dispatch, chain))
        why = "a member of the chain before it is silent";
    if (!why)
        chain->broken_ns = -1;
    else if (chain->broken_ns < 0)
        chain->broken_ns = dispatch->router_ns;
    if (!dispatch->models[chain->model].used ||
        (!is_wanted(dispatch, chain) && !hosted &&
         dispatch->router_ns - chain->planned_ns >= SETTLE_NS)) {
        chain_free(chain);
    } else if (why) {
        replan(dispatch, chain, why);
    } else if (failed) {
        note_failure(dispatch, chain, hosted);
        try_again(dispatch, chain);
    } else if (as_told) {
        if (hosted->load.state == SCHED_READY) {
            chain->failed_ns = -1;
            chain->n_failures = 0;
            seek_better(dispatch, chain);
        }
    } else if (is_wanted(dispatch, chain) || hosted) {
        dispatch_control_keep(dispatch, chain->head, chain->model);
    }
}

/* --- wishes --- */

/* Another gateway's person asked for its chain there. */
static bool is_kept_elsewhere(const struct dispatch *dispatch, uint32_t model)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        if (!node->used || node->self || !dispatch_is_live_gateway(dispatch, node)) continue;
        for (uint32_t k = 0; k < node->n_demands; k++)
            if (node->demands[k].model == model && node->demands[k].splits) return true;
    }
    return false;
}

bool dispatch_chain_stays(const struct dispatch *dispatch, uint32_t node, uint32_t model)
{
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model);
    const struct grid_hosted *hosted = dispatch_hosted_of(dispatch, node, model);
    if (chain && chain->by_hand) return chain->head == node;
    return hosted && hosted->split && is_kept_elsewhere(dispatch, model);
}

/* A chain that the gateway before this one began. */
static void adopt(struct dispatch *dispatch, uint32_t head, uint32_t model,
                  const struct grid_split *split)
{
    struct dispatch_chain *chain = place_find(dispatch);
    struct grid_split *copy = chain ? grid_split_copy(split) : NULL;
    if (!copy) return;
    *chain = (struct dispatch_chain){
        .used = true,
        .model = model,
        .head = head,
        .split = copy,
        .wish = {.link = (enum engine_link_type)split->link, .head = NODE_NONE},
        .planned_ns = dispatch->router_ns,
        .better_ns = -1,
        .failed_ns = -1,
        .broken_ns = -1,
        .why = "it ran before this gateway placed models"};
}

static void adopt_all(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        for (size_t k = 0; is_alive(dispatch, node) && k < node->report.n_hosted; k++) {
            const struct grid_hosted *hosted = &node->report.hosted[k];
            uint32_t model = node->hosted_models[k];
            if (!hosted->split || model == NODE_NONE || dispatch_chain_of(dispatch, model) ||
                hosted->load.state == SCHED_DRAINING || hosted->load.state == SCHED_UNLOADED ||
                is_kept_elsewhere(dispatch, model) ||
                strcmp(hosted->split->stages[0].member, node->id) != 0)
                continue;
            adopt(dispatch, i, model, hosted->split);
        }
    }
}

/* Nobody uses it now, though a request may be on its way, and nobody wants it kept. */
static bool is_spare(const struct dispatch *dispatch, uint32_t node, size_t i)
{
    const struct grid_hosted *hosted = &dispatch->nodes[node].report.hosted[i];
    uint32_t model = dispatch->nodes[node].hosted_models[i];
    if (model == NODE_NONE || hosted->load.state != SCHED_READY || dispatch->waiting[model])
        return false;
    const struct hosted_model *known =
        node_table_hosted(router_nodes(dispatch->router), node, model);
    return !hosted->load.n_running && !hosted->load.n_waiting &&
           !(known && known->n_outstanding > 0) && !dispatch_is_kept(dispatch, model);
}

/* Of memory for a stage, now. */
static uint64_t lacking_bytes(const struct dispatch *dispatch, const struct dispatch_model *model,
                              const struct dispatch_split *split, size_t stage)
{
    static const struct dispatch_wish now = {.head = NODE_NONE};
    const struct dispatch_node *node = &dispatch->nodes[split->members[stage]];
    uint64_t room = dispatch_split_room(dispatch, node, model, &now);
    uint64_t need = split->plan.stages[stage].memory_bytes;
    return need > room ? need - room : 0;
}

static uint64_t spare_bytes(const struct dispatch *dispatch, uint32_t node)
{
    const struct grid_report *report = &dispatch->nodes[node].report;
    uint64_t bytes = 0;
    for (size_t i = 0; i < report->n_hosted; i++)
        if (is_spare(dispatch, node, i)) bytes += report->hosted[i].bytes;
    return bytes;
}

/* Models that nobody uses go until so many bytes are free, as far as there are any. */
static void unload_spare(struct dispatch *dispatch, uint32_t node, uint64_t bytes)
{
    const struct dispatch_node *from = &dispatch->nodes[node];
    for (size_t i = 0; i < from->report.n_hosted && bytes > 0; i++) {
        uint32_t model = from->hosted_models[i];
        if (!is_spare(dispatch, node, i)) continue;
        bytes -= from->report.hosted[i].bytes < bytes ? from->report.hosted[i].bytes : bytes;
        if (dispatch_chain_split(dispatch, node, model)) dispatch_chain_drop(dispatch, model);
        dispatch_control(dispatch, GRID_CONTROL_UNLOAD, node, model);
    }
}

/* What members were told to load stays there until they are told otherwise: models that nobody uses
 * make room for the stages of a plan, which is made anew when reports show it. None goes unless
 * there is room for every stage then. */
static void make_room(struct dispatch *dispatch, const struct dispatch_model *model,
                      const struct dispatch_split *split)
{
    for (size_t i = 0; i < split->plan.n_stages; i++)
        if (lacking_bytes(dispatch, model, split, i) > spare_bytes(dispatch, split->members[i]))
            return;
    for (size_t i = 0; i < split->plan.n_stages; i++)
        unload_spare(dispatch, split->members[i], lacking_bytes(dispatch, model, split, i));
}

static void begin(struct dispatch *dispatch, struct dispatch_model *model)
{
    struct dispatch_wish wish = {.link = ENGINE_LINK_F16, .head = NODE_NONE};
    struct dispatch_split split;
    struct sl_err err = SL_ERR_INIT;
    sl_status status = dispatch_split_make(dispatch, model, &wish, &split, &err);
    if (status == SL_OK && split.plan.n_stages > 1) {
        (void)!dispatch_chain_set(dispatch, model, &wish, &split, false,
                                  "no member has room for all of it", &err);
    } else if (status == SL_UNAVAILABLE) {
        wish.room = DISPATCH_ROOM_SOON;
        if (dispatch_split_make(dispatch, model, &wish, &split, &err) == SL_OK &&
            split.plan.n_stages > 1)
            make_room(dispatch, model, &split);
    }
}

void dispatch_chains_step(struct dispatch *dispatch)
{
    if (dispatch->stats.places) adopt_all(dispatch);
    for (uint32_t i = 0; dispatch->stats.places && i < dispatch->n_models; i++) {
        struct dispatch_model *model = &dispatch->models[i];
        bool wanted = dispatch->waiting[i] > 0 || model->pinned || model->pinned_elsewhere;
        if (model->used && wanted && dispatch_model_shape(model) &&
            dispatch->router_ns >= model->split_ns && !dispatch_chain_of(dispatch, i) &&
            !is_kept_elsewhere(dispatch, i) && !dispatch_fits_whole(dispatch, model)) {
            model->split_ns = dispatch->router_ns + S; /* one look a second */
            begin(dispatch, model);
        }
    }
    for (uint32_t i = 0; dispatch->chains && i < DISPATCH_CHAINS_MAX; i++) {
        struct dispatch_chain *chain = &dispatch->chains[i];
        if (chain->used && (dispatch->stats.places || chain->by_hand)) look_at(dispatch, chain);
    }
}

sl_status dispatch_chain_hope(struct dispatch *dispatch, struct dispatch_model *model,
                              struct sl_err *err)
{
    const struct dispatch_wish wish = {
        .link = ENGINE_LINK_F16, .head = NODE_NONE, .room = DISPATCH_ROOM_SOON};
    const struct dispatch_chain *chain = dispatch_chain_of(dispatch, model->number);
    struct dispatch_split split;
    struct sl_err why = SL_ERR_INIT;
    if (chain && chain->failed_ns >= 0 && chain->n_failures >= FAILURES_MAX)
        return sl_err_set(err, SL_UNAVAILABLE, "it failed: %.150s", chain->why);
    if (chain && !broken(dispatch, chain)) return SL_OK;
    if (dispatch->router_ns >= model->hope_ns) {
        model->hope = dispatch_split_make(dispatch, model, &wish, &split, &why);
        /* On one member it was tried: who asks does not know of any that could load it whole. */
        if (model->hope == SL_OK && split.plan.n_stages < 2)
            model->hope = sl_err_set(&why, SL_UNAVAILABLE, "there is one member for it only");
        const struct dispatch_wish all = {
            .link = wish.link, .head = wish.head, .room = DISPATCH_ROOM_ALL};
        struct sl_err ignored = SL_ERR_INIT;
        model->hope_held = model->hope == SL_UNAVAILABLE &&
                           dispatch_split_make(dispatch, model, &all, &split, &ignored) == SL_OK;
        model->hope_ns = dispatch->router_ns + S;
        snprintf(model->hope_text, sizeof model->hope_text, "%.199s", why.text);
    }
    if (model->hope == SL_OK ||
        (chain && chain->broken_ns >= 0 && dispatch->router_ns - chain->broken_ns < COMEBACK_NS))
        return SL_OK;
    return sl_err_set(err, model->hope, "%s", model->hope_text);
}
