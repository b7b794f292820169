/* dispatch_split.c: a problem for sched/split from what members have told, and its answer in terms
 * of members. What is not known is guessed so that it does no harm: a machine that nobody has
 * measured counts as a slow one, a way that nobody has measured as that through this gateway. */
#include "grid/dispatch_split.h"
#include "base/mem.h"
#include "exec/engine_open.h"
#include "exec/llm/kv_cache.h"
#include <math.h>
#include <string.h>

#define SEQS_WANTED 8       /* streams of a chain that nobody has asked more of */
#define CONTEXT_WANTED 4096 /* tokens of each: what engines take by themselves */
#define CONTEXT_LEAST 512   /* less is of no use to a chat */
#define SEQS_MAX 256        /* sequences that an engine runs at once */
#define WAY_S 0.0005        /* one way, where nothing is known: machines of one building */
#define FETCH_BYTES_S 50e6  /* of weights from another member, where no way to one is known */
#define MEMORY_BYTES_S 8e9  /* of a machine that is not calibrated: two channels of slow memory */
#define BUSY_LEAST 0.02     /* of the time: a stage that computes less says nothing of its speed */
/* Of the busiest stage's load: one that waits most of the time finds its caches cold, and the chain
 * does not depend on it. */
#define BUSY_PART 0.5
#define LEARN_SHARE 0.1
#define HOP_LEAST_S 5e-6   /* what is said to take less, or */
#define HOP_MOST_S 0.02    /* more, was something else */
#define FORGET_SHARE 0.998 /* of what was measured is left after a second: half in six minutes */
#define MOVE_GAIN 0.2      /* predictions are good to a tenth, and moving costs a pause */
#define MOVE_HORIZON_S 600.0

/* What split_make looks at, in an arena of its own. */
struct planning {
    struct dispatch *dispatch;
    const struct dispatch_model *model;
    const struct dispatch_wish *wish;
    struct sl_arena arena;
    struct split_problem problem;
    struct split_node *nodes;
    uint32_t *members; /* [problem.n_nodes] */
};

/* Nodes, links and what stands beside them of SPLIT_NODES_MAX members. */
#define PLANNING_BYTES_MAX (8u << 20)

bool dispatch_may_stage(const struct dispatch *dispatch, const struct dispatch_node *node)
{
    const struct grid_node *entry = &router_nodes(dispatch->router)->nodes[node->number];
    return node->used && node->has_report && entry->health == NODE_ALIVE &&
           node->report.facts.duty == NODE_OPEN;
}

/* --- memory --- */

/* What would give way to a stage at once: models that nobody asks for, and this model itself. */
static uint64_t yielding_bytes(const struct dispatch_node *node, const struct dispatch_model *model)
{
    const struct grid_report *report = &node->report;
    uint64_t bytes = 0;
    for (size_t i = 0; i < report->n_hosted; i++) {
        const struct grid_hosted *hosted = &report->hosted[i];
        bool idle = !hosted->load.n_running && !hosted->load.n_waiting && !hosted->pinned;
        if (idle || node->hosted_models[i] == model->number) bytes += hosted->bytes;
    }
    for (size_t i = 0; i < report->n_stages; i++)
        if (!strcmp(report->stages[i].model, model->name)) bytes += report->stages[i].bytes;
    return bytes;
}

uint64_t dispatch_split_room(const struct dispatch *dispatch, const struct dispatch_node *node,
                             const struct dispatch_model *model, const struct dispatch_wish *wish)
{
    uint64_t all = node->report.facts.memory_bytes, used = node->report.memory_used_bytes;
    uint64_t yielding = yielding_bytes(node, model);
    used = used > yielding ? used - yielding : 0;
    if (wish->room == DISPATCH_ROOM_SOON) used = dispatch_held_bytes(dispatch, node, model);
    if (wish->room == DISPATCH_ROOM_ALL) used = 0;
    uint64_t kept = (uint64_t)((double)all * wish->reserve), rest = all > used ? all - used : 0;
    return rest > kept ? rest - kept : 0;
}

/* --- ways --- */

static const struct grid_peer *peer_of(const struct dispatch_node *from,
                                       const struct dispatch_node *to)
{
    for (size_t i = 0; i < from->report.n_peers; i++)
        if (!strcmp(from->report.peers[i].id, to->id)) return &from->report.peers[i];
    return NULL;
}

/* What a member says that the planner would refuse is not known: it shall not spoil the plans of
 * others. */
static double known(double said)
{
    return said > 0 && said < SPLIT_NUMBER_END ? said : 0;
}

