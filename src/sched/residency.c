/* residency.c: the life of one model: states, timers, failures. residency_room.c decides who gets
 * the memory. */
#include "sched/residency_int.h"
#include "base/mem.h"
#include "base/rng.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define EDGE(to) (1u << SCHED_##to)

static const unsigned EDGES[SCHED_MODEL_STATE_COUNT] = {
    [SCHED_UNLOADED] = EDGE(STARTING),
    [SCHED_STARTING] = EDGE(LOADING) | EDGE(DRAINING) | EDGE(BACKOFF) | EDGE(FAILED),
    [SCHED_LOADING] = EDGE(READY) | EDGE(DRAINING) | EDGE(BACKOFF) | EDGE(FAILED),
    [SCHED_READY] = EDGE(DRAINING) | EDGE(BACKOFF) | EDGE(FAILED),
    [SCHED_DRAINING] = EDGE(UNLOADED) | EDGE(BACKOFF) | EDGE(FAILED) | EDGE(READY),
    [SCHED_BACKOFF] = EDGE(UNLOADED),
    [SCHED_FAILED] = EDGE(UNLOADED),
};

static bool has_worker(enum sched_model_state state)
{
    return state >= SCHED_STARTING && state <= SCHED_DRAINING;
}

int64_t residency_time_after(int64_t time_ns, int64_t delta_ns)
{
    int64_t sum;
    if (delta_ns < 0 || __builtin_add_overflow(time_ns, delta_ns, &sum)) return SCHED_NEVER;
    return sum;
}

sl_status residency_init(struct residency *residency, const struct sched_config *config,
                         struct action_list *actions)
{
    *residency = (struct residency){.config = *config,
                                    .actions = actions,
                                    .wanting = INDEX_LIST_INIT,
                                    .doomed = INDEX_LIST_INIT};
    uint32_t n = config->n_models_max;
    residency->models = sl_calloc(n, sizeof *residency->models);
    residency->want_links = sl_calloc(n, sizeof *residency->want_links);
    residency->doom_links = sl_calloc(n, sizeof *residency->doom_links);
    residency->workers = sl_calloc(n, sizeof *residency->workers);
    if (residency->models && residency->want_links && residency->doom_links && residency->workers &&
        index_heap_init(&residency->timers, n) == SL_OK)
        return SL_OK;
    residency_done(residency);
    return SL_NOMEM;
}

void residency_done(struct residency *residency)
{
    sl_free(residency->models);
    sl_free(residency->want_links);
    sl_free(residency->doom_links);
    sl_free(residency->workers);
    index_heap_done(&residency->timers);
    *residency = (struct residency){0};
}

/* --- state --- */

static void add_worker(struct residency *residency, uint32_t model)
{
    struct residency_model *m = &residency->models[model];
    m->charged_bytes = m->need_bytes;
    m->worker_place = residency->n_workers;
    residency->workers[residency->n_workers++] = model;
    residency->used_bytes += m->charged_bytes;
}

static void remove_worker(struct residency *residency, uint32_t model)
{
    struct residency_model *m = &residency->models[model];
    uint32_t last = residency->workers[--residency->n_workers];
    residency->workers[m->worker_place] = last;
    residency->models[last].worker_place = m->worker_place;
    residency->used_bytes -= m->charged_bytes;
    m->charged_bytes = 0;
}

void residency_set_state(struct residency *residency, uint32_t model, enum sched_model_state to,
                         int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    enum sched_model_state from = m->state;
    assert(EDGES[from] & (1u << to));
    if (from == SCHED_DRAINING) residency->draining_bytes -= m->charged_bytes;
    if (!has_worker(from) && has_worker(to)) add_worker(residency, model);
    if (has_worker(from) && !has_worker(to)) remove_worker(residency, model);
    if (to == SCHED_DRAINING) residency->draining_bytes += m->charged_bytes;
    m->state = to;
    m->state_since_ns = now_ns;
    if (to != SCHED_DRAINING) m->exit_awaited = m->killed = false;
    residency->room_changed = true;
    residency_refresh(residency, model, now_ns);
}

static int64_t idle_expiry(const struct residency_model *m)
{
    if (!m->idle || m->pinned) return SCHED_NEVER;
    return residency_time_after(m->last_used_ns, m->keep_alive_ns);
}

static int64_t timeout_at(const struct residency_model *m, int64_t timeout_ns)
{
    return timeout_ns == 0 ? SCHED_NEVER : residency_time_after(m->state_since_ns, timeout_ns);
}

