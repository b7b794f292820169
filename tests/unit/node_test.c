/* One machine's part of the service, with real workers: what requests are told, names, the queue,
 * cancellation, memory, pins, and models that change. Workers that die: node_death_test.c. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/collect.h"
#include "support/node_fixture.h"
#include "support/temp_dir.h"

#define MODEL STARLANE_ROOT "/models/starling.gguf"
#define FOREVER "echo:?tokens=30000&pace_us=1000&slots=1"
#define MS INT64_C(1000000)
#define NAMES 5000 /* more than a node remembers */

/* --- what a request is told --- */

static void test_generates(void **state)
{
    static const char model[] = "echo:?load_ms=20";
    struct node_fixture f;
    struct ask first, second;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for(model, "h\xc3\xa9llo");
    ask(&f, &first, &submit);
    finish(&f, &first);
    assert_string_equal(first.choices[0].text, "h\xc3\xa9llo");
    assert_int_equal(first.choices[0].finish, ENGINE_FINISH_STOP);
    assert_int_equal(first.choices[0].n_generated, 6);
    assert_int_equal(first.n_prompt, 6);
    assert_int_equal(first.end.n_prompt, 6);
    assert_int_equal(first.end.n_generated, 6);
    assert_int_equal(first.end.n_attempts, 1);
    assert_true(first.end.load_ns >= 20 * MS);
    assert_true(first.end.queue_ns >= first.end.load_ns);
    assert_true(first.end.first_token_ns >= first.end.queue_ns);
    ask(&f, &second, &submit);
    finish(&f, &second);
    assert_int_equal(second.end.load_ns, 0);
    assert_true(second.end.queue_ns > 0);
    struct node_stats stats;
    node_stats_get(f.node, &stats);
    assert_int_equal(stats.n_submitted, 2);
    assert_int_equal(stats.n_done, 2);
    assert_int_equal(stats.n_running, 0);
    node_fixture_done(&f);
}

static void test_limits_of_an_answer(void **state)
{
    struct node_fixture f;
    struct ask cut, stopped;
    const char *const stop[] = {"lo w"};
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("echo:", "hello world");
    submit.max_tokens = 4;
    ask(&f, &cut, &submit);
    submit.max_tokens = 0;
    submit.stop = stop;
    submit.n_stop = 1;
    ask(&f, &stopped, &submit);
    finish(&f, &cut);
    finish(&f, &stopped);
    assert_string_equal(cut.choices[0].text, "hell");
    assert_int_equal(cut.choices[0].finish, ENGINE_FINISH_LENGTH);
    assert_string_equal(stopped.choices[0].text, "hel");
    assert_int_equal(stopped.choices[0].finish, ENGINE_FINISH_STOP);
    node_fixture_done(&f);
}

static void test_several_choices(void **state)
{
    struct node_fixture f;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("starling", "Once upon a time");
    submit.n_choices = 3;
    submit.max_tokens = 8;
    ask(&f, &a, &submit);
    finish(&f, &a);
    for (int i = 0; i < 3; i++) {
        assert_true(a.choices[i].done);
        assert_string_equal(a.choices[i].text, a.choices[0].text); /* greedy */
        assert_int_equal(a.choices[i].n_generated, 8);
    }
    assert_false(a.choices[3].done);
    assert_int_equal(a.end.n_generated, 24);
    assert_int_equal(a.end.n_prompt, a.n_prompt);
    assert_int_equal(a.end.n_cached, 0); /* though two of them shared the prompt of the first */
    node_fixture_done(&f);
}

static void check_embedding(struct node_fixture *f, const char *model)
{
    struct ask a;
    struct node_submit submit = ask_for(model, "to be embedded");
    double square_sum = 0;
    submit.task = NODE_EMBED;
    ask(f, &a, &submit);
    finish(f, &a);
    assert_int_equal(a.n_results, 1);
    for (int32_t i = 0; i < a.n_embd; i++) square_sum += (double)a.embedding[i] * a.embedding[i];
    assert_true(fabs(square_sum - 1) < 1e-3);
    assert_true(a.end.n_prompt > 0);
}

