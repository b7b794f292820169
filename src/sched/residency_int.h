/* residency_int.h: what residency.c (life of one model) and residency_room.c (who gets the memory)
 * share. Included by these two only.
 * Floor: sched.  Thread: one.  Allocates: nothing. */
#pragma once
#include "sched/residency.h"

struct residency_model {
    enum sched_model_state state;
    enum sched_model_state after_exit; /* DRAINING: where the awaited exit leads */
    sl_status doom_status;
    bool present;  /* it was added */
    bool removing; /* it goes when its worker is gone */
    bool moved;    /* likewise, and is elsewhere then */
    bool pinned;
    bool prefetch;     /* wanted without a request, until loaded */
    bool load_refused; /* by the worker: arrivals are refused until retry_ns */
    bool exit_awaited; /* DRAINING: UNLOAD or KILL was given */
    bool killed;       /* DRAINING: KILL was given */
    bool wanting;      /* stands in the list */
    bool doomed;       /* stands in the list */
    bool idle;         /* READY with nothing running or waiting */
    uint32_t n_slots;  /* as the catalogue or the worker says */
    uint32_t n_running, n_waiting;
    uint32_t n_failures;   /* in a row */
    uint32_t worker_place; /* in residency.workers */
    uint64_t need_bytes;   /* the estimate, then what it really took the last time */
    uint64_t charged_bytes;
    int64_t keep_alive_own_ns; /* SCHED_KEEP_ALIVE_DEFAULT possible */
    int64_t keep_alive_ns;     /* that counts now; negative: for ever */
    int64_t state_since_ns, ready_since_ns, last_used_ns;
    int64_t want_since_ns;
    int64_t want_wake_ns; /* when waiting for room may take a turn by time alone */
    int64_t retry_ns;     /* BACKOFF, FAILED, and DRAINING after a failed load */
    uint64_t n_loads, n_deaths, n_jitters;
    const char *doom_reason;
    char error[SCHED_REASON_MAX];
};

/* The sum, or SCHED_NEVER when it overflows or delta_ns is negative. */
int64_t residency_time_after(int64_t time_ns, int64_t delta_ns);

/* Takes an edge of the diagram; books the bytes and the worker. */
void residency_set_state(struct residency *residency, uint32_t model, enum sched_model_state to,
                         int64_t now_ns);
/* To be called when anything about a model changed: keeps its lists and its timer right. */
void residency_refresh(struct residency *residency, uint32_t model, int64_t now_ns);
/* READY to DRAINING; UNLOAD at once when nothing runs. */
void residency_drain(struct residency *residency, uint32_t model, int64_t now_ns);
/* Puts it on the list of the doomed. The reason must live as long as the model. */
void residency_doom(struct residency *residency, uint32_t model, sl_status status,
                    const char *reason);

/* Could the model fit if only pinned ones stayed? Says how much there is in *out_available. */
bool residency_can_fit(const struct residency *residency, uint32_t model, uint64_t *out_available);
/* Writes why not, with both numbers. */
void residency_say_unfit(const struct residency *residency, uint32_t model, uint64_t available,
                         char text[SCHED_REASON_MAX]);
