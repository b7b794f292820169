/* Messages between members: what is encoded reads the same, and what is out of range is refused.
 * With GRID_CORPUS=FOLDER in the environment each message is written there as well, for the fuzz
 * target. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "grid/grid_msg.h"
#include "grid/telemetry.h"

struct trip {
    struct sl_buf bytes;
    struct sl_arena arena;
    struct grid_msg msg;
};

static void keep(const struct sl_buf *bytes, const char *name)
{
    const char *folder = getenv("GRID_CORPUS");
    char path[512];
    if (!folder) return;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes->data, 1, bytes->len, file), bytes->len);
    fclose(file);
}

/* There and back, and there again: the bytes are equal. */
static void trip_init(struct trip *trip, const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf again;
    sl_buf_init(&trip->bytes, (size_t)GRID_MSG_BYTES_MAX * 2);
    sl_buf_init(&again, (size_t)GRID_MSG_BYTES_MAX * 2);
    sl_arena_init(&trip->arena, GRID_MSG_ARENA_BYTES_MAX);
    if (grid_msg_encode(msg, &trip->bytes, &err) != SL_OK) fail_msg("%s", err.text);
    keep(&trip->bytes, grid_msg_type_name(msg->type));
    if (grid_msg_decode(trip->bytes.data, trip->bytes.len, &trip->arena, &trip->msg, &err) != SL_OK)
        fail_msg("%s", err.text);
    assert_int_equal(trip->msg.type, msg->type);
    if (grid_msg_encode(&trip->msg, &again, &err) != SL_OK) fail_msg("%s", err.text);
    assert_int_equal(again.len, trip->bytes.len);
    assert_memory_equal(again.data, trip->bytes.data, again.len);
    sl_buf_done(&again);
}

static void trip_done(struct trip *trip)
{
    sl_buf_done(&trip->bytes);
    sl_arena_done(&trip->arena);
}

/* What an encoder lets through and no decoder takes. */
static void expect_refused(const struct grid_msg *msg, const char *why)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf bytes;
    struct sl_arena arena;
    struct grid_msg out;
    sl_buf_init(&bytes, (size_t)GRID_MSG_BYTES_MAX * 2);
    sl_arena_init(&arena, GRID_MSG_ARENA_BYTES_MAX);
    assert_int_equal(grid_msg_encode(msg, &bytes, &err), SL_OK);
    assert_int_equal(grid_msg_decode(bytes.data, bytes.len, &arena, &out, &err), SL_CORRUPT);
    if (!strstr(err.text, why)) fail_msg("\"%s\" lacks \"%s\"", err.text, why);
    sl_buf_done(&bytes);
    sl_arena_done(&arena);
}

static const int32_t tokens[] = {1, -2, 300000};
static const float floats[] = {0.5f, -1.25f};
static const struct tensor tensors[] = {
    {.name = "x", .type = TENSOR_FP32, .rank = 1, .shape = {2}, .data = floats, .n_bytes = 8}};

static void test_run(void **state)
{
    static const char *const stop[] = {"\n\n", "END"};
    static const uint64_t blocks[] = {1, UINT64_MAX};
    const struct node_resume resume[] = {{tokens, 3, false}, {tokens, 1, true}};
    struct sampler_cfg sampler;
    struct trip trip;
    (void)state;
    sampler_cfg_default(&sampler);
    sampler.seed = 99;
    struct grid_msg msg = {.type = GRID_RUN,
                           .run = {.boot = 3,
                                   .request = 1ULL << 60,
                                   .attempt = 2,
                                   .sent = 17,
                                   .digest = "abc",
                                   .submit = {.task = NODE_GENERATE,
                                              .model = "m:latest",
                                              .qos = SCHED_BATCH,
                                              .tenant = 5,
                                              .request_id = "req-1",
                                              .queue_timeout_ns = SCHED_NEVER,
                                              .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
                                              .prompt = NODE_PROMPT_CHAT,
                                              .text = "{\"messages\":[]}",
                                              .n_text = 15,
                                              .max_tokens = 7,
                                              .n_choices = 2,
                                              .ignore_end = true,
                                              .sampler = &sampler,
                                              .stop = stop,
                                              .n_stop = 2,
                                              .resume = resume,
                                              .now_s = 1700000000},
                                   .n_prompt = 400,
                                   .blocks = blocks,
                                   .n_blocks = 2}};
    trip_init(&trip, &msg);
    const struct node_submit *s = &trip.msg.run.submit;
    assert_string_equal(s->model, "m:latest");
    assert_string_equal(s->request_id, "req-1");
    assert_int_equal(s->prompt, NODE_PROMPT_CHAT);
    assert_int_equal(s->n_text, 15);
    assert_int_equal(s->queue_timeout_ns, SCHED_NEVER);
    assert_int_equal(s->keep_alive_ns, SCHED_KEEP_ALIVE_DEFAULT);
    assert_int_equal(s->sampler->seed, 99);
    assert_string_equal(s->stop[1], "END");
    assert_int_equal(s->resume[0].tokens[2], 300000);
    assert_true(s->resume[1].done);
    assert_int_equal(trip.msg.run.blocks[1], UINT64_MAX);
    trip_done(&trip);
    msg.run.submit.task = (enum node_task)77;
    expect_refused(&msg, "task 77");
    msg.run.submit.task = NODE_GENERATE;
    msg.run.submit.qos = SCHED_CLASS_COUNT;
    expect_refused(&msg, "class");
}

