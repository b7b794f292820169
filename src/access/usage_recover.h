/* usage_recover.h: what a journal of usage holds and the database does not yet.
 * Floor: access.  Thread: the connection's.  Allocates: a file at a time. */
#pragma once
#include "access/usage_journal.h"

struct db;

struct usage_recovery {
    int64_t n_rows;       /* stored */
    int64_t n_bytes_left; /* behind the last good record of a file: torn or damaged, and dropped */
    int n_in_use;         /* pairs of files that a service has */
    int n_unreadable;     /* files */
};

/* Stores the rows that services left which were killed, each once whatever ends this when, and
 * empties their files. With `kept` not NULL also locks the first pair that can be had, makes it as
 * needed and hands it over; its files' fd are -1 when there is none. What the database says, NOMEM;
 * a file that cannot be read is left alone. */
SL_CHECK sl_status usage_recover(struct db *db, const char *db_path,
                                 struct usage_journal_pair *kept, struct usage_recovery *out,
                                 struct sl_err *err);

/* Waits until the services that run have stored what their journals hold now, at most so long. */
SL_CHECK sl_status usage_await(struct db *db, const char *db_path, int64_t wait_ns,
                               struct sl_err *err);
