/* What becomes of requests whose worker dies, hangs, cannot load or talks nonsense. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/buf.h"
#include "exec/llm/sampler.h"
#include "exec/wire.h"
#include "support/node_fixture.h"
#include "support/temp_dir.h"

#define INNOCENTS 3

static void check_repeats(const struct ask_choice *choice, const char *text, size_t n)
{
    size_t n_text = strlen(text);
    assert_int_equal(choice->n_text, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(choice->text[i], text[i % n_text]);
}

/* Turns the loop until the first choice has n tokens. */
static void wait_for_tokens(struct node_fixture *f, const struct ask *a, int32_t n)
{
    while (a->choices[0].n_tokens < n) {
        if (ask_ended(a)) fail_msg("ended early: %s", a->message);
        turn(f);
    }
}

static void wait_for_state(struct node_fixture *f, const char *name, const char *state)
{
    struct node_model model;
    while (!model_state(f, name, &model) || strcmp(model.state, state) != 0) turn(f);
}

/* --- killed from outside --- */

static void test_killed_in_the_middle(void **state)
{
    static const char model[] = "echo:?tokens=602&pace_us=1000";
    struct node_fixture f;
    struct ask a[3];
    struct node_stats stats;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    static const char *const texts[] = {"abc", "o\xc3\xbc", "0123456789"};
    static const size_t lengths[] = {602, 601, 602}; /* the last byte would be half a character */
    for (int i = 0; i < 3; i++) {
        struct node_submit submit = ask_for(model, texts[i]);
        submit.n_choices = i + 1;
        ask(&f, &a[i], &submit);
        wait_for_tokens(&f, &a[i], 20); /* so that each is at another place */
    }
    kill_worker(&f, model);
    for (int i = 0; i < 3; i++) {
        finish(&f, &a[i]);
        for (int c = 0; c <= i; c++) {
            check_repeats(&a[i].choices[c], texts[i], lengths[i]);
            assert_int_equal(a[i].choices[c].n_tokens, 602);
            assert_int_equal(a[i].choices[c].n_generated, 602);
        }
        assert_int_equal(a[i].end.n_attempts, 2);
        assert_int_equal(a[i].n_started, 1);
        assert_true(a[i].end.load_ns <= a[i].end.queue_ns); /* the second load is no part of it */
    }
    node_stats_get(f.node, &stats);
    assert_int_equal(stats.n_replayed, 3);
    assert_int_equal(stats.n_crashes, 1);
    assert_int_equal(stats.n_failed, 0);
    node_fixture_done(&f);
}

static void sampled(struct node_fixture *f, struct ask *a, int32_t kill_at)
{
    struct sampler_cfg sampler;
    struct node_submit submit = ask_for("starling", "Once upon a time");
    sampler_cfg_default(&sampler);
    sampler.seed = 7;
    sampler.temp = 1.2f;
    submit.sampler = &sampler;
    submit.n_choices = ASK_CHOICES_MAX;
    submit.max_tokens = 40;
    ask(f, a, &submit);
    if (kill_at) {
        wait_for_tokens(f, a, kill_at);
        kill_worker(f, "starling:latest");
    }
    finish(f, a);
}

/* A real model, each choice drawn from its own random numbers: what they say is what they would
 * have said. */
static void test_killed_while_sampling(void **state)
{
    struct node_fixture f;
    struct ask whole, broken;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    sampled(&f, &whole, 0);
    sampled(&f, &broken, 5);
    assert_string_not_equal(whole.choices[0].text, whole.choices[1].text);
    for (int i = 0; i < ASK_CHOICES_MAX; i++) {
        assert_string_equal(broken.choices[i].text, whole.choices[i].text);
        assert_int_equal(broken.choices[i].finish, whole.choices[i].finish);
        assert_int_equal(broken.choices[i].n_generated, whole.choices[i].n_generated);
    }
    assert_int_equal(broken.end.n_attempts, 2);
    assert_int_equal(broken.end.n_prompt, whole.end.n_prompt);
    assert_int_equal(broken.end.n_generated, whole.end.n_generated);
    node_fixture_done(&f);
}