static void test_run_of_other_tasks(void **state)
{
    static const char *const outputs[] = {"y"};
    struct trip trip;
    (void)state;
    struct grid_msg msg = {.type = GRID_RUN,
                           .run = {.submit = {.task = NODE_INFER,
                                              .model = "m",
                                              .inputs = tensors,
                                              .n_inputs = 1,
                                              .outputs = outputs,
                                              .n_outputs = 1}}};
    trip_init(&trip, &msg);
    assert_int_equal(trip.msg.run.submit.inputs[0].shape[0], 2);
    assert_string_equal(trip.msg.run.submit.outputs[0], "y");
    assert_null(trip.msg.run.submit.sampler);
    assert_null(trip.msg.run.submit.resume);
    trip_done(&trip);
    msg.run.submit = (struct node_submit){.task = NODE_EMBED,
                                          .model = "m",
                                          .prompt = NODE_PROMPT_TOKENS,
                                          .tokens = tokens,
                                          .n_tokens = 3,
                                          .pair = "",
                                          .pooling = ENGINE_POOLING_RANK};
    trip_init(&trip, &msg);
    assert_int_equal(trip.msg.run.submit.tokens[1], -2);
    assert_non_null(trip.msg.run.submit.pair);
    trip_done(&trip);
}

static void test_events(void **state)
{
    const struct engine_logprob top[] = {{1, -0.5f, "a", 1}, {2, -1.5f, "b", 1}};
    const struct chat_traits traits = {.tools = CHAT_TOOLS_HERMES, .thinks = true};
    const struct grid_event v[] = {
        {.node = {.type = NODE_EVENT_STARTED, .n_prompt = 9, .n_cached = 4, .traits = &traits}},
        {.node = {.type = NODE_EVENT_TOKEN,
                  .choice = 1,
                  .token = 7,
                  .text = "a\0b",
                  .n_text = 3,
                  .has_logprob = true,
                  .logprob = top[0],
                  .n_top = 2,
                  .top = top}},
        {.node = {.type = NODE_EVENT_RESULT,
                  .embedding = floats,
                  .n_embd = 2,
                  .tokens = tokens,
                  .n_tokens = 3,
                  .tensors = tensors,
                  .n_tensors = 1,
                  .n_rows = 2}},
        {.node = {.type = NODE_EVENT_CHOICE_DONE, .finish = ENGINE_FINISH_LENGTH}},
        {.type = GRID_EVENT_REFUSED,
         .node = {.status = SL_BUSY, .message = "full", .retry_after_ms = 250}},
    };
    struct grid_msg msg = {
        .type = GRID_EVENTS,
        .events = {.boot = 1, .request = 2, .attempt = 3, .first_seq = 4, .v = v, .n = 5}};
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    const struct grid_event *out = trip.msg.events.v;
    assert_int_equal(trip.msg.events.first_seq, 4);
    assert_int_equal(out[0].node.traits->tools, CHAT_TOOLS_HERMES);
    assert_memory_equal(out[1].node.text, "a\0b", 3);
    assert_int_equal(out[1].node.n_top, 2);
    assert_memory_equal(out[1].node.top[1].bytes, "b", 1);
    assert_float_equal(out[2].node.embedding[1], -1.25, 0);
    assert_int_equal(out[2].node.tensors[0].n_bytes, 8);
    assert_false(grid_event_is_last(&out[3]));
    assert_true(grid_event_is_last(&out[4]));
    assert_string_equal(out[4].node.message, "full");
    trip_done(&trip);
    struct grid_event bad = {.node = {.type = NODE_EVENT_TOKEN, .choice = ENGINE_CHOICES_MAX}};
    msg.events.v = &bad;
    msg.events.n = 1;
    expect_refused(&msg, "choice");
    bad.node.choice = 0;
    bad.type = GRID_EVENT_TYPE_COUNT;
    expect_refused(&msg, "event of type");
}

