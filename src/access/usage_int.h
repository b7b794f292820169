/* usage_int.h: between the writer's thread and the table.
 * Floor: access.  Thread: the caller's.  Allocates: as db.h. */
#pragma once
#include "access/usage.h"

struct db_stmt;

#define USAGE_DAY_MS INT64_C(86400000)

/* The statement that usage_insert runs. */
SL_CHECK sl_status usage_prepare_insert(struct db *db, struct db_stmt **out, struct sl_err *err);
SL_CHECK sl_status usage_insert(struct db_stmt *stmt, const struct usage_row *row,
                                struct sl_err *err);
