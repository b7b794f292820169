/* agent_split_test.c: what a member does for models over several members besides running stages: it
 * takes a chain from a gateway, tells what it knows of models and machines, and measures the ways
 * to others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "grid/probe.h"
#include "support/agent_fixture.h"
#include "support/members.h"
#include "support/stage_fixture.h"
#include "support/temp_dir.h"

#define MODEL "starling"

static struct agent_fixture f; /* too large for a stack */

static const struct grid_stage stages[] = {{AGENT_FIXTURE_SELF, "", 0, 3}, {"nother", "", 3, 5}};
static const struct grid_split chain = {
    .stages = stages, .n_stages = 2, .n_ctx = 256, .n_seqs = 1, .kv_blocks = 17};

static void load(const char *model, const struct grid_split *split)
{
    const struct grid_msg msg = {
        .type = GRID_CONTROL,
        .control = {.kind = GRID_CONTROL_LOAD, .model = model, .digest = "", .split = split}};
    agent_fixture_send(&f, &msg);
}

static const struct grid_hosted *wait_for(const char *model, enum sched_model_state state)
{
    const struct grid_hosted *hosted = NULL;
    while (!hosted || hosted->load.state != state) {
        agent_turn(&f);
        hosted = agent_fixture_hosted(&f, model);
    }
    return hosted;
}

/* --- chains --- */

/* Without links to other members none can be: that is told, with the chain that it is about. */
static void test_a_chain_that_cannot_be_is_told(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    while (!f.n_cards) agent_turn(&f);
    const char *name = f.cards.v[0].name;
    char model[256];
    snprintf(model, sizeof model, "%s", name);
    load(model, &chain);
    const struct grid_hosted *hosted = wait_for(model, SCHED_FAILED);
    assert_true(grid_split_equal(hosted->split, &chain));
    assert_true(*hosted->last_error);
    load(model, NULL); /* whole it can be, and what failed is forgotten */
    hosted = wait_for(model, SCHED_READY);
    assert_null(hosted->split);
    assert_int_equal(f.report.n_hosted, 1);
    agent_fixture_done(&f);
}

/* The chain is remembered while the model comes: it is not loaded whole then. */
static void test_a_chain_waits_for_its_model(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    agent_fixture_start(&f);
    load("nobody:has-it", &chain);
    const struct grid_hosted *hosted = wait_for("nobody:has-it", SCHED_STARTING);
    assert_true(grid_split_equal(hosted->split, &chain));
    assert_int_equal(f.n_fetches, 1);
    agent_fetched(f.agent, "nobody:has-it", NULL);
    hosted = wait_for("nobody:has-it", SCHED_FAILED);
    assert_true(grid_split_equal(hosted->split, &chain));
    agent_fixture_done(&f);
}

/* --- what is told --- */

static const struct split_machine machine = {.memory_bytes_s = 1e10,
                                             .speed = {[SPLIT_Q8_0] = {1e10, {1, 2, 3}}}};

static const struct split_machine *machine_of(void *ctx)
{
    (void)ctx;
    return &machine;
}

static size_t stages_of(void *ctx, struct grid_stage_hosted *out, size_t max)
{
    (void)ctx;
    assert_int_equal(max, GRID_STAGES_HOSTED_MAX);
    out[0] = (struct grid_stage_hosted){"c1", "m:latest", "nhead", 2, 4, 1000, SCHED_READY};
    return 1;
}

