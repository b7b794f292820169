/* The scripted engine under a clock of the test's own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "exec/echo/echo_engine.h"

#define REQUESTS_MAX 64
#define US 1000

struct seen {
    char text[256];
    int32_t tokens[256];
    size_t n_text;
    int n_tokens, n_done, n_embeddings;
    enum engine_finish finish;
    struct engine_usage usage;
    float embedding[ECHO_EMBD];
};

struct bench {
    struct engine *engine;
    int64_t now;
    struct seen seen[REQUESTS_MAX][ENGINE_CHOICES_MAX];
    uint64_t cancel_id; /* cancelled from within the event of its second token */
};

static void on_event(void *ctx, const struct engine_event *e)
{
    struct bench *b = ctx;
    struct seen *s = &b->seen[e->id][e->choice];
    assert_int_equal(s->n_done, 0);
    assert_true(s->n_text + e->n_text < sizeof s->text);
    if (e->n_text) memcpy(s->text + s->n_text, e->text, e->n_text);
    s->n_text += e->n_text;
    if (e->type == ENGINE_EVENT_TOKEN) s->tokens[s->n_tokens++] = e->token;
    if (e->type == ENGINE_EVENT_EMBEDDING) {
        s->n_embeddings++;
        memcpy(s->embedding, e->embedding, sizeof s->embedding);
    }
    if (e->type == ENGINE_EVENT_DONE) {
        s->n_done++;
        s->finish = e->finish;
        s->usage = *e->usage;
    }
    if (e->type == ENGINE_EVENT_TOKEN && b->cancel_id == e->id && s->n_tokens == 2)
        assert_int_equal(engine_cancel(b->engine, e->id), SL_OK);
}

static void begin(struct bench *b, const char *script)
{
    struct sl_err err = SL_ERR_INIT;
    memset(b, 0, sizeof *b);
    b->now = 1000000;
    struct sl_clock clock = sl_clock_manual(&b->now);
    const struct echo_engine_cfg cfg = {.clock = &clock, .on_event = on_event, .ctx = b};
    if (echo_engine_load(script, &cfg, &b->engine, &err) != SL_OK) fail_msg("%s", err.text);
}

static sl_status submit(struct bench *b, uint64_t id, const char *text, int32_t max_tokens,
                        struct sl_err *err)
{
    const struct engine_generate req = {
        .id = id, .text = text, .n_text = strlen(text), .max_tokens = max_tokens};
    return engine_submit(b->engine, &req, err);
}

static bool step(struct bench *b)
{
    bool idle;
    struct sl_err err;
    assert_int_equal(engine_step(b->engine, &idle, &err), SL_OK);
    return !idle;
}

/* Lets time pass as far as the engine asks for it. */
static void run(struct bench *b)
{
    int64_t next;
    do {
        while (step(b)) b->now++;
        next = engine_next_ns(b->engine);
        if (next > 0) b->now += next;
    } while (next >= 0);
}

static void test_echoes(void **state)
{
    static struct bench b;
    struct sl_err err;
    (void)state;
    begin(&b, "echo:");
    assert_int_equal(submit(&b, 1, "gr\xc3\xbc\xc3\x9f dich", 100, &err), SL_OK);
    assert_int_equal(submit(&b, 2, "x\xff", 100, &err), SL_OK);
    assert_int_equal(submit(&b, 3, "", 100, &err), SL_OK);
    run(&b);
    assert_string_equal(b.seen[1][0].text, "gr\xc3\xbc\xc3\x9f dich");
    assert_int_equal(b.seen[1][0].n_tokens, 11);
    assert_int_equal(b.seen[1][0].finish, ENGINE_FINISH_STOP);
    assert_string_equal(b.seen[2][0].text, "x?");
    assert_string_equal(b.seen[3][0].text, ".");
    engine_unload(b.engine);
}

static void test_length_and_max_tokens(void **state)
{
    static struct bench b;
    struct sl_err err;
    (void)state;
    begin(&b, "echo:?tokens=7&text=a%62%20c");
    assert_int_equal(submit(&b, 1, "zzz", 100, &err), SL_OK);
    assert_int_equal(submit(&b, 2, "zzz", 3, &err), SL_OK);
    assert_int_equal(submit(&b, 3, "zzz", 0, &err), SL_INVALID);
    run(&b);
    assert_string_equal(b.seen[1][0].text, "ab cab ");
    assert_int_equal(b.seen[1][0].finish, ENGINE_FINISH_STOP);
    assert_string_equal(b.seen[2][0].text, "ab ");
    assert_int_equal(b.seen[2][0].finish, ENGINE_FINISH_LENGTH);
    assert_int_equal(b.seen[2][0].usage.n_prompt, 3);
    engine_unload(b.engine);
}

