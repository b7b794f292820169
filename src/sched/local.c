/* local.c: one step: the event, then what time brought about, then who loads and who runs. */
#include "sched/local_int.h"
#include "base/mem.h"

#include <stdio.h>

/* --- life cycle --- */

static sl_status check_config(const struct sched_config *config, struct sl_err *err)
{
    const char *bad = NULL;
    if (config->n_models_max < 1 || config->n_models_max > SCHED_MODELS_LIMIT) bad = "n_models_max";
    if (config->n_waiting_max < 1 || config->n_waiting_max > SCHED_REQUESTS_LIMIT)
        bad = "n_waiting_max";
    if (config->n_running_max < 1 || config->n_running_max > SCHED_REQUESTS_LIMIT)
        bad = "n_running_max";
    if (config->waiting_bytes_max > SCHED_BYTES_LIMIT) bad = "waiting_bytes_max";
    if (config->budget_bytes > SCHED_BYTES_LIMIT) bad = "budget_bytes";
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++)
        if (config->class_weight[class] < 1 || config->class_weight[class] > SCHED_WEIGHT_LIMIT)
            bad = "class_weight";
    if (config->queue_timeout_ns <= 0) bad = "queue_timeout_ns";
    if (config->start_timeout_ns < 0) bad = "start_timeout_ns";
    if (config->load_timeout_ns < 0) bad = "load_timeout_ns";
    if (config->unload_grace_ns < 0) bad = "unload_grace_ns";
    if (config->backoff_min_ns < 0) bad = "backoff_min_ns";
    if (config->backoff_max_ns < config->backoff_min_ns) bad = "backoff_max_ns";
    if (config->strikes_max < 1) bad = "strikes_max";
    if (config->breaker_failures < 1) bad = "breaker_failures";
    if (config->breaker_cooldown_ns < 0) bad = "breaker_cooldown_ns";
    if (config->stable_ns < 0) bad = "stable_ns";
    if (config->swap_patience_ns < 0) bad = "swap_patience_ns";
    if (config->residency_min_ns < 0) bad = "residency_min_ns";
    return bad ? sl_err_set(err, SL_INVALID, "scheduler: %s is out of range", bad) : SL_OK;
}

static sl_status init_parts(struct sched *sched)
{
    const struct sched_config *config = &sched->config;
    uint32_t n_requests = config->n_waiting_max + config->n_running_max;
    /* In one step a request is answered or dispatched once, a model changes twice at most; beside
     * them an arrival that is refused, and WAKE_AT. */
    size_t n_actions = (size_t)n_requests + 2 * (size_t)config->n_models_max + 2;
    sl_status status = request_table_init(&sched->table, n_requests);
    if (status == SL_OK) status = request_queue_init(&sched->queue, config, &sched->table);
    if (status == SL_OK) status = action_list_init(&sched->actions, n_actions);
    if (status == SL_OK) status = residency_init(&sched->residency, config, &sched->actions);
    if (status != SL_OK) return status;
    sched->running = sl_calloc(config->n_models_max, sizeof *sched->running);
    sched->n_suspects = sl_calloc(config->n_models_max, sizeof *sched->n_suspects);
    if (!sched->running || !sched->n_suspects) return SL_NOMEM;
    for (uint32_t i = 0; i < config->n_models_max; i++)
        sched->running[i] = (struct index_list)INDEX_LIST_INIT;
    return SL_OK;
}

sl_status sched_create(const struct sched_config *config, struct sched **out, struct sl_err *err)
{
    sl_status status = check_config(config, err);
    if (status != SL_OK) return status;
    struct sched *sched = sl_calloc(1, sizeof *sched);
    if (!sched) goto fail;
    sched->config = *config;
    if (init_parts(sched) != SL_OK) goto fail;
    *out = sched;
    return SL_OK;
fail:
    sched_destroy(sched);
    return sl_err_set(err, SL_NOMEM, "scheduler: no memory for %u models and %u requests",
                      config->n_models_max, config->n_waiting_max + config->n_running_max);
}