static int64_t timer_of(const struct residency *residency, const struct residency_model *m)
{
    switch (m->state) {
    case SCHED_UNLOADED: return m->wanting ? m->want_wake_ns : SCHED_NEVER;
    case SCHED_STARTING: return timeout_at(m, residency->config.start_timeout_ns);
    case SCHED_LOADING: return timeout_at(m, residency->config.load_timeout_ns);
    case SCHED_READY: return idle_expiry(m);
    case SCHED_DRAINING:
        if (!m->exit_awaited || m->killed) return SCHED_NEVER;
        return residency_time_after(m->state_since_ns, residency->config.unload_grace_ns);
    default: return m->retry_ns;
    }
}

static void update_wanting(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    bool wanting = m->present && !m->removing && m->state == SCHED_UNLOADED &&
                   (m->n_waiting > 0 || m->pinned || m->prefetch);
    if (wanting == m->wanting) return;
    m->wanting = wanting;
    residency->room_changed = true;
    if (wanting) {
        m->want_since_ns = now_ns;
        m->want_wake_ns = SCHED_NEVER;
        index_list_push(&residency->wanting, residency->want_links, model);
    } else {
        index_list_remove(&residency->wanting, residency->want_links, model);
    }
}

void residency_refresh(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    update_wanting(residency, model, now_ns);
    bool idle = m->state == SCHED_READY && m->n_running == 0 && m->n_waiting == 0;
    if (idle != m->idle) {
        m->idle = idle;
        m->last_used_ns = now_ns;
        residency->room_changed = true;
    }
    int64_t timer_ns = timer_of(residency, m);
    if (timer_ns == SCHED_NEVER)
        index_heap_remove(&residency->timers, model);
    else
        index_heap_set(&residency->timers, model, timer_ns);
}

void residency_doom(struct residency *residency, uint32_t model, sl_status status,
                    const char *reason)
{
    struct residency_model *m = &residency->models[model];
    m->doom_status = status;
    m->doom_reason = reason;
    if (m->doomed) return;
    m->doomed = true;
    index_list_push(&residency->doomed, residency->doom_links, model);
}

static uint64_t retry_after_ms(const struct residency_model *m, int64_t now_ns)
{
    if (m->retry_ns <= now_ns) return 0;
    return ((uint64_t)m->retry_ns - (uint64_t)now_ns + 999999) / 1000000;
}

bool residency_next_doomed(struct residency *residency, uint32_t *out_model, sl_status *out_status,
                           uint64_t *out_retry_after_ms, const char **out_reason, int64_t now_ns)
{
    uint32_t model = residency->doomed.head;
    if (model == INDEX_NONE) return false;
    index_list_remove(&residency->doomed, residency->doom_links, model);
    struct residency_model *m = &residency->models[model];
    m->doomed = false;
    *out_model = model;
    *out_status = m->doom_status;
    *out_retry_after_ms = retry_after_ms(m, now_ns);
    *out_reason = m->doom_reason;
    return true;
}

/* --- leaving --- */

void residency_drain(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->after_exit = SCHED_UNLOADED;
    m->exit_awaited = m->n_running == 0;
    if (m->exit_awaited) action_list_add_model(residency->actions, SCHED_UNLOAD, model);
    residency_set_state(residency, model, SCHED_DRAINING, now_ns);
}

/* Ends a worker, whatever it does. */
static void kill_worker(struct residency *residency, uint32_t model,
                        enum sched_model_state after_exit, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->after_exit = after_exit;
    m->exit_awaited = m->killed = true;
    action_list_add_model(residency->actions, SCHED_KILL, model);
    residency_set_state(residency, model, SCHED_DRAINING, now_ns);
}

/* The same of one that is on its way out, whether or not requests still run there. */
static void kill_draining(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->after_exit = SCHED_UNLOADED;
    m->exit_awaited = true;
    if (!m->killed) action_list_add_model(residency->actions, SCHED_KILL, model);
    m->killed = true;
    residency_refresh(residency, model, now_ns);
}

static void forget_failures(struct residency_model *m)
{
    m->n_failures = 0;
    m->error[0] = '\0';
}

static void leave(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->pinned = m->prefetch = false;
    residency->room_changed = true;
    if (m->state == SCHED_STARTING || m->state == SCHED_LOADING)
        kill_worker(residency, model, SCHED_UNLOADED, now_ns);
    else if (m->state == SCHED_READY)
        residency_drain(residency, model, now_ns);
    else
        residency_refresh(residency, model, now_ns);
}

