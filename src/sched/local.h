/* local.h: the scheduler of one node. It decides which request runs next, which models are in
 * memory, and what happens when a worker dies; it never acts. docs/scheduling.md has the formulas.
 * Floor: sched.  Thread: one (the loop's).  Allocates: sched_create only; a step never does, so a
 * step cannot run out of memory.
 * Pure: no clock, no I/O, no logging. The same events with the same times and seed give the same
 * actions.
 * Invariants: every accepted SCHED_ARRIVE ends exactly once: by SCHED_FINISHED or SCHED_CANCEL from
 * the caller, or by a SCHED_REJECT, SCHED_EXPIRE or SCHED_FAIL action. A model has at most one
 * worker. The bytes of all workers exceed the budget only while a model turned out to be bigger
 * than estimated or the budget was lowered, and then no worker is started. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHED_NEVER INT64_MAX                /* a time that does not come */
#define SCHED_KEEP_ALIVE_FOREVER INT64_C(-1) /* any negative value but the next one */
#define SCHED_KEEP_ALIVE_DEFAULT INT64_MIN   /* the model's own, or else the configured one */
#define SCHED_REASON_MAX 512         /* bytes of an error text, with its NUL; longer is cut */
#define SCHED_MODELS_LIMIT 4096      /* a node's catalogue; a model is about 400 bytes here */
#define SCHED_REQUESTS_LIMIT 1000000 /* of n_waiting_max, n_running_max; 250 bytes each */
#define SCHED_SLOTS_LIMIT 65536      /* of one worker: more streams than a loop can pace */
#define SCHED_BYTES_LIMIT (UINT64_C(1) << 60) /* of any size: sums of a few stay in 64 bits */
#define SCHED_WEIGHT_LIMIT 4096               /* of class_weight: beyond it a class starves */

enum sched_class { SCHED_INTERACTIVE, SCHED_STANDARD, SCHED_BATCH, SCHED_CLASS_COUNT };

/* What a model is doing. "Worker" is its process; it exists in STARTING to DRAINING.
 *
 *                SPAWN           WORKER_STARTED         LOADED         drain
 *     UNLOADED ---------> STARTING ---------> LOADING ---------> READY <-----> DRAINING
 *      ^  ^                 |  |                |  |              |     pin     ^  |
 *      |  |                 |  |                |  |              |             |  |
 *      |  |                 |  +--- STOP, load failed, too slow: KILL ----------+  |
 *      |  |                 |                   |                 |                |
 *      |  |                 +------ died -------+------ died -----+                |
 *      |  |                           |                                            |
 *      |  +--- delay over --- BACKOFF or FAILED <--- exited after a failed load ---+
 *      |                                                    or died                |
 *      +---------------------------- exited as asked ------------------------------+
 *
 * UNLOADED: no worker, no bytes. A model that somebody wants loads as soon as it fits.
 * STARTING: SPAWN was given; the estimate is charged.  LOADING: the process lives and loads.
 * READY:    requests run here, and only here new ones are dispatched.
 * DRAINING: nothing new is dispatched; running requests finish, then UNLOAD (or KILL) was given and
 *           the exit is awaited. The bytes stay charged until then.
 * BACKOFF:  a worker died or could not load; the next attempt waits.
 * FAILED:   the circuit breaker is open: arrivals are refused. After the cool-down one attempt is
 *           made with one request at a time, until something succeeds. */
enum sched_model_state {
    SCHED_UNLOADED,
    SCHED_STARTING,
    SCHED_LOADING,
    SCHED_READY,
    SCHED_DRAINING,
    SCHED_BACKOFF,
    SCHED_FAILED,
    SCHED_MODEL_STATE_COUNT
};