void sched_destroy(struct sched *sched)
{
    if (!sched) return;
    sl_free(sched->running);
    sl_free(sched->n_suspects);
    residency_done(&sched->residency);
    action_list_done(&sched->actions);
    request_queue_done(&sched->queue);
    request_table_done(&sched->table);
    sl_free(sched);
}

/* --- answers --- */

static void recount_waiting(struct sched *sched, uint32_t model)
{
    residency_set_waiting(&sched->residency, model, sched->queue.models[model].n_waiting,
                          sched->now_ns);
}

static void answer(struct sched *sched, enum sched_action_kind kind, const struct request *request,
                   sl_status status, const char *reason)
{
    struct sched_action *action = action_list_add(&sched->actions, kind);
    action->request = request->id;
    action->model = request->model;
    action->attempt = request->n_attempts;
    action->status = status;
    action->reason = reason;
}

/* The last action, to an answer just given. */
static void set_retry_after(struct sched *sched, uint64_t retry_after_ms)
{
    sched->actions.items[sched->actions.len - 1].retry_after_ms = retry_after_ms;
}

static void clear_suspicion(struct sched *sched, struct request *request)
{
    if (request->suspect) sched->n_suspects[request->model]--;
    request->suspect = false;
}

static void forget(struct sched *sched, uint32_t index)
{
    clear_suspicion(sched, &sched->table.requests[index]);
    request_table_remove(&sched->table, index);
}

/* Takes a waiting request out of the queue and forgets it. */
static void drop_waiting(struct sched *sched, uint32_t index)
{
    uint32_t model = sched->table.requests[index].model;
    request_queue_remove(&sched->queue, index);
    forget(sched, index);
    recount_waiting(sched, model);
}

static uint64_t queue_retry_after_ms(const struct sched *sched, uint32_t model)
{
    uint32_t n_slots = residency_n_slots(&sched->residency, model);
    return request_queue_retry_after_ms(&sched->queue, model, n_slots);
}

/* --- requests --- */

static bool fresh_may_run(const struct sched *sched)
{
    return sched->n_running + sched->queue.n_retries < sched->config.n_running_max;
}

static void reject_arrival(struct sched *sched, const struct sched_event *event, sl_status status,
                           const char *reason, uint64_t retry_after_ms)
{
    struct request request = {.id = event->request, .model = event->model};
    answer(sched, SCHED_REJECT, &request, status, reason);
    set_retry_after(sched, retry_after_ms);
    sched->ever.n_rejected++;
}

/* Makes those of lower classes that came last give way. */
static void displace(struct sched *sched, const struct sched_event *event)
{
    uint32_t index;
    while ((index = request_queue_displaced(&sched->queue, event->arrive.qos_class,
                                            event->arrive.prompt_bytes)) != INDEX_NONE) {
        const struct request *request = &sched->table.requests[index];
        answer(sched, SCHED_REJECT, request, SL_BUSY,
               "the queue is full and a request of a higher class took this one's place");
        set_retry_after(sched, queue_retry_after_ms(sched, request->model));
        sched->ever.n_rejected++;
        drop_waiting(sched, index);
    }
}

/* While a model has suspects, one request at a time is without a token, so that the next death says
 * whose it is. */
static bool held_back(const struct sched *sched, uint32_t model)
{
    if (!sched->n_suspects[model]) return false;
    for (uint32_t i = sched->running[model].head; i != INDEX_NONE; i = sched->table.links[i].next)
        if (!sched->table.requests[i].proven) return true;
    return false;
}

/* Then it does not matter how full the queue is. */
static bool may_run_at_once(const struct sched *sched, uint32_t model)
{
    return sched->queue.models[model].n_waiting == 0 && !held_back(sched, model) &&
           !sched->capped && fresh_may_run(sched) &&
           residency_free_slots(&sched->residency, model) > 0;
}

