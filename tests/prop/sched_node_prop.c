/* sched_node_prop.c: a node that lives through random events, checked after every step against a
 * shadow of what it was told and what it answered; then calm returns and everything has to end. Two
 * schedulers get the same events and must give the same actions. SEED=n repeats a run. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "sched/local.h"
#include "support/prop.h"

#define N_ROUNDS 3000
#define N_STEPS 200
#define N_MODELS 5
#define N_REQUESTS N_STEPS
#define MS INT64_C(1000000)

enum life { UNBORN, WAITING, RETRYING, RUNNING, CANCELLING, ENDED };

struct shadow_request {
    enum life life;
    uint32_t model, n_strikes, n_attempts;
    bool proven, suspect;
    int64_t deadline_ns;
};

struct shadow_model {
    bool added, pinned, removing, worker, ready, end_awaited;
    uint32_t n_slots, n_running;
    uint64_t need_bytes, charged_bytes;
};

struct world {
    struct sched *sched, *twin;
    struct sched_config config;
    int64_t now_ns, wake_ns;
    uint64_t budget_bytes;
    size_t n_requests;
    struct shadow_request requests[N_REQUESTS];
    struct shadow_model models[N_MODELS];
};

/* Actions of all rounds: a property of what never happens proves nothing. */
static unsigned n_seen[SCHED_ACTION_KIND_COUNT];

/* --- what an event means to the shadow --- */

/* Requests that the worker of this model may die of: those without a token, or else all. */
static unsigned shadow_blamed(const struct world *world, uint32_t number, bool *out_unproven_only)
{
    unsigned n = 0, n_unproven = 0;
    for (size_t i = 0; i < world->n_requests; i++) {
        const struct shadow_request *request = &world->requests[i];
        bool runs = request->life == RUNNING || request->life == CANCELLING;
        if (request->model != number || !runs) continue;
        n++;
        n_unproven += !request->proven;
    }
    *out_unproven_only = n_unproven > 0;
    return n_unproven ? n_unproven : n;
}

static void shadow_strike(const struct world *world, struct shadow_request *request, bool alone,
                          bool unproven_only)
{
    bool blamed = !unproven_only || !request->proven;
    request->life = RETRYING;
    if (++request->n_strikes < world->config.strikes_max || (blamed && alone)) return;
    request->n_strikes = blamed ? 0 : world->config.strikes_max - 1;
    request->suspect |= blamed;
}

static void shadow_worker_gone(struct world *world, uint32_t number)
{
    struct shadow_model *model = &world->models[number];
    if (!model->worker) return;
    bool unproven_only, alone = shadow_blamed(world, number, &unproven_only) == 1;
    for (size_t i = 0; i < world->n_requests; i++) {
        struct shadow_request *request = &world->requests[i];
        if (request->model != number) continue;
        if (request->life == CANCELLING) request->life = ENDED;
        if (request->life == RUNNING && model->end_awaited)
            request->life = RETRYING; /* a RELOAD is nobody's fault */
        else if (request->life == RUNNING)
            shadow_strike(world, request, alone, unproven_only);
    }
    if (model->removing) model->added = false;
    model->worker = model->ready = model->end_awaited = model->removing = false;
    model->n_running = 0;
    model->charged_bytes = 0;
}

static void shadow_finished(struct world *world, uint64_t id)
{
    if (id >= world->n_requests) return;
    struct shadow_request *request = &world->requests[id];
    if (request->life == RUNNING || request->life == CANCELLING)
        world->models[request->model].n_running--;
    if (request->life == RUNNING || request->life == CANCELLING || request->life == RETRYING)
        request->life = ENDED;
}

static void shadow_progress(struct world *world, uint64_t id)
{
    if (id >= world->n_requests || world->requests[id].life != RUNNING) return;
    world->requests[id].n_strikes = 0;
    world->requests[id].proven = true;
    world->requests[id].suspect = false;
}

static void shadow_cancel(struct world *world, uint64_t id)
{
    if (id >= world->n_requests) return;
    struct shadow_request *request = &world->requests[id];
    if (request->life == WAITING || request->life == RETRYING) request->life = ENDED;
}

