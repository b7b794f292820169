/* A split model in processes of its own: three workers on the bundled model, whose messages the
 * test carries as the agents of three machines would. */
#include "base/clock.h"
#include "exec/worker.h"
#include "net/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEADLINE_NS 60000000000
#define MODEL STARLANE_ROOT "/models/starling.gguf"
#define N_STAGES 3
#define STREAMS_MAX 16
#define TOKENS 24

struct stream {
    int32_t tokens[TOKENS];
    int32_t n_tokens;
    bool done;
    enum engine_finish finish;
};

struct fixture;
struct stage {
    struct fixture *fixture;
    int32_t number;
    struct worker *worker;
    bool loaded, exited;
    enum worker_end end;
    char reason[WORKER_REASON_MAX];
    struct wire_event rejected;
};

struct fixture {
    struct loop *loop;
    int32_t n_stages; /* 1: the whole model in one worker */
    struct stage stages[N_STAGES];
    struct stream streams[STREAMS_MAX]; /* by id */
    struct engine_stats stats;          /* of stage 0 */
    bool told_hops, was_rejected;
};

static void on_loaded(void *ctx, const struct wire_loaded *loaded)
{
    struct stage *stage = ctx;
    assert_string_equal(loaded->info.architecture, "llama");
    assert_true(loaded->weight_bytes > 0);
    stage->loaded = true;
}

static void on_load_failed(void *ctx, sl_status status, const char *message)
{
    (void)ctx;
    (void)status;
    fail_msg("%s", message);
}

static void take_event(struct stream *s, const struct engine_event *ev)
{
    if (ev->type == ENGINE_EVENT_TOKEN) {
        assert_in_range(s->n_tokens, 0, TOKENS - 1);
        s->tokens[s->n_tokens++] = ev->token;
    }
    if (ev->type == ENGINE_EVENT_DONE) {
        assert_false(s->done);
        s->done = true;
        s->finish = ev->finish;
    }
}

static void on_events(void *ctx, const struct wire_event *events, size_t n)
{
    struct stage *stage = ctx;
    for (size_t i = 0; i < n; i++) {
        const struct wire_event *e = &events[i];
        if (e->type == WIRE_EVENT_REJECTED) {
            assert_int_equal(e->status, SL_UNSUPPORTED);
            stage->fixture->was_rejected = true;
        } else if (e->type == WIRE_EVENT_ENGINE) {
            assert_int_equal(stage->number, 0);
            take_event(&stage->fixture->streams[e->id], &e->engine);
        }
    }
}

static void on_stats(void *ctx, const struct engine_stats *stats)
{
    struct stage *stage = ctx;
    if (stage->number) return;
    stage->fixture->stats = *stats;
    stage->fixture->told_hops = stats->n_hop_steps > 0;
}

static void on_exit_of(void *ctx, const struct worker_exit *how)
{
    struct stage *stage = ctx;
    stage->exited = true;
    stage->end = how->end;
    (void)snprintf(stage->reason, sizeof stage->reason, "%s", how->reason);
}

