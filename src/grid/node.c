#include "grid/node_int.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include <assert.h>
#include <string.h>

#define QUEUE_DEFAULT 1024
#define QUEUE_TIMEOUT_DEFAULT_NS INT64_C(60000000000)
#define KEEP_ALIVE_DEFAULT_NS INT64_C(300000000000) /* five minutes, as Ollama's */
#define KV_CONTEXTS_DEFAULT 4 /* most answers are far shorter than a context: dozens fit */
#define WATCHDOG_DEFAULT_MS 60000
#define WAITING_BYTES_MAX (UINT64_C(512) << 20) /* prompts in the queue */
#define TODO_SPARE 64                           /* actions that belong to no request */
#define TODO_PER_REQUEST 4 /* of one turn: dispatch, cancel, fail, and one to spare */

void node_cfg_default(struct node_cfg *cfg)
{
    *cfg = (struct node_cfg){
        .n_queue_max = QUEUE_DEFAULT,
        .keep_alive_ns = KEEP_ALIVE_DEFAULT_NS,
        .queue_timeout_ns = QUEUE_TIMEOUT_DEFAULT_NS,
        .watchdog_ms = WATCHDOG_DEFAULT_MS,
        .gpu_layers = -1,
        .kv_contexts = KV_CONTEXTS_DEFAULT,
    };
}

static void act_on_model(struct node *node, const struct sched_action *action)
{
    struct node_entry *entry = node->entries[action->model];
    if (!entry) return;
    if (action->kind == SCHED_SPAWN)
        node_entry_spawn(entry);
    else if (!entry->worker)
        return; /* it died since, and the scheduler knows */
    else if (action->kind == SCHED_UNLOAD)
        worker_unload(entry->worker);
    else
        worker_kill(entry->worker);
}

/* Its owner cancelled it between the scheduler's decision and now. */
static void give_back(struct node *node, uint64_t request)
{
    struct sched_event finished = {.kind = SCHED_FINISHED, .request = request};
    node_step(node, &finished);
}

static void act_on_request(struct node *node, const struct sched_action *action)
{
    struct node_request *request = sl_idmap_get(&node->requests, action->request);
    bool runs = action->kind == SCHED_DISPATCH || action->kind == SCHED_CANCEL_RUNNING;
    if (!request && runs)
        give_back(node, action->request);
    else if (request && action->kind == SCHED_DISPATCH)
        node_request_dispatch(request);
    else if (request && action->kind == SCHED_CANCEL_RUNNING)
        node_request_cancel_parts(request);
    else if (request)
        node_request_refuse(request, action);
}

static void act(struct node *node, const struct sched_action *action)
{
    switch (action->kind) {
    case SCHED_DISPATCH:
    case SCHED_CANCEL_RUNNING:
    case SCHED_REJECT:
    case SCHED_EXPIRE:
    case SCHED_FAIL: act_on_request(node, action); break;
    case SCHED_SPAWN:
    case SCHED_UNLOAD:
    case SCHED_KILL: act_on_model(node, action); break;
    default: break;
    }
}

static void release_removed(struct node *node)
{
    for (size_t i = 0; i < NODE_MODELS_MAX; i++)
        if (node->entries[i] && node->entries[i]->removed) node_entry_release(node->entries[i]);
}

/* The loop's task. What an action brings about may add others: they are done in the same go. */
static void do_work(void *ctx)
{
    struct node *node = ctx;
    while (node->todo_at < node->n_todo) {
        struct node_todo todo = node->todo[node->todo_at++];
        if (todo.action.reason) todo.action.reason = todo.reason;
        act(node, &todo.action);
    }
    node->todo_at = node->n_todo = 0;
    if (node->n_removed) release_removed(node);
}

static void set_wake(struct node *node, int64_t at_ns)
{
    if (at_ns == SCHED_NEVER)
        loop_timer_cancel(node->wake);
    else
        loop_timer_set(node->wake, at_ns - sl_now_ns());
}

static sl_status grow_todo(struct node *node, size_t cap)
{
    if (cap <= node->todo_cap) return SL_OK;
    struct node_todo *bigger = sl_realloc_array(node->todo, 2 * cap, sizeof *bigger);
    if (!bigger) return SL_NOMEM;
    node->todo = bigger;
    node->todo_cap = 2 * cap;
    return SL_OK;
}

