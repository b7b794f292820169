/* sched_placement_test.c: which models live where: replicas come with demand, go without it, and do
 * not flap. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/mem.h"
#include "sched/placement.h"

#define S INT64_C(1000000000)
#define NODES 3
#define MODELS 2
#define SLOTS 4
#define GB (UINT64_C(1) << 30)

/* Nodes that do at once what they are told, and say so in their next report. */
struct world {
    struct node_table table;
    struct placement_config config;
    struct placement *placement;
    uint64_t memory[NODES], labels[NODES];
    uint32_t engines[NODES];
    bool hosts[NODES][MODELS];
    uint32_t waiting[MODELS]; /* at the gateway */
    uint32_t running[MODELS]; /* on the nodes, spread */
    int64_t now_ns;
    uint64_t version;
    uint32_t n_loads[MODELS], n_unloads[MODELS];
    uint32_t last_node;
};

static void world_begin(struct world *world)
{
    struct node_table_config config;
    struct sl_err err;
    *world = (struct world){.now_ns = 1000 * S};
    node_table_config_default(&config);
    config.n_nodes_max = NODES;
    config.n_models_max = MODELS;
    config.n_prefix_blocks = 8;
    assert_int_equal(node_table_init(&world->table, &config, &err), SL_OK);
    placement_config_default(&world->config);
    world->config.n_models_max = MODELS;
    assert_int_equal(placement_create(&world->config, &world->placement, &err), SL_OK);
    for (uint32_t i = 0; i < NODES; i++) world->memory[i] = 8 * GB;
    for (uint32_t m = 0; m < MODELS; m++) {
        struct placement_model model = {.bytes = 6 * GB};
        assert_int_equal(placement_set_model(world->placement, m, &model), SL_OK);
    }
}

static void world_end(struct world *world)
{
    placement_destroy(world->placement);
    node_table_done(&world->table);
}

static uint32_t n_replicas(const struct world *world, uint32_t model)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < NODES; i++) n += world->hosts[i][model];
    return n;
}

static void report(struct world *world, uint32_t node)
{
    struct hosted_load loads[MODELS];
    bool restarted;
    uint32_t n = 0;
    for (uint32_t m = 0; m < MODELS; m++)
        if (world->hosts[node][m])
            loads[n++] =
                (struct hosted_load){.model = m,
                                     .state = SCHED_READY,
                                     .n_slots = SLOTS,
                                     .n_running = world->running[m] / n_replicas(world, m)};
    struct node_report what = {.node = node,
                               .boot = 1,
                               .version = ++world->version,
                               .facts = {.memory_bytes = world->memory[node],
                                         .labels = world->labels[node],
                                         .engines = world->engines[node]},
                               .hosted = loads,
                               .n_hosted = n};
    assert_true(node_table_report(&world->table, &what, world->now_ns, &restarted));
}

static uint64_t used(const struct world *world, uint32_t node)
{
    return (world->hosts[node][0] + world->hosts[node][1]) * 6 * GB;
}

static void second(struct world *world)
{
    const struct placement_action *actions;
    size_t n;
    world->now_ns += S;
    for (uint32_t i = 0; i < NODES; i++) report(world, i);
    placement_step(world->placement, &world->table, world->waiting, world->now_ns, &actions, &n);
    for (size_t i = 0; i < n; i++) {
        bool *hosts = &world->hosts[actions[i].node][actions[i].model];
        bool load = actions[i].kind == PLACEMENT_LOAD;
        assert_true(*hosts != load);
        *hosts = load;
        if (load) world->n_loads[actions[i].model]++;
        if (!load) world->n_unloads[actions[i].model]++;
        world->last_node = actions[i].node;
        assert_true(used(world, actions[i].node) <= world->memory[actions[i].node]);
    }
}

static void seconds(struct world *world, int n)
{
    for (int i = 0; i < n; i++) second(world);
}

static void test_the_first_request_loads_it(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    seconds(&world, 10);
    assert_int_equal(n_replicas(&world, 0), 0);
    world.waiting[0] = 1;
    second(&world);
    assert_int_equal(n_replicas(&world, 0), 1);
    world.waiting[0] = 0;
    world.running[0] = 1;
    seconds(&world, 100);
    assert_int_equal(world.n_loads[0], 1);
    world_end(&world);
}