static void test_killed_before_the_first_token(void **state)
{
    static const char model[] = "echo:?prefill_us=100000";
    struct node_fixture f;
    struct node_model found;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for(model, "abc");
    ask(&f, &a, &submit);
    do turn(&f);
    while (!model_state(&f, model, &found) || !found.n_running);
    kill_worker(&f, model);
    finish(&f, &a);
    assert_string_equal(a.choices[0].text, "abc");
    assert_int_equal(a.end.n_attempts, 2);
    assert_true(a.end.first_token_ns > 0);
    node_fixture_done(&f);
}

static void test_killed_while_loading(void **state)
{
    static const char model[] = "echo:?load_ms=300";
    struct node_fixture f;
    struct node_model found;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for(model, "abc");
    ask(&f, &a, &submit);
    do turn(&f);
    while (!model_state(&f, model, &found) || found.load_fraction <= 0);
    assert_string_equal(found.state, "loading");
    kill_worker(&f, model);
    finish(&f, &a);
    assert_int_equal(a.end.n_attempts, 1); /* it never ran on the first */
    assert_true(model_state(&f, model, &found));
    assert_int_equal(found.n_crashes, 1);
    node_fixture_done(&f);
}

/* Cancelled ones are not replayed; those told to end meanwhile neither. */
static void test_killed_and_cancelled(void **state)
{
    static const char model[] = "echo:?tokens=30000&pace_us=1000";
    struct node_fixture f;
    struct ask before, after, stays;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for(model, "abc");
    submit.max_tokens = 100;
    ask(&f, &before, &submit);
    ask(&f, &after, &submit);
    ask(&f, &stays, &submit);
    wait_for_tokens(&f, &stays, 5);
    ask_cancel(&before);
    kill_worker(&f, model);
    wait_for_pid(&f, model, false);
    ask_cancel(&after); /* while it waits for the next worker */
    finish(&f, &stays);
    check_repeats(&stays.choices[0], "abc", 100);
    struct node_stats stats;
    node_stats_get(f.node, &stats);
    assert_int_equal(stats.n_replayed, 1);
    assert_int_equal(stats.n_running, 0);
    node_fixture_done(&f);
}

/* Each death but the last is made up for by a token. */
static void test_killed_again_and_again(void **state)
{
    static const char model[] = "echo:?tokens=400&pace_us=1000";
    struct node_fixture f;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for(model, "abcdefg");
    ask(&f, &a, &submit);
    for (int32_t n = 1; n <= 5; n++) {
        wait_for_tokens(&f, &a, 20 * n);
        kill_worker(&f, model);
        wait_for_pid(&f, model, false);
    }
    finish(&f, &a);
    check_repeats(&a.choices[0], "abcdefg", 400);
    assert_int_equal(a.end.n_attempts, 6);
    node_fixture_done(&f);
}

static void test_embedding_is_told_once(void **state)
{
    static const char model[] = "echo:?prefill_us=50000";
    struct node_fixture f;
    struct node_model found;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for(model, "abc");
    submit.task = NODE_EMBED;
    ask(&f, &a, &submit);
    do turn(&f);
    while (!model_state(&f, model, &found) || !found.n_running);
    kill_worker(&f, model);
    finish(&f, &a);
    assert_int_equal(a.n_results, 1);
    assert_int_equal(a.end.n_attempts, 2);
    node_fixture_done(&f);
}

/* --- dies by itself --- */

