/* dispatch_bus_test.c: the dispatcher on a real loop and a bus within the process, with a node on
 * the other side of it that answers every RUN with one token. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "grid/bus.h"
#include "grid/dispatch.h"
#include "net/loop.h"

#define SELF "nself"
#define MODEL "echo:hello"
#define DEADLINE_NS INT64_C(20000000000)

struct fixture {
    struct loop *loop;
    struct bus *bus;
    struct bus_subscription *runs;
    struct dispatch *dispatch;
    uint32_t n_runs, n_stops;
    bool loaded;
    struct node_event end;
    int n_tokens, n_ended;
};

static void say(struct fixture *f, const char *subject, const struct grid_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    struct sl_buf out;
    sl_buf_init(&out, GRID_MSG_BYTES_MAX);
    assert_int_equal(grid_msg_encode(msg, &out, &err), SL_OK);
    assert_int_equal(bus_publish(f->bus, subject, out.data, out.len, &err), SL_OK);
    sl_buf_done(&out);
}

static void say_report(struct fixture *f, uint64_t version)
{
    const struct grid_hosted hosted = {
        .name = MODEL,
        .digest = "",
        .last_error = "",
        .load = {.state = SCHED_READY, .n_slots = 4, .n_queue_max = 4}};
    const struct grid_msg msg = {.type = GRID_REPORT,
                                 .report = {.boot = 1,
                                            .version = version,
                                            .name = "here",
                                            .address = "",
                                            .program = "",
                                            .site = "",
                                            .facts = {.memory_bytes = 1 << 30},
                                            .hosted = &hosted,
                                            .n_hosted = f->loaded}};
    say(f, "sl.report." SELF, &msg);
}

static void answer(struct fixture *f, const struct grid_run *run)
{
    static const struct chat_traits traits = {.thinks = false};
    const struct grid_event events[] = {
        {.node = {.type = NODE_EVENT_STARTED, .traits = &traits, .n_prompt = 3}},
        {.node = {.type = NODE_EVENT_TOKEN, .token = 7, .text = "seven", .n_text = 5}},
        {.node = {.type = NODE_EVENT_CHOICE_DONE, .n_generated = 1}},
        {.node = {.type = NODE_EVENT_DONE}}};
    const struct grid_msg msg = {.type = GRID_EVENTS,
                                 .events = {.boot = run->boot,
                                            .request = run->request,
                                            .attempt = run->attempt,
                                            .first_seq = 1,
                                            .v = events,
                                            .n = 4}};
    assert_string_equal(run->submit.model, MODEL);
    assert_memory_equal(run->submit.text, "hi there", 8);
    say(f, "sl.answer." SELF "." SELF, &msg);
}

static void on_run(void *ctx, const char *subject, const void *bytes, size_t n)
{
    struct fixture *f = ctx;
    struct sl_err err = SL_ERR_INIT;
    struct sl_arena arena;
    struct grid_msg msg;
    assert_string_equal(subject, "sl.run." SELF "." SELF);
    sl_arena_init(&arena, GRID_MSG_ARENA_BYTES_MAX);
    assert_int_equal(grid_msg_decode(bytes, n, &arena, &msg, &err), SL_OK);
    if (msg.type == GRID_CONTROL && msg.control.kind == GRID_CONTROL_LOAD) {
        f->loaded = true;
        say_report(f, 2);
    }
    if (msg.type == GRID_RUN) {
        f->n_runs++;
        answer(f, &msg.run);
    }
    f->n_stops += msg.type == GRID_STOP;
    sl_arena_done(&arena);
}

static void on_event(void *ctx, const struct node_event *event)
{
    struct fixture *f = ctx;
    if (event->type == NODE_EVENT_TOKEN) {
        assert_int_equal(event->token, 7);
        assert_memory_equal(event->text, "seven", 5);
        f->n_tokens++;
    }
    if (event->type != NODE_EVENT_DONE && event->type != NODE_EVENT_FAILED) return;
    f->end = *event;
    f->n_ended++;
}

static struct dispatch_cfg cfg_of(const struct fixture *f)
{
    struct dispatch_cfg cfg;
    dispatch_cfg_default(&cfg);
    cfg.self = SELF;
    cfg.loop = f->loop;
    cfg.bus = f->bus;
    cfg.allow_echo = true;
    return cfg;
}

static void begin(struct fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    *f = (struct fixture){0};
    assert_int_equal(loop_create(0, &f->loop, &err), SL_OK);
    const struct bus_cfg bus = {.loop = f->loop, .self = SELF};
    assert_int_equal(bus_create(&bus, &f->bus, &err), SL_OK);
    assert_int_equal(bus_subscribe(f->bus, "sl.run." SELF ".*", on_run, f, &f->runs, &err), SL_OK);
}

static void end(struct fixture *f)
{
    dispatch_destroy(f->dispatch);
    bus_unsubscribe(f->runs);
    bus_destroy(f->bus);
    loop_destroy(f->loop);
}

static void turns(struct fixture *f, bool (*until)(const struct fixture *f))
{
    struct sl_err err = SL_ERR_INIT;
    int64_t deadline_ns = sl_now_ns() + DEADLINE_NS;
    while (!until(f)) {
        assert_true(sl_now_ns() < deadline_ns);
        assert_int_equal(loop_turn(f->loop, 10000000, &err), SL_OK);
    }
}

static bool has_ended(const struct fixture *f)
{
    return f->n_ended > 0;
}

static bool was_stopped(const struct fixture *f)
{
    return f->n_stops > 0;
}

static void test_a_request_through_the_process(void **state)
{
    (void)state;
    struct fixture f;
    struct sl_err err = SL_ERR_INIT;
    struct dispatch_request *request;
    int64_t after;
    begin(&f);
    const struct dispatch_cfg cfg = cfg_of(&f);
    assert_int_equal(dispatch_create(&cfg, &f.dispatch, &err), SL_OK);
    say_report(&f, 1);
    const struct node_submit submit = {.model = MODEL, .text = "hi there", .n_text = 8};
    assert_int_equal(dispatch_submit(f.dispatch, &submit, on_event, &f, &request, &after, &err),
                     SL_OK);
    turns(&f, has_ended); /* loaded for it, too */
    assert_int_equal(f.end.type, NODE_EVENT_DONE);
    assert_int_equal(f.end.n_generated, 1);
    assert_int_equal(f.n_tokens, 1);
    assert_int_equal(f.n_runs, 1);
    turns(&f, was_stopped); /* the node may forget it */
    end(&f);
}

/* The bus gives some of its memory back on a thread of its own: it is counted at the end. */
static void test_creation_without_memory(void **state)
{
    (void)state;
    struct fixture f;
    struct sl_err err = SL_ERR_INIT;
    uint64_t live = sl_mem_live();
    begin(&f);
    const struct dispatch_cfg cfg = cfg_of(&f);
    sl_status status = SL_NOMEM;
    for (uint64_t nth = 1; status != SL_OK; nth++) {
        struct dispatch *dispatch = NULL;
        sl_mem_fail_at(nth, false);
        status = dispatch_create(&cfg, &dispatch, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        dispatch_destroy(dispatch);
    }
    end(&f);
    assert_int_equal(sl_mem_live(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_request_through_the_process),
                                       cmocka_unit_test(test_creation_without_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