/* As either of them has measured it, or through this gateway. */
static struct split_link link_of(const struct dispatch *dispatch, const struct dispatch_node *from,
                                 const struct dispatch_node *to)
{
    const struct grid_peer *there = peer_of(from, to), *back = peer_of(to, from);
    double rtt_s = there ? known(there->rtt_s) : 0;
    double bytes_s = there ? known(there->bytes_per_s) : 0;
    if (back && rtt_s <= 0) rtt_s = known(back->rtt_s);
    if (back && bytes_s <= 0) bytes_s = known(back->bytes_per_s);
    if (rtt_s <= 0) rtt_s = dispatch_rtt_s(dispatch, from) + dispatch_rtt_s(dispatch, to);
    return (struct split_link){.seconds = rtt_s > 0 ? rtt_s / 2 : WAY_S, .bytes_s = bytes_s};
}

/* From the nearest member that has the file. */
static double fetch_speed(const struct planning *p, const struct dispatch_node *node)
{
    double best = 0;
    if (dispatch_model_is_at(p->model, node->number)) return 0;
    for (uint32_t i = 0; i < p->dispatch->n_nodes; i++) {
        const struct dispatch_node *other = &p->dispatch->nodes[i];
        if (!dispatch_model_is_at(p->model, i) || !other->used || !other->has_report) continue;
        struct split_link way = link_of(p->dispatch, other, node);
        if (way.bytes_s > best) best = way.bytes_s;
    }
    return best > 0 ? best : FETCH_BYTES_S;
}

/* --- the problem --- */

static bool is_wished(const struct dispatch_wish *wish, const struct dispatch_node *node)
{
    for (uint32_t i = 0; i < wish->n_members; i++)
        if (!strcmp(wish->members[i], node->id)) return true;
    return wish->n_members == 0;
}

static struct split_node node_of(const struct planning *p, const struct dispatch_node *node)
{
    const struct grid_report *report = &node->report;
    struct split_node out = {.memory_bytes =
                                 dispatch_split_room(p->dispatch, node, p->model, p->wish),
                             .slowdown = node->slowdown > 0 ? node->slowdown : 1,
                             .hop_s = node->hop_s > 0 ? node->hop_s : SPLIT_HOP_S,
                             .fetch_bytes_s = fetch_speed(p, node)};
    if (report->machine && split_machine_ok(report->machine))
        out.machine = *report->machine;
    else
        out.machine.memory_bytes_s = MEMORY_BYTES_S;
    /* Whoever was named gets a stage, if there are as many stages as names. */
    if (p->wish->n_members && (uint32_t)p->wish->goal.n_stages == p->wish->n_members)
        out.flags |= SPLIT_REQUIRED;
    if (p->wish->head == node->number) out.flags |= SPLIT_HEAD;
    return out;
}

/* Members that may have a stage, or have one of the chain that runs. */
static void take_members(struct planning *p, const struct dispatch_split *running)
{
    struct dispatch *dispatch = p->dispatch;
    for (uint32_t i = 0; i < dispatch->n_nodes && p->problem.n_nodes < SPLIT_NODES_MAX; i++) {
        const struct dispatch_node *node = &dispatch->nodes[i];
        bool in_chain = false;
        for (size_t k = 0; running && k < running->plan.n_stages; k++)
            if (running->members[k] == i) in_chain = true;
        bool may = dispatch_may_stage(dispatch, node) && is_wished(p->wish, node);
        if (!may && !(in_chain && node->used && node->has_report)) continue;
        p->nodes[p->problem.n_nodes] = node_of(p, node);
        if (!may) p->nodes[p->problem.n_nodes].flags |= SPLIT_EXCLUDED;
        p->members[p->problem.n_nodes++] = i;
    }
}

/* Holders of the file begin, where there are some: others would have to fetch it first. */
static void choose_heads(struct planning *p)
{
    if (p->wish->head != NODE_NONE) return;
    for (size_t i = 0; i < p->problem.n_nodes; i++)
        if (dispatch_model_is_at(p->model, p->members[i])) p->nodes[i].flags |= SPLIT_HEAD;
}

static sl_status take_links(struct planning *p)
{
    size_t n = p->problem.n_nodes;
    struct split_link *links = sl_arena_array(&p->arena, n * n + 1, sizeof *links);
    if (!links) return SL_NOMEM;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            links[i * n + k] = i == k ? (struct split_link){0}
                                      : link_of(p->dispatch, &p->dispatch->nodes[p->members[i]],
                                                &p->dispatch->nodes[p->members[k]]);
    p->problem.links = links;
    return SL_OK;
}

static void planning_done(struct planning *p)
{
    sl_arena_done(&p->arena);
}