static void test_a_load_that_takes_long_is_not_repeated(void **state)
{
    (void)state;
    struct world world;
    const struct placement_action *actions;
    size_t n;
    world_begin(&world);
    world.waiting[0] = 9;
    for (int i = 0; i < 59; i++) {
        world.now_ns += S;
        for (uint32_t k = 0; k < NODES; k++) report(&world, k);
        placement_step(world.placement, &world.table, world.waiting, world.now_ns, &actions, &n);
        assert_int_equal(n, i == 0);
    }
    seconds(&world, 3); /* nobody ever saw it: again */
    assert_int_equal(world.n_loads[0], 1);
    world_end(&world);
}

static void test_replicas_follow_demand(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.running[0] = 2;
    world.waiting[0] = 1;
    second(&world);
    world.waiting[0] = 0;
    seconds(&world, 300);
    assert_int_equal(n_replicas(&world, 0), 1); /* 2 of 4 slots */
    world.running[0] = 6;
    seconds(&world, 300);
    assert_int_equal(n_replicas(&world, 0), 3); /* 6 of 12 */
    world.running[0] = 30;
    seconds(&world, 300);
    assert_int_equal(n_replicas(&world, 0), 3); /* there are no more nodes */
    world.running[0] = 1;
    seconds(&world, 100);
    assert_int_equal(n_replicas(&world, 0), 3); /* not at once */
    seconds(&world, 600);
    assert_int_equal(n_replicas(&world, 0), 1);
    world.running[0] = 0;
    seconds(&world, 900);
    assert_int_equal(n_replicas(&world, 0), 0); /* nobody asks */
    world_end(&world);
}

static void test_how_long_it_stays_is_foretold(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    assert_true(placement_stays_ns(world.placement, 0) < 0); /* it is nowhere */
    assert_true(placement_stays_ns(world.placement, MODELS) < 0);
    world.waiting[0] = 1;
    second(&world);
    world.waiting[0] = 0;
    world.running[0] = 2;
    seconds(&world, 60);
    assert_true(placement_stays_ns(world.placement, 0) < 0); /* in use */
    world.running[0] = 0;
    second(&world);
    int64_t foretold_ns = placement_stays_ns(world.placement, 0);
    assert_true(foretold_ns > world.config.down_after_ns);
    int64_t from_ns = world.now_ns;
    seconds(&world, 150);
    int64_t left_ns = placement_stays_ns(world.placement, 0);
    assert_in_range(left_ns, foretold_ns - 152 * S, foretold_ns - 148 * S);
    while (n_replicas(&world, 0)) second(&world);
    assert_in_range(world.now_ns - from_ns, foretold_ns - 3 * S, foretold_ns + 3 * S);
    struct placement_model model = {.bytes = 6 * GB, .replicas_min = 1};
    assert_int_equal(placement_set_model(world.placement, 0, &model), SL_OK);
    seconds(&world, 3);
    assert_true(placement_stays_ns(world.placement, 0) < 0); /* for good */
    world_end(&world);
}

static void test_minimum_and_maximum(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    struct placement_model model = {.bytes = 6 * GB, .replicas_min = 1, .replicas_max = 2};
    assert_int_equal(placement_set_model(world.placement, 0, &model), SL_OK);
    seconds(&world, 2);
    assert_int_equal(n_replicas(&world, 0), 1);
    world.running[0] = 50;
    seconds(&world, 300);
    assert_int_equal(n_replicas(&world, 0), 2);
    world.running[0] = 0;
    seconds(&world, 2000);
    assert_int_equal(n_replicas(&world, 0), 1);
    model.replicas_min = 3;
    assert_int_equal(placement_set_model(world.placement, 0, &model), SL_INVALID);
    assert_int_equal(placement_set_model(world.placement, MODELS, &model), SL_INVALID);
    world_end(&world);
}