static const float pixels[] = {1, 2, 3, 4};
static const struct tensor image = {.name = "image",
                                    .type = TENSOR_FP32,
                                    .rank = 2,
                                    .shape = {2, 2},
                                    .data = pixels,
                                    .n_bytes = sizeof pixels};

static struct node_submit infer_on(const char *model, const struct tensor *inputs, size_t n)
{
    struct node_submit submit = ask_for(model, "");
    submit.task = NODE_INFER;
    submit.text = NULL;
    submit.inputs = inputs;
    submit.n_inputs = n;
    return submit;
}

static void test_tensors(void **state)
{
    const struct tensor two[] = {image, {.name = "empty", .rank = 1}};
    const char *const wanted[] = {"empty", "image"}, *const unknown[] = {"else"};
    struct node_fixture f;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = infer_on("echo:", two, 2);
    ask(&f, &a, &submit);
    finish(&f, &a);
    assert_int_equal(a.n_results, 1);
    assert_int_equal(a.n_tensors, 2);
    assert_int_equal(a.tensor.shape[1], 2);
    assert_memory_equal(a.choices[0].text, pixels, sizeof pixels);
    submit.outputs = wanted;
    submit.n_outputs = 2;
    ask(&f, &a, &submit);
    finish(&f, &a);
    assert_int_equal(a.tensor.n_bytes, 0);
    submit.outputs = unknown;
    submit.n_outputs = 1;
    ask(&f, &a, &submit);
    while (!ask_ended(&a)) turn(&f);
    assert_true(a.failed);
    assert_int_equal(a.end.status, SL_INVALID);
    /* what is wrong in itself does not get as far as a worker */
    struct tensor wrong = image;
    wrong.n_bytes--;
    submit = infer_on("echo:", &wrong, 1);
    assert_int_equal(try_ask(&f, &a, &submit, &retry_after_ms, &err), SL_INVALID);
    assert_non_null(strstr(err.text, "input \"image\": 15 bytes"));
    submit = infer_on("starling", &image, 1); /* a language model takes none */
    ask(&f, &a, &submit);
    while (!ask_ended(&a)) turn(&f);
    assert_int_equal(a.end.status, SL_UNSUPPORTED);
    node_fixture_done(&f);
}

/* The worker dies with the request in hand, and the next one runs it from the beginning. */
static void test_tensors_outlive_a_worker(void **state)
{
    struct node_fixture f;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = infer_on("echo:?prefill_us=400000", &image, 1);
    ask(&f, &a, &submit);
    wait_for_pid(&f, submit.model, true);
    struct node_model model;
    do turn(&f);
    while (!model_state(&f, submit.model, &model) || model.n_running == 0);
    kill_worker(&f, submit.model);
    finish(&f, &a);
    assert_memory_equal(a.choices[0].text, pixels, sizeof pixels);
    assert_int_equal(a.end.n_attempts, 2);
    node_fixture_done(&f);
}

static void test_other_tasks(void **state)
{
    struct node_fixture f;
    struct ask a, back;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    check_embedding(&f, "starling");
    check_embedding(&f, "echo:");
    struct node_submit submit = ask_for("starling", "there and back again");
    submit.task = NODE_TOKENIZE;
    submit.no_bos = true;
    ask(&f, &a, &submit);
    finish(&f, &a);
    assert_true(a.n_tokens > 1);
    submit.task = NODE_DETOKENIZE;
    submit.tokens = a.tokens;
    submit.n_tokens = a.n_tokens;
    ask(&f, &back, &submit);
    finish(&f, &back);
    assert_non_null(strstr(back.choices[0].text, "there and back again"));
    node_fixture_done(&f);
}

