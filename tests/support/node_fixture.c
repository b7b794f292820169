#include "support/node_fixture.h"
#include "base/clock.h"
#include "exec/llm/sampler.h"
#include "support/temp_dir.h"
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DEADLINE_NS INT64_C(120000000000)
#define TURN_NS 5000000

void node_fixture_init(struct node_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    const char *given = getenv("STARLANE_BIN");
    memset(f, 0, sizeof *f);
    f->end_ns = sl_now_ns() + DEADLINE_NS;
    if (loop_create(0, &f->loop, &err) != SL_OK) fail_msg("%s", err.text);
    if (store_open(temp_path("home"), &f->store, &err) != SL_OK) fail_msg("%s", err.text);
    node_cfg_default(&f->cfg);
    f->cfg.loop = f->loop;
    f->cfg.store = f->store;
    f->cfg.worker_binary = given ? given : STARLANE_BIN;
    f->cfg.allow_echo = true;
    f->cfg.n_threads = 1;
    f->cfg.seed = 1;
}

void node_fixture_start(struct node_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    if (node_create(&f->cfg, &f->node, &err) != SL_OK) fail_msg("%s", err.text);
}

void node_fixture_done(struct node_fixture *f)
{
    node_destroy(f->node);
    store_close(f->store);
    loop_destroy(f->loop);
}

struct node_submit ask_for(const char *model, const char *text)
{
    static struct sampler_cfg greedy;
    sampler_cfg_default(&greedy);
    greedy.temp = 0;
    return (struct node_submit){
        .task = NODE_GENERATE,
        .model = model,
        .qos = SCHED_STANDARD,
        .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
        .prompt = NODE_PROMPT_TEXT,
        .text = text,
        .n_text = strlen(text),
        .sampler = &greedy,
    };
}

static void take_text(struct ask_choice *choice, const struct node_event *e)
{
    size_t room = ASK_TEXT_MAX - 1 - choice->n_text;
    size_t n = e->n_text < room ? e->n_text : room;
    if (n) memcpy(choice->text + choice->n_text, e->text, n);
    choice->n_text += n;
}

static void take_choice_event(struct ask *a, const struct node_event *e)
{
    assert_int_equal(a->n_started, 1);
    assert_in_range(e->choice, 0, ASK_CHOICES_MAX - 1);
    struct ask_choice *choice = &a->choices[e->choice];
    assert_false(choice->done);
    take_text(choice, e);
    if (e->type == NODE_EVENT_TOKEN) {
        choice->n_tokens++;
        return;
    }
    choice->done = true;
    choice->finish = e->finish;
    choice->n_generated = e->n_generated;
}

static void take_result(struct ask *a, const struct node_event *e)
{
    a->n_results++;
    if (e->embedding) {
        assert_in_range(e->n_embd, 1, 1024);
        a->n_embd = e->n_embd;
        memcpy(a->embedding, e->embedding, (size_t)e->n_embd * sizeof *a->embedding);
    }
    if (e->tokens) {
        assert_in_range(e->n_tokens, 0, 1024);
        a->n_tokens = e->n_tokens;
        memcpy(a->tokens, e->tokens, e->n_tokens * sizeof *a->tokens);
    }
    if (e->n_tensors) {
        a->n_tensors = e->n_tensors;
        a->tensor = e->tensors[0];
        assert_true(a->tensor.n_bytes < ASK_TEXT_MAX);
        if (a->tensor.n_bytes) memcpy(a->choices[0].text, a->tensor.data, a->tensor.n_bytes);
    }
    take_text(&a->choices[0], e);
}

static void take_end(struct ask *a, const struct node_event *e)
{
    a->handle = NULL;
    a->end = *e;
    a->done = e->type == NODE_EVENT_DONE;
    a->failed = e->type == NODE_EVENT_FAILED;
    if (e->message) (void)snprintf(a->message, sizeof a->message, "%s", e->message);
    assert_true(e->total_ns >= e->queue_ns && e->total_ns >= e->first_token_ns);
    assert_true(e->total_ns >= e->load_ns);
}

static void on_event(void *ctx, const struct node_event *e)
{
    struct ask *a = ctx;
    struct node_request *handle = a->handle;
    assert_non_null(handle);
    assert_false(a->cancelled || ask_ended(a));
    a->n_events++;
    switch (e->type) {
    case NODE_EVENT_STARTED:
        a->n_started++;
        a->n_prompt = e->n_prompt;
        assert_non_null(e->traits);
        break;
    case NODE_EVENT_TOKEN:
    case NODE_EVENT_CHOICE_DONE: take_choice_event(a, e); break;
    case NODE_EVENT_RESULT: take_result(a, e); break;
    case NODE_EVENT_DONE:
    case NODE_EVENT_FAILED: take_end(a, e); break;
    }
    if (!a->cancels || e->type != a->cancels_at) return;
    a->cancelled = true;
    a->handle = NULL;
    node_cancel(handle);
}

sl_status try_ask(struct node_fixture *f, struct ask *a, const struct node_submit *submit,
                  int64_t *retry_after_ms, struct sl_err *err)
{
    memset(a, 0, sizeof *a);
    sl_status status = node_submit(f->node, submit, on_event, a, &a->handle, retry_after_ms, err);
    assert_int_equal(a->n_events, 0);
    return status;
}

void ask(struct node_fixture *f, struct ask *a, const struct node_submit *submit)
{
    struct sl_err err = SL_ERR_INIT;
    int64_t retry_after_ms;
    if (try_ask(f, a, submit, &retry_after_ms, &err) != SL_OK) fail_msg("%s", err.text);
}

void ask_cancel(struct ask *a)
{
    struct node_request *handle = a->handle;
    a->cancelled = true;
    a->handle = NULL;
    node_cancel(handle);
}

bool ask_ended(const struct ask *a)
{
    return a->done || a->failed;
}

bool ask_has_token(const struct ask *a)
{
    return a->choices[0].n_tokens > 0;
}

void turn(struct node_fixture *f)
{
    struct sl_err err = SL_ERR_INIT;
    if (sl_now_ns() > f->end_ns) fail_msg("waited in vain");
    if (loop_turn(f->loop, TURN_NS, &err) != SL_OK) fail_msg("%s", err.text);
}

void wait_until(struct node_fixture *f, bool (*is)(const struct ask *a), const struct ask *a)
{
    while (!is(a)) {
        if (ask_ended(a)) fail_msg("waited in vain: %s", a->message);
        turn(f);
    }
}

void finish(struct node_fixture *f, struct ask *a)
{
    wait_until(f, ask_ended, a);
    if (a->failed) fail_msg("%s: %s", sl_status_text(a->end.status), a->message);
}

struct search {
    const char *name;
    struct node_model *out;
    bool found;
};

static void look_at(void *ctx, const struct node_model *model)
{
    struct search *search = ctx;
    if (strcmp(model->name, search->name) != 0) return;
    *search->out = *model;
    search->found = true;
}

bool model_state(struct node_fixture *f, const char *name, struct node_model *out)
{
    struct search search = {.name = name, .out = out};
    *out = (struct node_model){.name = ""};
    node_models(f->node, look_at, &search);
    return search.found;
}

int model_pid(struct node_fixture *f, const char *name)
{
    struct node_model model;
    return model_state(f, name, &model) ? model.pid : 0;
}

void wait_for_pid(struct node_fixture *f, const char *name, bool on)
{
    while ((model_pid(f, name) != 0) != on) turn(f);
}

void kill_worker(struct node_fixture *f, const char *name)
{
    int pid = model_pid(f, name);
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
}