/* Of a row: n_embd numbers, of q8_0 in blocks of 32 with a scale each. */
static double row_bytes(const struct split_model *shape, enum engine_link_type link)
{
    double bytes = link == ENGINE_LINK_F32 ? 4 : link == ENGINE_LINK_Q8_0 ? 34.0 / 32 : 2;
    return bytes * shape->n_embd;
}

static sl_status planning_init(struct dispatch *dispatch, const struct dispatch_model *model,
                               const struct dispatch_wish *wish,
                               const struct dispatch_split *running, struct planning *p,
                               struct sl_err *err)
{
    *p = (struct planning){.dispatch = dispatch, .model = model, .wish = wish};
    sl_arena_init(&p->arena, PLANNING_BYTES_MAX);
    p->problem.model = dispatch_model_shape(model);
    if (!p->problem.model)
        return sl_err_set(err, SL_UNAVAILABLE,
                          "%.200s cannot be split: no member has told of its layers", model->name);
    p->problem.goal = wish->goal;
    p->problem.goal.work_max = SPLIT_WORK_QUICK;
    p->problem.goal.row_bytes = row_bytes(p->problem.model, wish->link);
    if (wish->link == ENGINE_LINK_Q8_0 && p->problem.model->n_embd % 32)
        return sl_err_set(err, SL_UNAVAILABLE, "rows of %d numbers do not travel as q8_0",
                          p->problem.model->n_embd);
    p->nodes = sl_arena_array(&p->arena, SPLIT_NODES_MAX, sizeof *p->nodes);
    p->members = sl_arena_array(&p->arena, SPLIT_NODES_MAX, sizeof *p->members);
    if (!p->nodes || !p->members) return sl_err_set(err, SL_NOMEM, "no memory to plan with");
    p->problem.nodes = p->nodes;
    take_members(p, running);
    if (!p->problem.n_nodes)
        return sl_err_set(err, SL_UNAVAILABLE, "none of the members that may have a part is there");
    if (take_links(p) != SL_OK) return sl_err_set(err, SL_NOMEM, "no memory to plan with");
    return SL_OK;
}

/* --- plans --- */

/* split_make, whose NOMEM has no text. */
static sl_status make(const struct planning *p, struct split_plan *out, struct sl_err *err)
{
    sl_status status = split_make(&p->problem, out, err);
    return status == SL_NOMEM ? sl_err_set(err, SL_NOMEM, "no memory to plan with") : status;
}

/* Holders as heads first, then anybody. */
static sl_status make_with_heads(struct planning *p, struct split_plan *out, struct sl_err *err)
{
    choose_heads(p);
    sl_status status = make(p, out, err);
    if (status != SL_UNAVAILABLE || p->wish->head != NODE_NONE) return status;
    for (size_t i = 0; i < p->problem.n_nodes; i++) p->nodes[i].flags &= ~(unsigned)SPLIT_HEAD;
    return make(p, out, err);
}

/* The chain that somebody gave, layer by layer. */
static sl_status make_as_given(const struct planning *p, struct split_plan *out, struct sl_err *err)
{
    const struct dispatch_wish *wish = p->wish;
    int32_t done = 0;
    *out = (struct split_plan){.n_stages = wish->n_members};
    for (uint32_t i = 0; i < wish->n_members; i++) {
        uint32_t at = 0;
        while (at < p->problem.n_nodes &&
               strcmp(p->dispatch->nodes[p->members[at]].id, wish->members[i]) != 0)
            at++;
        if (at == p->problem.n_nodes)
            return sl_err_set(err, SL_UNAVAILABLE, "member %s may have no stage now",
                              wish->members[i]);
        out->stages[i] =
            (struct split_stage){.node = at, .first = done, .last = done + wish->layers[i]};
        done += wish->layers[i];
    }
    return split_predict(&p->problem, out, err);
}

static int32_t context_of(const struct dispatch_model *model)
{
    uint64_t trained = dispatch_model_context(model);
    return trained && trained < CONTEXT_WANTED ? (int32_t)trained : CONTEXT_WANTED;
}

/* Less of what nobody has asked for by number: streams first, then their length. */
static bool ask_less(const struct dispatch_wish *wish, struct split_goal *goal)
{
    if (wish->goal.n_seqs <= 0 && goal->n_seqs > 1) {
        goal->n_seqs /= 2;
        return true;
    }
    if (wish->goal.context <= 0 && goal->context / 2 >= CONTEXT_LEAST) {
        goal->context /= 2;
        return true;
    }
    return false;
}