static void test_load_only(void **state)
{
    struct node_fixture f;
    struct ask a;
    struct node_model model;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("starling", "");
    submit.task = NODE_LOAD;
    ask(&f, &a, &submit);
    finish(&f, &a);
    assert_true(a.end.load_ns > 0);
    assert_int_equal(a.n_started, 0);
    assert_true(model_state(&f, "starling:latest", &model));
    assert_string_equal(model.state, "ready");
    assert_true(model.load_fraction >= 1);
    assert_int_equal(strlen(model.digest), 64);
    assert_true(model.bytes > 1000000);
    assert_string_equal(model.info->architecture, "llama");
    assert_int_equal(model.n_loads, 1);
    assert_true(model.expires_in_ns > 0);
    node_fixture_done(&f);
}

/* What a worker turns down ends its request, whatever the reason, and nothing else. */
static void test_rejected_by_the_worker(void **state)
{
    struct node_fixture f;
    struct ask good, bad;
    static const int32_t no_token[] = {300};
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("echo:?ctx=16", "short");
    ask(&f, &good, &submit);
    submit.text = "much too long for such a context";
    submit.n_text = strlen(submit.text);
    ask(&f, &bad, &submit);
    wait_until(&f, ask_ended, &bad);
    assert_true(bad.failed);
    assert_int_equal(bad.end.status, SL_LIMIT);
    assert_non_null(strstr(bad.message, "16"));
    submit.prompt = NODE_PROMPT_TOKENS;
    submit.tokens = no_token;
    submit.n_tokens = 1;
    ask(&f, &bad, &submit);
    wait_until(&f, ask_ended, &bad);
    assert_int_equal(bad.end.status, SL_INVALID);
    finish(&f, &good);
    assert_string_equal(good.choices[0].text, "short");
    node_fixture_done(&f);
}

/* --- names and arguments --- */

static void refused(struct node_fixture *f, const struct node_submit *submit, sl_status expected)
{
    struct ask a;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms;
    assert_int_equal(try_ask(f, &a, submit, &retry_after_ms, &err), expected);
    assert_true(err.text[0] != '\0');
    turn(f);
    assert_int_equal(a.n_events, 0);
}

static void test_refuses_arguments(void **state)
{
    struct node_fixture f;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("no-such-model", "x");
    refused(&f, &submit, SL_NOT_FOUND);
    submit.model = MODEL; /* strangers open no files */
    refused(&f, &submit, SL_INVALID);
    submit.model = "echo:";
    submit.n_choices = ENGINE_CHOICES_MAX + 1;
    refused(&f, &submit, SL_INVALID);
    submit.n_choices = -1;
    refused(&f, &submit, SL_INVALID);
    submit.n_choices = 1;
    submit.qos = SCHED_CLASS_COUNT;
    refused(&f, &submit, SL_INVALID);
    submit.qos = SCHED_BATCH;
    submit.n_text = NODE_REQUEST_BYTES_MAX;
    refused(&f, &submit, SL_LIMIT);
    node_destroy(f.node);
    f.cfg.allow_echo = false;
    node_fixture_start(&f);
    submit = ask_for("echo:", "x");
    refused(&f, &submit, SL_NOT_FOUND);
    node_fixture_done(&f);
}