/* False: it was refused. */
static bool admit(struct sched *sched, const struct sched_event *event)
{
    const char *reason;
    uint64_t retry_after_ms;
    uint32_t model = event->model;
    sl_status status =
        residency_admit(&sched->residency, model, sched->now_ns, &reason, &retry_after_ms);
    if (status == SL_OK && event->arrive.prompt_bytes > sched->config.waiting_bytes_max) {
        status = SL_LIMIT;
        reason = "the prompt is bigger than the whole queue may be";
    }
    bool runs_at_once = may_run_at_once(sched, model);
    if (status == SL_OK && !runs_at_once) {
        if (request_queue_has_room(&sched->queue, event->arrive.qos_class,
                                   event->arrive.prompt_bytes)) {
            displace(sched, event);
            return true;
        }
        status = SL_BUSY;
        reason = "the queue is full";
        retry_after_ms = queue_retry_after_ms(sched, model);
    }
    if (status != SL_OK) reject_arrival(sched, event, status, reason, retry_after_ms);
    return status == SL_OK;
}

static void on_arrive(struct sched *sched, const struct sched_event *event)
{
    if (!admit(sched, event)) return;
    int64_t deadline_ns = event->arrive.deadline_ns;
    if (deadline_ns == 0 &&
        __builtin_add_overflow(sched->now_ns, sched->config.queue_timeout_ns, &deadline_ns))
        deadline_ns = SCHED_NEVER;
    uint32_t index = request_table_add(&sched->table, event->request);
    struct request *request = &sched->table.requests[index];
    request->model = event->model;
    request->tenant = event->arrive.tenant;
    request->qos_class = event->arrive.qos_class;
    request->prompt_bytes = event->arrive.prompt_bytes;
    request->deadline_ns = deadline_ns;
    request->keep_alive_ns = event->arrive.keep_alive_ns;
    request_queue_push(&sched->queue, index);
    recount_waiting(sched, event->model);
}

/* Takes a dispatched request off its worker. */
static void end_run(struct sched *sched, uint32_t index)
{
    const struct request *request = &sched->table.requests[index];
    index_list_remove(&sched->running[request->model], sched->table.links, index);
    sched->n_running--;
}

static void on_cancel(struct sched *sched, const struct sched_event *event)
{
    uint32_t index = request_table_find(&sched->table, event->request);
    if (index == INDEX_NONE) return;
    struct request *request = &sched->table.requests[index];
    if (request->state == REQUEST_CANCELLING) return;
    sched->ever.n_cancelled++;
    if (request->state != REQUEST_RUNNING) {
        drop_waiting(sched, index);
        return;
    }
    request->state = REQUEST_CANCELLING;
    answer(sched, SCHED_CANCEL_RUNNING, request, SL_CANCELLED, NULL);
}

static void on_progress(struct sched *sched, const struct sched_event *event)
{
    uint32_t index = request_table_find(&sched->table, event->request);
    if (index == INDEX_NONE) return;
    struct request *request = &sched->table.requests[index];
    if (request->state != REQUEST_RUNNING) return;
    request->n_strikes = 0;
    request->proven = true;
    clear_suspicion(sched, request);
    residency_success(&sched->residency, request->model);
}

static void on_finished(struct sched *sched, const struct sched_event *event)
{
    uint32_t index = request_table_find(&sched->table, event->request);
    if (index == INDEX_NONE) return;
    const struct request *request = &sched->table.requests[index];
    uint32_t model = request->model;
    if (request->state == REQUEST_WAITING) return; /* it never ran: not ours to end */
    if (request->state != REQUEST_CANCELLING) sched->ever.n_finished++;
    if (request->state == REQUEST_RETRYING) {
        /* The last word of a worker that is dead by now. */
        drop_waiting(sched, index);
        return;
    }
    request_queue_note_service(&sched->queue, model, sched->now_ns - request->dispatched_ns);
    residency_success(&sched->residency, model);
    end_run(sched, index);
    forget(sched, index);
    residency_run_end(&sched->residency, model, sched->now_ns);
}

/* --- models --- */

static void on_model_add(struct sched *sched, const struct sched_event *event)
{
    residency_pin(&sched->residency, event->model, event->model_add.pinned, sched->now_ns);
}

static void on_model_remove(struct sched *sched, const struct sched_event *event)
{
    residency_remove(&sched->residency, event->model, event->moved, sched->now_ns);
}

static void on_pin(struct sched *sched, const struct sched_event *event)
{
    residency_pin(&sched->residency, event->model, event->pinned, sched->now_ns);
}

static void on_stop(struct sched *sched, const struct sched_event *event)
{
    residency_stop(&sched->residency, event->model, sched->now_ns);
}

