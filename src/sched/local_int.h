/* local_int.h: what local.c (steps) and local_query.c (views and names) share.
 * Floor: sched.  Thread: one.  Allocates: nothing. */
#pragma once
#include "sched/request_queue.h"
#include "sched/residency.h"

struct sched {
    struct sched_config config;
    struct request_table table;
    struct request_queue queue;
    struct residency residency;
    struct action_list actions;
    struct index_list *running; /* by model: requests dispatched to its worker, oldest first */
    uint32_t *n_suspects;       /* by model: live requests with `suspect` set */
    uint32_t n_running;         /* RUNNING and CANCELLING ones */
    bool capped;                /* somebody was held back by n_running_max */
    uint32_t rotation;          /* which worker goes first when it is capped */
    int64_t now_ns;
    struct sched_totals ever;           /* only its counters */
    char reason[SCHED_REASON_MAX + 64]; /* of an action of this step */
};