/* A model of an earlier path stays reachable by its name whatever other names come and go. */
static void test_many_names(void **state)
{
    struct node_fixture f;
    struct node_model model;
    struct sl_err err;
    char name[64];
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    assert_int_equal(symlink(MODEL, temp_path("by-path.gguf")), 0);
    assert_int_equal(node_pin(f.node, temp_path("by-path.gguf"), &err), SL_OK);
    wait_for_pid(&f, "by-path", true);
    int pid = model_pid(&f, "by-path");
    for (int i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "echo:?ctx=%d", i + 1);
        assert_int_equal(node_model_find(f.node, name, &model, &err), SL_OK);
    }
    uint64_t live = sl_mem_live();
    for (int i = 0; i < NAMES; i++) {
        (void)snprintf(name, sizeof name, "unknown-%d", i);
        assert_int_equal(node_model_find(f.node, name, &model, &err), SL_NOT_FOUND);
        (void)snprintf(name, sizeof name, "echo:?ctx=%d", NAMES + i + 1);
        assert_int_equal(node_model_find(f.node, name, &model, &err), SL_OK);
    }
    assert_true(sl_mem_live() < live + 1000);
    assert_int_equal(node_model_find(f.node, "by-path", &model, &err), SL_OK);
    assert_int_equal(model.pid, pid);
    assert_true(model.pinned);
    node_fixture_done(&f);
}

/* --- the queue --- */

static void test_full_queue(void **state)
{
    struct node_fixture f;
    struct ask running, waiting[2], more;
    struct sl_err err;
    int64_t retry_after_ms;
    (void)state;
    node_fixture_init(&f);
    f.cfg.n_queue_max = 2;
    node_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:?tokens=50&pace_us=2000&slots=1", "ab");
    ask(&f, &running, &submit);
    wait_until(&f, ask_has_token, &running);
    for (int i = 0; i < 2; i++) ask(&f, &waiting[i], &submit);
    assert_int_equal(try_ask(&f, &more, &submit, &retry_after_ms, &err), SL_BUSY);
    assert_true(retry_after_ms > 0);
    for (int i = 0; i < 2; i++) finish(&f, &waiting[i]);
    assert_true(running.done);
    assert_int_equal(more.n_events, 0);
    struct node_stats stats;
    node_stats_get(f.node, &stats);
    assert_int_equal(stats.n_rejected, 1);
    assert_int_equal(stats.n_submitted, 3);
    node_fixture_done(&f);
}

/* A higher class takes the place of a lower one, which is told with an event. */
static void test_displaced(void **state)
{
    struct node_fixture f;
    struct ask running, batch, interactive;
    (void)state;
    node_fixture_init(&f);
    f.cfg.n_queue_max = 1;
    node_fixture_start(&f);
    struct node_submit submit = ask_for(FOREVER, "ab");
    ask(&f, &running, &submit);
    wait_until(&f, ask_has_token, &running);
    submit.qos = SCHED_BATCH;
    ask(&f, &batch, &submit);
    submit.qos = SCHED_INTERACTIVE;
    ask(&f, &interactive, &submit);
    assert_int_equal(batch.n_events, 0); /* not from within a submit */
    wait_until(&f, ask_ended, &batch);
    assert_int_equal(batch.end.status, SL_BUSY);
    assert_true(batch.end.retry_after_ms > 0);
    ask_cancel(&running);
    wait_until(&f, ask_has_token, &interactive);
    node_fixture_done(&f);
}

static void test_queue_timeout(void **state)
{
    struct node_fixture f;
    struct ask running, waiting, patient;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for(FOREVER, "ab");
    ask(&f, &running, &submit);
    wait_until(&f, ask_has_token, &running);
    submit.queue_timeout_ns = 20 * MS;
    ask(&f, &waiting, &submit);
    submit.queue_timeout_ns = INT64_MAX - 1;
    ask(&f, &patient, &submit);
    wait_until(&f, ask_ended, &waiting);
    assert_true(waiting.failed);
    assert_int_equal(waiting.end.status, SL_TIMEOUT);
    assert_int_equal(waiting.n_started, 0);
    assert_true(waiting.end.total_ns >= 20 * MS);
    ask_cancel(&running);
    wait_until(&f, ask_has_token, &patient);
    node_fixture_done(&f);
}

/* --- cancellation --- */

static bool nothing_runs(struct node_fixture *f)
{
    struct node_stats stats;
    node_stats_get(f->node, &stats);
    return !stats.n_running;
}