static void test_events_by_the_piece(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf pieces, bytes;
    struct sl_arena arena;
    struct grid_msg msg;
    const struct grid_events head = {.boot = 9, .request = 8, .attempt = 7, .first_seq = 6};
    (void)state;
    sl_buf_init(&pieces, 4096);
    sl_buf_init(&bytes, 4096);
    sl_arena_init(&arena, 1 << 20);
    for (int32_t i = 0; i < 3; i++) {
        const struct grid_event event = {.node = {.type = NODE_EVENT_TOKEN, .token = i}};
        assert_int_equal(grid_events_put(&event, &pieces, &err), SL_OK);
    }
    assert_int_equal(grid_events_wrap(&head, pieces.data, pieces.len, &bytes, &err), SL_OK);
    assert_int_equal(grid_msg_decode(bytes.data, bytes.len, &arena, &msg, &err), SL_OK);
    assert_int_equal(msg.events.n, 3);
    assert_int_equal(msg.events.boot, 9);
    assert_int_equal(msg.events.first_seq, 6);
    assert_int_equal(msg.events.v[2].node.token, 2);
    sl_buf_done(&pieces);
    sl_buf_done(&bytes);
    sl_arena_done(&arena);
}

static void test_small_messages(void **state)
{
    static const char *const labels[] = {"site=berlin"};
    const struct grid_sync_entry sync[] = {{1, 2, 3, true}, {4, 5, 6, false}};
    const struct grid_beat_entry beat[] = {{1, 2, GRID_ENDED, 9}};
    const struct grid_msg msgs[] = {
        {.type = GRID_STOP, .stop = {1, 2, 3}},
        {.type = GRID_SYNC, .sync = {.boot = 1, .v = sync, .n = 2}},
        {.type = GRID_BEAT, .beat = {.boot = 1, .v = beat, .n = 1}},
        {.type = GRID_CONTROL,
         .control = {.kind = GRID_CONTROL_LABELS,
                     .model = "",
                     .digest = "",
                     .labels = labels,
                     .n_labels = 1}},
        {.type = GRID_PING, .ping = {.seq = 1, .sent_ns = -5, .n_padding = 100}},
        {.type = GRID_PONG, .ping = {.seq = 1}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof msgs / sizeof *msgs; i++) {
        struct trip trip;
        trip_init(&trip, &msgs[i]);
        if (msgs[i].type == GRID_SYNC) assert_true(trip.msg.sync.v[0].resend);
        if (msgs[i].type == GRID_PING) assert_int_equal(trip.msg.ping.n_padding, 100);
        if (msgs[i].type == GRID_BEAT) assert_int_equal(trip.msg.beat.v[0].last_seq, 9);
        trip_done(&trip);
    }
}

static void test_control(void **state)
{
    static const struct grid_source sources[] = {{"naaaaaaaaaaaaa", "10.0.0.7:4230"},
                                                 {"nbbbbbbbbbbbbb", "[fd00::1]:4231"}};
    struct grid_source many[GRID_SOURCES_MAX + 1];
    struct grid_msg msg = {.type = GRID_CONTROL,
                           .control = {.kind = GRID_CONTROL_LOAD,
                                       .model = "m:latest",
                                       .digest = "abc",
                                       .sources = sources,
                                       .n_sources = 2}};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    assert_string_equal(trip.msg.control.model, "m:latest");
    assert_int_equal(trip.msg.control.n_sources, 2);
    assert_string_equal(trip.msg.control.sources[0].id, "naaaaaaaaaaaaa");
    assert_string_equal(trip.msg.control.sources[1].address, "[fd00::1]:4231");
    trip_done(&trip);
    for (size_t i = 0; i <= GRID_SOURCES_MAX; i++) many[i] = sources[0];
    msg.control.sources = many;
    msg.control.n_sources = GRID_SOURCES_MAX + 1;
    sl_buf_init(&out, 4096);
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_LIMIT);
    sl_buf_done(&out);
    msg.control = (struct grid_control){.kind = GRID_CONTROL_KIND_COUNT, .model = "", .digest = ""};
    expect_refused(&msg, "kind");
}

