/* placement_prop.c: router and placement together, in front of nodes that load, fail and die while
 * reports and orders get lost: no node's memory is exceeded, no more than loads_max loads are under
 * way, a model with requests keeps its last ready replica, one that is waited for and ready nowhere
 * is loaded in the same step where a node has room, and once the trouble is over every request that
 * a node can serve ends. Under steady demand nothing moves. SEED=n repeats a run; ROUNDS=n makes it
 * longer or shorter. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sched/placement.h"
#include "sched/router.h"
#include "support/prop.h"

#define S INT64_C(1000000000)
#define NODES 4
#define MODELS 3
#define REQUESTS 10
#define N_ROUNDS 100000
#define N_STEPS 24
#define CALM_STEPS_MAX 2000 /* seconds; far more than any schedule has needed */
#define TWIN_EVERY 16

/* What a node really has. */
enum truth { NOTHING, LOADING, READY, BROKEN };

struct replica {
    enum truth truth;
    uint32_t left; /* s until LOADING or BROKEN is over */
};

struct machine {
    bool alive;
    uint64_t boot, version, seen, memory;
    uint32_t n_slots;
    struct replica replicas[MODELS];
};

struct ask {
    bool live, running;
    uint32_t model, node, attempt;
};

/* Orders as the grid can know of them: given, and not yet seen done, failed or impossible. */
struct order {
    bool open;
    uint64_t boot;
    int64_t at_ns;
};

struct world {
    struct router *router;
    struct placement *placement, *twin;
    struct placement_config config;
    struct placement_model models[MODELS];
    struct machine machines[NODES];
    struct order orders[NODES][MODELS];
    struct ask asks[REQUESTS];
    uint32_t n_asks, waiting[MODELS];
    int64_t now_ns;
    bool calm;
    uint64_t n_loads, n_unloads, n_urgent;
};

static void step(struct world *world, const struct router_event *event);

/* --- what is known: a naive count from the router's table --- */

static const struct grid_node *known(const struct world *world, uint32_t node)
{
    return &router_nodes(world->router)->nodes[node];
}

static bool usable(const struct world *world, uint32_t node)
{
    return known(world, node)->health == NODE_ALIVE;
}

static enum sched_model_state known_state(const struct world *world, uint32_t node, uint32_t model)
{
    const struct hosted_model *hosted = node_table_hosted(router_nodes(world->router), node, model);
    return hosted ? hosted->load.state : SCHED_UNLOADED;
}

static void orders_review(struct world *world)
{
    for (uint32_t n = 0; n < NODES; n++)
        for (uint32_t m = 0; m < MODELS; m++) {
            struct order *order = &world->orders[n][m];
            enum sched_model_state state = known_state(world, n, m);
            bool told = usable(world, n) && (state == SCHED_READY || state == SCHED_BACKOFF);
            if (told || known(world, n)->health == NODE_DEAD ||
                known(world, n)->boot != order->boot ||
                world->now_ns - order->at_ns >= world->config.load_timeout_ns)
                order->open = false;
        }
}

static uint32_t n_under_way(const struct world *world)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < NODES; i++)
        for (uint32_t m = 0; m < MODELS; m++) n += world->orders[i][m].open;
    return n;
}

static uint32_t n_known(const struct world *world, uint32_t model, bool ready_only)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < NODES; i++) {
        enum sched_model_state state = known_state(world, i, model);
        if (!usable(world, i)) continue;
        n += state == SCHED_READY;
        if (!ready_only && state != SCHED_READY)
            n += state == SCHED_LOADING || world->orders[i][model].open;
    }
    return n;
}

static uint32_t n_requests(const struct world *world, uint32_t model)
{
    uint32_t n = world->waiting[model];
    for (uint32_t i = 0; i < NODES; i++) {
        const struct hosted_model *hosted =
            node_table_hosted(router_nodes(world->router), i, model);
        if (usable(world, i) && hosted) n += hosted->load.n_running + hosted->load.n_waiting;
    }
    return n;
}

