/* usage_journal.h: files to which the loop appends rows of usage, so that an answer may go before
 * the row is in the database. One write(2) into the page cache, no fsync: what was written survives
 * the death of the process, not that of the machine.
 * Floor: access.  Thread: the loop appends, the thread that stores rows cleans; what both look at
 * is atomic.  Allocates: at creation.
 *
 * Beside state.db lie usage-1a.journal and usage-1b.journal, of which one is written. When that is
 * long the loop goes on with the other, and the thread empties it once all its rows are in the
 * database; an empty file has a new identity. Which rows are there already says the table
 * usage_journals (usage_table.c), written in the transaction that stores them.
 * Who has locked the first file of a pair (flock) owns both; a second service with the same home
 * takes usage-2a.journal and so on. Files are never removed.
 *
 *          append, long      all rows stored
 *   CURRENT ------> DRAINING ------> READY ------> CURRENT
 *
 * Invariant: a file has no rows but those of its identity, numbered from 1 on; none is emptied
 * before all of them are stored. */
#pragma once
#include "base/err.h"
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define USAGE_JOURNAL_PAIRS 8                  /* services that share a home */
#define USAGE_JOURNAL_STEP (INT64_C(16) << 20) /* bytes of a file when the other one's turn comes */
#define USAGE_JOURNAL_FULL 4                   /* times as many: then it is not written any more */
#define USAGE_JOURNAL_MAX (USAGE_JOURNAL_FULL * USAGE_JOURNAL_STEP)
#define USAGE_JOURNAL_REST_NS INT64_C(1000000000) /* after a failed write: the disk is full */

struct usage_ring;

/* --- a pair of files --- */

struct usage_journal_file {
    int fd;
    char name[24]; /* without the folder: the key in the database */
};

struct usage_journal_pair {
    struct usage_journal_file files[2];
};

/* The path of file 0 or 1 of pair n (from 1), in the folder of the database. Returns out. */
const char *usage_journal_path(const char *db_path, int n, int file, char out[PATH_MAX]);
const char *usage_journal_name(int n, int file, char out[24]);

/* Opens and locks a pair. NOT_FOUND: there is none, and `create` is false; BUSY: another process
 * has it; IO, DENIED, LIMIT. */
SL_CHECK sl_status usage_journal_lock(const char *db_path, int n, bool create,
                                      struct usage_journal_pair *out, struct sl_err *err);
void usage_journal_unlock(struct usage_journal_pair *pair);

/* --- the writer --- */

struct usage_journal; /* opaque */

struct usage_journal_cfg {
    int64_t bytes_step; /* 0: USAGE_JOURNAL_STEP */
    int64_t bytes_max;  /* 0: USAGE_JOURNAL_FULL times as much */
};

/* Takes over a pair that is locked and whose rows are all stored, also when it fails. NOMEM, IO. */
SL_CHECK sl_status usage_journal_create(struct usage_journal_pair *pair,
                                        const struct usage_journal_cfg *cfg,
                                        struct usage_journal **out, struct sl_err *err);
void usage_journal_destroy(struct usage_journal *j); /* leaves its rows; NULL is fine */

/* Writes rows [from, to), and notes in each slot where it is. Returns the end of those written:
 * less than `to` when the disk is full or both files are. */
SL_CHECK uint64_t usage_journal_append(struct usage_journal *j, const struct usage_ring *ring,
                                       uint64_t from, uint64_t to);

/* The thread: rows before `stored` are in the database. Empties a file that is done with. IO: it
 * will be tried again. */
SL_CHECK sl_status usage_journal_clean(struct usage_journal *j, uint64_t stored,
                                       struct sl_err *err);

/* All rows are stored, and no more will come: leaves nothing behind. */
void usage_journal_finish(struct usage_journal *j);

/* Of its files 0 and 1: the name by which the database marks what it has of it. */
const char *usage_journal_file_name(const struct usage_journal *j, int file);
uint64_t usage_journal_identity(const struct usage_journal *j, int file); /* the thread's */
int64_t usage_journal_bytes(const struct usage_journal *j);               /* of both files */