sl_status node_reserve(struct node *node)
{
    size_t n = node->n_todo + TODO_PER_REQUEST * (node->requests.n_entries + 1);
    return grow_todo(node, n + TODO_SPARE);
}

static void add_todo(struct node *node, const struct sched_action *action)
{
    /* node_reserve has made room for all that one turn can bring; this is for the turn that brings
     * more, and without memory then nothing can be saved. */
    if (node->n_todo == node->todo_cap && grow_todo(node, node->n_todo + TODO_SPARE) != SL_OK) {
        sl_log(SL_LOG_ERROR, "node", "out of memory: action %s is lost",
               sched_action_name(action->kind));
        return;
    }
    struct node_todo *todo = &node->todo[node->n_todo++];
    todo->action = *action;
    if (action->reason) {
        strncpy(todo->reason, action->reason, sizeof todo->reason - 1);
        todo->reason[sizeof todo->reason - 1] = '\0';
    }
}

void node_step(struct node *node, const struct sched_event *event)
{
    const struct sched_action *actions = NULL;
    size_t n = 0;
    if (sched_step(node->sched, event, sl_now_ns(), &actions, &n) != SL_OK) {
        sl_log(SL_LOG_ERROR, "node", "the scheduler refused %s", sched_event_name(event->kind));
        return;
    }
    for (size_t i = 0; i < n; i++) {
        if (actions[i].kind == SCHED_WAKE_AT)
            set_wake(node, actions[i].at_ns);
        else
            add_todo(node, &actions[i]);
    }
    if (node->n_todo > node->todo_at) loop_queue_task(node->cfg.loop, &node->work);
}

static void on_wake(void *ctx)
{
    struct sched_event tick = {.kind = SCHED_TICK};
    node_step(ctx, &tick);
}

static sl_status create_sched(struct node *node, struct sl_err *err)
{
    struct sched_config config;
    sched_config_default(&config);
    config.seed = node->cfg.seed ? node->cfg.seed : sl_hash_seed();
    config.n_models_max = NODE_MODELS_MAX;
    config.n_waiting_max = (uint32_t)node->cfg.n_queue_max;
    config.waiting_bytes_max = WAITING_BYTES_MAX;
    config.budget_bytes = node->cfg.memory_bytes;
    config.queue_timeout_ns = node->cfg.queue_timeout_ns;
    config.keep_alive_ns = node->cfg.keep_alive_ns;
    return sched_create(&config, &node->sched, err);
}

static sl_status check_cfg(const struct node_cfg *cfg, struct sl_err *err)
{
    if (!cfg->loop || !cfg->store) return sl_err_set(err, SL_INVALID, "node: no loop or no store");
    if (cfg->n_queue_max < 1 || (uint32_t)cfg->n_queue_max > SCHED_REQUESTS_LIMIT)
        return sl_err_set(err, SL_INVALID, "node: a queue of %d requests", (int)cfg->n_queue_max);
    return SL_OK;
}

sl_status node_create(const struct node_cfg *cfg, struct node **out, struct sl_err *err)
{
    sl_status status = check_cfg(cfg, err);
    if (status != SL_OK) return status;
    struct node *node = sl_calloc(1, sizeof *node);
    if (!node) return sl_err_set(err, SL_NOMEM, "node");
    node->cfg = *cfg;
    node->work = (struct loop_task){.fn = do_work, .ctx = node};
    sl_idmap_init(&node->requests);
    if (!node->cfg.memory_bytes) node->cfg.memory_bytes = sl_mem_available_bytes() / 10 * 8;
    status = sl_strmap_init(&node->name_index, NODE_NAMES_MAX);
    if (status == SL_OK) {
        node->names = sl_calloc(NODE_NAMES_MAX, sizeof *node->names);
        if (!node->names) status = SL_NOMEM;
    }
    if (status == SL_OK) status = loop_timer_create(cfg->loop, on_wake, node, &node->wake);
    if (status == SL_OK) status = node_reserve(node);
    if (status != SL_OK) {
        sl_err_set(err, status, "node: %s", sl_status_text(status));
        goto fail;
    }
    status = create_sched(node, err);
    if (status != SL_OK) goto fail;
    *out = node;
    return SL_OK;
fail:
    node_destroy(node);
    return status;
}