static void test_half_a_character_is_not_shown(void **state)
{
    static struct bench b;
    struct sl_err err;
    (void)state;
    begin(&b, "echo:");
    assert_int_equal(submit(&b, 1, "a\xe2\x82\xac", 3, &err), SL_OK);
    run(&b);
    assert_string_equal(b.seen[1][0].text, "a");
    assert_int_equal(b.seen[1][0].n_tokens, 3);
    engine_unload(b.engine);
}

static void test_stop_strings(void **state)
{
    static struct bench b;
    static const char *const stops[] = {"rown", "brown", "fox"};
    struct engine_generate req = {.id = 1, .text = "the brown fox", .n_text = 13};
    struct sl_err err;
    (void)state;
    begin(&b, "echo:");
    req.max_tokens = 100;
    req.stop = stops;
    req.n_stop = 3;
    assert_int_equal(engine_submit(b.engine, &req, &err), SL_OK);
    run(&b);
    assert_string_equal(b.seen[1][0].text, "the ");
    assert_int_equal(b.seen[1][0].n_tokens, 9);
    assert_int_equal(b.seen[1][0].finish, ENGINE_FINISH_STOP);
    engine_unload(b.engine);
}

static void test_pace(void **state)
{
    static struct bench b;
    struct sl_err err;
    (void)state;
    begin(&b, "echo:?pace_us=10&prefill_us=50");
    assert_int_equal(engine_next_ns(b.engine), -1);
    assert_false(step(&b));
    assert_int_equal(submit(&b, 1, "abc", 100, &err), SL_OK);
    assert_int_equal(engine_next_ns(b.engine), 0);
    assert_false(step(&b)); /* admits it */
    assert_int_equal(engine_next_ns(b.engine), 50 * US);
    b.now += 50 * US;
    assert_true(step(&b));
    assert_int_equal(b.seen[1][0].n_tokens, 1);
    assert_int_equal(engine_next_ns(b.engine), 10 * US);
    b.now += 10 * US - 1;
    assert_false(step(&b));
    b.now += 1;
    assert_true(step(&b));
    b.now += 10 * US;
    assert_true(step(&b));
    assert_int_equal(b.seen[1][0].n_done, 1);
    assert_int_equal(b.seen[1][0].usage.prefill_ns, 50 * US);
    assert_int_equal(b.seen[1][0].usage.decode_ns, 20 * US);
    assert_int_equal(engine_next_ns(b.engine), -1);
    engine_unload(b.engine);
}

static void test_slots_and_queue(void **state)
{
    static struct bench b;
    struct engine_stats stats;
    struct sl_err err;
    (void)state;
    begin(&b, "echo:?slots=2&queue=3&pace_us=10");
    for (uint64_t id = 1; id <= 5; id++) assert_int_equal(submit(&b, id, "ab", 9, &err), SL_OK);
    assert_int_equal(submit(&b, 6, "ab", 9, &err), SL_BUSY);
    assert_int_equal(submit(&b, 5, "ab", 9, &err), SL_EXISTS);
    assert_true(step(&b));
    engine_stats(b.engine, &stats);
    assert_int_equal(stats.n_running, 2);
    assert_int_equal(stats.n_waiting, 3);
    assert_int_equal(engine_cancel(b.engine, 4), SL_OK); /* one that waits */
    assert_int_equal(engine_cancel(b.engine, 4), SL_NOT_FOUND);
    run(&b);
    for (uint64_t id = 1; id <= 5; id++) assert_int_equal(b.seen[id][0].n_done, 1);
    assert_int_equal(b.seen[4][0].finish, ENGINE_FINISH_CANCELLED);
    assert_string_equal(b.seen[5][0].text, "ab");
    assert_int_equal(submit(&b, 5 + 1, "ab", 9, &err), SL_OK);
    engine_unload(b.engine);
    assert_int_equal(b.seen[6][0].finish, ENGINE_FINISH_CANCELLED);
}

