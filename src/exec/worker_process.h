/* worker_process.h: the child process of a worker: how it is started, watched and buried.
 * Floor: exec.  Thread: the loop's.  Allocates: nothing.
 * Invariant: a process that was started is reaped by worker_process_done at the latest; no other
 * descriptor of the agent reaches it. */
#pragma once
#include "base/err.h"
#include <stdbool.h>

struct worker_process {
    int pid;
    int pidfd;     /* readable when the process is dead; -1: closed, as are the others */
    int socket;    /* our end; does not block */
    int stderr_fd; /* the reading end of its stdout and stderr; does not block */
    bool reaped;
    int wait_status; /* waitpid's, once it is reaped */
};

void worker_process_init(struct worker_process *process); /* as after worker_process_done */
/* Starts `exe worker title`; NULL: $STARLANE_BIN, or else the executable that runs now. The
 * descriptors of worker_share_create stay the caller's. IO names it. On failure nothing is left
 * open. */
SL_CHECK sl_status worker_process_start(struct worker_process *process, const char *exe,
                                        const char *title, const int share_fds[2],
                                        struct sl_err *err);
void worker_process_kill(struct worker_process *process); /* SIGKILL, unless it is reaped */
bool worker_process_reap(struct worker_process *process); /* true: it is dead, wait_status set */
void worker_process_done(struct worker_process *process); /* kills, waits, closes */