const struct node_cfg *node_config(const struct node *node)
{
    return &node->cfg;
}

void node_destroy(struct node *node)
{
    if (!node) return;
    size_t at = 0;
    struct node_request *request;
    loop_cancel_task(node->cfg.loop, &node->work);
    while ((request = sl_idmap_next(&node->requests, &at))) node_request_free(request);
    sl_idmap_done(&node->requests);
    for (size_t i = 0; i < NODE_MODELS_MAX; i++) node_entry_free(node->entries[i]);
    if (node->names) node_names_clear(node);
    sl_free(node->names);
    sl_strmap_done(&node->name_index);
    loop_timer_destroy(node->wake);
    sched_destroy(node->sched);
    sl_free(node->todo);
    sl_free(node);
}

/* Was the newcomer itself turned away? Then its owner hears it as an answer, not as an event. */
static bool take_refusal(struct node *node, size_t from, uint64_t id, struct node_todo *out)
{
    for (size_t i = from; i < node->n_todo; i++) {
        const struct sched_action *a = &node->todo[i].action;
        if (a->request != id || a->kind != SCHED_REJECT) continue;
        *out = node->todo[i];
        node->todo[i].action.kind = SCHED_WAKE_AT;
        return true;
    }
    return false;
}

/* As the scheduler has it: absolute, and 0 for the node's own. */
static int64_t deadline_of(const struct node_request *r)
{
    int64_t deadline_ns, timeout_ns = r->submit.queue_timeout_ns;
    if (!timeout_ns) return 0;
    if (__builtin_add_overflow(r->submit_ns, timeout_ns, &deadline_ns)) return SCHED_NEVER;
    return deadline_ns;
}

static sl_status arrive(struct node_request *r, int64_t *retry_after_ms, struct sl_err *err)
{
    struct node *node = r->node;
    struct sched_event event = {.kind = SCHED_ARRIVE,
                                .request = r->id,
                                .model = r->entry->index,
                                .arrive = {.qos_class = r->submit.qos,
                                           .tenant = r->submit.tenant,
                                           .deadline_ns = deadline_of(r),
                                           .prompt_bytes = r->arena.used_bytes,
                                           .keep_alive_ns = r->submit.keep_alive_ns}};
    struct node_todo refusal;
    size_t from = node->n_todo;
    node_step(node, &event);
    if (!take_refusal(node, from, r->id, &refusal)) return SL_OK;
    *retry_after_ms = (int64_t)refusal.action.retry_after_ms;
    node->stats.n_rejected++;
    return sl_err_set(err, refusal.action.status, "%s",
                      refusal.action.reason ? refusal.reason : "refused");
}

sl_status node_submit(struct node *node, const struct node_submit *submit, node_event_fn on_event,
                      void *ctx, struct node_request **out, int64_t *retry_after_ms,
                      struct sl_err *err)
{
    struct node_request *r = NULL;
    *retry_after_ms = 0;
    sl_status status = node_request_create(node, submit, &r, err);
    if (status != SL_OK) return status;
    r->on_event = on_event;
    r->ctx = ctx;
    r->id = ++node->id_last;
    status = node_reserve(node);
    if (status == SL_OK) status = sl_idmap_put(&node->requests, r->id, r);
    if (status != SL_OK) {
        sl_err_set(err, status, "request: %s", sl_status_text(status));
    } else {
        status = arrive(r, retry_after_ms, err);
        if (status != SL_OK) sl_idmap_take(&node->requests, r->id);
    }
    if (status != SL_OK) {
        node_request_free(r);
        return status;
    }
    node->stats.n_submitted++;
    *out = r;
    return SL_OK;
}

void node_cancel(struct node_request *r)
{
    if (r->silent) return;
    struct node *node = r->node;
    struct sched_event event = {.kind = SCHED_CANCEL, .request = r->id};
    r->silent = true;
    node->stats.n_cancelled++;
    node_step(node, &event);
    /* One that runs stays until its worker has let go of it. */
    if (!r->parts) {
        sl_idmap_take(&node->requests, r->id);
        node_request_free(r);
    }
}

uint64_t node_request_id(const struct node_request *request)
{
    return request->id;
}