/* --- models over several machines --- */

#define STAGES 3
static const struct grid_stage chain_stages[STAGES] = {
    {"naaaaaaaaaaaaa", "10.0.0.7:4230", 0, 10},
    {"nbbbbbbbbbbbbb", "", 10, 11},
    {"nccccccccccccc", "[fd00::1]:4231", 11, 24}};
static const struct grid_split chain = {.stages = chain_stages,
                                        .n_stages = STAGES,
                                        .n_ctx = 4096,
                                        .n_seqs = 8,
                                        .kv_blocks = 512,
                                        .n_batch = 256,
                                        .n_flights = 3,
                                        .link = 1};

static struct grid_msg load_of(const struct grid_split *split)
{
    return (struct grid_msg){
        .type = GRID_CONTROL,
        .control = {.kind = GRID_CONTROL_LOAD, .model = "m", .digest = "", .split = split}};
}

static void test_split(void **state)
{
    const struct grid_msg msg = load_of(&chain);
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    keep(&trip.bytes, "control_split");
    const struct grid_split *out = trip.msg.control.split;
    assert_non_null(out);
    assert_true(grid_split_equal(out, &chain));
    assert_int_equal(out->n_stages, STAGES);
    assert_string_equal(out->stages[2].address, "[fd00::1]:4231");
    assert_int_equal(out->stages[2].first, 11);
    assert_int_equal(out->stages[2].last, 24);
    assert_int_equal(out->kv_blocks, 512);
    assert_int_equal(out->link, 1);
    trip_done(&trip);
}

static void test_split_equal(void **state)
{
    struct grid_stage stages[STAGES];
    struct grid_split other = chain;
    (void)state;
    memcpy(stages, chain_stages, sizeof stages);
    other.stages = stages;
    stages[1].address = "elsewhere:1";
    assert_true(grid_split_equal(&chain, &other));
    stages[0].last = stages[1].first = 9;
    assert_false(grid_split_equal(&chain, &other));
    memcpy(stages, chain_stages, sizeof stages);
    stages[1].member = "nddddddddddddd";
    assert_false(grid_split_equal(&chain, &other));
    other = chain;
    other.n_seqs = 1;
    assert_false(grid_split_equal(&chain, &other));
    assert_false(grid_split_equal(&chain, NULL));
    assert_true(grid_split_equal(NULL, NULL));
}

static void expect_split_refused(struct grid_split split, const char *why)
{
    struct sl_err err = SL_ERR_INIT;
    const struct grid_msg msg = load_of(&split);
    assert_int_equal(grid_split_check(&split, &err), SL_CORRUPT);
    expect_refused(&msg, why);
}

static void test_split_refused(void **state)
{
    struct grid_stage stages[STAGES];
    struct grid_split split = chain;
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    (void)state;
    split.n_stages = 1;
    expect_split_refused(split, "stages");
    split.n_stages = 0;
    expect_split_refused(split, "stages");
    split = chain;
    split.link = GRID_LINKS;
    expect_split_refused(split, "link");
    split.link = 0;
    split.n_flights = -1;
    expect_split_refused(split, "below 0");
    split.n_flights = 0;
    split.kv_blocks = -1;
    expect_split_refused(split, "below 0");
    split = chain;
    split.stages = stages;
    memcpy(stages, chain_stages, sizeof stages);
    stages[2].member = stages[0].member;
    expect_split_refused(split, "two stages");
    stages[2].member = "";
    expect_split_refused(split, "no member");
    memcpy(stages, chain_stages, sizeof stages);
    stages[1].first = 9; /* layer 9 twice */
    expect_split_refused(split, "stage 1");
    stages[1].first = stages[1].last = 10; /* none */
    expect_split_refused(split, "stage 1");
    memcpy(stages, chain_stages, sizeof stages);
    stages[0].first = 1;
    expect_split_refused(split, "stage 0");
    stages[0].first = 0;
    stages[2].last = GRID_LAYERS_MAX + 1;
    expect_split_refused(split, "stage 2");
    split.n_stages = GRID_STAGES_MAX + 1;
    const struct grid_msg msg = load_of(&split);
    sl_buf_init(&out, 1 << 16);
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_LIMIT);
    sl_buf_done(&out);
}