static void on_prefetch(struct sched *sched, const struct sched_event *event)
{
    residency_prefetch(&sched->residency, event->model, event->keep_alive_ns, sched->now_ns);
}

static void on_reload(struct sched *sched, const struct sched_event *event)
{
    residency_reload(&sched->residency, event->model, event->bytes, sched->now_ns);
}

static void on_set_budget(struct sched *sched, const struct sched_event *event)
{
    residency_set_budget(&sched->residency, event->bytes);
}

static void on_worker_started(struct sched *sched, const struct sched_event *event)
{
    residency_worker_started(&sched->residency, event->model, sched->now_ns);
}

static void on_loaded(struct sched *sched, const struct sched_event *event)
{
    residency_loaded(&sched->residency, event, sched->now_ns);
}

static void on_load_failed(struct sched *sched, const struct sched_event *event)
{
    residency_load_failed(&sched->residency, event->model, event->reason, sched->now_ns);
}

/* Whom a death may be due to: requests without a token since their dispatch, or, when all have one,
 * any. */
struct blame {
    bool unproven_only, shared;
};

static struct blame blame_for_death(const struct sched *sched, uint32_t model)
{
    uint32_t n = 0, n_unproven = 0;
    for (uint32_t i = sched->running[model].head; i != INDEX_NONE; i = sched->table.links[i].next) {
        n++;
        n_unproven += !sched->table.requests[i].proven;
    }
    return (struct blame){n_unproven > 0, (n_unproven ? n_unproven : n) > 1};
}

/* One that ran on a worker which died: it goes back into the queue, or this was once too often. */
static void strike(struct sched *sched, uint32_t index, const struct blame *blame)
{
    struct request *request = &sched->table.requests[index];
    bool blamed = !blame->unproven_only || !request->proven;
    bool out = ++request->n_strikes >= sched->config.strikes_max;
    end_run(sched, index);
    if (request->state == REQUEST_CANCELLING) {
        forget(sched, index);
    } else if (out && blamed && !blame->shared) {
        answer(sched, SCHED_FAIL, request, SL_INTERNAL, sched->reason);
        sched->ever.n_failed++;
        forget(sched, index);
    } else {
        if (out) request->n_strikes = blamed ? 0 : sched->config.strikes_max - 1;
        if (out && blamed && !request->suspect) {
            request->suspect = true;
            sched->n_suspects[request->model]++;
        }
        request_queue_push(&sched->queue, index);
    }
}

/* One whose worker was told to go for no fault of its own. */
static void take_back(struct sched *sched, uint32_t index)
{
    struct request *request = &sched->table.requests[index];
    end_run(sched, index);
    if (request->state == REQUEST_CANCELLING)
        forget(sched, index);
    else
        request_queue_push(&sched->queue, index);
}

static void on_worker_gone(struct sched *sched, const struct sched_event *event)
{
    uint32_t model = event->model;
    bool awaited = residency_exit_is_awaited(&sched->residency, model);
    const char *reason = event->reason && *event->reason ? event->reason : "no reason known";
    snprintf(sched->reason, sizeof sched->reason,
             "the worker died %u times in a row under this request: %.*s",
             sched->config.strikes_max, SCHED_REASON_MAX - 1, reason);
    residency_worker_gone(&sched->residency, model, event->reason, sched->now_ns);
    const struct blame blame = blame_for_death(sched, model);
    while (!index_list_empty(&sched->running[model])) {
        uint32_t index = sched->running[model].head;
        if (awaited)
            take_back(sched, index);
        else
            strike(sched, index, &blame);
    }
    recount_waiting(sched, model);
}

static void on_tick(struct sched *sched, const struct sched_event *event)
{
    (void)sched;
    (void)event;
}

/* --- what follows from time and events --- */

static void expire(struct sched *sched)
{
    uint32_t index;
    while ((index = request_queue_expired(&sched->queue, sched->now_ns)) != INDEX_NONE) {
        answer(sched, SCHED_EXPIRE, &sched->table.requests[index], SL_TIMEOUT,
               "the request waited too long in the queue");
        sched->ever.n_expired++;
        drop_waiting(sched, index);
    }
}

