/* usage_inline.h: commits of a few rows on the loop's own thread, without a wait.
 * To have a thread store a row costs two wakeups, 20 to 50 us each on a virtual machine and far
 * more when the CPUs are taken. The commit itself is 6 fcntl and some 3 pwrite calls into the page
 * cache: measured beside 10,000 requests/s on two CPUs, half of them take under 12 us, 99 % under
 * 60 us. What could take long is not done here but refused, and is then the thread's: db.h's
 * never_wait rules out fsync and waiting for locks, and while the log is moved into the file the
 * loop does not write at all, as write(2) may then wait for the same disk. What remains is a
 * write(2) that stands still by itself, because the kernel throttles writers of dirty pages or the
 * file system commits its journal: after such a commit none is tried for INLINE_REST times as long,
 * so that a slow disk never has more than a hundredth of the loop's time.
 * Floor: access.  Thread: the loop's.  Allocates: at creation. */
#pragma once
#include "base/err.h"
#include <stdint.h>

#define INLINE_SLOW_NS INT64_C(1000000)      /* a disk at work; 100 times a usual commit */
#define INLINE_REST 100                      /* times what a slow commit took */
#define INLINE_FAILED_NS INT64_C(1000000000) /* rest after an error: the thread says which */

struct inline_writer; /* opaque */
struct usage_ring;

/* A connection of its own, with DB_SYNC_NORMAL. What db_open says, NOMEM. */
SL_CHECK sl_status inline_writer_create(const char *path, struct inline_writer **out,
                                        struct sl_err *err);
void inline_writer_destroy(struct inline_writer *w); /* NULL is fine */

/* Rows [from, to) in one transaction. Not OK: none of them is stored, the thread is to try. BUSY
 * also while it rests. */
SL_CHECK sl_status inline_writer_store(struct inline_writer *w, const struct usage_ring *ring,
                                       uint64_t from, uint64_t to);

int64_t inline_writer_wal_pages(const struct inline_writer *w); /* after its last commit */