/* The slot of a cancelled request is soon another's. */
static void test_cancel_at_every_stage(void **state)
{
    struct node_fixture f;
    struct ask a[4], last;
    struct node_stats stats;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for(FOREVER, "ab");
    ask(&f, &a[0], &submit);
    ask_cancel(&a[0]); /* before its model is there */
    ask(&f, &a[1], &submit);
    wait_until(&f, ask_has_token, &a[1]);
    ask(&f, &a[2], &submit);
    ask_cancel(&a[2]); /* waiting */
    ask_cancel(&a[1]); /* running */
    while (!nothing_runs(&f)) turn(&f);
    ask(&f, &a[3], &submit);
    ask_cancel(&a[3]); /* given a slot, not sent yet */
    ask(&f, &last, &submit);
    wait_until(&f, ask_has_token, &last);
    for (int i = 0; i < 4; i++) assert_false(ask_ended(&a[i]));
    node_stats_get(f.node, &stats);
    assert_int_equal(stats.n_cancelled, 4);
    assert_int_equal(stats.n_running, 1);
    node_fixture_done(&f);
}

static void test_cancel_from_within_an_event(void **state)
{
    static const enum node_event_type types[] = {NODE_EVENT_STARTED, NODE_EVENT_TOKEN,
                                                 NODE_EVENT_CHOICE_DONE};
    struct node_fixture f;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct ask a, next;
        struct node_submit submit = ask_for("echo:?slots=1", "abc");
        submit.n_choices = 2;
        ask(&f, &a, &submit);
        a.cancels = true;
        a.cancels_at = types[i];
        while (!a.cancelled) turn(&f);
        submit.n_choices = 1;
        ask(&f, &next, &submit);
        finish(&f, &next);
        assert_string_equal(next.choices[0].text, "abc");
        assert_false(ask_ended(&a));
    }
    node_fixture_done(&f);
}

static void test_cancel_of_a_result(void **state)
{
    struct node_fixture f;
    struct ask a, next;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("echo:", "abc");
    for (int task = NODE_EMBED; task <= NODE_TOKENIZE; task++) {
        submit.task = (enum node_task)task;
        ask(&f, &a, &submit);
        a.cancels = true;
        a.cancels_at = NODE_EVENT_RESULT;
        while (!a.cancelled) turn(&f);
        ask(&f, &next, &submit);
        finish(&f, &next);
    }
    assert_false(ask_ended(&a));
    node_fixture_done(&f);
}

/* Its end is told already: to cancel it then is nothing. */
static void test_cancel_at_the_end(void **state)
{
    struct node_fixture f;
    struct node_stats stats;
    struct ask done, failed;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for("echo:?ctx=8", "abc");
    ask(&f, &done, &submit);
    submit.text = "longer than eight tokens";
    submit.n_text = strlen(submit.text);
    ask(&f, &failed, &submit);
    done.cancels = failed.cancels = true;
    done.cancels_at = NODE_EVENT_DONE;
    failed.cancels_at = NODE_EVENT_FAILED;
    while (!done.cancelled || !failed.cancelled) turn(&f);
    assert_true(done.done);
    assert_true(failed.failed);
    node_stats_get(f.node, &stats);
    assert_int_equal(stats.n_cancelled, 0);
    node_fixture_done(&f);
}

/* --- memory and residence --- */

static void load(struct node_fixture *f, const char *model, int64_t keep_alive_ns)
{
    struct ask a;
    struct node_submit submit = ask_for(model, "x");
    submit.keep_alive_ns = keep_alive_ns;
    ask(f, &a, &submit);
    finish(f, &a);
}