static void test_cancel_from_its_own_event(void **state)
{
    static struct bench b;
    struct sl_err err;
    uint64_t live = sl_mem_live();
    (void)state;
    begin(&b, "echo:");
    b.cancel_id = 1;
    assert_int_equal(submit(&b, 1, "abcdef", 100, &err), SL_OK);
    assert_int_equal(submit(&b, 2, "abcdef", 100, &err), SL_OK);
    run(&b);
    assert_int_equal(b.seen[1][0].n_tokens, 2);
    assert_int_equal(b.seen[1][0].finish, ENGINE_FINISH_CANCELLED);
    assert_string_equal(b.seen[2][0].text, "abcdef");
    engine_unload(b.engine);
    assert_int_equal(sl_mem_live(), live);
}

static void test_choices(void **state)
{
    static struct bench b;
    struct engine_generate req = {.id = 1, .text = "abc", .n_text = 3, .max_tokens = 9};
    struct sl_err err;
    (void)state;
    begin(&b, "echo:");
    req.n_choices = 3;
    req.choice_base = 2;
    assert_int_equal(engine_submit(b.engine, &req, &err), SL_OK);
    req.id = 2;
    req.choice_base = ENGINE_CHOICES_MAX - 2;
    assert_int_equal(engine_submit(b.engine, &req, &err), SL_INVALID);
    run(&b);
    for (int i = 2; i < 5; i++) assert_string_equal(b.seen[1][i].text, "abc");
    assert_int_equal(b.seen[1][0].n_done, 0);
    engine_unload(b.engine);
}

static void test_resume(void **state)
{
    static struct bench b;
    static const int32_t had[] = {'a', 'b'}, wrong[] = {'a', 'x'};
    struct engine_generate req = {.id = 1, .text = "abcd", .n_text = 4, .max_tokens = 9};
    struct sl_err err;
    (void)state;
    begin(&b, "echo:");
    req.resume = had;
    req.n_resume = 2;
    assert_int_equal(engine_submit(b.engine, &req, &err), SL_OK);
    req.id = 2;
    req.resume = wrong;
    assert_int_equal(engine_submit(b.engine, &req, &err), SL_INVALID);
    run(&b);
    assert_string_equal(b.seen[1][0].text, "cd");
    assert_int_equal(b.seen[1][0].usage.n_generated, 4);
    engine_unload(b.engine);
}

static void test_embeddings(void **state)
{
    static struct bench b;
    const struct engine_embed one = {.id = 1, .text = "one", .n_text = 3};
    const struct engine_embed same = {.id = 2, .text = "one", .n_text = 3};
    const struct engine_embed other = {.id = 3, .text = "two", .n_text = 3};
    struct sl_err err;
    double norm = 0;
    (void)state;
    begin(&b, "echo:");
    assert_int_equal(engine_submit_embed(b.engine, &one, &err), SL_OK);
    assert_int_equal(engine_submit_embed(b.engine, &same, &err), SL_OK);
    assert_int_equal(engine_submit_embed(b.engine, &other, &err), SL_OK);
    run(&b);
    const float *v = b.seen[1][0].embedding;
    for (int i = 0; i < ECHO_EMBD; i++) norm += (double)v[i] * v[i];
    assert_true(fabs(norm - 1) < 1e-5);
    assert_memory_equal(v, b.seen[2][0].embedding, sizeof b.seen[2][0].embedding);
    assert_memory_not_equal(v, b.seen[3][0].embedding, sizeof b.seen[3][0].embedding);
    assert_int_equal(b.seen[1][0].n_done, 1);
    assert_int_equal(b.seen[1][0].n_embeddings, 1);
    engine_unload(b.engine);
}

static void test_limits(void **state)
{
    static struct bench b;
    struct sl_err err;
    (void)state;
    begin(&b, "echo:?ctx=5");
    assert_int_equal(submit(&b, 1, "12345", 9, &err), SL_LIMIT);
    assert_non_null(strstr(err.text, "has 5 tokens, the context 5"));
    assert_int_equal(submit(&b, 1, "123", 9, &err), SL_OK);
    run(&b);
    assert_string_equal(b.seen[1][0].text, "12");
    assert_int_equal(b.seen[1][0].finish, ENGINE_FINISH_LENGTH);
    engine_unload(b.engine);
}

