/* local_query.c: defaults, views for metrics and `ps`, and names. */
#include "sched/local_int.h"

#include <string.h>

#define SECONDS(n) ((n)*INT64_C(1000000000))
#define MILLISECONDS(n) ((n)*INT64_C(1000000))
#define MIB(n) ((uint64_t)(n) << 20)

void sched_config_default(struct sched_config *config)
{
    *config = (struct sched_config){
        .n_models_max = 1024,
        .n_waiting_max = 8192,
        .n_running_max = 4096,
        .waiting_bytes_max = MIB(256),
        .budget_bytes = MIB(8192),
        .class_weight = {[SCHED_INTERACTIVE] = 16, [SCHED_STANDARD] = 4, [SCHED_BATCH] = 1},
        .queue_timeout_ns = SECONDS(300),
        .keep_alive_ns = SECONDS(300),
        .start_timeout_ns = SECONDS(30),
        .load_timeout_ns = SECONDS(900),
        .unload_grace_ns = SECONDS(5),
        .backoff_min_ns = MILLISECONDS(100),
        .backoff_max_ns = SECONDS(10),
        .strikes_max = 2,
        .breaker_failures = 5,
        .breaker_cooldown_ns = SECONDS(60),
        .stable_ns = SECONDS(60),
        .swap_patience_ns = SECONDS(10),
        .residency_min_ns = SECONDS(20),
    };
}

void sched_get_totals(const struct sched *sched, struct sched_totals *out)
{
    *out = sched->ever;
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++)
        out->n_waiting[class] = sched->queue.n_class[class];
    out->n_running = sched->n_running;
    out->waiting_bytes = request_queue_bytes(&sched->queue);
    out->budget_bytes = sched->residency.config.budget_bytes;
    out->used_bytes = sched->residency.used_bytes;
    out->n_workers = sched->residency.n_workers;
    out->n_worker_deaths = sched->residency.n_deaths;
}

bool sched_get_model(const struct sched *sched, uint32_t model, struct sched_model_info *out)
{
    return model < sched->config.n_models_max && residency_get(&sched->residency, model, out);
}

const char *sched_model_state_name(enum sched_model_state state)
{
    static const char *const NAMES[SCHED_MODEL_STATE_COUNT] = {
        [SCHED_UNLOADED] = "unloaded", [SCHED_STARTING] = "starting", [SCHED_LOADING] = "loading",
        [SCHED_READY] = "ready",       [SCHED_DRAINING] = "draining", [SCHED_BACKOFF] = "backoff",
        [SCHED_FAILED] = "failed",
    };
    return (unsigned)state < SCHED_MODEL_STATE_COUNT ? NAMES[state] : "?";
}

static const char *const CLASS_NAMES[SCHED_CLASS_COUNT] = {
    [SCHED_INTERACTIVE] = "interactive",
    [SCHED_STANDARD] = "standard",
    [SCHED_BATCH] = "batch",
};

const char *sched_class_name(enum sched_class qos_class)
{
    return (unsigned)qos_class < SCHED_CLASS_COUNT ? CLASS_NAMES[qos_class] : "?";
}

bool sched_class_parse(const char *name, enum sched_class *out)
{
    for (int class = 0; class < SCHED_CLASS_COUNT; class ++) {
        if (strcmp(name, CLASS_NAMES[class]) != 0) continue;
        *out = (enum sched_class) class;
        return true;
    }
    return false;
}

const char *sched_event_name(enum sched_event_kind kind)
{
    static const char *const NAMES[SCHED_EVENT_KIND_COUNT] = {
        [SCHED_ARRIVE] = "ARRIVE",
        [SCHED_CANCEL] = "CANCEL",
        [SCHED_PROGRESS] = "PROGRESS",
        [SCHED_FINISHED] = "FINISHED",
        [SCHED_MODEL_ADD] = "MODEL_ADD",
        [SCHED_MODEL_REMOVE] = "MODEL_REMOVE",
        [SCHED_PIN] = "PIN",
        [SCHED_STOP] = "STOP",
        [SCHED_PREFETCH] = "PREFETCH",
        [SCHED_RELOAD] = "RELOAD",
        [SCHED_SET_BUDGET] = "SET_BUDGET",
        [SCHED_WORKER_STARTED] = "WORKER_STARTED",
        [SCHED_LOADED] = "LOADED",
        [SCHED_LOAD_FAILED] = "LOAD_FAILED",
        [SCHED_WORKER_DIED] = "WORKER_DIED",
        [SCHED_WORKER_EXITED] = "WORKER_EXITED",
        [SCHED_TICK] = "TICK",
    };
    return (unsigned)kind < SCHED_EVENT_KIND_COUNT ? NAMES[kind] : "?";
}

const char *sched_action_name(enum sched_action_kind kind)
{
    static const char *const NAMES[SCHED_ACTION_KIND_COUNT] = {
        [SCHED_DISPATCH] = "DISPATCH",
        [SCHED_REJECT] = "REJECT",
        [SCHED_EXPIRE] = "EXPIRE",
        [SCHED_FAIL] = "FAIL",
        [SCHED_CANCEL_RUNNING] = "CANCEL_RUNNING",
        [SCHED_SPAWN] = "SPAWN",
        [SCHED_UNLOAD] = "UNLOAD",
        [SCHED_KILL] = "KILL",
        [SCHED_WAKE_AT] = "WAKE_AT",
    };
    return (unsigned)kind < SCHED_ACTION_KIND_COUNT ? NAMES[kind] : "?";
}