static void shadow_loaded(struct world *world, const struct sched_event *event)
{
    struct shadow_model *model = &world->models[event->model];
    if (!model->worker || model->ready || model->end_awaited) return;
    model->ready = true;
    if (event->loaded.bytes > 0) model->need_bytes = model->charged_bytes = event->loaded.bytes;
    if (event->loaded.n_slots > 0) model->n_slots = event->loaded.n_slots;
}

static void shadow_add(struct world *world, const struct sched_event *event)
{
    struct shadow_model *model = &world->models[event->model];
    model->added = true;
    model->removing = false;
    model->pinned = event->model_add.pinned;
    model->need_bytes = event->model_add.estimate_bytes;
    model->n_slots = event->model_add.n_slots;
}

static void shadow_event(struct world *world, const struct sched_event *event)
{
    struct shadow_model *model = &world->models[event->model];
    switch (event->kind) {
    case SCHED_ARRIVE:
        world->requests[event->request] = (struct shadow_request){
            .life = WAITING, .model = event->model, .deadline_ns = event->arrive.deadline_ns};
        if (event->arrive.deadline_ns == 0)
            world->requests[event->request].deadline_ns =
                world->now_ns + world->config.queue_timeout_ns;
        break;
    case SCHED_CANCEL: shadow_cancel(world, event->request); break;
    case SCHED_PROGRESS: shadow_progress(world, event->request); break;
    case SCHED_FINISHED: shadow_finished(world, event->request); break;
    case SCHED_MODEL_ADD: shadow_add(world, event); break;
    case SCHED_MODEL_REMOVE:
        model->removing = model->worker;
        model->added = model->worker;
        model->pinned = false;
        break;
    case SCHED_STOP: model->pinned = false; break;
    case SCHED_RELOAD: model->need_bytes = event->bytes; break;
    case SCHED_PIN: model->pinned = event->pinned; break;
    case SCHED_SET_BUDGET: world->budget_bytes = event->bytes; break;
    case SCHED_LOADED: shadow_loaded(world, event); break;
    case SCHED_WORKER_DIED:
    case SCHED_WORKER_EXITED: shadow_worker_gone(world, event->model); break;
    default: break;
    }
}

/* --- what an action must be --- */

static uint64_t shadow_bytes(const struct world *world)
{
    uint64_t bytes = 0;
    for (int i = 0; i < N_MODELS; i++) bytes += world->models[i].charged_bytes;
    return bytes;
}

/* With a suspect among them, at most one request of a model may be without a token. */
static void check_quarantine(const struct world *world, uint32_t number)
{
    unsigned n_suspects = 0, n_unproven = 0;
    for (size_t i = 0; i < world->n_requests; i++) {
        const struct shadow_request *request = &world->requests[i];
        if (request->model != number || request->life == UNBORN || request->life == ENDED) continue;
        n_suspects += request->suspect;
        n_unproven += (request->life == RUNNING || request->life == CANCELLING) && !request->proven;
    }
    assert_true(!n_suspects || n_unproven <= 1);
}

static void check_dispatch(struct world *world, const struct sched_action *action)
{
    struct shadow_request *request = &world->requests[action->request];
    struct shadow_model *model = &world->models[action->model];
    assert_true(request->life == WAITING || request->life == RETRYING);
    assert_int_equal(request->model, action->model);
    assert_true(request->life == RETRYING || request->deadline_ns > world->now_ns);
    assert_true(request->n_strikes < world->config.strikes_max);
    assert_int_equal(action->attempt, ++request->n_attempts);
    assert_true(model->ready && !model->end_awaited);
    assert_true(model->n_running < model->n_slots);
    model->n_running++;
    request->life = RUNNING;
    request->proven = false;
    check_quarantine(world, action->model);
}

static void check_answer(struct world *world, const struct sched_action *action)
{
    struct shadow_request *request = &world->requests[action->request];
    assert_true(request->life == WAITING ||
                (request->life == RETRYING && action->kind == SCHED_FAIL));
    assert_non_null(action->reason);
    assert_true(strlen(action->reason) > 0);
    assert_int_not_equal(action->status, SL_OK);
    if (action->kind == SCHED_EXPIRE) assert_true(request->deadline_ns <= world->now_ns);
    if (action->status == SL_INTERNAL)
        assert_int_equal(request->n_strikes, world->config.strikes_max);
    request->life = ENDED;
}

