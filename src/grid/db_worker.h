/* db_worker.h: a thread with a connection to state.db of its own, for the loop, which must not wait
 * for disks and other writers.
 * Floor: grid.  Thread: the loop's, but for `run`.  Allocates: a job.
 * Invariants: jobs run one at a time, in the order they came; for each accepted job `done` is
 * called once, on the loop, or within db_worker_destroy, which runs what still waits. */
#pragma once
#include "base/err.h"

struct db;
struct db_worker;
struct loop;

#define DB_WORKER_JOBS_MAX 1024 /* more wait only when the disk stands still */

/* On the thread; what it returns is told to done. */
typedef sl_status (*db_worker_run_fn)(void *arg, struct db *db, struct sl_err *err);
typedef void (*db_worker_done_fn)(void *arg, sl_status status, const struct sl_err *err);

/* Opens the database at once. As db_open; NOMEM, UNAVAILABLE (no thread). */
SL_CHECK sl_status db_worker_create(struct loop *loop, const char *path, struct db_worker **out,
                                    struct sl_err *err);
/* The loop makes no turn after it. NULL is fine. */
void db_worker_destroy(struct db_worker *worker);

/* done NULL: nobody wants to know. BUSY: too many wait; NOMEM. Then neither is called. */
SL_CHECK sl_status db_worker_submit(struct db_worker *worker, db_worker_run_fn run,
                                    db_worker_done_fn done, void *arg);
