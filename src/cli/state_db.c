/* state_db.c: where it is. */
#include "cli/state_db.h"

#include "cli/cli.h"
#include "grid/db.h"

#include <limits.h>
#include <stdio.h>

sl_status state_db_open(struct db **out, struct sl_err *err)
{
    char home[PATH_MAX], path[PATH_MAX + 16];
    if (!*cli_home(home, sizeof home))
        return sl_err_set(err, SL_INVALID, "set HOME or STARLANE_HOME: state.db is kept there");
    snprintf(path, sizeof path, "%s/state.db", home);
    return db_open(path, NULL, out, err);
}