static void check_spawn(struct world *world, const struct sched_action *action)
{
    struct shadow_model *model = &world->models[action->model];
    assert_true(model->added && !model->worker);
    model->worker = true;
    model->charged_bytes = model->need_bytes;
    assert_true(shadow_bytes(world) <= world->budget_bytes);
}

static void check_unload(struct world *world, const struct sched_action *action)
{
    struct shadow_model *model = &world->models[action->model];
    assert_true(model->worker && !model->end_awaited && !model->pinned);
    assert_int_equal(model->n_running, 0);
    model->end_awaited = true;
}

static void check_action(struct world *world, const struct sched_action *action)
{
    n_seen[action->kind]++;
    switch (action->kind) {
    case SCHED_DISPATCH: check_dispatch(world, action); break;
    case SCHED_REJECT:
    case SCHED_EXPIRE:
    case SCHED_FAIL: check_answer(world, action); break;
    case SCHED_CANCEL_RUNNING:
        assert_int_equal(world->requests[action->request].life, RUNNING);
        world->requests[action->request].life = CANCELLING;
        break;
    case SCHED_SPAWN: check_spawn(world, action); break;
    case SCHED_UNLOAD: check_unload(world, action); break;
    case SCHED_KILL:
        assert_true(world->models[action->model].worker);
        world->models[action->model].end_awaited = true;
        break;
    default: world->wake_ns = action->at_ns; break;
    }
}

/* --- what must hold between steps --- */

static void check_requests(const struct world *world)
{
    uint32_t n_waiting = 0, n_running = 0;
    for (size_t i = 0; i < world->n_requests; i++) {
        const struct shadow_request *request = &world->requests[i];
        assert_true(request->n_strikes < world->config.strikes_max || request->life == ENDED);
        n_waiting += request->life == WAITING || request->life == RETRYING;
        n_running += request->life == RUNNING || request->life == CANCELLING;
        if (request->life == WAITING && request->deadline_ns != SCHED_NEVER)
            assert_true(world->wake_ns <= request->deadline_ns);
    }
    struct sched_totals totals;
    sched_get_totals(world->sched, &totals);
    assert_int_equal(totals.n_waiting[0] + totals.n_waiting[1] + totals.n_waiting[2], n_waiting);
    assert_int_equal(totals.n_running, n_running);
    assert_true(n_running <= world->config.n_running_max);
    assert_true(totals.waiting_bytes <= world->config.waiting_bytes_max);
    assert_int_equal(totals.used_bytes, shadow_bytes(world));
}

static void check_models(const struct world *world)
{
    for (uint32_t i = 0; i < N_MODELS; i++) {
        const struct shadow_model *model = &world->models[i];
        struct sched_model_info info;
        assert_int_equal(sched_get_model(world->sched, i, &info), model->added);
        if (!model->added) continue;
        bool worker = info.state >= SCHED_STARTING && info.state <= SCHED_DRAINING;
        assert_int_equal(worker, model->worker);
        assert_int_equal(info.n_running, model->n_running);
        assert_int_equal(info.pinned, model->pinned);
        assert_true(world->wake_ns <= info.expires_ns);
        if (info.state == SCHED_BACKOFF || info.state == SCHED_FAILED)
            assert_true(world->wake_ns <= info.retry_ns);
        if (info.state == SCHED_STARTING || info.state == SCHED_LOADING)
            assert_true(world->wake_ns < SCHED_NEVER);
    }
}

static void check_twin(struct world *world, const struct sched_event *event,
                       const struct sched_action *actions, size_t n_actions)
{
    const struct sched_action *others;
    size_t n_others;
    assert_int_equal(sched_step(world->twin, event, world->now_ns, &others, &n_others), SL_OK);
    assert_int_equal(n_others, n_actions);
    for (size_t i = 0; i < n_actions; i++) {
        assert_int_equal(others[i].kind, actions[i].kind);
        assert_int_equal(others[i].request, actions[i].request);
        assert_int_equal(others[i].model, actions[i].model);
        assert_int_equal(others[i].at_ns, actions[i].at_ns);
        assert_int_equal(others[i].retry_after_ms, actions[i].retry_after_ms);
    }
}