static void test_least_recently_used_gives_way(void **state)
{
    static const char *const models[] = {"echo:?bytes=2000000", "echo:?bytes=2000001",
                                         "echo:?bytes=2000002"};
    struct node_fixture f;
    struct node_stats stats;
    (void)state;
    node_fixture_init(&f);
    f.cfg.memory_bytes = 5000000;
    node_fixture_start(&f);
    load(&f, models[0], SCHED_KEEP_ALIVE_DEFAULT);
    load(&f, models[1], SCHED_KEEP_ALIVE_DEFAULT);
    int first = model_pid(&f, models[0]);
    load(&f, models[0], SCHED_KEEP_ALIVE_DEFAULT); /* the second was used longest ago */
    load(&f, models[2], SCHED_KEEP_ALIVE_DEFAULT);
    assert_int_equal(model_pid(&f, models[0]), first);
    assert_int_equal(model_pid(&f, models[1]), 0);
    load(&f, models[1], SCHED_KEEP_ALIVE_DEFAULT);
    assert_int_equal(model_pid(&f, models[0]), 0);
    node_stats_get(f.node, &stats);
    assert_true(stats.memory_used_bytes <= stats.memory_bytes);
    assert_int_equal(stats.n_crashes, 0);
    node_fixture_done(&f);
}

static void test_keep_alive(void **state)
{
    static const char model[] = "echo:";
    struct node_fixture f;
    (void)state;
    node_fixture_init(&f);
    f.cfg.keep_alive_ns = SCHED_KEEP_ALIVE_FOREVER;
    node_fixture_start(&f);
    load(&f, model, SCHED_KEEP_ALIVE_DEFAULT);
    struct node_model found;
    assert_true(model_state(&f, model, &found));
    assert_true(found.expires_in_ns < 0);
    load(&f, model, 10 * MS);
    wait_for_pid(&f, model, false);
    load(&f, model, 0);
    wait_for_pid(&f, model, false);
    assert_true(model_state(&f, model, &found));
    assert_string_equal(found.state, "unloaded");
    assert_int_equal(found.n_crashes, 0);
    node_fixture_done(&f);
}

/* More than the scheduler takes is cut, so that the model runs all the same. */
static void test_immoderate_worker(void **state)
{
    struct node_fixture f;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    load(&f, "echo:?slots=1000000", SCHED_KEEP_ALIVE_DEFAULT);
    load(&f, "echo:?bytes=9000000000000000000", SCHED_KEEP_ALIVE_DEFAULT);
    node_fixture_done(&f);
}

static void test_pin_and_stop(void **state)
{
    static const char model[] = FOREVER;
    struct node_fixture f;
    struct ask a, waiting;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    assert_int_equal(node_stop(f.node, model, &err), SL_NOT_FOUND);
    assert_int_equal(node_pin(f.node, "no-such-model", &err), SL_NOT_FOUND);
    assert_int_equal(node_pin(f.node, model, &err), SL_OK);
    wait_for_pid(&f, model, true);
    int pid = model_pid(&f, model);
    struct node_submit submit = ask_for(model, "ab");
    submit.max_tokens = 100;
    submit.keep_alive_ns = 0; /* does not count against a pin */
    ask(&f, &a, &submit);
    finish(&f, &a);
    assert_int_equal(model_pid(&f, model), pid);
    ask(&f, &a, &submit);
    wait_until(&f, ask_has_token, &a);
    ask(&f, &waiting, &submit);
    assert_int_equal(node_stop(f.node, model, &err), SL_OK);
    finish(&f, &a); /* what runs is let finish */
    wait_until(&f, ask_ended, &waiting);
    assert_int_equal(waiting.end.status, SL_UNAVAILABLE);
    wait_for_pid(&f, model, false);
    assert_int_equal(node_stop(f.node, model, &err), SL_NOT_FOUND);
    node_fixture_done(&f);
}

