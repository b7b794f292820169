/* residency.h: which models are in memory: who is loaded, who makes room, what follows a crash. The
 * states and their diagram stand in local.h.
 * Floor: sched.  Thread: one.  Allocates: init only.
 * Invariants: used_bytes is the sum of what is charged for workers; a worker exists exactly in
 * STARTING, LOADING, READY and DRAINING; SPAWN is given only when the model fits with all of them.
 * Requests are only counted here. When those that wait for a model cannot be served, it is put on a
 * list of the doomed, and the caller fails them (residency_next_doomed). */
#pragma once
#include "sched/action_list.h"
#include "sched/index_heap.h"
#include "sched/index_list.h"

struct residency_model; /* one model */

struct residency {
    struct sched_config config;
    struct residency_model *models;
    struct index_heap timers;
    struct index_list wanting; /* UNLOADED and wanted, longest first */
    struct index_link *want_links;
    struct index_list doomed;
    struct index_link *doom_links;
    uint32_t *workers; /* models that have one, in no order of meaning */
    uint32_t n_workers;
    uint64_t used_bytes;
    uint64_t draining_bytes;     /* of used_bytes: will come back */
    uint64_t n_deaths;           /* ever */
    bool room_changed;           /* something that residency_settle looks at */
    struct action_list *actions; /* not owned */
};

/* NOMEM. The list is borrowed; all operations append to it. */
SL_CHECK sl_status residency_init(struct residency *residency, const struct sched_config *config,
                                  struct action_list *actions);
void residency_done(struct residency *residency); /* fine for a zeroed one */

/* EXISTS; a model that is being removed is taken back instead. */
SL_CHECK sl_status residency_add(struct residency *residency, const struct sched_event *event);
/* moved: it is elsewhere now, and what waits may be asked there. */
void residency_remove(struct residency *residency, uint32_t model, bool moved, int64_t now_ns);
void residency_pin(struct residency *residency, uint32_t model, bool pinned, int64_t now_ns);
void residency_stop(struct residency *residency, uint32_t model, int64_t now_ns);
void residency_prefetch(struct residency *residency, uint32_t model, int64_t keep_alive_ns,
                        int64_t now_ns);
/* See SCHED_RELOAD. */
void residency_reload(struct residency *residency, uint32_t model, uint64_t need_bytes,
                      int64_t now_ns);
void residency_set_budget(struct residency *residency, uint64_t budget_bytes);

/* May a request for the model be accepted? If not: the status, the reason (valid until the next
 * event) and when to ask again. */
SL_CHECK sl_status residency_admit(struct residency *residency, uint32_t model, int64_t now_ns,
                                   const char **out_reason, uint64_t *out_retry_after_ms);

/* The number of requests that wait for the model is now that. */
void residency_set_waiting(struct residency *residency, uint32_t model, uint32_t n_waiting,
                           int64_t now_ns);
/* One more runs, with that keep_alive_ns (SCHED_KEEP_ALIVE_* too). */
void residency_run_begin(struct residency *residency, uint32_t model, int64_t keep_alive_ns,
                         int64_t now_ns);
void residency_run_end(struct residency *residency, uint32_t model, int64_t now_ns);
/* A request got somewhere: failures are no longer "in a row". */
void residency_success(struct residency *residency, uint32_t model);

void residency_worker_started(struct residency *residency, uint32_t model, int64_t now_ns);
void residency_loaded(struct residency *residency, const struct sched_event *event, int64_t now_ns);
void residency_load_failed(struct residency *residency, uint32_t model, const char *reason,
                           int64_t now_ns);
/* The worker is gone, asked or not. The requests that ran on it no longer count as running. */
void residency_worker_gone(struct residency *residency, uint32_t model, const char *reason,
                           int64_t now_ns);

/* Was the worker told to go? */
bool residency_exit_is_awaited(const struct residency *residency, uint32_t model);

void residency_run_timers(struct residency *residency, int64_t now_ns);
int64_t residency_next_timer(const struct residency *residency); /* or SCHED_NEVER */

/* Loads what is wanted and fits; unloads what must give way; dooms what can never fit. */
void residency_settle(struct residency *residency, int64_t now_ns);

/* Takes a model off the list of the doomed; false when it is empty. */
bool residency_next_doomed(struct residency *residency, uint32_t *out_model, sl_status *out_status,
                           uint64_t *out_retry_after_ms, const char **out_reason, int64_t now_ns);

/* How many more requests the model's worker takes now; 0 unless READY. */
uint32_t residency_free_slots(const struct residency *residency, uint32_t model);
uint32_t residency_n_slots(const struct residency *residency, uint32_t model); /* at least 1 */
bool residency_exists(const struct residency *residency, uint32_t model);      /* and is to stay */
bool residency_get(const struct residency *residency, uint32_t model, struct sched_model_info *out);