/* Fails all that wait for models which cannot serve them. False when there were no such models. */
static bool fail_doomed(struct sched *sched)
{
    bool any = false;
    uint32_t model, index;
    sl_status status;
    uint64_t retry_after_ms;
    const char *reason;
    while (residency_next_doomed(&sched->residency, &model, &status, &retry_after_ms, &reason,
                                 sched->now_ns)) {
        any = true;
        while ((index = request_queue_any(&sched->queue, model)) != INDEX_NONE) {
            answer(sched, SCHED_FAIL, &sched->table.requests[index], status, reason);
            set_retry_after(sched, retry_after_ms);
            sched->ever.n_failed++;
            drop_waiting(sched, index);
        }
    }
    return any;
}

/* The next request of the model to its worker; false when none can go. */
static bool dispatch_one(struct sched *sched, uint32_t model)
{
    if (sched->queue.models[model].n_waiting == 0) return false;
    if (residency_free_slots(&sched->residency, model) == 0) return false;
    if (held_back(sched, model)) return false;
    bool fresh_too = fresh_may_run(sched);
    uint32_t index = request_queue_pop(&sched->queue, model, fresh_too);
    sched->capped |= index == INDEX_NONE;
    if (index == INDEX_NONE) return false;
    struct request *request = &sched->table.requests[index];
    request->state = REQUEST_RUNNING;
    request->dispatched_ns = sched->now_ns;
    request->proven = false;
    sched->ever.n_redispatched += request->n_attempts > 0;
    request->n_attempts++;
    sched->ever.n_dispatched++;
    sched->n_running++;
    index_list_push(&sched->running[model], sched->table.links, index);
    residency_run_begin(&sched->residency, model, request->keep_alive_ns, sched->now_ns);
    recount_waiting(sched, model);
    answer(sched, SCHED_DISPATCH, request, SL_OK, NULL);
    return true;
}

/* While n_running_max holds models back, they take what becomes free in turn. */
static void dispatch_in_turn(struct sched *sched)
{
    uint32_t n_workers = sched->residency.n_workers, n_idle_turns = 0;
    while (n_idle_turns < n_workers) {
        if (!fresh_may_run(sched) && sched->queue.n_retries == 0) return;
        uint32_t model = sched->residency.workers[sched->rotation++ % n_workers];
        n_idle_turns = dispatch_one(sched, model) ? 0 : n_idle_turns + 1;
    }
    sched->capped = !fresh_may_run(sched);
}

static void wake_at(struct sched *sched)
{
    int64_t deadline_ns = request_queue_next_deadline(&sched->queue);
    int64_t timer_ns = residency_next_timer(&sched->residency);
    action_list_add(&sched->actions, SCHED_WAKE_AT)->at_ns =
        deadline_ns < timer_ns ? deadline_ns : timer_ns;
}

static void settle(struct sched *sched, uint32_t touched_model)
{
    expire(sched);
    residency_run_timers(&sched->residency, sched->now_ns);
    fail_doomed(sched);
    /* Before anybody has to make room: what may_run_at_once let in must not be left waiting. */
    if (sched->capped)
        dispatch_in_turn(sched);
    else if (touched_model != INDEX_NONE)
        while (dispatch_one(sched, touched_model)) continue;
    do residency_settle(&sched->residency, sched->now_ns);
    while (fail_doomed(sched));
    wake_at(sched);
}

/* --- events --- */

/* What an event is about, so that its numbers can be checked in one place. */
enum subject {
    ABOUT_NOTHING,
    ABOUT_REQUEST,   /* of any model */
    ABOUT_MODEL,     /* a number in range */
    ABOUT_CATALOGUE, /* a model that was added */
};