static void fill_model(struct node *node, const struct node_entry *entry, struct node_model *out)
{
    struct sched_model_info info = {0};
    int64_t now = sl_now_ns();
    sched_get_model(node->sched, entry->index, &info);
    *out = (struct node_model){
        .name = entry->name,
        .path = entry->path,
        .digest = entry->digest,
        .state = sched_model_state_name(info.state),
        .sched_state = info.state,
        .n_slots = info.n_slots,
        .load_fraction = info.state == SCHED_READY ? 1.0 : entry->load_fraction,
        .pinned = info.pinned,
        .bytes = info.bytes,
        .expires_in_ns = info.expires_ns == SCHED_NEVER ? -1
                         : info.expires_ns > now        ? info.expires_ns - now
                                                        : 0,
        .n_running = (int32_t)info.n_running,
        .n_waiting = (int32_t)info.n_waiting,
        .n_loads = (uint32_t)info.n_loads,
        .n_crashes = (uint32_t)entry->n_crashes,
        .pid = entry->worker ? worker_pid(entry->worker) : 0,
        .info = entry->has_info ? &entry->info : NULL,
        .traits = entry->traits,
        .last_error = entry->last_error,
        .parameters = entry->parameters,
        .system = entry->system,
        .format = strcmp(entry->kind, "llm") ? entry->kind : "gguf",
        .processing = entry->processing,
        .options = entry->options,
        .part = entry->part != NULL,
        .split = entry->split,
        .hops = entry->has_hops ? entry->hops : NULL,
    };
    if (entry->worker && worker_ready(entry->worker)) out->stats = *worker_stats(entry->worker);
}

void node_models(struct node *node, void (*fn)(void *ctx, const struct node_model *model),
                 void *ctx)
{
    struct node_model model;
    for (size_t i = 0; i < NODE_MODELS_MAX; i++) {
        if (!node->entries[i] || node->entries[i]->removed) continue;
        fill_model(node, node->entries[i], &model);
        fn(ctx, &model);
    }
}

sl_status node_model_find(struct node *node, const char *name, struct node_model *out,
                          struct sl_err *err)
{
    struct node_entry *entry;
    sl_status status = node_entry_of(node, name, false, &entry, err);
    if (status == SL_OK) fill_model(node, entry, out);
    return status;
}

void node_stats_get(const struct node *node, struct node_stats *out)
{
    struct sched_totals totals;
    sched_get_totals(node->sched, &totals);
    *out = node->stats;
    for (int i = 0; i < SCHED_CLASS_COUNT; i++) out->n_waiting[i] = totals.n_waiting[i];
    out->n_running = totals.n_running;
    out->memory_bytes = node->cfg.memory_bytes;
    out->memory_used_bytes = totals.used_bytes + node->charged_bytes;
    out->charged_bytes = node->charged_bytes;
    out->n_expired = totals.n_expired;
    out->n_replayed = totals.n_redispatched;
    out->n_crashes = totals.n_worker_deaths;
}

sl_status node_pin(struct node *node, const char *model, struct sl_err *err)
{
    struct node_entry *entry;
    sl_status status = node_entry_of(node, model, true, &entry, err);
    if (status != SL_OK) return status;
    struct sched_event pin = {.kind = SCHED_PIN, .model = entry->index, .pinned = true};
    node_step(node, &pin);
    return SL_OK;
}

sl_status node_stop(struct node *node, const char *model, struct sl_err *err)
{
    struct node_entry *entry = node_entry_known(node, model);
    struct sched_model_info info = {0};
    if (entry) sched_get_model(node->sched, entry->index, &info);
    /* One that cannot load can be wanted all the same, and given up. */
    if (!entry || (!entry->worker && !info.pinned && !info.n_waiting))
        return sl_err_set(err, SL_NOT_FOUND, "model \"%s\" is not loaded", model);
    struct sched_event stop = {.kind = SCHED_STOP, .model = entry->index};
    node_step(node, &stop);
    node_split_stop(entry);
    return SL_OK;
}

void node_watch(struct node *node, void (*fn)(void *ctx), void *ctx)
{
    node->on_model = fn;
    node->on_model_ctx = ctx;
}

void node_model_changed(struct node *node, const char *model)
{
    struct node_entry *entry = node_entry_known(node, model);
    if (entry) node_entry_remove(entry);
}