static void test_noise_makes_nothing_flap(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.waiting[0] = 1;
    second(&world);
    world.waiting[0] = 0;
    /* Around the 2.8 of 4 slots that ask for a second replica: bursts every ten seconds. */
    for (int i = 0; i < 3600; i++) {
        world.running[0] = i % 10 < 4 ? 6 : 1;
        second(&world);
    }
    assert_true(world.n_loads[0] <= 2);
    assert_int_equal(world.n_unloads[0], 0);
    world_end(&world);
}

static void test_room_is_made_without_taking_a_last_one(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    for (uint32_t i = 0; i < NODES; i++) world.hosts[i][1] = true;
    world.running[1] = 3; /* three replicas for what one nearly does */
    seconds(&world, 40);
    world.waiting[0] = 1;
    seconds(&world, 3);
    assert_int_equal(n_replicas(&world, 0), 1);
    assert_int_equal(n_replicas(&world, 1), 2);
    assert_int_equal(world.n_unloads[1], 1);
    world.waiting[0] = 0;
    world.running[0] = 100; /* it would take everything */
    world.running[1] = 1;
    seconds(&world, 1000);
    assert_int_equal(n_replicas(&world, 0), 2);
    assert_int_equal(n_replicas(&world, 1), 1); /* somebody asks for it */
    world_end(&world);
}

/* Nobody uses model 1 any more, though its demand has not faded yet: it gives way at once to one
 * that is ready nowhere, and stays gone. */
static void test_an_idle_model_gives_way_at_once(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    for (uint32_t i = 0; i < NODES; i++) world.memory[i] = i ? 0 : 8 * GB;
    world.waiting[1] = 1;
    second(&world);
    world.waiting[1] = 0;
    world.running[1] = 1;
    seconds(&world, 20);
    assert_int_equal(n_replicas(&world, 1), 1);
    world.waiting[0] = 1;
    seconds(&world, 20);
    assert_int_equal(n_replicas(&world, 1), 1); /* it has a request */
    world.running[1] = 0;
    seconds(&world, 2);
    assert_int_equal(n_replicas(&world, 0), 1);
    world.waiting[0] = 0;
    world.running[0] = 1;
    seconds(&world, 600);
    assert_int_equal(n_replicas(&world, 0), 1);
    assert_int_equal(n_replicas(&world, 1), 0);
    world_end(&world);
}

/* One step that nobody carries out. Returns the node it was to be loaded on. */
static uint32_t ordered(struct world *world)
{
    const struct placement_action *actions;
    size_t n;
    world->now_ns += S;
    for (uint32_t i = 0; i < NODES; i++)
        if (world->table.nodes[i].health != NODE_DEAD) report(world, i);
    placement_step(world->placement, &world->table, world->waiting, world->now_ns, &actions, &n);
    return n == 1 && actions[0].kind == PLACEMENT_LOAD ? actions[0].node : NODE_NONE;
}

static void test_a_load_dies_with_its_node(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.waiting[0] = 1;
    uint32_t first = ordered(&world);
    assert_true(first != NODE_NONE);
    assert_int_equal(ordered(&world), NODE_NONE); /* it is on its way */
    node_table_gone(&world.table, first);
    uint32_t second_one = ordered(&world);
    assert_true(second_one != NODE_NONE && second_one != first);
    world_end(&world);
}

static void test_where_it_may_live(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    struct placement_model model = {.bytes = 6 * GB, .engine = 2, .labels_wanted = 1};
    assert_int_equal(placement_set_model(world.placement, 0, &model), SL_OK);
    world.waiting[0] = 1;
    world.engines[0] = 2; /* lacks the label */
    world.labels[1] = 1;  /* lacks the engine */
    world.engines[2] = 3;
    world.labels[2] = 5;
    world.memory[2] = 5 * GB; /* is too small */
    seconds(&world, 5);
    assert_int_equal(world.n_loads[0], 0);
    world.memory[2] = 6 * GB;
    second(&world);
    assert_int_equal(world.n_loads[0], 1);
    assert_int_equal(world.last_node, 2);
    world_end(&world);
}