static void test_poison(void **state)
{
    static const char model[] = "echo:?poison=kill&pace_us=1000";
    struct node_fixture f;
    struct ask innocent[INNOCENTS], poison;
    char text[301];
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    node_fixture_init(&f);
    node_fixture_start(&f);
    struct node_submit submit = ask_for(model, text);
    for (int i = 0; i < INNOCENTS; i++) ask(&f, &innocent[i], &submit);
    wait_for_tokens(&f, &innocent[INNOCENTS - 1], 5);
    submit = ask_for(model, "kill");
    ask(&f, &poison, &submit);
    wait_until(&f, ask_ended, &poison);
    assert_true(poison.failed);
    assert_int_equal(poison.end.status, SL_INTERNAL);
    assert_true(poison.end.n_attempts >= 2);
    assert_non_null(strstr(poison.message, "SIGABRT"));
    for (int i = 0; i < INNOCENTS; i++) {
        finish(&f, &innocent[i]);
        assert_string_equal(innocent[i].choices[0].text, text);
    }
    node_fixture_done(&f);
}

static void test_load_failure_is_told(void **state)
{
    struct node_fixture f;
    struct ask a, again;
    struct sl_err err = SL_ERR_INIT;
    struct node_model found;
    int64_t retry_after_ms;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:?load_fail=the+dog+ate+it", "abc");
    ask(&f, &a, &submit);
    wait_until(&f, ask_ended, &a);
    assert_int_equal(a.end.status, SL_UNAVAILABLE);
    assert_non_null(strstr(a.message, "the dog ate it"));
    assert_true(a.end.retry_after_ms > 0);
    assert_true(model_state(&f, submit.model, &found));
    assert_string_equal(found.last_error, "the dog ate it");
    sl_status status = try_ask(&f, &again, &submit, &retry_after_ms, &err);
    assert_int_equal(status, SL_UNAVAILABLE);
    assert_true(retry_after_ms > 0);
    assert_non_null(strstr(err.text, "the dog ate it"));
    wait_for_state(&f, submit.model, "unloaded"); /* the delay is over: it may be tried again */
    ask(&f, &again, &submit);
    wait_until(&f, ask_ended, &again);
    assert_int_equal(again.end.status, SL_UNAVAILABLE);
    node_fixture_done(&f);
}

static void test_crash_on_load(void **state)
{
    struct node_fixture f;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    node_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:?crash_on_load=1", "abc");
    ask(&f, &a, &submit);
    wait_until(&f, ask_ended, &a); /* five attempts, then the model is given up for a while */
    assert_int_equal(a.end.status, SL_UNAVAILABLE);
    assert_non_null(strstr(a.message, "while loading"));
    assert_true(a.end.retry_after_ms > 0);
    node_fixture_done(&f);
}

static void test_missing_executable(void **state)
{
    struct node_fixture f;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    f.cfg.worker_binary = "/no/such/program";
    node_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:", "abc");
    ask(&f, &a, &submit);
    wait_until(&f, ask_ended, &a);
    assert_int_equal(a.end.status, SL_UNAVAILABLE);
    assert_non_null(strstr(a.message, "/no/such/program"));
    node_fixture_done(&f);
}

static void test_hung_worker(void **state)
{
    struct node_fixture f;
    struct ask a;
    (void)state;
    node_fixture_init(&f);
    f.cfg.watchdog_ms = 300;
    node_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:?hang_at=4&pace_us=20000", "abcdefgh");
    ask(&f, &a, &submit);
    finish(&f, &a); /* three tokens a worker at most */
    assert_string_equal(a.choices[0].text, "abcdefgh");
    assert_true(a.end.n_attempts >= 3);
    node_fixture_done(&f);
}

/* --- talks nonsense --- */

static void add_frame(struct sl_buf *out, const struct wire_msg *msg)
{
    struct sl_err err = SL_ERR_INIT;
    if (wire_encode(msg, out, &err) != SL_OK) fail_msg("%s", err.text);
}