enum sched_event_kind {
    SCHED_ARRIVE,         /* arrive: a new request wants to run */
    SCHED_CANCEL,         /* request: its client is gone. A waiting one ends here; a running one
                             gets CANCEL_RUNNING, keeps its slot until SCHED_FINISHED or the
                             worker's death, and is never answered again */
    SCHED_PROGRESS,       /* request: it produced a token */
    SCHED_FINISHED,       /* request: the worker is done with it, well or not */
    SCHED_MODEL_ADD,      /* model_add: the model can be asked for from now on */
    SCHED_MODEL_REMOVE,   /* model, moved: waiting requests fail, running ones finish, then it is
                             gone */
    SCHED_PIN,            /* model, pinned: a pinned model is loaded, kept, and restarted */
    SCHED_STOP,           /* model: as MODEL_REMOVE, but it stays in the catalogue; unpins */
    SCHED_PREFETCH,       /* model, keep_alive_ns: load it without a request */
    SCHED_RELOAD,         /* model, bytes: it is to be loaded in another way and will take so much.
                             Its worker is killed, what ran there goes back to the queue without
                             blame, and past failures are forgotten */
    SCHED_SET_BUDGET,     /* bytes: memory for all workers together */
    SCHED_WORKER_STARTED, /* model: the process lives */
    SCHED_LOADED,         /* model, loaded: ready to run requests */
    SCHED_LOAD_FAILED,    /* model, reason: the worker cannot load it. KILL follows, then report
                             SCHED_WORKER_EXITED */
    SCHED_WORKER_DIED,    /* model, reason: the process is gone unasked, or could not be spawned */
    SCHED_WORKER_EXITED,  /* model: the process is gone. When that was not asked for, it is the
                             same as SCHED_WORKER_DIED */
    SCHED_TICK,           /* nothing happened but time */
    SCHED_EVENT_KIND_COUNT
};

/* Members not named at the kind above are ignored. */
struct sched_event {
    enum sched_event_kind kind;
    uint64_t request;
    uint32_t model;        /* the caller's number, below n_models_max */
    bool pinned;           /* PIN */
    bool moved;            /* MODEL_REMOVE: from here only; requests fail as UNAVAILABLE */
    int64_t keep_alive_ns; /* PREFETCH: as in arrive */
    uint64_t bytes;        /* SET_BUDGET, RELOAD */
    const char *reason;    /* LOAD_FAILED, WORKER_DIED: copied; NULL is fine */
    struct {
        enum sched_class qos_class;
        uint64_t tenant;       /* whose it is: API key or any other id; equals share fairly */
        int64_t deadline_ns;   /* absolute: by then it must have been dispatched once, else
                                  EXPIRE. 0: after queue_timeout_ns; SCHED_NEVER: none */
        uint64_t prompt_bytes; /* counts against waiting_bytes_max while it waits */
        int64_t keep_alive_ns; /* 0: unload at once when idle; SCHED_KEEP_ALIVE_* */
    } arrive;                  /* with request and model */
    struct {
        uint64_t estimate_bytes;
        uint32_t n_slots; /* requests its worker takes at a time, at least 1 */
        bool pinned;
        int64_t keep_alive_ns; /* this model's default; SCHED_KEEP_ALIVE_* */
    } model_add;
    struct {
        uint64_t bytes;   /* what it really takes; 0: as estimated */
        uint32_t n_slots; /* 0: as said in MODEL_ADD */
    } loaded;
};

enum sched_action_kind {
    SCHED_DISPATCH,       /* request, model, attempt: submit it to the model's worker */
    SCHED_REJECT,         /* request, status, retry_after_ms, reason: it never ran */
    SCHED_EXPIRE,         /* request, status (SL_TIMEOUT), reason: it waited too long */
    SCHED_FAIL,           /* request, status, retry_after_ms, reason: it waited or ran before */
    SCHED_CANCEL_RUNNING, /* request, model: tell the worker */
    SCHED_SPAWN,          /* model: start a worker and let it load */
    SCHED_UNLOAD,         /* model: tell the worker to end; nothing runs on it */
    SCHED_KILL,           /* model: end the worker by force */
    SCHED_WAKE_AT,        /* at_ns: send a SCHED_TICK then, unless a step came before. The last
                             action of every step; SCHED_NEVER when nothing can time out */
    SCHED_ACTION_KIND_COUNT
};

struct sched_action {
    enum sched_action_kind kind;
    sl_status status; /* sl_status_http() has the HTTP status */
    uint32_t model;
    uint32_t attempt; /* 1 the first time; more: replay what it produced already */
    uint64_t request;
    int64_t at_ns;
    uint64_t retry_after_ms; /* 0: no use in asking again soon */
    const char *reason;      /* valid until the next step; NULL when there is none */
};