static void test_configuration_and_memory(void **state)
{
    (void)state;
    struct placement_config config;
    struct placement *placement = NULL;
    struct sl_err err;
    placement_config_default(&config);
    config.spare = config.target;
    assert_int_equal(placement_create(&config, &placement, &err), SL_INVALID);
    placement_config_default(&config);
    config.loads_max = 0;
    assert_int_equal(placement_create(&config, &placement, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "loads_max"));
    placement_config_default(&config);
    uint64_t live = sl_mem_live();
    for (uint64_t nth = 1;; nth++) {
        sl_mem_fail_at(nth, false);
        sl_status status = placement_create(&config, &placement, &err);
        bool hit = sl_mem_fail_hit();
        sl_mem_fail_at(0, false);
        if (!hit) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    assert_true(placement_demand(placement, config.n_models_max) == 0);
    placement_destroy(placement);
    assert_int_equal(sl_mem_live(), live);
}

static void test_who_has_the_files_loads_first(void **state)
{
    (void)state;
    struct world world;
    const uint64_t holders = 1 << 2;
    struct placement_model model = {.bytes = 6 * GB, .holders = &holders};
    world_begin(&world);
    world.memory[0] = 64 * GB;
    assert_int_equal(placement_set_model(world.placement, 0, &model), SL_OK);
    world.waiting[0] = 1;
    second(&world);
    assert_true(world.hosts[2][0]);
    world.running[0] = 30; /* others fetch them */
    seconds(&world, 300);
    assert_int_equal(n_replicas(&world, 0), 3);
    world_end(&world);
}

static void test_past_demand_loads_nothing(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world);
    world.waiting[0] = 4;
    second(&world);
    assert_int_equal(n_replicas(&world, 0), 1);
    world.waiting[0] = 0;
    world.running[0] = 4;
    seconds(&world, 30);
    memset(world.hosts, 0, sizeof world.hosts); /* somebody had it unloaded */
    world.running[0] = 0;
    world.n_loads[0] = 0;
    seconds(&world, 60);
    assert_int_equal(world.n_loads[0], 0);
    world_end(&world);
}

/* As many as are wanted come at once with the first, come back when a node has lost one, and go
 * when nobody asks any more. */
static void test_as_many_as_are_wanted(void **state)
{
    (void)state;
    struct world world;
    struct placement_model wanted = {.bytes = 6 * GB, .replicas_wanted = 3};
    world_begin(&world);
    assert_int_equal(placement_set_model(world.placement, 0, &wanted), SL_OK);
    seconds(&world, 10);
    assert_int_equal(n_replicas(&world, 0), 0);
    world.waiting[0] = 1;
    second(&world);
    assert_int_equal(n_replicas(&world, 0), 3);
    world.waiting[0] = 0;
    world.running[0] = 3;
    seconds(&world, 10);
    assert_int_equal(n_replicas(&world, 0), 3);
    for (uint32_t i = 0; i < NODES; i++)
        if (world.hosts[i][0]) {
            world.hosts[i][0] = false;
            break;
        }
    second(&world);
    assert_int_equal(n_replicas(&world, 0), 3);
    world.running[0] = 0;
    seconds(&world, 3600);
    assert_int_equal(n_replicas(&world, 0), 0);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_request_loads_it),
        cmocka_unit_test(test_a_load_that_takes_long_is_not_repeated),
        cmocka_unit_test(test_replicas_follow_demand),
        cmocka_unit_test(test_minimum_and_maximum),
        cmocka_unit_test(test_noise_makes_nothing_flap),
        cmocka_unit_test(test_room_is_made_without_taking_a_last_one),
        cmocka_unit_test(test_an_idle_model_gives_way_at_once),
        cmocka_unit_test(test_a_load_dies_with_its_node),
        cmocka_unit_test(test_where_it_may_live),
        cmocka_unit_test(test_how_long_it_stays_is_foretold),
        cmocka_unit_test(test_configuration_and_memory),
        cmocka_unit_test(test_who_has_the_files_loads_first),
        cmocka_unit_test(test_past_demand_loads_nothing),
        cmocka_unit_test(test_as_many_as_are_wanted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
