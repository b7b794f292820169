/* breaker.h: the circuit breaker of one model on one node: after failures in a row nothing is sent
 * there for a while, then one request at a time until one succeeds (M. Nygard, "Release It!").
 *
 *            failures in a row             cool-down over
 *     CLOSED -----------------> OPEN <-------------------> HALF_OPEN
 *        ^                       a trial failed: twice as long  |
 *        +------------------------------------------------------+
 *                             a trial succeeded
 *
 * Floor: sched.  Thread: one.  Allocates: nothing.  A zeroed breaker is closed. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN, BREAKER_STATE_COUNT };

struct breaker {
    enum breaker_state state;
    uint32_t n_failures; /* in a row */
    uint32_t n_opened;   /* in a row, without a success in between */
    bool trial;          /* HALF_OPEN: a request is trying it */
    int64_t until_ns;    /* OPEN: the end of the cool-down */
};

struct breaker_config {
    uint32_t failures_max;   /* in a row that open it */
    int64_t cooldown_min_ns; /* doubled at every failed trial */
    int64_t cooldown_max_ns;
};

/* May a request be sent? Moves OPEN to HALF_OPEN when its time has come. */
bool breaker_allows(struct breaker *breaker, int64_t now_ns);
/* One is sent: in HALF_OPEN it is the trial. True when it is. */
bool breaker_send(struct breaker *breaker);
void breaker_success(struct breaker *breaker);
void breaker_failure(struct breaker *breaker, const struct breaker_config *config, int64_t now_ns);
/* The trial ended without telling anything: refused as full, or cancelled. */
void breaker_release(struct breaker *breaker);

const char *breaker_state_name(enum breaker_state state); /* "half-open"; "?" out of range */
