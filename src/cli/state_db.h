/* state_db.h: the database of this user's Starlane, for commands.
 * Floor: cli.  Thread: main. */
#pragma once
#include "base/err.h"

struct db;

/* Opens $STARLANE_HOME/state.db. As db_open; INVALID when there is no home. */
SL_CHECK sl_status state_db_open(struct db **out, struct sl_err *err);