static struct grid_msg split_report(const struct grid_hosted *hosted,
                                    const struct grid_stage_hosted *stage,
                                    const struct split_machine *machine)
{
    return (struct grid_msg){.type = GRID_REPORT,
                             .report = {.boot = 1,
                                        .version = 2,
                                        .name = "desk",
                                        .address = "",
                                        .program = "",
                                        .site = "",
                                        .hosted = hosted,
                                        .n_hosted = 1,
                                        .stages = stage,
                                        .n_stages = 1,
                                        .machine = machine}};
}

static void test_report_of_chains(void **state)
{
    struct grid_hop hops[STAGES] = {
        {.compute_s = 0.001, .hop_s = 0.01, .wait_s = 0.25, .bytes = 4096, .load = 0.5},
        {.compute_s = 0.002},
        {.compute_s = 0.003}};
    struct grid_hosted hosted = {.name = "m",
                                 .digest = "d",
                                 .load = {.state = SCHED_READY},
                                 .last_error = "",
                                 .split = &chain,
                                 .hops = hops};
    struct grid_stage_hosted stage = {"c7", "n:latest", "nzzzzzzzzzzzzz", 3,
                                      9,    1 << 20,    SCHED_LOADING};
    struct split_machine machine = {
        .speed = {[SPLIT_Q4_0] = {.bytes_s = 9e9, .flops_s = {1e10, 2e10, 4e10}},
                  [SPLIT_F32] = {.bytes_s = 1e9}},
        .attn_one = 5e9,
        .step_s = 0.0001,
        .disk_bytes_s = 2e9};
    const struct grid_msg msg = split_report(&hosted, &stage, &machine);
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    keep(&trip.bytes, "report_split");
    const struct grid_report *out = &trip.msg.report;
    assert_true(grid_split_equal(out->hosted[0].split, &chain));
    assert_float_equal(out->hosted[0].hops[0].bytes, 4096, 0);
    assert_float_equal(out->hosted[0].hops[0].wait_s, 0.25, 0);
    assert_float_equal(out->hosted[0].hops[2].compute_s, 0.003, 0);
    assert_string_equal(out->stages[0].head, "nzzzzzzzzzzzzz");
    assert_int_equal(out->stages[0].last, 9);
    assert_int_equal(out->stages[0].state, SCHED_LOADING);
    assert_memory_equal(out->machine, &machine, sizeof machine);
    trip_done(&trip);
    hops[1].hop_s = -1;
    expect_refused(&msg, "hop");
    hops[1].hop_s = 0;
    stage.last = 3;
    expect_refused(&msg, "a stage of");
    stage.last = 9;
    stage.state = SCHED_MODEL_STATE_COUNT;
    expect_refused(&msg, "state");
    stage.state = SCHED_READY;
    machine.speed[SPLIT_F16].flops_s[1] = 0.0 / 0.0;
    expect_refused(&msg, "speed");
    machine.speed[SPLIT_F16].flops_s[1] = 0;
    machine.attn_one = -1;
    expect_refused(&msg, "speed");
}