static const struct {
    void (*handle)(struct sched *sched, const struct sched_event *event);
    enum subject subject;
} HANDLERS[SCHED_EVENT_KIND_COUNT] = {
    [SCHED_ARRIVE] = {on_arrive, ABOUT_MODEL},
    [SCHED_CANCEL] = {on_cancel, ABOUT_REQUEST},
    [SCHED_PROGRESS] = {on_progress, ABOUT_REQUEST},
    [SCHED_FINISHED] = {on_finished, ABOUT_REQUEST},
    [SCHED_MODEL_ADD] = {on_model_add, ABOUT_MODEL},
    [SCHED_MODEL_REMOVE] = {on_model_remove, ABOUT_CATALOGUE},
    [SCHED_PIN] = {on_pin, ABOUT_CATALOGUE},
    [SCHED_STOP] = {on_stop, ABOUT_CATALOGUE},
    [SCHED_PREFETCH] = {on_prefetch, ABOUT_CATALOGUE},
    [SCHED_RELOAD] = {on_reload, ABOUT_CATALOGUE},
    [SCHED_SET_BUDGET] = {on_set_budget, ABOUT_NOTHING},
    [SCHED_WORKER_STARTED] = {on_worker_started, ABOUT_MODEL},
    [SCHED_LOADED] = {on_loaded, ABOUT_MODEL},
    [SCHED_LOAD_FAILED] = {on_load_failed, ABOUT_MODEL},
    [SCHED_WORKER_DIED] = {on_worker_gone, ABOUT_MODEL},
    [SCHED_WORKER_EXITED] = {on_worker_gone, ABOUT_MODEL},
    [SCHED_TICK] = {on_tick, ABOUT_NOTHING},
};

static sl_status check_numbers(const struct sched_event *event)
{
    switch (event->kind) {
    case SCHED_ARRIVE:
        return (unsigned)event->arrive.qos_class < SCHED_CLASS_COUNT ? SL_OK : SL_INVALID;
    case SCHED_MODEL_ADD:
        return event->model_add.n_slots >= 1 && event->model_add.n_slots <= SCHED_SLOTS_LIMIT &&
                       event->model_add.estimate_bytes <= SCHED_BYTES_LIMIT
                   ? SL_OK
                   : SL_INVALID;
    case SCHED_LOADED:
        return event->loaded.n_slots <= SCHED_SLOTS_LIMIT &&
                       event->loaded.bytes <= SCHED_BYTES_LIMIT
                   ? SL_OK
                   : SL_INVALID;
    case SCHED_RELOAD:
    case SCHED_SET_BUDGET: return event->bytes <= SCHED_BYTES_LIMIT ? SL_OK : SL_INVALID;
    default: return SL_OK;
    }
}

static sl_status check_event(struct sched *sched, const struct sched_event *event)
{
    if ((unsigned)event->kind >= SCHED_EVENT_KIND_COUNT) return SL_INVALID;
    enum subject subject = HANDLERS[event->kind].subject;
    if (subject >= ABOUT_MODEL && event->model >= sched->config.n_models_max) return SL_INVALID;
    if (subject == ABOUT_CATALOGUE && !residency_exists(&sched->residency, event->model))
        return SL_NOT_FOUND;
    if (event->kind == SCHED_ARRIVE &&
        request_table_find(&sched->table, event->request) != INDEX_NONE)
        return SL_EXISTS;
    return check_numbers(event);
}

/* The model whose requests may be dispatched because of the event. */
static uint32_t touched_by(const struct sched *sched, const struct sched_event *event)
{
    switch (HANDLERS[event->kind].subject) {
    case ABOUT_NOTHING: return INDEX_NONE;
    case ABOUT_REQUEST: {
        uint32_t index = request_table_find(&sched->table, event->request);
        return index == INDEX_NONE ? INDEX_NONE : sched->table.requests[index].model;
    }
    default: return event->model;
    }
}

sl_status sched_step(struct sched *sched, const struct sched_event *event, int64_t now_ns,
                     const struct sched_action **out_actions, size_t *out_n)
{
    if (now_ns > sched->now_ns) sched->now_ns = now_ns;
    sched->actions.len = 0;
    *out_actions = sched->actions.items;
    *out_n = 0;
    sl_status status = check_event(sched, event);
    if (status == SL_OK && event->kind == SCHED_MODEL_ADD)
        status = residency_add(&sched->residency, event);
    if (status != SL_OK) return status;
    uint32_t touched_model = touched_by(sched, event);
    HANDLERS[event->kind].handle(sched, event);
    settle(sched, touched_model);
    *out_n = sched->actions.len;
    return SL_OK;
}
