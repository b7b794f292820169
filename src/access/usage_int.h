/* usage_int.h: between those who write rows, the loop and the thread, and the table.
 * Floor: access.  Thread: the caller's.  Allocates: as db.h. */
#pragma once
#include "access/usage.h"

struct db_stmt;
struct usage_journal;

#define USAGE_DAY_MS INT64_C(86400000)

struct usage_slot {
    struct usage_row row;
    usage_done_fn done;
    void *arg;
    sl_status status;
    bool settled; /* not stored, and its callback was told */
    uint8_t file; /* of the journal, from 1; 0: the row is in none */
    uint64_t seq; /* in that file */
};

/* Row i is in slot i % n_slots. */
struct usage_ring {
    struct usage_slot *slots;
    size_t n_slots;
};

static inline struct usage_slot *usage_slot_at(const struct usage_ring *ring, uint64_t i)
{
    return &ring->slots[i % ring->n_slots];
}

/* The statement that usage_insert runs. */
SL_CHECK sl_status usage_prepare_insert(struct db *db, struct db_stmt **out, struct sl_err *err);
SL_CHECK sl_status usage_insert(struct db_stmt *stmt, const struct usage_row *row,
                                struct sl_err *err);

/* One connection's statements for rows that come from a journal, too. */
struct usage_writer {
    struct db *db;
    struct db_stmt *insert, *applied, *mark;
};

/* Prepares the statements; writer is to be ended in any case. As usage_prepare_insert. */
SL_CHECK sl_status usage_writer_init(struct usage_writer *writer, struct db *db,
                                     struct sl_err *err);
void usage_writer_done(struct usage_writer *writer); /* also after a failed init */

/* The last record of that journal file that is in the database; 0: none of this identity is. */
SL_CHECK sl_status usage_applied(struct usage_writer *writer, const char *name, uint64_t identity,
                                 uint64_t *out, struct sl_err *err);
SL_CHECK sl_status usage_mark(struct usage_writer *writer, const char *name, uint64_t identity,
                              uint64_t seq, struct sl_err *err);

/* Rows [from, to) but for settled ones, all of them or none, in one transaction; a row of a journal
 * (NULL: there is none) once, however often it is tried. */
SL_CHECK sl_status usage_store(struct usage_writer *writer, const struct usage_ring *ring,
                               uint64_t from, uint64_t to, const struct usage_journal *journal,
                               struct sl_err *err);
