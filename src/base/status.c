/* status.c: lookups in the status table. */
#include "base/status.h"

#include <stddef.h>

struct status_row {
    const char *name;
    const char *text;
    int http;
    int grpc;
    bool retryable;
};

static const struct status_row rows[SL_STATUS_COUNT] = {
#define X(name, text, http, grpc, retry) [name] = {#name, text, http, grpc, retry},
    SL_STATUS_TABLE(X)
#undef X
};

/* What a number outside the table is reported as: an error of ours that no retry will mend. */
static const struct status_row unknown_row = {"SL_?", "unknown status", 500, 2, false};

static const struct status_row *row_of(sl_status status)
{
    return (size_t)status < SL_STATUS_COUNT ? &rows[status] : &unknown_row;
}

const char *sl_status_name(sl_status status)
{
    return row_of(status)->name;
}

const char *sl_status_text(sl_status status)
{
    return row_of(status)->text;
}

int sl_status_http(sl_status status)
{
    return row_of(status)->http;
}

int sl_status_grpc(sl_status status)
{
    return row_of(status)->grpc;
}

bool sl_status_retryable(sl_status status)
{
    return row_of(status)->retryable;
}