static void test_pinned_model_that_cannot_load(void **state)
{
    static const char model[] = "echo:?crash_on_load=1";
    struct node_fixture f;
    struct node_model found;
    struct sl_err err = SL_ERR_INIT;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    assert_int_equal(node_pin(f.node, model, &err), SL_OK);
    do turn(&f);
    while (!model_state(&f, model, &found) || strcmp(found.state, "backoff") != 0);
    assert_true(found.n_crashes > 0);
    assert_true(found.last_error[0] != '\0');
    assert_int_equal(node_stop(f.node, model, &err), SL_OK);
    do turn(&f);
    while (model_state(&f, model, &found) && strcmp(found.state, "unloaded") != 0);
    assert_false(found.pinned);
    assert_int_equal(node_stop(f.node, model, &err), SL_NOT_FOUND);
    node_fixture_done(&f);
}

/* --- models that change --- */

static void test_changed_model(void **state)
{
    static const char model[] = FOREVER;
    struct node_fixture f;
    struct ask old, new, waiting;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for(model, "ab");
    submit.max_tokens = 300;
    ask(&f, &old, &submit);
    wait_until(&f, ask_has_token, &old);
    int pid = model_pid(&f, model);
    ask(&f, &waiting, &submit);
    node_model_changed(f.node, model);
    node_model_changed(f.node, "no-such-model");
    ask(&f, &new, &submit);
    wait_until(&f, ask_has_token, &new);
    assert_false(ask_ended(&old)); /* the old worker goes on beside the new one */
    assert_true(model_pid(&f, model) > 0 && model_pid(&f, model) != pid);
    assert_int_equal(waiting.end.status, SL_NOT_FOUND);
    finish(&f, &old);
    finish(&f, &new);
    assert_int_equal(old.choices[0].n_text, 300);
    node_fixture_done(&f);
}

/* Another program replaced the file behind a name, and later removed the name. */
static void test_replaced_file(void **state)
{
    const char *other = shared_path("data/models/stories260K-f32.gguf");
    struct node_fixture f;
    struct node_model model;
    struct sl_err err = SL_ERR_INIT;
    char digest[80];
    (void)state;
    if (!other) skip();
    node_fixture_init(&f);
    node_fixture_start(&f);
    assert_int_equal(store_import_file(f.store, MODEL, "tale", &err), SL_OK);
    load(&f, "tale", SCHED_KEEP_ALIVE_DEFAULT);
    assert_int_equal(node_model_find(f.node, "tale", &model, &err), SL_OK);
    (void)snprintf(digest, sizeof digest, "%s", model.digest);
    int pid = model.pid;
    assert_int_equal(store_import_file(f.store, other, "tale", &err), SL_OK);
    do {
        turn(&f);
        assert_int_equal(node_model_find(f.node, "tale", &model, &err), SL_OK);
    } while (strcmp(digest, model.digest) == 0);
    load(&f, "tale", SCHED_KEEP_ALIVE_DEFAULT);
    assert_int_equal(node_model_find(f.node, "tale", &model, &err), SL_OK);
    assert_true(model.pid > 0 && model.pid != pid);
    assert_int_equal(store_rm(f.store, "tale", NULL, &err), SL_OK);
    while (node_model_find(f.node, "tale", &model, &err) == SL_OK) turn(&f);
    node_fixture_done(&f);
}

/* --- ends --- */

static int count_fds(void)
{
    int n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir)) n++;
    closedir(dir);
    return n;
}

static void test_destroy_at_any_time(void **state)
{
    struct node_fixture f;
    struct ask running, waiting, loading, failing, sent;
    (void)state;
    node_fixture_init(&f);
    turn(&f); /* what the loop makes for itself */
    uint64_t live = sl_mem_live();
    int fds = count_fds();
    node_fixture_start(&f);
    struct node_submit submit = ask_for(FOREVER, "ab");
    ask(&f, &running, &submit);
    wait_until(&f, ask_has_token, &running);
    ask(&f, &waiting, &submit);
    submit.model = "echo:?load_ms=60000";
    ask(&f, &loading, &submit);
    wait_for_pid(&f, submit.model, true);
    submit.model = "echo:?crash_on_load=1";
    ask(&f, &failing, &submit);
    load(&f, "starling", SCHED_KEEP_ALIVE_DEFAULT);
    submit.model = "starling";
    ask(&f, &sent, &submit);
    node_model_changed(f.node, FOREVER);
    running.cancelled = waiting.cancelled = loading.cancelled = true;
    failing.cancelled = sent.cancelled = true; /* nothing more may be told */
    node_destroy(f.node);
    f.node = NULL;
    turn(&f);
    assert_int_equal(sl_mem_live(), live);
    assert_int_equal(count_fds(), fds);
    node_fixture_done(&f);
}