static void test_machine_stages_and_shapes_are_told(void **state)
{
    (void)state;
    agent_fixture_init(&f);
    f.cfg.machine = machine_of;
    f.cfg.stages = stages_of;
    agent_fixture_start(&f);
    while (!f.n_reports || !f.n_cards) agent_turn(&f);
    assert_memory_equal(f.report.machine, &machine, sizeof machine);
    assert_int_equal(f.report.n_stages, 1);
    assert_string_equal(f.report.stages[0].head, "nhead");
    assert_int_equal(f.report.stages[0].last, 4);
    /* The bundled model has five layers. */
    while (!f.cards.v[0].shape) agent_turn(&f);
    const struct split_model *shape = f.cards.v[0].shape;
    assert_int_equal(shape->n_layer, 5);
    uint64_t bytes = shape->embd_bytes;
    for (int i = 0; i < 5; i++) bytes += shape->layer_bytes[i];
    assert_in_range(bytes, f.cards.v[0].bytes / 2, f.cards.v[0].bytes);
    int n_reports = f.n_reports;
    agent_changed(f.agent);
    while (f.n_reports == n_reports) agent_turn(&f);
    agent_fixture_done(&f);
}

/* --- ways --- */

static struct {
    struct bus_subscription *pings;
    struct registry *registry;
    int n_pings;
} far;

/* Answers as that member's agent does. */
static void on_far_ping(void *ctx, const char *subject, const void *bytes, size_t n)
{
    const struct member *member = ctx;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct sl_buf out;
    struct grid_msg msg;
    char to[BUS_SUBJECT_SIZE];
    (void)subject;
    sl_arena_init(&arena, 1 << 20);
    sl_buf_init(&out, 1 << 20);
    assert_int_equal(grid_msg_decode(bytes, n, &arena, &msg, &err), SL_OK);
    msg.type = GRID_PONG;
    msg.ping.n_padding = 0;
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_OK);
    snprintf(to, sizeof to, "sl.ping." AGENT_FIXTURE_SELF ".%s", member->id);
    assert_int_equal(bus_publish(f.bus, to, out.data, out.len, &err), SL_OK);
    far.n_pings++;
    sl_buf_done(&out);
    sl_arena_done(&arena);
}

static void test_ways_over_the_bus(void **state)
{
    struct member member = member_made(1), gone = member_made(2);
    struct sl_err err = SL_ERR_INIT;
    bool changed;
    char subject[BUS_SUBJECT_SIZE];
    (void)state;
    agent_fixture_init(&f);
    assert_int_equal(registry_create(&far.registry), SL_OK);
    gone.removed = true;
    assert_int_equal(registry_merge(far.registry, &member, &changed, &err), SL_OK);
    assert_int_equal(registry_merge(far.registry, &gone, &changed, &err), SL_OK);
    snprintf(subject, sizeof subject, "sl.ping.%s.*", member.id);
    assert_int_equal(bus_subscribe(f.bus, subject, on_far_ping, &member, &far.pings, &err), SL_OK);
    f.cfg.registry = far.registry;
    agent_fixture_start(&f);
    while (!f.report.n_peers) agent_turn(&f);
    assert_int_equal(f.report.n_peers, 1);
    assert_string_equal(f.report.peers[0].id, member.id);
    assert_true(f.report.peers[0].rtt_s >= 0);
    /* Who leaves is told of no more. */
    member.removed = true;
    member.version++;
    assert_int_equal(registry_merge(far.registry, &member, &changed, &err), SL_OK);
    while (f.report.n_peers) agent_turn(&f);
    bus_unsubscribe(far.pings);
    agent_fixture_done(&f);
    registry_destroy(far.registry);
}

static size_t known_peers(void *ctx, struct grid_peer *out, size_t max)
{
    (void)ctx;
    assert_true(max > 0);
    out[0] = (struct grid_peer){"nknown", 0.5, 7};
    return 1;
}

/* What somebody else here measures over the bus is told; the agent does not ping then. */
static void test_ways_that_others_measure(void **state)
{
    struct member member = member_made(1);
    struct sl_err err = SL_ERR_INIT;
    bool changed;
    (void)state;
    agent_fixture_init(&f);
    assert_int_equal(registry_create(&far.registry), SL_OK);
    assert_int_equal(registry_merge(far.registry, &member, &changed, &err), SL_OK);
    f.cfg.registry = far.registry;
    f.cfg.peers = known_peers;
    agent_fixture_start(&f);
    while (!f.report.n_peers) agent_turn(&f);
    assert_int_equal(f.report.n_peers, 1);
    assert_string_equal(f.report.peers[0].id, "nknown");
    agent_fixture_done(&f);
    registry_destroy(far.registry);
}