/* sched_config_default fills all of it; the reasons for the numbers are in docs/scheduling.md. */
struct sched_config {
    uint64_t seed; /* of the jitter */
    uint32_t n_models_max;
    uint32_t n_waiting_max;
    uint32_t n_running_max;
    uint64_t waiting_bytes_max;
    uint64_t budget_bytes;
    uint32_t class_weight[SCHED_CLASS_COUNT]; /* share of dispatches when all classes wait */
    int64_t queue_timeout_ns;
    int64_t keep_alive_ns;
    int64_t start_timeout_ns; /* SPAWN to WORKER_STARTED; 0: none */
    int64_t load_timeout_ns;  /* WORKER_STARTED to LOADED; 0: none */
    int64_t unload_grace_ns;  /* UNLOAD to KILL */
    int64_t backoff_min_ns;   /* doubled at each failure in a row */
    int64_t backoff_max_ns;
    uint32_t strikes_max;      /* deaths without a token in between until the request fails */
    uint32_t breaker_failures; /* failures in a row that open the breaker */
    int64_t breaker_cooldown_ns;
    int64_t stable_ns; /* a worker that was READY this long was a success */
    int64_t
        swap_patience_ns; /* a model that waited this long for room may have busy ones drained */
    int64_t residency_min_ns; /* but none that has been READY for less than this */
};

struct sched; /* opaque */

void sched_config_default(struct sched_config *config);

/* INVALID names the member that makes no sense; NOMEM. On failure *out is untouched. */
SL_CHECK sl_status sched_create(const struct sched_config *config, struct sched **out,
                                struct sl_err *err);
void sched_destroy(struct sched *sched); /* NULL is fine */

/* Takes one event at a time that never goes back (an earlier now_ns counts as the last one, a
 * negative one as 0). The
 * actions are to be carried out in order; they are valid until the next step. An event about a
 * request or worker that is gone already is no error.
 * INVALID: a number out of range; EXISTS: the request lives or the model was added already;
 * NOT_FOUND: MODEL_REMOVE, PIN, STOP, PREFETCH or RELOAD of a model that was not added or is
 * being removed. Then nothing changed
 * but time, and there are no actions, not even WAKE_AT: the last one stands. */
SL_CHECK sl_status sched_step(struct sched *sched, const struct sched_event *event, int64_t now_ns,
                              const struct sched_action **out_actions, size_t *out_n);

struct sched_totals {
    uint32_t n_waiting[SCHED_CLASS_COUNT];
    uint32_t n_running; /* with those cancelled but not yet given back by the worker */
    uint64_t waiting_bytes;
    uint64_t budget_bytes, used_bytes;
    uint32_t n_workers;
    uint64_t n_dispatched, n_finished, n_rejected, n_expired, n_failed, n_cancelled; /* ever */
    uint64_t n_redispatched, n_worker_deaths;                                        /* ever */
};
void sched_get_totals(const struct sched *sched, struct sched_totals *out);

struct sched_model_info {
    enum sched_model_state state;
    bool pinned;
    uint64_t bytes; /* charged now; when there is no worker, what it would be charged */
    uint32_t n_slots, n_running, n_waiting;
    uint64_t n_loads, n_deaths; /* ever: LOADED events, workers gone unasked */
    int64_t last_used_ns;
    int64_t expires_ns; /* idle unload; SCHED_NEVER while in use, pinned or kept for ever */
    int64_t retry_ns;   /* BACKOFF and FAILED: when the next attempt may be made, else 0 */
    char error[SCHED_REASON_MAX]; /* of the last failure since the last success, or "" */
};

/* False when no such model was added. */
bool sched_get_model(const struct sched *sched, uint32_t model, struct sched_model_info *out);

const char *sched_model_state_name(enum sched_model_state state); /* "ready"; "?" out of range */
const char *sched_class_name(enum sched_class qos_class);         /* "interactive" */
bool sched_class_parse(const char *name, enum sched_class *out);  /* false: no such class */
const char *sched_event_name(enum sched_event_kind kind);         /* "ARRIVE" */
const char *sched_action_name(enum sched_action_kind kind);       /* "DISPATCH" */
