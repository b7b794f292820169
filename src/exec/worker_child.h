/* worker_child.h: the inside of an engine worker: one engine, one thread, one socket to the agent.
 * Floor: exec.  Thread: the process's only one (the engine's own helpers aside).  Allocates: what
 * the engine needs, one message and one batch of events.
 * Between two steps of the engine it takes in whatever the socket holds, and after each step it
 * sends what the step brought, as one frame. A stage of a split model sends messages for other
 * stages from within the step, the moment they are made. A PING is answered between steps, or by
 * the load's progress: an engine that hangs does not answer, which is what the agent's watchdog
 * looks for.
 * Invariant: it never outlives its agent: the end of the socket ends it, and so does the agent's
 * death (PR_SET_PDEATHSIG). */
#pragma once
#include "base/err.h"

#define WORKER_FD 3       /* where the agent puts the socket */
#define WORKER_SHARE_FD 4 /* and the areas of exec/worker_share.h, this and the next */

/* Makes this process a worker: other descriptors closed, default signals, killed with its parent,
 * first to go when memory runs out. Failures are not: each is a safeguard, not a need. */
void worker_child_settle(const char *title);

/* Serves the socket until UNLOAD or its end: OK. Otherwise the failure that ends the process: of
 * the engine, or an agent that talks nonsense. Takes over the descriptors of shared memory; without
 * them all goes through the socket. */
SL_CHECK sl_status worker_child_run(int fd, struct sl_err *err);