void residency_stop(struct residency *residency, uint32_t model, int64_t now_ns)
{
    residency_doom(residency, model, SL_UNAVAILABLE, "the model was stopped");
    leave(residency, model, now_ns);
}

static void doom_removed(struct residency *residency, uint32_t model)
{
    if (residency->models[model].moved)
        residency_doom(residency, model, SL_UNAVAILABLE, "the model is elsewhere now");
    else
        residency_doom(residency, model, SL_NOT_FOUND, "the model was removed");
}

void residency_remove(struct residency *residency, uint32_t model, bool moved, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->moved = moved;
    doom_removed(residency, model);
    m->removing = true;
    leave(residency, model, now_ns);
    if (has_worker(m->state)) return;
    if (m->state != SCHED_UNLOADED) residency_set_state(residency, model, SCHED_UNLOADED, now_ns);
    m->present = false;
}

/* --- catalogue --- */

sl_status residency_add(struct residency *residency, const struct sched_event *event)
{
    struct residency_model *m = &residency->models[event->model];
    if (m->present && !m->removing) return SL_EXISTS;
    if (!m->present) *m = (struct residency_model){.present = true};
    m->removing = false;
    m->need_bytes = event->model_add.estimate_bytes;
    m->n_slots = event->model_add.n_slots;
    m->keep_alive_own_ns = event->model_add.keep_alive_ns;
    return SL_OK;
}

void residency_pin(struct residency *residency, uint32_t model, bool pinned, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->pinned = pinned;
    residency->room_changed = true;
    if (pinned && m->state == SCHED_DRAINING && !m->exit_awaited)
        residency_set_state(residency, model, SCHED_READY, now_ns);
    residency_refresh(residency, model, now_ns);
}

static void set_keep_alive(const struct residency *residency, struct residency_model *m,
                           int64_t keep_alive_ns)
{
    if (keep_alive_ns == SCHED_KEEP_ALIVE_DEFAULT) keep_alive_ns = m->keep_alive_own_ns;
    if (keep_alive_ns == SCHED_KEEP_ALIVE_DEFAULT) keep_alive_ns = residency->config.keep_alive_ns;
    m->keep_alive_ns = keep_alive_ns;
}

void residency_prefetch(struct residency *residency, uint32_t model, int64_t keep_alive_ns,
                        int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    set_keep_alive(residency, m, keep_alive_ns);
    if (m->idle)
        m->last_used_ns = now_ns;
    else
        m->prefetch = m->state != SCHED_READY;
    residency_refresh(residency, model, now_ns);
}

void residency_reload(struct residency *residency, uint32_t model, uint64_t need_bytes,
                      int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->need_bytes = need_bytes;
    m->load_refused = false;
    forget_failures(m);
    residency->room_changed = true;
    if (m->state == SCHED_BACKOFF || m->state == SCHED_FAILED)
        residency_set_state(residency, model, SCHED_UNLOADED, now_ns);
    else if (m->state == SCHED_DRAINING)
        kill_draining(residency, model, now_ns);
    else if (has_worker(m->state))
        kill_worker(residency, model, SCHED_UNLOADED, now_ns);
    else
        residency_refresh(residency, model, now_ns);
}

void residency_set_budget(struct residency *residency, uint64_t budget_bytes)
{
    residency->config.budget_bytes = budget_bytes;
    residency->room_changed = true;
}

/* --- requests, counted --- */

sl_status residency_admit(struct residency *residency, uint32_t model, int64_t now_ns,
                          const char **out_reason, uint64_t *out_retry_after_ms)
{
    struct residency_model *m = &residency->models[model];
    *out_retry_after_ms = 0;
    *out_reason = "no such model";
    if (!m->present || m->removing) return SL_NOT_FOUND;
    bool broken = m->state == SCHED_FAILED || m->load_refused;
    *out_reason = m->error;
    if (broken && now_ns < m->retry_ns) {
        *out_retry_after_ms = retry_after_ms(m, now_ns);
        return SL_UNAVAILABLE;
    }
    uint64_t available;
    if (has_worker(m->state) || residency_can_fit(residency, model, &available)) return SL_OK;
    residency_say_unfit(residency, model, available, m->error);
    return SL_NOMEM;
}

void residency_set_waiting(struct residency *residency, uint32_t model, uint32_t n_waiting,
                           int64_t now_ns)
{
    residency->models[model].n_waiting = n_waiting;
    residency_refresh(residency, model, now_ns);
}

