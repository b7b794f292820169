/* Random submits, cancels and kills: every request ends exactly once and says what it would have
 * said on a worker that lives for ever. SEED=n repeats a run, as far as processes can be
 * repeated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/node_fixture.h"
#include "support/prop.h"
#include "support/temp_dir.h"

#define N_ROUNDS 4
#define N_STEPS 150
#define N_ASKS 64
#define TEXT_MAX 64

static const char *const models[] = {
    "echo:?pace_us=500&slots=3",
    "echo:?pace_us=2000&prefill_us=3000&load_ms=20",
    "echo:?pace_us=0&slots=1",
};
#define N_MODELS (sizeof models / sizeof *models)

struct one {
    struct ask ask;
    size_t model;
    char text[TEXT_MAX];
    int32_t max_tokens, n_choices;
    int64_t n_tokens_at_kill;
};

struct world {
    struct node_fixture f;
    struct one asks[N_ASKS];
    size_t n_asks;
    int64_t n_tokens_at_kill[N_MODELS];
    uint64_t n_kills;
};

static bool is_live(const struct one *one)
{
    return !ask_ended(&one->ask) && !one->ask.cancelled;
}

static int64_t tokens_of(const struct one *one)
{
    int64_t n = 0;
    for (int i = 0; i < ASK_CHOICES_MAX; i++) n += one->ask.choices[i].n_tokens;
    return n;
}

static int64_t tokens_of_model(const struct world *w, size_t model)
{
    int64_t n = 0;
    for (size_t i = 0; i < w->n_asks; i++)
        if (w->asks[i].model == model) n += tokens_of(&w->asks[i]);
    return n;
}

static void draw_text(char *text)
{
    static const char *const characters[] = {"a", "z", " ", "\xc3\xa9", "\xe2\x82\xac"};
    size_t n = 1 + prop_draw(20);
    text[0] = '\0';
    for (size_t i = 0; i < n; i++) strcat(text, characters[prop_draw(5)]);
}

static void step_submit(struct world *w)
{
    if (w->n_asks == N_ASKS) return;
    struct one *one = &w->asks[w->n_asks++];
    one->model = prop_draw(N_MODELS);
    draw_text(one->text);
    one->n_choices = prop_draw(3) ? 1 : 2 + (int32_t)prop_draw(ASK_CHOICES_MAX - 1);
    one->max_tokens = prop_draw(2) ? 0 : 1 + (int32_t)prop_draw(TEXT_MAX);
    struct node_submit submit = ask_for(models[one->model], one->text);
    submit.n_choices = one->n_choices;
    submit.max_tokens = one->max_tokens;
    submit.qos = (enum sched_class)prop_draw(SCHED_CLASS_COUNT);
    submit.tenant = prop_draw(3);
    ask(&w->f, &one->ask, &submit);
    if (prop_draw(6)) return;
    one->ask.cancels = true;
    one->ask.cancels_at = (enum node_event_type)prop_draw(NODE_EVENT_RESULT);
}

static void step_cancel(struct world *w)
{
    if (!w->n_asks) return;
    struct one *one = &w->asks[prop_draw(w->n_asks)];
    if (is_live(one)) ask_cancel(&one->ask);
}

/* Two deaths without a token between them would rightly fail a request, and many in a row the
 * model. */
static bool may_kill(const struct world *w, size_t model)
{
    if (tokens_of_model(w, model) == w->n_tokens_at_kill[model]) return false;
    for (size_t i = 0; i < w->n_asks; i++) {
        const struct one *one = &w->asks[i];
        if (one->model == model && is_live(one) && one->n_tokens_at_kill >= 0 &&
            tokens_of(one) == one->n_tokens_at_kill)
            return false;
    }
    return true;
}

static void step_kill(struct world *w)
{
    size_t model = prop_draw(N_MODELS);
    if (!model_pid(&w->f, models[model]) || !may_kill(w, model)) return;
    kill_worker(&w->f, models[model]);
    wait_for_pid(&w->f, models[model], false);
    w->n_kills++;
    w->n_tokens_at_kill[model] = tokens_of_model(w, model);
    for (size_t i = 0; i < w->n_asks; i++)
        if (w->asks[i].model == model) w->asks[i].n_tokens_at_kill = tokens_of(&w->asks[i]);
}

/* The bytes that are shown of the first n: whole characters. */
static size_t whole(const char *text, size_t n)
{
    while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) n--;
    return n;
}

static void check_answer(const struct one *one)
{
    size_t n = strlen(one->text);
    bool cut = one->max_tokens && (size_t)one->max_tokens < n;
    size_t n_tokens = cut ? (size_t)one->max_tokens : n;
    size_t n_shown = whole(one->text, n_tokens);
    assert_int_equal(one->ask.n_started, 1);
    assert_int_equal(one->ask.end.n_prompt, n);
    assert_int_equal(one->ask.end.n_generated, n_tokens * (size_t)one->n_choices);
    for (int i = 0; i < one->n_choices; i++) {
        const struct ask_choice *choice = &one->ask.choices[i];
        assert_true(choice->done);
        assert_int_equal(choice->n_text, n_shown);
        assert_memory_equal(choice->text, one->text, n_shown);
        assert_int_equal(choice->n_tokens, n_tokens);
        assert_int_equal(choice->finish, cut ? ENGINE_FINISH_LENGTH : ENGINE_FINISH_STOP);
    }
}

static void settle(struct world *w)
{
    uint64_t n_done = 0, n_cancelled = 0;
    struct node_stats stats;
    for (size_t i = 0; i < w->n_asks; i++) {
        struct one *one = &w->asks[i];
        while (is_live(one)) turn(&w->f);
        if (one->ask.failed) fail_msg("request %zu failed: %s", i, one->ask.message);
        n_done += one->ask.done;
        n_cancelled += !one->ask.done;
        if (one->ask.done) check_answer(one);
    }
    do {
        turn(&w->f);
        node_stats_get(w->f.node, &stats);
    } while (stats.n_running); /* workers let go of the cancelled */
    assert_int_equal(stats.n_submitted, w->n_asks);
    assert_int_equal(stats.n_done, n_done);
    assert_int_equal(stats.n_cancelled, n_cancelled);
    assert_int_equal(stats.n_crashes, w->n_kills);
}

static void round_of_steps(void)
{
    static struct world w;
    memset(&w, 0, sizeof w);
    uint64_t live = sl_mem_live();
    for (size_t i = 0; i < N_ASKS; i++) w.asks[i].n_tokens_at_kill = -1;
    node_fixture_init(&w.f);
    node_fixture_start(&w.f);
    for (int i = 0; i < N_STEPS; i++) {
        size_t choice = prop_draw(10);
        if (choice < 4)
            step_submit(&w);
        else if (choice < 5)
            step_cancel(&w);
        else if (choice < 7)
            step_kill(&w);
        else
            turn(&w.f);
    }
    settle(&w);
    node_fixture_done(&w.f);
    assert_int_equal(sl_mem_live(), live);
}

static void every_request_ends_once(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROUNDS; i++) round_of_steps();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_request_ends_once, temp_dir_setup, temp_dir_teardown),
    };
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