static bool has_room(const struct world *world, uint32_t node, uint32_t model)
{
    uint64_t used = world->models[model].bytes;
    if (!usable(world, node) || world->orders[node][model].open ||
        known_state(world, node, model) != SCHED_UNLOADED)
        return false;
    for (uint32_t m = 0; m < MODELS; m++) {
        enum sched_model_state state = known_state(world, node, m);
        if (state == SCHED_READY || state == SCHED_LOADING || world->orders[node][m].open)
            used += world->models[m].bytes;
    }
    return used <= known(world, node)->facts.memory_bytes;
}

/* --- nodes --- */

static uint64_t memory_used(const struct world *world, uint32_t node)
{
    uint64_t used = 0;
    for (uint32_t m = 0; m < MODELS; m++) {
        enum truth truth = world->machines[node].replicas[m].truth;
        if (truth == READY || truth == LOADING) used += world->models[m].bytes;
    }
    return used;
}

static uint32_t n_running(const struct world *world, uint32_t node, uint32_t model)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < world->n_asks; i++)
        n += world->asks[i].live && world->asks[i].running && world->asks[i].node == node &&
             world->asks[i].model == model;
    return n;
}

static void report(struct world *world, uint32_t number)
{
    static const enum sched_model_state states[] = {SCHED_UNLOADED, SCHED_LOADING, SCHED_READY,
                                                    SCHED_BACKOFF};
    struct machine *machine = &world->machines[number];
    struct hosted_load loads[MODELS];
    uint32_t n = 0;
    for (uint32_t m = 0; m < MODELS; m++) {
        if (machine->replicas[m].truth == NOTHING) continue;
        loads[n++] = (struct hosted_load){.model = m,
                                          .state = states[machine->replicas[m].truth],
                                          .n_slots = machine->n_slots,
                                          .n_queue_max = 2,
                                          .n_running = n_running(world, number, m)};
    }
    struct node_report what = {.node = number,
                               .boot = machine->boot,
                               .version = ++machine->version,
                               .covers = machine->seen,
                               .facts = {.memory_bytes = machine->memory},
                               .hosted = loads,
                               .n_hosted = n};
    step(world, &(struct router_event){.kind = ROUTER_REPORT, .report = &what});
}

static void die(struct world *world, uint32_t number)
{
    struct machine *machine = &world->machines[number];
    if (!machine->alive) return;
    machine->alive = false;
    memset(machine->replicas, 0, sizeof machine->replicas);
    for (uint32_t i = 0; i < world->n_asks; i++)
        if (world->asks[i].node == number) world->asks[i].running = false;
    if (prop_draw(2)) step(world, &(struct router_event){.kind = ROUTER_NODE_GONE, .node = number});
}

static void start(struct world *world, uint32_t number)
{
    struct machine *machine = &world->machines[number];
    if (machine->alive) return;
    machine->alive = true;
    machine->boot++;
    machine->version = machine->seen = 0;
    report(world, number);
}

static void second_of(struct replica *replica, bool calm)
{
    if (replica->left > 0 && --replica->left > 0) return;
    if (replica->truth == BROKEN) replica->truth = NOTHING;
    if (replica->truth != LOADING) return;
    bool fails = !calm && prop_draw(8) == 0;
    *replica = fails ? (struct replica){BROKEN, 3} : (struct replica){READY, 0};
}

/* --- the router's side --- */

static void news(struct world *world, const struct ask *ask, uint64_t request, int kind)
{
    step(world, &(struct router_event){.kind = (enum router_event_kind)kind,
                                       .request = request,
                                       .attempt = ask->attempt,
                                       .node = ask->node,
                                       .status = SL_UNAVAILABLE,
                                       .n_tokens = 1});
}

static void carry_out(struct world *world, const struct router_action *action)
{
    struct ask *ask = &world->asks[action->request];
    if (action->kind == ROUTER_SEND) {
        struct machine *machine = &world->machines[action->node];
        if (action->sent > machine->seen) machine->seen = action->sent;
        ask->node = action->node;
        ask->attempt = action->attempt;
        ask->running = machine->alive && machine->replicas[ask->model].truth == READY;
    } else if (action->kind == ROUTER_STOP) {
        ask->running = false;
    } else if (action->kind == ROUTER_END) {
        assert_true(ask->live);
        ask->live = ask->running = false;
    }
}