void residency_run_begin(struct residency *residency, uint32_t model, int64_t keep_alive_ns,
                         int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    assert(residency_free_slots(residency, model) > 0);
    m->n_running++;
    m->last_used_ns = now_ns;
    set_keep_alive(residency, m, keep_alive_ns);
    residency_refresh(residency, model, now_ns);
}

void residency_run_end(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    assert(m->n_running > 0);
    m->n_running--;
    m->last_used_ns = now_ns;
    if (m->state == SCHED_DRAINING && m->n_running == 0 && !m->exit_awaited) {
        m->exit_awaited = true;
        m->state_since_ns = now_ns; /* the grace counts from here */
        action_list_add_model(residency->actions, SCHED_UNLOAD, model);
    }
    residency_refresh(residency, model, now_ns);
}

void residency_success(struct residency *residency, uint32_t model)
{
    forget_failures(&residency->models[model]);
}

uint32_t residency_free_slots(const struct residency *residency, uint32_t model)
{
    const struct residency_model *m = &residency->models[model];
    if (m->state != SCHED_READY) return 0;
    /* Half open: after the cool-down one request shows whether the worker is well again. */
    bool on_trial = m->n_failures >= residency->config.breaker_failures;
    uint32_t n_slots = on_trial ? 1 : m->n_slots;
    return m->n_running < n_slots ? n_slots - m->n_running : 0;
}

uint32_t residency_n_slots(const struct residency *residency, uint32_t model)
{
    return residency->models[model].n_slots;
}

bool residency_exists(const struct residency *residency, uint32_t model)
{
    return residency->models[model].present && !residency->models[model].removing;
}

/* --- the worker's life --- */

void residency_worker_started(struct residency *residency, uint32_t model, int64_t now_ns)
{
    if (residency->models[model].state == SCHED_STARTING)
        residency_set_state(residency, model, SCHED_LOADING, now_ns);
}

void residency_loaded(struct residency *residency, const struct sched_event *event, int64_t now_ns)
{
    struct residency_model *m = &residency->models[event->model];
    residency_worker_started(residency, event->model, now_ns);
    if (m->state != SCHED_LOADING) return;
    if (event->loaded.bytes > 0) {
        residency->used_bytes += event->loaded.bytes - m->charged_bytes;
        m->need_bytes = m->charged_bytes = event->loaded.bytes;
    }
    if (event->loaded.n_slots > 0) m->n_slots = event->loaded.n_slots;
    if (!m->prefetch) set_keep_alive(residency, m, SCHED_KEEP_ALIVE_DEFAULT);
    m->prefetch = false;
    m->n_loads++;
    m->ready_since_ns = m->last_used_ns = now_ns;
    residency_set_state(residency, event->model, SCHED_READY, now_ns);
}

/* Doubled at each failure in a row, capped; then between half of that and all of it, so that nodes
 * that failed together do not come back together. */
static int64_t backoff_ns(struct residency *residency, uint32_t model)
{
    struct residency_model *m = &residency->models[model];
    const struct sched_config *config = &residency->config;
    int64_t delay_ns = config->backoff_min_ns;
    for (uint32_t i = 1; i < m->n_failures && delay_ns < config->backoff_max_ns; i++)
        delay_ns = delay_ns > config->backoff_max_ns / 2 ? config->backoff_max_ns : delay_ns * 2;
    uint64_t half = (uint64_t)delay_ns / 2;
    uint64_t random = sl_rng_u64(config->seed, model, m->n_jitters++);
    return (int64_t)(half + random % (half + 1));
}

static void say_failure(struct residency_model *m, const char *what, const char *reason)
{
    if (!reason || !*reason) reason = "no reason known";
    snprintf(m->error, sizeof m->error, "%s: %s", what, reason);
}

/* Counts one more failure. Returns what the model must be when its worker is gone. */
static enum sched_model_state note_failure(struct residency *residency, uint32_t model,
                                           int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    m->n_failures++;
    if (m->n_failures < residency->config.breaker_failures) {
        m->retry_ns = residency_time_after(now_ns, backoff_ns(residency, model));
        return SCHED_BACKOFF;
    }
    m->retry_ns = residency_time_after(now_ns, residency->config.breaker_cooldown_ns);
    m->prefetch = false;
    residency_doom(residency, model, SL_UNAVAILABLE, m->error);
    return SCHED_FAILED;
}

