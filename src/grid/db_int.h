/* db_int.h: what the files of the database module share; the only header that includes SQLite's.
 * Floor: grid.  Thread: as db.h.  Allocates: as db.h. */
#pragma once
#include "grid/db.h"
#include <sqlite3.h>

struct db {
    sqlite3 *handle;
    int64_t wal_pages;
    sqlite3_stmt *begin, *commit; /* kept: parsing them anew took a fifth of a small transaction */
    char path[];
};

/* Sets err from what SQLite says about its last call on db, "DOING: ...". Returns the status. */
sl_status db_fail(struct db *db, int rc, const char *doing, struct sl_err *err);