static void step(struct world *world, const struct router_event *event)
{
    const struct router_action *actions;
    size_t n;
    assert_int_equal(router_step(world->router, event, world->now_ns, &actions, &n), SL_OK);
    for (size_t i = 0; i < n; i++) carry_out(world, &actions[i]);
}

static void submit(struct world *world)
{
    if (world->n_asks == REQUESTS) return;
    uint32_t number = world->n_asks++;
    struct ask *ask = &world->asks[number];
    *ask = (struct ask){.live = true, .model = (uint32_t)prop_draw(MODELS)};
    struct router_submit what = {
        .ask = {.model = ask->model, .prompt_tokens = 10, .output_tokens = 1, .block_tokens = 16},
        .deadline_ns = SCHED_NEVER};
    step(world, &(struct router_event){.kind = ROUTER_SUBMIT, .request = number, .submit = &what});
}

/* What a node has says so; what it does not have, it refuses. */
static void work(struct world *world)
{
    for (uint32_t i = 0; i < world->n_asks; i++) {
        struct ask ask = world->asks[i];
        if (!ask.live || ask.attempt == 0 || !world->machines[ask.node].alive) continue;
        if (!ask.running)
            news(world, &ask, i, ROUTER_REFUSED);
        else
            news(world, &ask, i, prop_draw(3) ? ROUTER_ACCEPTED : ROUTER_FINISHED);
    }
}

/* --- placement, and what it may do --- */

static void check_load(struct world *world, uint32_t node, uint32_t model)
{
    struct machine *machine = &world->machines[node];
    assert_true(usable(world, node));
    assert_int_equal(known_state(world, node, model), SCHED_UNLOADED);
    assert_false(world->orders[node][model].open);
    world->orders[node][model] = (struct order){true, known(world, node)->boot, world->now_ns};
    assert_true(n_under_way(world) <= world->config.loads_max);
    world->n_loads++;
    bool lost = !world->calm && prop_draw(8) == 0;
    if (lost || !machine->alive || machine->boot != known(world, node)->boot) return;
    assert_int_equal(machine->replicas[model].truth, NOTHING);
    uint32_t load_s = 1 + (uint32_t)prop_draw(prop_draw(4) ? 8 : 100); /* longer than a time-out */
    machine->replicas[model] = (struct replica){LOADING, load_s};
    assert_true(memory_used(world, node) <= machine->memory);
}

static void check_unload(struct world *world, uint32_t node, uint32_t model, uint32_t *n_ready)
{
    struct machine *machine = &world->machines[node];
    assert_true(usable(world, node));
    assert_int_equal(known_state(world, node, model), SCHED_READY);
    n_ready[model]--;
    assert_true(n_ready[model] >= world->models[model].replicas_min);
    if (n_requests(world, model) > 0) assert_true(n_ready[model] > 0);
    world->n_unloads++;
    if (!world->calm && prop_draw(8) == 0) return;
    if (machine->replicas[model].truth != READY) return; /* it is another process by now */
    machine->replicas[model].truth = NOTHING;
    for (uint32_t i = 0; i < world->n_asks; i++)
        if (world->asks[i].node == node && world->asks[i].model == model)
            world->asks[i].running = false;
}

/* Whoever is waited for and is nowhere has got a load, or there was no place for one. */
static void check_urgent(struct world *world, const bool *urgent)
{
    for (uint32_t m = 0; m < MODELS; m++) {
        if (!urgent[m]) continue;
        world->n_urgent++;
        bool loads = false, room = false;
        for (uint32_t n = 0; n < NODES; n++) {
            loads = loads || world->orders[n][m].open;
            room = room || has_room(world, n, m);
        }
        assert_true(loads || !room || n_under_way(world) == world->config.loads_max);
    }
}