static void on_frame(void *ctx, int32_t to, const void *bytes, size_t n)
{
    struct stage *stage = ctx;
    struct sl_err err = SL_ERR_INIT;
    assert_in_range(to, 0, stage->fixture->n_stages - 1);
    struct stage *other = &stage->fixture->stages[to];
    if (!other->exited && worker_deliver(other->worker, stage->number, bytes, n, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static const struct worker_callbacks callbacks = {.on_loaded = on_loaded,
                                                  .on_load_failed = on_load_failed,
                                                  .on_events = on_events,
                                                  .on_stats = on_stats,
                                                  .on_exit = on_exit_of,
                                                  .on_frame = on_frame};

static void wait_for(struct fixture *f, const bool *flag)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t end_ns = sl_now_ns() + DEADLINE_NS;
    while (!*flag) {
        if (sl_now_ns() > end_ns) fail_msg("waited in vain");
        for (int32_t i = 0; i < f->n_stages; i++)
            if (f->stages[i].exited && flag != &f->stages[i].exited)
                fail_msg("stage %d exited: %s", i, f->stages[i].reason);
        assert_int_equal(loop_turn(f->loop, 20000000, &err), SL_OK);
    }
}

static void spawn(struct fixture *f, int32_t i)
{
    static const int32_t borders[] = {0, 2, 3, 5};
    const char *given = getenv("STARLANE_BIN");
    struct sl_err err = SL_ERR_INIT;
    struct worker_cfg cfg = {.exe = given ? given : STARLANE_BIN, .ping_ms = 50};
    struct engine_load *load = &cfg.load.engine;
    load->kind = "llm";
    load->path = MODEL;
    load->n_threads = 1;
    load->n_ctx = 256;
    load->n_seqs_max = 8;
    if (f->n_stages > 1)
        load->split = (struct engine_split){.n_stages = f->n_stages,
                                            .stage = i,
                                            .first = borders[i],
                                            .last = borders[i + 1],
                                            .kv_blocks = 8 * 17,
                                            .link = ENGINE_LINK_F32};
    cfg.load.title = "starling";
    f->stages[i].fixture = f;
    f->stages[i].number = i;
    if (worker_spawn(f->loop, &cfg, &callbacks, &f->stages[i], &f->stages[i].worker, &err) != SL_OK)
        fail_msg("%s", err.text);
}

static void fixture_init(struct fixture *f, int32_t n_stages)
{
    struct sl_err err = SL_ERR_INIT;
    *f = (struct fixture){.n_stages = n_stages};
    assert_int_equal(loop_create(0, &f->loop, &err), SL_OK);
    for (int32_t i = 0; i < n_stages; i++) spawn(f, i);
    for (int32_t i = 0; i < n_stages; i++) wait_for(f, &f->stages[i].loaded);
}

static void fixture_done(struct fixture *f)
{
    for (int32_t i = 0; i < f->n_stages; i++) worker_destroy(f->stages[i].worker);
    loop_destroy(f->loop);
}

/* Greedy even ones, sampled odd ones. */
static void generate(struct fixture *f, uint64_t id)
{
    static const char *const prompts[] = {"Once upon a time", "The little star", "A sailor", "In"};
    struct sl_err err = SL_ERR_INIT;
    struct wire_generate req = {.id = id, .max_tokens = TOKENS, .ignore_end = true};
    req.prompt.text = prompts[id % 4];
    req.prompt.n_text = strlen(req.prompt.text);
    sampler_cfg_default(&req.sampler);
    req.sampler.seed = id;
    if (id % 2 == 0) req.sampler.temp = 0;
    if (worker_generate(f->stages[0].worker, &req, &err) != SL_OK) fail_msg("%s", err.text);
}

static void generate_all(struct fixture *f)
{
    for (uint64_t id = 0; id < STREAMS_MAX; id++) generate(f, id);
    for (uint64_t id = 0; id < STREAMS_MAX; id++) {
        wait_for(f, &f->streams[id].done);
        assert_int_equal(f->streams[id].finish, ENGINE_FINISH_LENGTH);
        assert_int_equal(f->streams[id].n_tokens, TOKENS);
    }
}

static void test_three_processes_say_what_one_says(void **state)
{
    static struct fixture whole, split;
    (void)state;
    fixture_init(&whole, 1);
    generate_all(&whole);
    fixture_init(&split, N_STAGES);
    generate_all(&split);
    for (int i = 0; i < STREAMS_MAX; i++)
        assert_memory_equal(whole.streams[i].tokens, split.streams[i].tokens,
                            sizeof whole.streams[i].tokens);
    fixture_done(&whole);
    fixture_done(&split);
}

static void test_hops_are_told(void **state)
{
    static struct fixture f;
    (void)state;
    fixture_init(&f, N_STAGES);
    generate(&f, 0);
    wait_for(&f, &f.streams[0].done);
    wait_for(&f, &f.told_hops);
    assert_int_equal(f.stats.n_stages, N_STAGES);
    assert_true(f.stats.n_flights >= N_STAGES);
    assert_int_equal(f.stats.n_hop_tokens, f.stats.n_hop_steps);
    uint64_t inside = 0;
    for (int32_t i = 0; i < N_STAGES; i++) {
        assert_true(f.stats.hops[i].compute_ns > 0);
        inside += f.stats.hops[i].compute_ns + f.stats.hops[i].wait_ns;
    }
    assert_true(f.stats.round_ns >= f.stats.wire_ns);
    assert_true(inside + f.stats.wire_ns >= f.stats.round_ns);
    fixture_done(&f);
}

static void test_a_later_stage_takes_no_requests(void **state)
{
    static struct fixture f;
    struct sl_err err = SL_ERR_INIT;
    struct wire_generate req = {.id = 1, .max_tokens = 1, .prompt = {.text = "a", .n_text = 1}};
    (void)state;
    sampler_cfg_default(&req.sampler);
    fixture_init(&f, N_STAGES);
    assert_int_equal(worker_generate(f.stages[1].worker, &req, &err), SL_OK);
    wait_for(&f, &f.was_rejected);
    fixture_done(&f);
}

static void test_nonsense_ends_a_stage(void **state)
{
    static struct fixture f;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    fixture_init(&f, N_STAGES);
    for (int32_t i = 0; i < N_STAGES; i++) {
        int32_t from = i ? i - 1 : N_STAGES - 1;
        assert_int_equal(worker_deliver(f.stages[i].worker, from, "nonsense", 8, &err), SL_OK);
        while (!f.stages[i].exited) assert_int_equal(loop_turn(f.loop, 20000000, &err), SL_OK);
        assert_int_equal(f.stages[i].end, WORKER_END_CRASHED);
        assert_non_null(strstr(f.stages[i].reason, "stage"));
    }
    assert_int_equal(worker_deliver(f.stages[0].worker, ENGINE_STAGES_MAX, "", 0, &err),
                     SL_INVALID);
    fixture_done(&f);
}

static void test_a_split_needs_on_frame(void **state)
{
    struct worker_callbacks none = callbacks;
    struct sl_err err = SL_ERR_INIT;
    struct worker_cfg cfg = {.load.engine = {.kind = "llm", .path = MODEL}};
    struct worker *worker;
    struct loop *loop;
    (void)state;
    none.on_frame = NULL;
    cfg.load.engine.split.n_stages = 2;
    assert_int_equal(loop_create(0, &loop, &err), SL_OK);
    assert_int_equal(worker_spawn(loop, &cfg, &none, NULL, &worker, &err), SL_INVALID);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_processes_say_what_one_says),
        cmocka_unit_test(test_hops_are_told),
        cmocka_unit_test(test_a_later_stage_takes_no_requests),
        cmocka_unit_test(test_nonsense_ends_a_stage),
        cmocka_unit_test(test_a_split_needs_on_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
