/* usage_checkpoint.h: keeps the write-ahead log short while rows keep coming.
 * Moving the log into the file waits for the disk, tens of milliseconds for tens of megabytes, and
 * commits must not wait with it. So a thread of its own moves what is there, beside the writer. But
 * the log starts anew only when all of it is moved, which beside a busy writer it never is: once
 * the log is long, the thread moves it once more, and the writer itself the short rest that came
 * since.
 * Floor: access.  Thread: the writer's, but for the own one.  Allocates: at creation. */
#pragma once
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

struct checkpointer; /* opaque */
struct db;

/* What db_open says, NOMEM. */
SL_CHECK sl_status checkpointer_create(const char *path, struct checkpointer **out,
                                       struct sl_err *err);
void checkpointer_destroy(struct checkpointer *c); /* waits for a move under way; NULL is fine */

/* To be called after commits with the writer's own connection, and with the pages that the log then
 * has, whoever committed; nobody else of this process commits meanwhile. Cheap as a rule. `idle`:
 * there are few commits, so that a shorter log is worth it. Returns what a move said, of either
 * thread. */
SL_CHECK sl_status checkpointer_step(struct checkpointer *c, struct db *db, int64_t n_pages,
                                     bool idle, struct sl_err *err);

/* How often pages were moved from the log to the database since it was created. */
uint64_t checkpointer_n_moves(struct checkpointer *c);