static size_t place(struct world *world)
{
    const struct placement_action *actions, *twin_actions;
    uint32_t n_ready[MODELS];
    bool urgent[MODELS];
    size_t n, n_twin;
    orders_review(world);
    for (uint32_t m = 0; m < MODELS; m++) {
        world->waiting[m] = router_pending(world->router, m);
        n_ready[m] = n_known(world, m, true);
        urgent[m] = n_requests(world, m) > 0 && n_known(world, m, false) == 0;
    }
    placement_step(world->placement, router_nodes(world->router), world->waiting, world->now_ns,
                   &actions, &n);
    if (world->twin) {
        placement_step(world->twin, router_nodes(world->router), world->waiting, world->now_ns,
                       &twin_actions, &n_twin);
        assert_int_equal(n, n_twin);
        assert_memory_equal(actions, twin_actions, n * sizeof *actions);
    }
    for (size_t i = 0; i < n; i++) {
        if (actions[i].kind == PLACEMENT_LOAD)
            check_load(world, actions[i].node, actions[i].model);
        else
            check_unload(world, actions[i].node, actions[i].model, n_ready);
    }
    check_urgent(world, urgent);
    return n;
}

/* --- time --- */

static size_t second(struct world *world)
{
    world->now_ns += S;
    for (uint32_t n = 0; n < NODES; n++) {
        struct machine *machine = &world->machines[n];
        for (uint32_t m = 0; m < MODELS && machine->alive; m++)
            second_of(&machine->replicas[m], world->calm);
        if (machine->alive && (world->calm || prop_draw(8))) report(world, n);
    }
    work(world);
    step(world, &(struct router_event){.kind = ROUTER_TICK});
    return place(world);
}

static void chaos(struct world *world)
{
    uint32_t node = (uint32_t)prop_draw(NODES);
    switch (prop_draw(8)) {
    case 0: die(world, node); break;
    case 1:
    case 2: start(world, node); break;
    case 3:
    case 4:
    case 5: submit(world); break;
    default: break;
    }
    (void)second(world);
}

static bool servable(const struct world *world, uint32_t model)
{
    for (uint32_t n = 0; n < NODES; n++)
        if (world->machines[n].memory >= world->models[model].bytes) return true;
    return false;
}

static bool all_over(const struct world *world)
{
    for (uint32_t i = 0; i < world->n_asks; i++)
        if (world->asks[i].live && servable(world, world->asks[i].model)) return false;
    return true;
}

static void calm(struct world *world)
{
    world->calm = true;
    for (uint32_t n = 0; n < NODES; n++) start(world, n);
    for (int i = 0; i < CALM_STEPS_MAX && !all_over(world); i++) (void)second(world);
    assert_true(all_over(world));
}

static void world_begin(struct world *world, bool twin)
{
    struct router_config config;
    struct sl_err err;
    *world = (struct world){.now_ns = 1000 * S};
    router_config_default(&config);
    config.n_requests_max = REQUESTS;
    config.n_explained = 0;
    config.hedge_share = 0;
    config.table.n_nodes_max = NODES;
    config.table.n_models_max = MODELS;
    config.table.n_hosted_max = MODELS;
    config.table.n_prefix_blocks = 8;
    assert_int_equal(router_create(&config, &world->router, &err), SL_OK);
    placement_config_default(&world->config);
    world->config.n_models_max = MODELS;
    world->config.loads_max = 1 + (uint32_t)prop_draw(4);
    assert_int_equal(placement_create(&world->config, &world->placement, &err), SL_OK);
    if (twin) assert_int_equal(placement_create(&world->config, &world->twin, &err), SL_OK);
    for (uint32_t m = 0; m < MODELS; m++) {
        world->models[m] = (struct placement_model){.bytes = 1 + prop_draw(6)};
        assert_int_equal(placement_set_model(world->placement, m, &world->models[m]), SL_OK);
        if (twin) assert_int_equal(placement_set_model(world->twin, m, &world->models[m]), SL_OK);
    }
    for (uint32_t n = 0; n < NODES; n++) {
        world->machines[n].memory = 1 + prop_draw(10);
        world->machines[n].n_slots = 1 + (uint32_t)prop_draw(4);
        if (prop_draw(4)) start(world, n);
    }
}

static void world_end(struct world *world)
{
    router_destroy(world->router);
    placement_destroy(world->placement);
    placement_destroy(world->twin);
}