static void step(struct world *world, const struct sched_event *event)
{
    const struct sched_action *actions;
    size_t n_actions;
    sl_status status = sched_step(world->sched, event, world->now_ns, &actions, &n_actions);
    assert_int_equal(status, SL_OK);
    assert_int_equal(actions[n_actions - 1].kind, SCHED_WAKE_AT);
    shadow_event(world, event);
    for (size_t i = 0; i < n_actions; i++) check_action(world, &actions[i]);
    check_requests(world);
    check_models(world);
    check_twin(world, event, actions, n_actions);
}

/* --- chaos --- */

static void draw_arrival(struct world *world, struct sched_event *event)
{
    event->request = world->n_requests++;
    event->arrive.qos_class = (enum sched_class)prop_draw(SCHED_CLASS_COUNT);
    event->arrive.tenant = prop_draw(3);
    event->arrive.prompt_bytes = prop_draw(300);
    static const int64_t KEEP_ALIVES[] = {SCHED_KEEP_ALIVE_DEFAULT, SCHED_KEEP_ALIVE_FOREVER, 0,
                                          50 * MS};
    event->arrive.keep_alive_ns = KEEP_ALIVES[prop_draw(4)];
    int64_t deadlines_ns[] = {0, SCHED_NEVER, world->now_ns + (int64_t)prop_draw(500) * MS};
    event->arrive.deadline_ns = deadlines_ns[prop_draw(3)];
}

static enum sched_event_kind draw_kind(void)
{
    static const enum sched_event_kind OFTEN[] = {
        SCHED_ARRIVE, SCHED_ARRIVE, SCHED_FINISHED, SCHED_PROGRESS,      SCHED_CANCEL,
        SCHED_LOADED, SCHED_LOADED, SCHED_TICK,     SCHED_WORKER_STARTED};
    if (prop_draw(6) > 0) return OFTEN[prop_draw(sizeof OFTEN / sizeof OFTEN[0])];
    return (enum sched_event_kind)prop_draw(SCHED_EVENT_KIND_COUNT);
}

/* Mostly one that lives. */
static uint64_t draw_request(const struct world *world)
{
    uint64_t id = prop_draw(world->n_requests + 1);
    for (int i = 0; i < 20 && (id >= world->n_requests || world->requests[id].life == ENDED); i++)
        id = prop_draw(world->n_requests + 1);
    return id;
}

/* False: that one would be refused as the caller's mistake. */
static bool draw_event(struct world *world, struct sched_event *event)
{
    *event = (struct sched_event){.kind = draw_kind(),
                                  .model = (uint32_t)prop_draw(N_MODELS),
                                  .keep_alive_ns = SCHED_KEEP_ALIVE_DEFAULT,
                                  .pinned = prop_draw(4) == 0,
                                  .reason = prop_draw(2) ? "drawn by lot" : NULL};
    event->request = draw_request(world);
    const struct shadow_model *model = &world->models[event->model];
    switch (event->kind) {
    case SCHED_ARRIVE: draw_arrival(world, event); return true;
    case SCHED_MODEL_ADD:
        event->model_add.estimate_bytes = prop_draw(700);
        event->model_add.n_slots = 1 + (uint32_t)prop_draw(4);
        event->model_add.pinned = prop_draw(8) == 0;
        event->model_add.keep_alive_ns = prop_draw(2) ? 20 * MS : SCHED_KEEP_ALIVE_DEFAULT;
        return !model->added || model->removing;
    case SCHED_LOADED:
        event->loaded.bytes = prop_draw(3) ? 0 : prop_draw(800);
        event->loaded.n_slots = (uint32_t)prop_draw(4);
        return true;
    case SCHED_SET_BUDGET: event->bytes = 300 + prop_draw(900); return true;
    case SCHED_RELOAD: event->bytes = prop_draw(700); /* fall through */
    case SCHED_MODEL_REMOVE:
    case SCHED_PIN:
    case SCHED_STOP:
    case SCHED_PREFETCH: return model->added && !model->removing;
    default: return true;
    }
}