static void test_demand(void **state)
{
    char longer[300];
    struct grid_demand_entry many[GRID_DEMANDS_MAX + 1];
    struct grid_demand_entry v[] = {{"m:latest", "abc", 3, false, true}, {"n", "", 0, true, false}};
    struct grid_msg msg = {.type = GRID_DEMAND, .demand = {.boot = 7, .v = v, .n = 2}};
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    assert_int_equal(trip.msg.demand.boot, 7);
    assert_int_equal(trip.msg.demand.n, 2);
    assert_string_equal(trip.msg.demand.v[0].name, "m:latest");
    assert_string_equal(trip.msg.demand.v[0].digest, "abc");
    assert_int_equal(trip.msg.demand.v[0].n_waiting, 3);
    assert_false(trip.msg.demand.v[0].pinned);
    assert_true(trip.msg.demand.v[0].splits);
    assert_true(trip.msg.demand.v[1].pinned);
    assert_false(trip.msg.demand.v[1].splits);
    trip_done(&trip);
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    v[0].digest = longer;
    expect_refused(&msg, "digest");
    for (size_t i = 0; i <= GRID_DEMANDS_MAX; i++) many[i] = v[1];
    msg.demand.v = many;
    msg.demand.n = GRID_DEMANDS_MAX + 1;
    sl_buf_init(&out, 1 << 16);
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_LIMIT);
    sl_buf_done(&out);
}

static void test_report(void **state)
{
    static const uint64_t held[] = {5, 6}, dropped[] = {7};
    const struct grid_covers covers[] = {{"ngateway", 3, 12}};
    const struct grid_peer peers[] = {{"npeer", 0.02, 1e6}};
    struct telemetry_sample telemetry;
    struct grid_hosted hosted[] = {
        {.name = "m",
         .digest = "d",
         .load = {.state = SCHED_READY, .n_slots = 4, .n_running = 2, .decode_tps = 20.5},
         .bytes = 1000,
         .last_error = ""}};
    struct trip trip;
    (void)state;
    telemetry_sample_init(&telemetry);
    telemetry.cpu_fraction = 0.25;
    telemetry.joules = 1500.5;
    telemetry.n_accelerators = 1;
    telemetry.accelerators[0] = (struct telemetry_accelerator){.name = "H200", .watts = -1};
    struct grid_msg msg = {
        .type = GRID_REPORT,
        .report = {.boot = 1,
                   .version = 2,
                   .name = "desk",
                   .address = "10.0.0.7:4230",
                   .program = "1",
                   .site = "berlin",
                   .facts = {.duty = NODE_CORDONED, .price_kwh = 0.3, .carbon_kwh = 380},
                   .covers = covers,
                   .n_covers = 1,
                   .hosted = hosted,
                   .n_hosted = 1,
                   .held = held,
                   .n_held = 2,
                   .dropped = dropped,
                   .n_dropped = 1,
                   .peers = peers,
                   .n_peers = 1,
                   .telemetry = &telemetry}};
    trip_init(&trip, &msg);
    const struct grid_report *out = &trip.msg.report;
    assert_string_equal(out->address, "10.0.0.7:4230");
    assert_int_equal(out->facts.duty, NODE_CORDONED);
    assert_int_equal(out->covers[0].sent, 12);
    assert_int_equal(out->hosted[0].load.n_slots, 4);
    assert_int_equal(out->held[1], 6);
    assert_string_equal(out->peers[0].id, "npeer");
    assert_float_equal(out->telemetry->cpu_fraction, 0.25, 0);
    assert_float_equal(out->telemetry->watts, TELEMETRY_UNKNOWN, 0);
    assert_float_equal(out->telemetry->joules, 1500.5, 0);
    assert_float_equal(out->facts.carbon_kwh, 380, 0);
    assert_string_equal(out->telemetry->accelerators[0].name, "H200");
    trip_done(&trip);
    hosted[0].load.decode_tps = -1;
    expect_refused(&msg, "speed");
    hosted[0].load.decode_tps = 0.0 / 0.0;
    expect_refused(&msg, "speed");
    hosted[0].load.decode_tps = 0;
    hosted[0].load.state = SCHED_MODEL_STATE_COUNT;
    expect_refused(&msg, "state");
}