/* --- directly: two members with ports of their own, and an agent at one of them --- */

static struct {
    struct stage_fixture f;
    struct probes *probes[2];
    struct store *store;
    struct node *node;
    struct agent *agent;
    struct sl_arena arena;
    struct grid_report report;
    int n_reports;
} near;

static void on_near_report(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct sl_err err = SL_ERR_INIT;
    struct grid_msg msg;
    (void)ctx;
    (void)subject;
    sl_arena_reset(&near.arena);
    assert_int_equal(grid_msg_decode(bytes, n, &near.arena, &msg, &err), SL_OK);
    if (msg.type != GRID_REPORT) return;
    near.report = msg.report;
    near.n_reports++;
}

static void near_start(void)
{
    struct sl_err err = SL_ERR_INIT;
    struct node_cfg node;
    struct agent_cfg agent;
    for (size_t i = 0; i < 2; i++) {
        const struct probes_cfg cfg = {.loop = near.f.loop,
                                       .port = near.f.members[i].port,
                                       .cert = near.f.members[i].cert,
                                       .key = near.f.members[i].key,
                                       .ca = near.f.root};
        assert_int_equal(probes_create(&cfg, &near.probes[i], &err), SL_OK);
    }
    assert_int_equal(store_open(temp_path("home"), &near.store, &err), SL_OK);
    node_cfg_default(&node);
    node.loop = near.f.loop;
    node.store = near.store;
    assert_int_equal(node_create(&node, &near.node, &err), SL_OK);
    agent_cfg_default(&agent);
    agent.loop = near.f.loop;
    agent.bus = near.f.bus;
    agent.node = near.node;
    agent.store = near.store;
    agent.self = stage_fixture_id(&near.f, 0);
    agent.name = "near";
    agent.report_ns = INT64_C(20000000);
    agent.registry = near.f.registry;
    agent.probes = near.probes[0];
    assert_int_equal(agent_create(&agent, &near.agent, &err), SL_OK);
}

static const struct grid_peer *near_peer(const char *id)
{
    for (size_t i = 0; near.n_reports && i < near.report.n_peers; i++)
        if (!strcmp(near.report.peers[i].id, id)) return &near.report.peers[i];
    return NULL;
}

static void test_ways_directly(void **state)
{
    struct bus_subscription *reports;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    memset(&near, 0, sizeof near);
    sl_arena_init(&near.arena, 1 << 20);
    stage_fixture_init(&near.f);
    assert_int_equal(bus_subscribe(near.f.bus, "sl.report.*", on_near_report, NULL, &reports, &err),
                     SL_OK);
    near_start();
    const char *id = stage_fixture_id(&near.f, 1);
    STAGE_FIXTURE_UNTIL(&near.f, near_peer(id) && near_peer(id)->bytes_per_s > 0);
    assert_true(near_peer(id)->rtt_s > 0);
    assert_null(near_peer(stage_fixture_id(&near.f, 0))); /* itself */
    /* The third one answers no probes and no pings. */
    assert_null(near_peer(stage_fixture_id(&near.f, 2)));
    agent_destroy(near.agent);
    node_destroy(near.node);
    store_close(near.store);
    probes_destroy(near.probes[0]);
    probes_destroy(near.probes[1]);
    bus_unsubscribe(reports);
    stage_fixture_done(&near.f);
    sl_arena_done(&near.arena);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_chain_that_cannot_be_is_told),     TEST(test_a_chain_waits_for_its_model),
        TEST(test_machine_stages_and_shapes_are_told), TEST(test_ways_over_the_bus),
        TEST(test_ways_that_others_measure),           TEST(test_ways_directly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