static void test_router_and_placement_in_trouble(void **state)
{
    (void)state;
    static struct world world;
    const char *rounds = getenv("ROUNDS");
    long n_rounds = rounds ? atol(rounds) : N_ROUNDS;
    uint64_t live = sl_mem_live(), n_loads = 0, n_unloads = 0, n_urgent = 0;
    for (long round = 0; round < n_rounds; round++) {
        world_begin(&world, round % TWIN_EVERY == 0);
        for (int i = 0; i < N_STEPS; i++) chaos(&world);
        calm(&world);
        n_loads += world.n_loads;
        n_unloads += world.n_unloads;
        n_urgent += world.n_urgent;
        world_end(&world);
    }
    assert_int_equal(sl_mem_live(), live);
    /* A property of what never happens proves nothing. */
    assert_true(n_loads > 0 && n_urgent > 0);
    assert_true(n_rounds < 1000 || n_unloads > 0);
}

/* --- steady demand --- */

#define STEADY_ROUNDS 200
#define SETTLING_S 1200
#define STEADY_S 600

struct steady {
    struct node_table table;
    struct placement *placement;
    bool hosts[NODES][MODELS];
    uint64_t memory[NODES], version;
    uint32_t demand[MODELS], waiting[MODELS];
};

static uint32_t n_hosts(const struct steady *steady, uint32_t model)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < NODES; i++) n += steady->hosts[i][model];
    return n;
}

static void steady_report(struct steady *steady, uint32_t node, int64_t now_ns)
{
    struct hosted_load loads[MODELS];
    uint32_t n = 0;
    bool restarted;
    for (uint32_t m = 0; m < MODELS; m++) {
        if (!steady->hosts[node][m]) continue;
        uint32_t each = steady->demand[m] / n_hosts(steady, m);
        loads[n++] =
            (struct hosted_load){.model = m, .state = SCHED_READY, .n_slots = 4, .n_running = each};
    }
    struct node_report what = {.node = node,
                               .boot = 1,
                               .version = ++steady->version,
                               .facts = {.memory_bytes = steady->memory[node]},
                               .hosted = loads,
                               .n_hosted = n};
    assert_true(node_table_report(&steady->table, &what, now_ns, &restarted));
}

static size_t steady_second(struct steady *steady, int64_t now_ns)
{
    const struct placement_action *actions;
    size_t n;
    for (uint32_t i = 0; i < NODES; i++) steady_report(steady, i, now_ns);
    for (uint32_t m = 0; m < MODELS; m++)
        steady->waiting[m] = n_hosts(steady, m) ? 0 : steady->demand[m];
    placement_step(steady->placement, &steady->table, steady->waiting, now_ns, &actions, &n);
    for (size_t i = 0; i < n; i++)
        steady->hosts[actions[i].node][actions[i].model] = actions[i].kind == PLACEMENT_LOAD;
    return n;
}

static void steady_begin(struct steady *steady)
{
    struct node_table_config table;
    struct placement_config config;
    struct sl_err err;
    *steady = (struct steady){0};
    node_table_config_default(&table);
    table.n_nodes_max = NODES;
    table.n_models_max = MODELS;
    table.n_prefix_blocks = 8;
    assert_int_equal(node_table_init(&steady->table, &table, &err), SL_OK);
    placement_config_default(&config);
    config.n_models_max = MODELS;
    assert_int_equal(placement_create(&config, &steady->placement, &err), SL_OK);
    for (uint32_t m = 0; m < MODELS; m++) {
        struct placement_model model = {.bytes = 1 + prop_draw(6)};
        assert_int_equal(placement_set_model(steady->placement, m, &model), SL_OK);
        steady->demand[m] = (uint32_t)prop_draw(12);
    }
    for (uint32_t n = 0; n < NODES; n++) steady->memory[n] = 1 + prop_draw(10);
}

static void test_steady_demand_moves_nothing(void **state)
{
    (void)state;
    static struct steady steady;
    for (int round = 0; round < STEADY_ROUNDS; round++) {
        size_t n_moves = 0;
        steady_begin(&steady);
        for (int i = 1; i <= SETTLING_S; i++) (void)steady_second(&steady, i * S);
        for (int i = 1; i <= STEADY_S; i++) n_moves += steady_second(&steady, (SETTLING_S + i) * S);
        assert_int_equal(n_moves, 0);
        placement_destroy(steady.placement);
        node_table_done(&steady.table);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_router_and_placement_in_trouble),
        cmocka_unit_test(test_steady_demand_moves_nothing),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