static void expect_bad_script(const char *script, const char *part)
{
    struct engine *engine = NULL;
    struct sl_err err = SL_ERR_INIT;
    const struct echo_engine_cfg cfg = {.on_event = on_event};
    assert_int_not_equal(echo_engine_load(script, &cfg, &engine, &err), SL_OK);
    assert_null(engine);
    if (!strstr(err.text, part)) fail_msg("%s: no \"%s\"", err.text, part);
}

static void test_bad_scripts(void **state)
{
    (void)state;
    expect_bad_script("model.gguf", "does not begin with echo:");
    expect_bad_script("echo:?tokens=", "tokens=");
    expect_bad_script("echo:?tokens=3x", "tokens=3x");
    expect_bad_script("echo:?slots=0", "from 1 to");
    expect_bad_script("echo:?text=a&speed=9", "unknown part speed");
    expect_bad_script("echo:?load_fail=no%20luck", "no luck");
}

static bool give_up(void *ctx, double fraction)
{
    int *calls = ctx;
    assert_true(fraction >= 0 && fraction <= 1);
    return ++*calls < 3;
}

static void test_load_given_up(void **state)
{
    struct engine *engine = NULL;
    struct sl_err err;
    int calls = 0;
    const struct echo_engine_cfg cfg = {.on_event = on_event, .on_load = give_up, .ctx = &calls};
    (void)state;
    assert_int_equal(echo_engine_load("echo:?load_ms=10000", &cfg, &engine, &err), SL_CANCELLED);
    assert_int_equal(calls, 3);
    assert_null(engine);
}

static void test_without_memory(void **state)
{
    static struct bench b;
    struct sl_err err;
    const struct echo_engine_cfg cfg = {.on_event = on_event, .ctx = &b};
    uint64_t live = sl_mem_live();
    sl_status status = SL_NOMEM;
    (void)state;
    memset(&b, 0, sizeof b);
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = echo_engine_load("echo:?text=abc&chat_template=x", &cfg, &b.engine, &err);
        sl_mem_fail_at(0, false);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), live);
    }
    uint64_t loaded = sl_mem_live();
    status = SL_NOMEM;
    for (uint64_t n = 1; status != SL_OK; n++) {
        sl_mem_fail_at(n, false);
        status = submit(&b, 1, "abc", 9, &err);
        sl_mem_fail_at(0, false);
        if (status == SL_OK) break;
        assert_int_equal(status, SL_NOMEM);
        assert_int_equal(sl_mem_live(), loaded);
    }
    engine_unload(b.engine);
    assert_int_equal(sl_mem_live(), live);
}

/* Many sequences at paces of their own keep their texts and their order. */
static void test_many(void **state)
{
    static struct bench b;
    struct sl_err err;
    char text[REQUESTS_MAX][16];
    (void)state;
    begin(&b, "echo:?tokens=40&pace_us=7&slots=20");
    for (uint64_t id = 0; id < REQUESTS_MAX; id++) {
        (void)snprintf(text[id], sizeof text[id], "[%llu]", (unsigned long long)id);
        assert_int_equal(submit(&b, id, text[id], 100, &err), SL_OK);
        b.now += 3 * US;
        (void)step(&b);
        if (id % 5 == 4) assert_int_equal(engine_cancel(b.engine, id - 2), SL_OK);
    }
    run(&b);
    for (uint64_t id = 0; id < REQUESTS_MAX; id++) {
        const struct seen *s = &b.seen[id][0];
        assert_int_equal(s->n_done, 1);
        if (s->finish != ENGINE_FINISH_CANCELLED) assert_int_equal(s->n_tokens, 40);
        for (int i = 0; i < s->n_tokens; i++)
            assert_int_equal(s->tokens[i], text[id][(size_t)i % strlen(text[id])]);
    }
    engine_unload(b.engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_echoes),
        cmocka_unit_test(test_length_and_max_tokens),
        cmocka_unit_test(test_half_a_character_is_not_shown),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_pace),
        cmocka_unit_test(test_slots_and_queue),
        cmocka_unit_test(test_cancel_from_its_own_event),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_embeddings),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_bad_scripts),
        cmocka_unit_test(test_load_given_up),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