static void add_events(struct sl_buf *out)
{
    const struct engine_usage usage = {.n_prompt = -5, .n_generated = -5, .queue_ns = -1};
    struct wire_event events[64];
    size_t n = 0;
    /* Of request 1, which is the one there is, only choice 0 of part 0 exists. */
    static const uint64_t ids[] = {0, 1, 1 << 5 | 1, 1 << 5 | 31, 2 << 5, UINT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        struct wire_event event = {.id = ids[i], .text = "wrong", .n_text = 5, .message = "wrong"};
        for (int type = WIRE_EVENT_ACCEPTED; type <= WIRE_EVENT_TEXT; type++) {
            event.type = (enum wire_event_type)type;
            event.status = SL_INTERNAL;
            event.engine = (struct engine_event){.type = ENGINE_EVENT_TOKEN,
                                                 .id = ids[i],
                                                 .text = "wrong",
                                                 .n_text = 5,
                                                 .message = "wrong",
                                                 .usage = &usage};
            events[n++] = event;
        }
        event.type = WIRE_EVENT_ENGINE;
        event.engine.type = ENGINE_EVENT_DONE;
        events[n++] = event;
    }
    struct wire_event choice = {.type = WIRE_EVENT_ENGINE, .id = 1 << 5};
    choice.engine = (struct engine_event){
        .type = ENGINE_EVENT_TOKEN, .id = 1 << 5, .choice = 7, .text = "wrong", .n_text = 5};
    events[n++] = choice;
    const struct wire_msg msg = {.type = WIRE_EVENTS, .events = {.v = events, .n = n}};
    add_frame(out, &msg);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

/* What a worker says once it has loaded. */
static void write_greeting(void)
{
    struct wire_msg loaded = {.type = WIRE_LOADED, .loaded = {.weight_bytes = 1}};
    struct sl_buf greeting;
    sl_buf_init(&greeting, 1 << 20);
    loaded.loaded.info = (struct engine_info){.architecture = "none",
                                              .name = "",
                                              .bos_text = "",
                                              .eos_text = "",
                                              .quantization = "",
                                              .n_seqs_max = 1};
    add_frame(&greeting, &loaded);
    write_file(temp_path("greeting"), greeting.data, greeting.len);
    sl_buf_done(&greeting);
}

/* A worker that loads and then tells of requests that do not exist, for as long as the script says.
 */
static void make_impostor(char path[TEMP_PATH_MAX])
{
    char script[4 * TEMP_PATH_MAX];
    struct sl_buf events;
    sl_buf_init(&events, 1 << 20);
    add_events(&events);
    write_greeting();
    write_file(temp_path("events"), events.data, events.len);
    sl_buf_done(&events);
    int n = snprintf(script, sizeof script, "#!/bin/sh\ncat '%s' >&3\n", temp_path("greeting"));
    n += snprintf(script + n, sizeof script - (size_t)n,
                  "for i in 1 2 3 4 5 6 7 8; do cat '%s' >&3; sleep 0.02; done\n",
                  temp_path("events"));
    n += snprintf(script + n, sizeof script - (size_t)n, "echo had enough; exit 3\n");
    (void)snprintf(path, TEMP_PATH_MAX, "%s", temp_path("impostor"));
    write_file(path, script, (size_t)n);
    assert_int_equal(chmod(path, 0700), 0);
}

static void test_events_of_nobody(void **state)
{
    struct node_fixture f;
    struct ask a;
    char impostor[TEMP_PATH_MAX];
    (void)state;
    node_fixture_init(&f);
    make_impostor(impostor);
    f.cfg.worker_binary = impostor;
    node_fixture_start(&f);
    const struct node_submit submit = ask_for("echo:", "abc");
    ask(&f, &a, &submit);
    wait_until(&f, ask_ended, &a);
    assert_int_equal(a.end.status, SL_INTERNAL);
    assert_non_null(strstr(a.message, "had enough"));
    assert_int_equal(a.n_events, 1); /* its end, and nothing of what was said */
    assert_int_equal(a.end.n_attempts, 2);
    node_fixture_done(&f);
}

/* Its worker dies with the answer as its last words, when it was to be unloaded anyway; and from
 * within the answer the owner asks again. */
struct echo_of_itself {
    struct node_fixture f;
    struct node_submit submit;
    struct ask again;
};

static void ask_again(void *ctx, const struct node_event *event)
{
    struct echo_of_itself *t = ctx;
    if (event->type == NODE_EVENT_DONE) ask(&t->f, &t->again, &t->submit);
}

static void make_dying_worker(char path[TEMP_PATH_MAX])
{
    const struct engine_usage usage = {.n_prompt = 3, .n_generated = 0};
    struct wire_event events[] = {{.type = WIRE_EVENT_ACCEPTED, .id = 1 << 5, .text = ""},
                                  {.type = WIRE_EVENT_ENGINE, .id = 1 << 5}};
    const struct wire_msg msg = {.type = WIRE_EVENTS, .events = {.v = events, .n = 2}};
    struct sl_buf done;
    char greeting[TEMP_PATH_MAX], go[TEMP_PATH_MAX], answer[TEMP_PATH_MAX];
    char script[6 * TEMP_PATH_MAX];
    const char *real = getenv("STARLANE_BIN");
    events[1].engine = (struct engine_event){
        .type = ENGINE_EVENT_DONE, .id = 1 << 5, .text = "", .message = "", .usage = &usage};
    sl_buf_init(&done, 1 << 20);
    add_frame(&done, &msg);
    write_greeting();
    (void)snprintf(greeting, sizeof greeting, "%s", temp_path("greeting"));
    (void)snprintf(go, sizeof go, "%s", temp_path("go"));
    (void)snprintf(answer, sizeof answer, "%s", temp_path("answer"));
    write_file(answer, done.data, done.len);
    sl_buf_done(&done);
    int n = snprintf(script, sizeof script,
                     "#!/bin/sh\n[ -e '%s' ] && exec '%s' worker echo\ncat '%s' >&3\n"
                     "while [ ! -e '%s' ]; do sleep 0.01; done\nexec cat '%s' >&3\n",
                     go, real ? real : STARLANE_BIN, greeting, go, answer);
    (void)snprintf(path, TEMP_PATH_MAX, "%s", temp_path("dying"));
    write_file(path, script, (size_t)n);
    assert_int_equal(chmod(path, 0700), 0);
}

static void test_dies_with_the_answer(void **state)
{
    struct echo_of_itself t;
    struct node_model found;
    struct node_request *request;
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms;
    char dying[TEMP_PATH_MAX];
    siginfo_t info;
    (void)state;
    node_fixture_init(&t.f);
    make_dying_worker(dying);
    t.f.cfg.worker_binary = dying;
    node_fixture_start(&t.f);
    t.submit = ask_for("echo:", "abc");
    t.submit.keep_alive_ns = 0;
    t.again.handle = NULL;
    assert_int_equal(
        node_submit(t.f.node, &t.submit, ask_again, &t, &request, &retry_after_ms, &err), SL_OK);
    do turn(&t.f);
    while (!model_state(&t.f, "echo:", &found) || !found.n_running);
    turn(&t.f);
    write_file(temp_path("go"), "", 0);
    assert_int_equal(waitid(P_PID, (id_t)found.pid, &info, WEXITED | WNOWAIT), 0);
    while (!t.again.handle) turn(&t.f);
    finish(&t.f, &t.again);
    assert_string_equal(t.again.choices[0].text, "abc");
    assert_int_equal(t.again.end.n_attempts, 1);
    assert_true(model_state(&t.f, "echo:", &found));
    assert_int_equal(found.n_loads, 2);
    struct node_stats stats;
    node_stats_get(t.f.node, &stats);
    assert_int_equal(stats.n_crashes, 0);
    node_fixture_done(&t.f);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, temp_dir_setup, temp_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_killed_in_the_middle),
        TEST(test_killed_while_sampling),
        TEST(test_killed_before_the_first_token),
        TEST(test_killed_while_loading),
        TEST(test_killed_and_cancelled),
        TEST(test_killed_again_and_again),
        TEST(test_embedding_is_told_once),
        TEST(test_poison),
        TEST(test_load_failure_is_told),
        TEST(test_crash_on_load),
        TEST(test_missing_executable),
        TEST(test_hung_worker),
        TEST(test_events_of_nobody),
        TEST(test_dies_with_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
