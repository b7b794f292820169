/* state_db.h: the database of this user's Starlane, for commands.
 * Floor: cli.  Thread: main. */
#pragma once
#include "base/err.h"

struct db;

/* Opens $STARLANE_HOME/state.db. As db_open; INVALID when there is no home. */
SL_CHECK sl_status state_db_open(struct db **out, struct sl_err *err);

/* Has the database hold every row of usage whose request was answered before the call: stores what
 * services left that were killed, and waits, for seconds at most, until those that run have stored
 * theirs. As usage_recover. */
SL_CHECK sl_status state_db_take_usage(struct db *db, struct sl_err *err);
