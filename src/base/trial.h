/* trial.h: code that may crash, hang or compute nonsense on this machine, run once in a child
 * process before anybody relies on it.
 * Floor: base.  Thread: any; the caller waits.  Allocates: nothing. */
#pragma once
#include <stdbool.h>

enum sl_trial_end {
    SL_TRIAL_GOOD,
    SL_TRIAL_WRONG,       /* run said false */
    SL_TRIAL_DIED,        /* of a signal, or it exited */
    SL_TRIAL_LATE,        /* killed when its time was over */
    SL_TRIAL_NOT_STARTED, /* no process, no pipe */
};

struct sl_trial {
    /* In the child of a process that may have threads: only what is async-signal-safe. */
    bool (*run)(void *ctx);
    void *ctx;
    int limit_ms;
};

/* Works where SIGCHLD is ignored and where handlers for crashes are installed: the child has the
 * default ones and leaves no core. Nothing of it remains. */
enum sl_trial_end sl_trial_run(const struct sl_trial *trial);

/* What befell it, to follow its name: "dies". NULL for SL_TRIAL_GOOD. */
const char *sl_trial_text(enum sl_trial_end end);