static void test_create_without_memory(void **state)
{
    struct node_fixture f;
    struct sl_err err;
    sl_status status = SL_NOMEM;
    (void)state;
    node_fixture_init(&f);
    turn(&f);
    uint64_t live = sl_mem_live();
    for (uint64_t n = 1; status != SL_OK; n++) {
        assert_true(n < 1000);
        sl_mem_fail_at(n, false);
        status = node_create(&f.cfg, &f.node, &err);
        sl_mem_fail_at(0, false);
        assert_true(status == SL_OK || status == SL_NOMEM);
        if (status != SL_OK) assert_int_equal(sl_mem_live(), live);
    }
    node_destroy(f.node);
    f.node = NULL;
    assert_int_equal(sl_mem_live(), live);
    f.cfg.n_queue_max = 0;
    assert_int_equal(node_create(&f.cfg, &f.node, &err), SL_INVALID);
    node_fixture_done(&f);
}

/* One request from its submit to its end, loading included, while allocation n fails. True: it was
 * hit. */
static bool live_without_memory(uint64_t n, const struct node_submit *submit)
{
    struct node_fixture f;
    struct ask a;
    struct sl_err err;
    int64_t retry_after_ms;
    node_fixture_init(&f);
    turn(&f);
    uint64_t live = sl_mem_live();
    node_fixture_start(&f);
    sl_mem_fail_at(n, false);
    sl_status status = try_ask(&f, &a, submit, &retry_after_ms, &err);
    if (status == SL_OK) wait_until(&f, ask_ended, &a);
    bool hit = sl_mem_fail_hit();
    sl_mem_fail_at(0, false);
    if (status != SL_OK) assert_int_equal(status, SL_NOMEM);
    if (a.done) assert_string_equal(a.choices[0].text, submit->text);
    node_destroy(f.node);
    f.node = NULL;
    assert_int_equal(sl_mem_live(), live);
    node_fixture_done(&f);
    return hit;
}

static void test_submit_without_memory(void **state)
{
    (void)state;
    const struct node_submit submit = ask_for("echo:", "with memory or without");
    for (uint64_t n = 1; live_without_memory(n, &submit); n++) assert_true(n < 1000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_generates),
        TEST(test_limits_of_an_answer),
        TEST(test_several_choices),
        TEST(test_tensors),
        TEST(test_tensors_outlive_a_worker),
        TEST(test_other_tasks),
        TEST(test_load_only),
        TEST(test_rejected_by_the_worker),
        TEST(test_refuses_arguments),
        TEST(test_many_names),
        TEST(test_full_queue),
        TEST(test_displaced),
        TEST(test_queue_timeout),
        TEST(test_cancel_at_every_stage),
        TEST(test_cancel_from_within_an_event),
        TEST(test_cancel_of_a_result),
        TEST(test_cancel_at_the_end),
        TEST(test_least_recently_used_gives_way),
        TEST(test_keep_alive),
        TEST(test_immoderate_worker),
        TEST(test_pin_and_stop),
        TEST(test_pinned_model_that_cannot_load),
        TEST(test_changed_model),
        TEST(test_replaced_file),
        TEST(test_destroy_at_any_time),
        TEST(test_create_without_memory),
        TEST(test_submit_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