void residency_load_failed(struct residency *residency, uint32_t model, const char *reason,
                           int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    if (m->state != SCHED_STARTING && m->state != SCHED_LOADING) return;
    say_failure(m, "the model cannot be loaded", reason);
    m->load_refused = true;
    m->prefetch = false;
    enum sched_model_state after = note_failure(residency, model, now_ns);
    residency_doom(residency, model, SL_UNAVAILABLE, m->error);
    kill_worker(residency, model, after, now_ns);
}

static enum sched_model_state note_death(struct residency *residency, uint32_t model,
                                         const char *reason, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    bool was_ready = m->state == SCHED_READY || m->state == SCHED_DRAINING;
    if (was_ready && now_ns - m->ready_since_ns >= residency->config.stable_ns) forget_failures(m);
    m->n_deaths++;
    residency->n_deaths++;
    say_failure(m, was_ready ? "the worker died" : "the worker died while loading", reason);
    return note_failure(residency, model, now_ns);
}

void residency_worker_gone(struct residency *residency, uint32_t model, const char *reason,
                           int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    if (!has_worker(m->state)) return;
    enum sched_model_state to = m->after_exit;
    if (!m->exit_awaited) to = note_death(residency, model, reason, now_ns);
    if (m->removing) {
        doom_removed(residency, model);
        m->present = false;
        to = SCHED_UNLOADED;
    }
    m->n_running = 0;
    residency_set_state(residency, model, to, now_ns);
}

bool residency_exit_is_awaited(const struct residency *residency, uint32_t model)
{
    return residency->models[model].state == SCHED_DRAINING &&
           residency->models[model].exit_awaited;
}

/* --- time --- */

static void timed_out(struct residency *residency, uint32_t model, int64_t timeout_ns,
                      int64_t now_ns)
{
    char reason[SCHED_REASON_MAX];
    snprintf(reason, sizeof reason, "%s for %.1f s",
             sched_model_state_name(residency->models[model].state), (double)timeout_ns / 1e9);
    residency_load_failed(residency, model, reason, now_ns);
}

static void run_timer(struct residency *residency, uint32_t model, int64_t now_ns)
{
    struct residency_model *m = &residency->models[model];
    switch (m->state) {
    case SCHED_UNLOADED:
        m->want_wake_ns = SCHED_NEVER;
        residency->room_changed = true;
        residency_refresh(residency, model, now_ns);
        break;
    case SCHED_STARTING:
        timed_out(residency, model, residency->config.start_timeout_ns, now_ns);
        break;
    case SCHED_LOADING:
        timed_out(residency, model, residency->config.load_timeout_ns, now_ns);
        break;
    case SCHED_READY: residency_drain(residency, model, now_ns); break;
    case SCHED_DRAINING:
        m->killed = true;
        action_list_add_model(residency->actions, SCHED_KILL, model);
        residency_refresh(residency, model, now_ns);
        break;
    default:
        m->load_refused = false;
        residency_set_state(residency, model, SCHED_UNLOADED, now_ns);
        break;
    }
}

void residency_run_timers(struct residency *residency, int64_t now_ns)
{
    uint32_t model;
    int64_t at_ns;
    while (index_heap_min(&residency->timers, &model, &at_ns) && at_ns <= now_ns)
        run_timer(residency, model, now_ns);
}

int64_t residency_next_timer(const struct residency *residency)
{
    uint32_t model;
    int64_t at_ns = SCHED_NEVER;
    index_heap_min(&residency->timers, &model, &at_ns);
    return at_ns;
}

/* --- queries --- */

bool residency_get(const struct residency *residency, uint32_t model, struct sched_model_info *out)
{
    const struct residency_model *m = &residency->models[model];
    if (!m->present) return false;
    bool retries = m->state == SCHED_BACKOFF || m->state == SCHED_FAILED;
    *out = (struct sched_model_info){
        .state = m->state,
        .pinned = m->pinned,
        .bytes = has_worker(m->state) ? m->charged_bytes : m->need_bytes,
        .n_slots = m->n_slots,
        .n_running = m->n_running,
        .n_waiting = m->n_waiting,
        .n_loads = m->n_loads,
        .n_deaths = m->n_deaths,
        .last_used_ns = m->last_used_ns,
        .expires_ns = idle_expiry(m),
        .retry_ns = retries ? m->retry_ns : 0,
    };
    memcpy(out->error, m->error, sizeof out->error);
    return true;
}