static void name_members(const struct planning *p, struct dispatch_split *out)
{
    for (size_t i = 0; i < out->plan.n_stages; i++) {
        out->members[i] = p->members[out->plan.stages[i].node];
        out->slowdowns[i] = p->nodes[out->plan.stages[i].node].slowdown;
        out->hops_s[i] = p->nodes[out->plan.stages[i].node].hop_s;
    }
    out->goal = p->problem.goal;
    out->link = p->wish->link;
}

static sl_status make_once(struct planning *p, struct split_plan *out, struct sl_err *err)
{
    return p->wish->layers[0] ? make_as_given(p, out, err) : make_with_heads(p, out, err);
}

/* For as much as there is room for. Where nothing fits that is found out with the least that could
 * be asked for, and not with all that is more. */
static sl_status make_for_most(struct planning *p, struct split_plan *out, struct sl_err *err)
{
    struct split_goal *goal = &p->problem.goal, most;
    if (goal->n_seqs <= 0) goal->n_seqs = SEQS_WANTED;
    if (goal->n_seqs > SEQS_MAX) goal->n_seqs = SEQS_MAX;
    if (goal->context <= 0) goal->context = context_of(p->model);
    most = *goal;
    while (ask_less(p->wish, goal)) continue;
    sl_status status = make_once(p, out, err);
    if (status != SL_OK) return status;
    *goal = most;
    while ((status = make_once(p, out, err)) == SL_UNAVAILABLE && ask_less(p->wish, goal)) continue;
    return status;
}

sl_status dispatch_split_make(struct dispatch *dispatch, const struct dispatch_model *model,
                              const struct dispatch_wish *wish, struct dispatch_split *out,
                              struct sl_err *err)
{
    struct planning p;
    sl_status status = planning_init(dispatch, model, wish, NULL, &p, err);
    if (status == SL_OK) status = make_for_most(&p, &out->plan, err);
    if (status == SL_OK) name_members(&p, out);
    planning_done(&p);
    return status;
}

/* The running chain in the problem's numbers. False: a member of it is not in there. */
static bool running_plan(const struct planning *p, const struct dispatch_chain *chain,
                         struct split_plan *out)
{
    const struct grid_split *split = chain->split;
    *out = (struct split_plan){.n_stages = split->n_stages, .flights = split->n_flights};
    for (size_t i = 0; i < split->n_stages; i++) {
        uint32_t at = NODE_NONE;
        for (uint32_t k = 0; k < p->problem.n_nodes; k++)
            if (!strcmp(p->dispatch->nodes[p->members[k]].id, split->stages[i].member)) at = k;
        if (at == NODE_NONE) return false;
        out->stages[i] = (struct split_stage){
            .node = at, .first = split->stages[i].first, .last = split->stages[i].last};
    }
    return true;
}

bool dispatch_split_better(struct dispatch *dispatch, struct dispatch_chain *chain,
                           struct dispatch_split *out, struct split_move *move)
{
    static const struct split_hysteresis hysteresis = {MOVE_GAIN, MOVE_HORIZON_S};
    struct planning p;
    struct sl_err err = SL_ERR_INIT;
    struct dispatch_wish wish = chain->wish;
    struct split_plan running;
    bool better = false;
    wish.head = chain->head;
    wish.goal.n_seqs = chain->split->n_seqs;
    wish.goal.context = chain->split->n_ctx;
    sl_status status =
        planning_init(dispatch, &dispatch->models[chain->model], &wish, &chain->made, &p, &err);
    if (status == SL_OK && running_plan(&p, chain, &running)) {
        struct split_plan now = running;
        if (split_predict(&p.problem, &now, &err) == SL_OK) {
            chain->made.plan = now;
            name_members(&p, &chain->made);
        }
        status = split_make_near(&p.problem, &running, &out->plan, &err);
        if (status == SL_OK) split_better(&p.problem, &running, &out->plan, &hysteresis, move);
        better = status == SL_OK && move->worth_it && out->plan.n_stages > 1 && !wish.layers[0];
        if (better) name_members(&p, out);
    }
    planning_done(&p);
    return better;
}