static void chaos(struct world *world)
{
    struct sched_event add = {.kind = SCHED_MODEL_ADD, .model_add = {300, 2, false, 20 * MS}};
    for (add.model = 0; add.model < N_MODELS; add.model++) step(world, &add);
    for (int i = 0; i < N_STEPS; i++) {
        struct sched_event event;
        if (prop_draw(40) == 0 && world->wake_ns != SCHED_NEVER && world->wake_ns > world->now_ns)
            world->now_ns = world->wake_ns;
        else
            world->now_ns += (int64_t)prop_draw(5) * MS;
        if (draw_event(world, &event)) step(world, &event);
    }
}

/* --- calm --- */

static void finish_running(struct world *world)
{
    for (size_t i = 0; i < world->n_requests; i++)
        if (world->requests[i].life == RUNNING || world->requests[i].life == CANCELLING)
            step(world, &(struct sched_event){.kind = SCHED_FINISHED, .request = i});
}

static void serve_models(struct world *world)
{
    for (uint32_t i = 0; i < N_MODELS; i++) {
        if (!world->models[i].worker) continue;
        enum sched_event_kind kind =
            world->models[i].end_awaited ? SCHED_WORKER_EXITED : SCHED_LOADED;
        step(world, &(struct sched_event){.kind = kind, .model = i});
    }
}

static bool anybody_lives(const struct world *world)
{
    for (size_t i = 0; i < world->n_requests; i++)
        if (world->requests[i].life != ENDED) return true;
    return false;
}

static void calm(struct world *world)
{
    int n_turns = 0;
    while (anybody_lives(world)) {
        assert_true(n_turns++ < 1000);
        finish_running(world);
        serve_models(world);
        if (world->wake_ns != SCHED_NEVER && world->wake_ns > world->now_ns)
            world->now_ns = world->wake_ns;
        step(world, &(struct sched_event){.kind = SCHED_TICK});
    }
}

static void draw_config(struct sched_config *config)
{
    sched_config_default(config);
    config->seed = prop_draw(1000);
    config->n_models_max = N_MODELS;
    config->n_waiting_max = 1 + (uint32_t)prop_draw(20);
    config->n_running_max = 1 + (uint32_t)prop_draw(10);
    config->waiting_bytes_max = 1000;
    config->budget_bytes = 300 + prop_draw(900);
    config->queue_timeout_ns = 400 * MS;
    config->keep_alive_ns = (int64_t)prop_draw(200) * MS;
    config->start_timeout_ns = 300 * MS;
    config->load_timeout_ns = 300 * MS;
    config->unload_grace_ns = (int64_t)prop_draw(2) * 100 * MS;
    config->backoff_min_ns = (int64_t)prop_draw(20) * MS;
    config->breaker_failures = 1 + (uint32_t)prop_draw(5);
    config->breaker_cooldown_ns = (int64_t)prop_draw(500) * MS;
    config->stable_ns = 200 * MS;
    config->swap_patience_ns = (int64_t)prop_draw(200) * MS;
    config->residency_min_ns = (int64_t)prop_draw(200) * MS;
}

static void every_request_ends_once_whatever_happens(void **state)
{
    (void)state;
    static struct world world;
    uint64_t live = sl_mem_live();
    for (int round = 0; round < N_ROUNDS; round++) {
        struct sl_err err = SL_ERR_INIT;
        world = (struct world){.now_ns = MS, .wake_ns = SCHED_NEVER};
        draw_config(&world.config);
        world.budget_bytes = world.config.budget_bytes;
        assert_int_equal(sched_create(&world.config, &world.sched, &err), SL_OK);
        assert_int_equal(sched_create(&world.config, &world.twin, &err), SL_OK);
        chaos(&world);
        calm(&world);
        sched_destroy(world.sched);
        sched_destroy(world.twin);
        assert_int_equal(sl_mem_live(), live);
    }
    for (int kind = 0; kind < SCHED_ACTION_KIND_COUNT; kind++)
        assert_true(n_seen[kind] > N_ROUNDS / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_request_ends_once_whatever_happens)};
    prop_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
