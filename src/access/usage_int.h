/* usage_int.h: between those who write rows, the loop and the thread, and the table.
 * Floor: access.  Thread: the caller's.  Allocates: as db.h. */
#pragma once
#include "access/usage.h"

struct db_stmt;

#define USAGE_DAY_MS INT64_C(86400000)

struct usage_slot {
    struct usage_row row;
    usage_done_fn done;
    void *arg;
    sl_status status;
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

/* Rows [from, to), all of them or none, in one transaction. */
SL_CHECK sl_status usage_store(struct db *db, struct db_stmt *insert, const struct usage_ring *ring,
                               uint64_t from, uint64_t to, struct sl_err *err);