struct grid_split *dispatch_split_tell(const struct dispatch *dispatch,
                                       const struct dispatch_split *split)
{
    struct grid_stage stages[SPLIT_STAGES_MAX];
    const struct split_plan *plan = &split->plan;
    for (size_t i = 0; i < plan->n_stages; i++) {
        const struct dispatch_node *node = &dispatch->nodes[split->members[i]];
        stages[i] = (struct grid_stage){.member = node->id,
                                        .address = node->has_report ? node->report.address : "",
                                        .first = plan->stages[i].first,
                                        .last = plan->stages[i].last};
    }
    int32_t blocks = (split->goal.context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    const struct grid_split told = {.stages = stages,
                                    .n_stages = plan->n_stages,
                                    .n_ctx = split->goal.context,
                                    .n_seqs = split->goal.n_seqs,
                                    /* and one of each that is being copied */
                                    .kv_blocks = (blocks + 1) * split->goal.n_seqs,
                                    .n_batch = plan->chunk,
                                    .n_flights = plan->flights,
                                    .link = split->link};
    return grid_split_copy(&told);
}

/* --- what was measured --- */

static const struct grid_hosted *measured_of(const struct dispatch *dispatch,
                                             const struct dispatch_chain *chain)
{
    const struct dispatch_node *head = &dispatch->nodes[chain->head];
    for (size_t i = 0; head->used && head->has_report && i < head->report.n_hosted; i++) {
        const struct grid_hosted *hosted = &head->report.hosted[i];
        if (head->hosted_models[i] == chain->model && hosted->hops &&
            grid_split_equal(hosted->split, chain->split))
            return hosted;
    }
    return NULL;
}

/* Computing of a micro-batch of so many rows, where one and plan.rows are foretold. */
static double foretold_s(const struct split_plan *plan, size_t stage, double rows,
                         const struct split_machine *machine)
{
    const struct split_stage *at = &plan->stages[stage];
    double one = split_computing_s(machine, at->token_s);
    double many = split_computing_s(machine, at->step_s);
    return plan->rows <= 1 || rows <= 1 ? one : one + (many - one) * (rows - 1) / (plan->rows - 1);
}

/* What a way took beyond the network's part of it is shared by both ends. */
static void learn_hops(struct dispatch *dispatch, const struct dispatch_chain *chain,
                       const struct grid_hop *hops)
{
    const struct dispatch_split *made = &chain->made;
    size_t n = made->plan.n_stages;
    for (size_t i = 0; i < n; i++) {
        size_t from = (i + n - 1) % n;
        double network_s = made->plan.stages[from].link_s - made->hops_s[from] - made->hops_s[i];
        double end_s = (hops[i].hop_s - network_s) / 2;
        if (hops[i].hop_s <= 0 || end_s < HOP_LEAST_S || end_s > HOP_MOST_S) continue;
        struct dispatch_node *ends[] = {&dispatch->nodes[made->members[from]],
                                        &dispatch->nodes[made->members[i]]};
        for (int k = 0; k < 2; k++) {
            double old = ends[k]->hop_s > 0 ? ends[k]->hop_s : SPLIT_HOP_S;
            ends[k]->hop_s = old + LEARN_SHARE * (end_s - old);
        }
    }
}

void dispatch_split_learn(struct dispatch *dispatch, const struct dispatch_chain *chain)
{
    static const struct split_machine unknown;
    const struct grid_hosted *hosted = measured_of(dispatch, chain);
    const struct split_plan *plan = &chain->made.plan;
    const struct split_model *shape = dispatch_model_shape(&dispatch->models[chain->model]);
    if (!hosted || plan->n_stages != chain->split->n_stages || !shape) return;
    double rows = hosted->hops[1].bytes / row_bytes(shape, chain->made.link);
    /* Chunks of prompts are of another kind. */
    if (rows > 2.0 * plan->rows) return;
    learn_hops(dispatch, chain, hosted->hops);
    double least = BUSY_LEAST;
    for (size_t i = 0; i < plan->n_stages; i++)
        least = fmax(least, BUSY_PART * hosted->hops[i].load);
    for (size_t i = 0; i < plan->n_stages; i++) {
        struct dispatch_node *node = dispatch_node_find(dispatch, chain->split->stages[i].member);
        const struct grid_hop *hop = &hosted->hops[i];
        if (!node || hop->load < least || hop->compute_s <= 0) continue;
        double old = node->slowdown > 0 ? node->slowdown : 1;
        const struct split_machine *machine =
            node->has_report && node->report.machine ? node->report.machine : &unknown;
        double now_s = foretold_s(plan, i, rows, machine) * old / chain->made.slowdowns[i];
        double took_s = split_unthrottled_s(machine, now_s, hop->compute_s);
        node->slowdown = split_slowdown(old, now_s, took_s);
    }
}

void dispatch_split_age(struct dispatch *dispatch)
{
    for (uint32_t i = 0; i < dispatch->n_nodes; i++) {
        double *slowdown = &dispatch->nodes[i].slowdown;
        if (*slowdown > 0) *slowdown = 1 + (*slowdown - 1) * FORGET_SHARE;
    }
}