static void test_cards(void **state)
{
    const struct engine_info info = {.architecture = "qwen2",
                                     .name = "",
                                     .bos_text = "<s>",
                                     .eos_text = "</s>",
                                     .quantization = "q4_0",
                                     .n_ctx = 4096,
                                     .n_vocab = 10};
    const struct grid_card v[] = {
        {.name = "m",
         .digest = "d",
         .bytes = 5,
         .format = "gguf",
         .family = "",
         .parameter_size = "",
         .quantization = "",
         .system = "Be kind.",
         .info = &info,
         .traits = {.thinks = true}},
        {.name = "n",
         .digest = "",
         .format = "onnx",
         .family = "",
         .parameter_size = "",
         .quantization = ""},
    };
    const struct grid_msg msg = {.type = GRID_CARDS,
                                 .cards = {.boot = 1, .version = 2, .v = v, .n = 2}};
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    assert_string_equal(trip.msg.cards.v[0].system, "Be kind.");
    assert_string_equal(trip.msg.cards.v[0].info->eos_text, "</s>");
    assert_null(trip.msg.cards.v[0].info->chat_template);
    assert_true(trip.msg.cards.v[0].traits.thinks);
    assert_null(trip.msg.cards.v[1].info);
    assert_null(trip.msg.cards.v[1].parameters);
    trip_done(&trip);
}

static void test_shape(void **state)
{
    uint64_t layer_bytes[] = {1000, 1001, 1002};
    struct split_model shape = {.n_layer = 3,
                                .n_embd = 64,
                                .layer_bytes = layer_bytes,
                                .embd_bytes = 7,
                                .head_bytes = 8,
                                .kv_bytes = 256,
                                .stage_bytes = 9,
                                .head_buffer_bytes = 10,
                                .stage_row_bytes = 11,
                                .head_row_bytes = 12,
                                .layer_flops = 1e6,
                                .head_flops = 2e6,
                                .attn_flops = 128,
                                .active = 1,
                                .weight = SPLIT_Q4_K,
                                .head_weight = SPLIT_Q6_K};
    const struct grid_card card = {.name = "m",
                                   .digest = "d",
                                   .format = "gguf",
                                   .family = "",
                                   .parameter_size = "",
                                   .quantization = "",
                                   .shape = &shape};
    const struct grid_msg msg = {.type = GRID_CARDS,
                                 .cards = {.boot = 1, .version = 2, .v = &card, .n = 1}};
    struct trip trip;
    (void)state;
    trip_init(&trip, &msg);
    keep(&trip.bytes, "cards_shape");
    const struct split_model *out = trip.msg.cards.v[0].shape;
    assert_memory_equal(out->layer_bytes, layer_bytes, sizeof layer_bytes);
    struct split_model copy = *out;
    copy.layer_bytes = layer_bytes;
    assert_memory_equal(&copy, &shape, sizeof shape);
    trip_done(&trip);
    shape.active = 1.5;
    expect_refused(&msg, "shape");
    shape.active = 1;
    layer_bytes[1] = UINT64_MAX;
    expect_refused(&msg, "shape");
    layer_bytes[1] = 1;
    shape.n_embd = -1;
    expect_refused(&msg, "shape");
    shape.n_embd = 64;
    shape.layer_flops = -1;
    expect_refused(&msg, "shape");
}

static void test_limits(void **state)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    struct sl_arena arena;
    struct grid_msg msg = {.type = GRID_PING, .ping = {.n_padding = GRID_PADDING_MAX + 1}};
    (void)state;
    sl_buf_init(&out, 4096);
    sl_arena_init(&arena, 1024);
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_LIMIT);
    assert_int_equal(out.len, 0);
    msg.ping.n_padding = 5000; /* does not fit into out */
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_LIMIT);
    assert_int_equal(out.len, 0);
    msg.type = GRID_MSG_TYPE_END;
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_INVALID);
    assert_int_equal(grid_msg_decode("", 0, &arena, &msg, &err), SL_CORRUPT);
    assert_int_equal(grid_msg_decode("\x09\xff\xff", 3, &arena, &msg, &err), SL_CORRUPT);
    msg = (struct grid_msg){.type = GRID_PING, .ping = {.n_padding = 3000}};
    assert_int_equal(grid_msg_encode(&msg, &out, &err), SL_OK);
    assert_int_equal(grid_msg_decode(out.data, out.len, &arena, &msg, &err), SL_NOMEM);
    sl_buf_done(&out);
    sl_arena_done(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_run_of_other_tasks),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_events_by_the_piece),
        cmocka_unit_test(test_small_messages),
        cmocka_unit_test(test_control),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_equal),
        cmocka_unit_test(test_split_refused),
        cmocka_unit_test(test_report_of_chains),
        cmocka_unit_test(test_demand),
        cmocka_unit_test(test_report),
        cmocka_unit_test(test_cards),
        cmocka_unit_test(test_shape),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
