/* state_db.c: where it is. */
#include "cli/state_db.h"

#include "access/usage_recover.h"
#include "base/log.h"
#include "cli/cli.h"
#include "grid/db.h"

#include <limits.h>
#include <stdio.h>

#define PATH_BYTES (PATH_MAX + 16)
#define AWAIT_NS INT64_C(2000000000) /* a service stores its rows within 20 ms, mostly */

static sl_status path_of(char out[PATH_BYTES], struct sl_err *err)
{
    char home[PATH_MAX];
    if (!*cli_home(home, sizeof home))
        return sl_err_set(err, SL_INVALID, "set HOME or STARLANE_HOME: state.db is kept there");
    snprintf(out, PATH_BYTES, "%s/state.db", home);
    return SL_OK;
}

sl_status state_db_open(struct db **out, struct sl_err *err)
{
    char path[PATH_BYTES];
    sl_status status = path_of(path, err);
    return status == SL_OK ? db_open(path, NULL, out, err) : status;
}

sl_status state_db_take_usage(struct db *db, struct sl_err *err)
{
    char path[PATH_BYTES];
    struct usage_recovery recovery;
    sl_status status = path_of(path, err);
    if (status == SL_OK) status = usage_recover(db, path, NULL, &recovery, err);
    if (status != SL_OK) return status;
    if (recovery.n_bytes_left)
        sl_log(SL_LOG_WARN, "usage", "%lld bytes at the ends of journals were no whole rows",
               (long long)recovery.n_bytes_left);
    return recovery.n_in_use ? usage_await(db, path, AWAIT_NS, err) : SL_OK;
}
